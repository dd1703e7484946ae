//! The running digest: one number for everything that an agent has done so far.
//!
//! After each input it takes in every output, and when the agent wants to be woken and why. It is a function of the inputs:
//! two agents with different digests have done different things. That the reverse holds is likely, not certain: the
//! digest guards against accidents, not against people.

use crate::metrics::Counters;
use crate::output::Output;
use crate::time::Time;
use crate::timers::Deadline;

/// FNV-1a over 64 bits: the simplest hash that is the same on every machine and in every version; its speed (a byte in
/// about a nanosecond) is well below the cost of deciding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Takes in bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The hash so far.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl postcard::ser_flavors::Flavor for Fnv {
    type Output = Self;

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.bytes(&[data]);
        Ok(())
    }

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.bytes(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Self> {
        Ok(self)
    }
}

/// Digest of everything that an agent did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Running(Fnv);

impl Running {
    /// Goes on from a digest that was taken with [`value`](Self::value).
    #[must_use]
    pub const fn resume(value: u64) -> Self {
        Self(Fnv(value))
    }

    /// The agent did something.
    pub fn output(&mut self, output: &Output) {
        // Hashing cannot run out of space, and outputs are plain data: nothing here can fail. If it did, the digest
        // would stay where it is, in recording and replaying alike.
        if let Ok(hash) = postcard::serialize_with_flavor(output, self.0) {
            self.0 = hash;
        }
    }

    /// The outputs of one input have all been taken in; what the agent waits for now belongs to it.
    pub fn settle(&mut self, deadline: Option<(Time, Deadline)>) {
        if let Ok(hash) = postcard::serialize_with_flavor(&deadline, self.0) {
            self.0 = hash;
        }
    }

    /// The digest.
    #[must_use]
    pub const fn value(&self) -> u64 {
        self.0.0
    }

    /// The digest in 16 bits, for every record: a replay that leaves the path is noticed at once in all but one of
    /// 65,536 cases, and at the next record in those.
    #[must_use]
    pub const fn check(&self) -> u16 {
        let value = self.value();
        (value ^ (value >> 16) ^ (value >> 32) ^ (value >> 48)) as u16
    }

    /// The digest with the counters, for every batch.
    #[must_use]
    pub fn seal(&self, counters: &Counters) -> u64 {
        postcard::serialize_with_flavor(counters, self.0).map_or(self.value(), Fnv::value)
    }
}
