//! A look at the agent's own structure, for tests and the simulator: what waits has a deadline, what is noted is in use.
//!
//! Nothing decides by this. It says what contradicts itself at the moment when it does, long before anybody outside could
//! see the consequences.

use core::time::Duration;

use super::mirroring::State;
use super::{Agent, Op};
use crate::calls::Purpose;
use crate::digest::Digest;
use crate::flight::{Flight, Role, Stage};
use crate::input::Method;
use crate::names::PeerId;
use crate::swarm::download::Download;
use crate::swarm::neighbours::Neighbour;
use crate::timers::Deadline;

/// A leader looks after its swarm once a second.
const OVERDUE: Duration = Duration::from_secs(3);

/// How much an agent remembers: number of entries of each memory that has to be empty when nothing is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Blobs on their way.
    pub flights: usize,
    /// Mirror requests that the driver has not closed.
    pub requests: usize,
    /// Inbound streams.
    pub streams: usize,
    /// Calls without an answer.
    pub calls: usize,
    /// Operations that drivers have not finished.
    pub operations: usize,
    /// Peers that wait for a spine to be read.
    pub spine_waiters: usize,
    /// Credentials in use.
    pub credentials: usize,
    /// Permissions of credentials for blobs.
    pub permissions: usize,
    /// Reads of complete blobs.
    pub readers: usize,
    /// Swarms that are looked after.
    pub trackers: usize,
    /// Peers that wait for an upload slot.
    pub choked: usize,
    /// Armed deadlines beside those that are always armed, and one for each tracker.
    pub deadlines: usize,
}

impl Census {
    /// What there is, by name.
    #[must_use]
    pub fn list(&self) -> [(&'static str, usize); 12] {
        [
            ("flights", self.flights),
            ("mirror requests", self.requests),
            ("streams", self.streams),
            ("calls", self.calls),
            ("operations", self.operations),
            ("spine waiters", self.spine_waiters),
            ("credentials", self.credentials),
            ("permissions", self.permissions),
            ("readers", self.readers),
            ("trackers", self.trackers),
            ("choked", self.choked),
            ("deadlines", self.deadlines),
        ]
    }
}

impl Agent {
    /// How much it remembers now.
    #[must_use]
    pub fn census(&self) -> Census {
        Census {
            flights: self.flights.len(),
            requests: self.requests.len(),
            streams: self.streams.len(),
            calls: self.calls.len(),
            operations: self.ops.len(),
            spine_waiters: self.spine_waiters.values().map(Vec::len).sum(),
            credentials: self.credentials.len(),
            permissions: self.authorized.len(),
            readers: self.cache.readers(),
            trackers: self.trackers.len(),
            choked: self.choked.len(),
            // Sweep and reconcile are always armed.
            deadlines: self.cx.timers.len().saturating_sub(2 + self.trackers.len()),
        }
    }

    /// The digests that are on their way here.
    pub fn flying(&self) -> impl Iterator<Item = &Digest> {
        self.flights.keys()
    }

    /// This node's rank for a digest in its own view; 0 is the best.
    #[must_use]
    pub fn own_rank(&self, digest: &Digest) -> Option<u32> {
        self.members.own_rank(digest)
    }

    /// The first thing in the agent's state that contradicts another, in words. Ask between two inputs.
    #[must_use]
    pub fn contradiction(&self) -> Option<String> {
        self.deadlines_contradict()
            .or_else(|| self.flights.values().find_map(|flight| self.flight_contradicts(flight)))
            .or_else(|| self.requests_contradict())
            .or_else(|| self.memories_contradict())
    }

    /// The pieces of blobs on their way that neighbours were told of, as far as is remembered here, and have not said that they
    /// have themselves: they are not told of them again.
    pub fn believes_told(&self) -> impl Iterator<Item = (Digest, &PeerId, Vec<u32>)> {
        let begun = self.flights.values().filter_map(|flight| Some((flight, flight.download.as_ref()?)));
        begun.flat_map(|(flight, download)| {
            let told = move |(peer, them): (_, &Neighbour)| (flight.digest, peer, them.was_told(download));
            flight.neighbours.iter().map(told)
        })
    }

    fn armed(&self, deadline: Deadline) -> bool {
        self.cx.timers.is_armed(deadline)
    }

    fn deadlines_contradict(&self) -> Option<String> {
        if !self.cx.timers.is_consistent() {
            return Some("a deadline is armed and will never fire, or fires and is not armed".into());
        }
        if !self.armed(Deadline::Sweep) || !self.armed(Deadline::Reconcile) {
            return Some("a periodic deadline is not armed".into());
        }
        if self.presence.is_waiting() && !self.armed(Deadline::Announce) {
            return Some("announcements wait for nothing".into());
        }
        let idle = !self.streams.values().any(super::serving::Stream::is_piece);
        if idle && !self.choked.is_empty() && !self.armed(Deadline::Unchoke) {
            return Some("peers wait for a slot, all are free, and nobody is told".into());
        }
        if let Some((op, what)) = self.ops.iter().find(|(op, _)| !self.armed(Deadline::Transfer(**op))) {
            return Some(format!("operation {op:?} ({what:?}) has no deadline"));
        }
        if let Some(call) = self.calls.ids().find(|call| !self.armed(Deadline::Call(*call))) {
            return Some(format!("{call:?} has no deadline"));
        }
        let late = |(id, stream): &(&crate::names::StreamId, &super::serving::Stream)| {
            stream.is_new() && !self.armed(Deadline::Handshake(**id))
        };
        self.streams.iter().find(late).map(|(id, _)| format!("{id:?} may say nothing for ever"))
    }

    fn flight_contradicts(&self, flight: &Flight) -> Option<String> {
        let digest = flight.digest;
        let asks = |purpose| self.calls.any(|call| call.digest == digest && call.purpose == purpose);
        let operates = |is: fn(&Op) -> bool| self.ops.values().any(|op| is(op) && op.digest() == Some(digest));
        let wrong = if !self.armed(Deadline::NoProgress(digest)) {
            "has no watchdog"
        } else if flight.waiters.iter().any(|id| self.requests.get(id).is_none_or(|request| request.digest != digest)) {
            "is waited for by a request that is gone"
        } else if flight.stage.is_moving() && flight.download.as_ref().is_some_and(Download::idles) {
            "has a piece to hash and does not"
        } else {
            match (&flight.stage, &flight.role) {
                (Stage::Resolving(_), _)
                    if !asks(Purpose::Probe)
                        && !asks(Purpose::AskToPull)
                        && !self.armed(Deadline::Probe(digest))
                        && !operates(|op| matches!(op, Op::Providers(_))) =>
                {
                    "resolves and has asked nobody"
                }
                // After a mismatch it waits until nothing is on its way any more, and leads then.
                (Stage::Moving, Role::Undecided)
                    if !flight.is_recovering() && !operates(|op| matches!(op, Op::Challenge(_) | Op::Confirm(..))) =>
                {
                    "follows nobody, leads nobody and asks nobody"
                }
                (Stage::Moving, Role::Following(_))
                    if !self.armed(Deadline::Enrol(digest)) && !operates(|op| matches!(op, Op::Challenge(_))) =>
                {
                    "follows and will never show a sign of life"
                }
                (Stage::Moving, Role::Leading)
                    if !self.armed(Deadline::Track(digest)) && !operates(|op| matches!(op, Op::Challenge(_))) =>
                {
                    "leads and will never look after its swarm"
                }
                (Stage::Moving, Role::Leading) if !self.trackers.contains_key(&digest) => {
                    "leads a swarm that is not there"
                }
                _ => return None,
            }
        };
        Some(format!("the flight of {} {wrong}", digest.short()))
    }

    fn requests_contradict(&self) -> Option<String> {
        self.requests.iter().find_map(|(id, request)| {
            let flight = self.flights.get(&request.digest).filter(|flight| flight.waiters.contains(id));
            let wrong = match request.state {
                State::Waiting if flight.is_none() => "waits for no flight",
                State::Waiting | State::Reading | State::Verifying if !self.armed(Deadline::Headers(*id)) => {
                    "may wait for headers for ever"
                }
                State::Asking
                    if !self.ops.values().any(|op| op.request() == Some(*id))
                        && !self.limited.values().any(|limited| limited.waits(*id)) =>
                {
                    "waits for no answer of the origin"
                }
                State::Serving if request.method == Method::Get && !request.holds && flight.is_none() => {
                    "is served from nothing"
                }
                State::Serving
                    if request.method == Method::Get && !request.holds && !self.armed(Deadline::Body(*id)) =>
                {
                    "may stand still for ever"
                }
                _ => return None,
            };
            Some(format!("{id:?} for {} {wrong}", request.digest.short()))
        })
    }

    /// A swarm that this node leads, with a run whose fetcher is long late.
    fn runs_overdue(&self) -> Option<&Digest> {
        // The clock may have leapt; what is due now is looked after in a moment.
        if self.cx.timers.next().is_none_or(|(at, _)| at <= self.cx.now) {
            return None;
        }
        let leads = |digest: &Digest| self.flights.get(digest).is_some_and(|flight| flight.role == Role::Leading);
        let looks = |digest: &Digest| leads(digest) && self.armed(Deadline::Track(*digest));
        let mut late = self.trackers.iter().filter(|(_, tracker)| tracker.is_overdue(self.cx.now, OVERDUE));
        late.find(|(digest, _)| looks(digest)).map(|(digest, _)| digest)
    }

    fn memories_contradict(&self) -> Option<String> {
        let most = self.config.max_running_flights as usize;
        let counted = || self.flights.values().filter(|flight| !flight.others_wait);
        let (flights, running) = (counted().count(), counted().filter(|flight| flight.is_running()).count());
        // Those that containerd waits for have as much room again.
        if running > 2 * most {
            return Some(format!("{running} flights run, {most} may, and {most} that are waited for"));
        }
        let waited_for = || counted().filter(|flight| !flight.waiters.is_empty());
        let (waited, moving) = (waited_for().count(), waited_for().filter(|flight| flight.is_running()).count());
        if moving < waited.min(most) && running < 2 * most {
            return Some(format!("{} flights that are waited for stand in line", waited - moving));
        }
        let may_begin = |next: &Flight| !self.is_far_ahead(next);
        if running < flights.min(most) && self.next_in_line().is_some_and(may_begin) {
            return Some(format!("{} flights wait although only {running} of {most} run", flights - running));
        }
        if let Some(flight) = self.flights.values().find(|flight| flight.others_wait && !flight.is_running()) {
            return Some(format!("others wait for the flight of {}, which does not run", flight.digest.short()));
        }
        if let Some((id, op)) =
            self.ops.iter().find(|(_, op)| op.digest().is_some_and(|of| !self.flights.contains_key(&of)))
        {
            return Some(format!("operation {id:?} ({op:?}) is for a flight that has ended"));
        }
        if self.calls.any(|call| !self.flights.contains_key(&call.digest)) {
            return Some("a call is for a flight that has ended".into());
        }
        if let Some(digest) = self
            .trackers
            .keys()
            .find(|digest| !self.flights.contains_key(digest) && !self.armed(Deadline::Track(**digest)))
        {
            return Some(format!("the swarm of {} is never looked after", digest.short()));
        }
        if let Some(digest) = self.failures.digests().find(|digest| self.cache.get(digest).is_some()) {
            return Some(format!("{} is here, and its failures are remembered", digest.short()));
        }
        if let Some(digest) = self.runs_overdue() {
            return Some(format!("a run of {} is late and nobody else's", digest.short()));
        }
        if self.choked.len() > crate::swarm::choked::MAX_CHOKED {
            return Some(format!("{} wait for an upload slot", self.choked.len()));
        }
        let misses = |flight: &Flight| flight.download.as_ref().is_some_and(|download| !download.have().is_full());
        let mut held_back = self
            .flights
            .values()
            .filter(|flight| flight.held_back && flight.stage.is_moving())
            .filter(|flight| misses(flight));
        if let Some(flight) = held_back.find(|flight| !self.armed(Deadline::Fetch(flight.digest))) {
            return Some(format!("the flight of {} is held back for ever", flight.digest.short()));
        }
        if let Some(registry) = self.limited.iter().find(|(_, limited)| limited.is_forgotten(&self.cx.timers)) {
            return Some(format!("nobody asks {} again when it may be asked", registry.0));
        }
        let holding = self.requests.values().filter(|request| request.holds).count()
            + self.streams.values().filter(|stream| stream.holds()).count();
        if self.cache.readers() > holding {
            return Some(format!("{} reads of blobs are noted, and {holding} are under way", self.cache.readers()));
        }
        let used = |id: &crate::names::CredentialId| {
            self.requests.values().any(|request| request.credential == Some(*id))
                || self.flights.values().any(|flight| flight.credential == Some(*id))
        };
        let unused = self.credentials.keys().find(|id| !used(id));
        unused.map(|id| format!("{id:?} is kept and nobody uses it"))
    }
}

impl Op {
    fn digest(&self) -> Option<Digest> {
        match self {
            Self::Fetch(of)
            | Self::FetchWhole(of)
            | Self::Size(of)
            | Self::Challenge(of)
            | Self::Confirm(of, _)
            | Self::Late(of)
            | Self::Hash(of, _)
            | Self::Providers(of) => Some(*of),
            Self::Head(_) | Self::Authorize(_) => None,
        }
    }

    fn request(&self) -> Option<crate::names::RequestId> {
        match self {
            Self::Head(id) | Self::Authorize(id) => Some(*id),
            _ => None,
        }
    }
}
