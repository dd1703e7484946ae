//! The registry: one uplink, and faults on demand.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::OriginFailure;
use longshore_core::message::FailureClass;
use longshore_core::time::Time;

/// What the origin does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 500 to everything.
    Errors,
    /// 404 to everything.
    Empty,
    /// 429 with this Retry-After.
    RateLimited(Duration),
    /// Requests are never answered.
    Silent,
    /// Ranges are answered with the whole body.
    NoRanges,
}

/// The registry's state.
#[derive(Debug)]
pub struct Origin {
    /// What it does wrong now.
    pub fault: Option<Fault>,
    /// It answers 401 to requests without a credential.
    pub private: bool,
    /// Bytes of each blob that it has sent.
    pub sent: BTreeMap<Digest, u64>,
    /// How often each piece was sent.
    pub pieces_sent: BTreeMap<(Digest, u32), u32>,
    rate: u64,
    free: Time,
}

impl Origin {
    pub(crate) fn new(rate: u64) -> Self {
        Self {
            fault: None,
            private: false,
            sent: BTreeMap::new(),
            pieces_sent: BTreeMap::new(),
            rate,
            free: Time::ZERO,
        }
    }

    /// Bytes sent of all blobs.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.sent.values().sum()
    }

    /// Sends a piece; returns when its last byte has left.
    pub(crate) fn send(&mut self, now: Time, digest: Digest, piece: u32, bytes: u64) -> Time {
        *self.sent.entry(digest).or_default() += bytes;
        *self.pieces_sent.entry((digest, piece)).or_default() += 1;
        let start = self.free.max(now);
        self.free = start + Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.rate.max(1));
        self.free
    }

    /// The failure that a request meets, if any.
    pub(crate) fn refuses(&self, has_credential: bool, exists: bool) -> Option<OriginFailure> {
        let (class, status, retry_after) = match self.fault {
            _ if self.private && !has_credential => (FailureClass::Auth, 401, None),
            Some(Fault::Errors) => (FailureClass::Transient, 500, None),
            Some(Fault::Empty) => (FailureClass::NotFound, 404, None),
            Some(Fault::RateLimited(after)) => (FailureClass::RateLimited, 429, Some(after)),
            _ if !exists => (FailureClass::NotFound, 404, None),
            _ => return None,
        };
        let challenge = if status == 401 { vec!["Basic realm=\"origin\"".into()] } else { Vec::new() };
        Some(OriginFailure { class, status: Some(status), retry_after, challenge, detail: "simulated".into() })
    }
}
