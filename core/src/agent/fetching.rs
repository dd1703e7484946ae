//! Which pieces to fetch next, and from which neighbours.

use core::time::Duration;

use super::{Agent, Op};
use crate::config::Config;
use crate::digest::Digest;
use crate::flight::{Flight, Role, Stage};
use crate::names::{Kind, PeerId};
use crate::output::{Check, Output};
use crate::swarm::download::{Download, Fetch};
use crate::swarm::picker::{self, Choice, Zone};
use crate::swarm::readiness::Asking;
use crate::time::Time;
use crate::timers::Deadline;

/// A piece from a peer that makes no progress for this long is asked for elsewhere.
pub(super) const PIECE_PATIENCE: Duration = Duration::from_secs(5);
/// A piece moves at least this fast, in bytes per second, or goes elsewhere; what comes byte by byte holds a place that
/// others could use. A node with a thousandth of a Gbit/s that it shares among eight is still faster. Both ends hold the
/// other one to it.
pub(super) const SLOWEST_PIECE: u64 = 16 * 1024;
/// A piece that has taken this many times what pieces take lately is late: it does not count for what may be fetched at a
/// time any more, and in the end game it is asked for a second time.
const LATE_FACTOR: u32 = 8;
/// The least and the most that makes a piece late. Where nothing was fetched yet, the most. Whoever gets nothing for as long
/// asks other zones for what its own does not have.
pub(super) const LATE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// Whoever has got pieces that do not fit what somebody has said of them, and no other for this long at least, and for several times
/// as long as one takes, fetches in vain, whoever else could be asked. It tells the tracker as if that were nobody.
const IN_VAIN: Duration = PIECE_PATIENCE.saturating_mul(3);
/// So many times.
const PIECES_IN_VAIN: u32 = 4;
/// A participant that can ask nobody for its next piece tells the tracker, this often.
pub(super) const STARVING_INTERVAL: Duration = Duration::from_secs(1);
/// Most pieces of which whoever starves tells its tracker at a time.
pub(super) const STARVING_BATCH: usize = 64;
/// It says so of all of them this often before it is heard: at first, to a tracker that has to know how others stand, and when
/// that has answered.
const STARVING_ROUNDS: u32 = 3;
/// If nothing comes of that, it says so of one of them, and of all of them every so many times. (Twenty layers to twenty nodes
/// from a registry of 1 MB/s: 6.4 million complaints in half an hour without.)
const STARVING_PAUSE: u32 = 8;
/// Whoever reads and has got nothing new for this long needs the next piece more than any other. Where the origin is faster than
/// the nodes, rarer pieces come up all the time, and the most common one would be fetched last.
const READER_PATIENCE: Duration = Duration::from_secs(3);
/// Of the pieces at a time, a flight that nobody waits for gets this share.
const BACKGROUND_SHARE: u32 = 2;

/// How long so many bytes take at [`SLOWEST_PIECE`].
pub(super) const fn slowest(bytes: u64) -> Duration {
    Duration::from_millis(bytes * 1000 / SLOWEST_PIECE)
}

impl Agent {
    /// Starts whatever can be started for a flight: runs from the origin, pieces from neighbours.
    pub(super) fn fill(&mut self, digest: Digest) {
        self.fill_from_origin(digest);
        self.fill_from_peers(digest);
    }

    pub(super) fn fill_from_peers(&mut self, digest: Digest) {
        let window = picker::window(self.members.len());
        let now = self.cx.now;
        let (zone, zone_len) = (self.config.zone.clone(), self.members.zone_len());
        let salt = self.config.peer.end() ^ digest.head();
        let mut left = self.downloads_left();
        let read_up_to = self.read_up_to(&digest);
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.held_back = false;
        }
        loop {
            let Some(flight) = self.flights.get_mut(&digest) else { return };
            let Some(download) = &flight.download else { return };
            if !matches!(flight.stage, Stage::Moving | Stage::Resolving(_)) {
                return;
            }
            if download.is_by_hand() {
                // What others have does not count: what they have and we miss is given to nobody unless we complain.
                break;
            }
            let (limit, asking) = (flight.at_a_time(&self.config), flight.asking(&self.config, now));
            let patience = late_after(flight.piece_time);
            let fetches = download.piece_fetches();
            // Late ones hold no place; but where many are on the way, they are not given others beside them.
            let most = limit.max(2 * limit.min(self.config.max_downloads as usize));
            if fetches >= limit && (fetches >= most || fetches - download.stuck(now, patience) >= limit) {
                if !flight.fetches_in_vain(now) {
                    return self.cx.wake_by(Deadline::Fetch(digest), patience);
                }
                break;
            }
            // Whoever is waited for gets something at least.
            if left == 0 && (fetches > 0 || flight.waiters.is_empty()) {
                if flight.fetches_in_vain(now) {
                    break;
                }
                return self.hold_back(digest);
            }
            if !flight.neighbours.anybody_is_free(Asking::anybody(now)) {
                break;
            }
            let Some(download) = &mut flight.download else { return };
            let mut wanted = download.wanted(window, flight.neighbours.available());
            // What somebody may be reading is written again by nobody but the origin: a piece is in the file before it is
            // known to be right. It is missing only after a fetch of the whole, over everything, that came to nothing.
            wanted.retain(|piece| download.geometry().range(*piece).start >= read_up_to);
            let behind = download.have().last().unwrap_or(0).saturating_sub(window);
            let starving = now - flight.last_near >= patience;
            let zone = || zone.as_ref().map(|name| Zone { name, len: zone_len, salt, starving });
            let reader_waits =
                !flight.waiters.is_empty() && now - flight.last_release.max(flight.stood_behind) >= READER_PATIENCE;
            let first = reader_waits.then(|| download.chain().tip());
            let choice =
                Choice { neighbours: &flight.neighbours, wanted: &wanted, first, behind, zone: zone(), asking };
            let failures = &self.failures;
            let may_ask = |peer: &PeerId, piece: Option<u32>| match piece {
                None => failures.may_ask(now, digest, peer),
                Some(piece) => !download.has_doubted(peer, piece, now),
            };
            let picked = picker::pick(&mut self.cx, &choice, may_ask).or_else(|| {
                // The end game: somebody else is asked for what is late.
                download.late(now, patience).into_iter().find_map(|(piece, from)| {
                    let other = |peer: &PeerId, piece| *peer != from && may_ask(peer, piece);
                    let (neighbours, asking) = (&flight.neighbours, Asking::anybody(now));
                    let choice = Choice { neighbours, wanted: &[piece], first, behind, zone: zone(), asking };
                    picker::pick(&mut self.cx, &choice, other)
                })
            });
            let picked = picked.or_else(|| {
                let end = download.doubtful_end().filter(|end| wanted.contains(end))?;
                let (neighbours, wanted) = (&flight.neighbours, &[end]);
                let choice = Choice { neighbours, wanted, first, behind, zone: zone(), asking };
                picker::pick(&mut self.cx, &choice, |peer, _| may_ask(peer, None))
            });
            let Some((piece, peer)) = picked else { break };
            let check = if download.has_doubted(&peer, piece, now) { Check::Alone } else { download.check(piece) };
            let size = download.geometry().size();
            flight.neighbours.fetching(&peer);
            let op = self.start_op(Op::Fetch(digest), PIECE_PATIENCE);
            if let Some(download) = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut()) {
                download
                    .started(op, Fetch::Piece { peer: peer.clone(), piece, check, since: now, way: Duration::ZERO });
            }
            left = left.saturating_sub(1);
            self.cx.emit(Output::FetchPiece { op, peer, digest, size, piece, check });
        }
        self.wait_for_more(digest);
    }

    /// How many bytes of the file somebody may be reading. Those who were cut short after a mismatch read on until they are
    /// closed.
    fn read_up_to(&self, digest: &Digest) -> u64 {
        match self.flights.get(digest) {
            Some(flight) if flight.withdrawn > 0 && self.is_read_after_all(digest) => {
                flight.released.max(flight.withdrawn)
            }
            Some(flight) => flight.released,
            None => 0,
        }
    }

    /// A peer has answered this long after it was asked.
    pub(super) fn way_took(&mut self, digest: Digest, peer: &PeerId, took: Duration) {
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let Some(least) = flight.neighbours.answered_after(peer, took) else { return };
        flight.way.asked(least);
        self.way.asked(least);
        let most = flight.with_those_on_the_way(self.config.max_downloads);
        flight.neighbours.set_wanted(if most > self.config.max_downloads { most } else { 0 });
    }

    /// Nothing more can be asked for now: when to look again, and whether the tracker has to know.
    fn wait_for_more(&mut self, digest: Digest) {
        let now = self.cx.now;
        let stands_behind = self.stands_behind(digest);
        let Some(flight) = self.flights.get(&digest) else { return };
        let Some(download) = &flight.download else { return };
        if download.have().is_full() {
            return;
        }
        if let Some(free) = flight.neighbours.next_free(flight.asking(&self.config, now)) {
            self.cx.timers.set_by(Deadline::Fetch(digest), free);
        }
        if download.is_fetching() && !flight.fetches_in_vain(now) {
            self.cx.wake_by(Deadline::Fetch(digest), late_after(flight.piece_time));
            return;
        }
        self.cx.wake_by(Deadline::Fetch(digest), late_after(flight.piece_time).min(STARVING_INTERVAL));
        if !download.is_fetching() && download.is_contradicted() && now - flight.last_byte >= LATE.0 {
            return self.doubt_everything(digest);
        }
        let quiet_since = flight.last_byte.max(flight.last_complaint);
        // Whoever has it and is busy gives it to others and will give it to us: the origin would have to send it again. A
        // manifest is small, and everything else waits for it.
        let waits_its_turn = flight.source.kind != Kind::Manifest
            && now < flight.busy_until + STARVING_INTERVAL
            && self.believes_in_its_turn(flight);
        if now - quiet_since < STARVING_INTERVAL || waits_its_turn || download.has_runs() || stands_behind {
            return;
        }
        let rounds = if flight.last_piece > flight.last_complaint { 0 } else { flight.complaints };
        let says_all = rounds < STARVING_ROUNDS || rounds % STARVING_PAUSE == 0;
        // Who has these? The tracker's next answer tells; if nobody can give them, it lets us fetch them.
        let mut missing = download.missing(STARVING_BATCH, flight.fetches_in_vain(now));
        if !says_all && !missing.is_empty() {
            missing = vec![missing[rounds as usize % missing.len()]];
        }
        if missing.is_empty() {
            // After a mismatch it waits for somebody who has the whole.
            return;
        }
        let role = flight.role.clone();
        if let Some(flight) = self.flights.get_mut(&digest) {
            // The answer to a complaint leads back here.
            flight.last_complaint = now;
            flight.complaints = rounds + 1;
        }
        match role {
            Role::Following(tracker) => {
                for piece in missing {
                    let notice = crate::message::Notice::Starving { digest, piece };
                    self.cx.emit(Output::Notify { peer: tracker.clone(), notice: notice.into() });
                }
                self.enrol(digest);
            }
            Role::Leading => {
                let own = self.config.peer.clone();
                if let Some(tracker) = self.trackers.get_mut(&digest) {
                    for piece in missing {
                        tracker.starving(now, &own, piece);
                    }
                }
                self.cx.wake_by(Deadline::Track(digest), Duration::from_millis(1));
            }
            Role::Undecided => {}
        }
    }
}

impl Flight {
    /// What peers send it does not fit, and nothing has for long.
    fn fetches_in_vain(&self, now: Time) -> bool {
        let Some(download) = self.download.as_ref().filter(|download| download.is_doubtful()) else { return false };
        // One that has not got any may be the first on a slow way.
        let takes = if self.piece_time.is_zero() {
            slowest(download.geometry().len(0))
        } else {
            self.piece_time * PIECES_IN_VAIN
        };
        let waits_for_origin = download.origin_fetches() > 0;
        let without = now - self.last_piece.max(self.stood_behind);
        !waits_for_origin && without >= takes.max(IN_VAIN) && !mutant!("fetches-in-vain-for-ever")
    }

    /// So many pieces to fetch at a time instead of `count`: peers may be far away.
    pub(super) fn with_those_on_the_way(&self, count: u32) -> u32 {
        let piece_bytes = self.download.as_ref().map_or(0, |download| download.geometry().piece_bytes());
        self.way.fetches(count, piece_bytes, self.piece_time, self.come_from_peers)
    }

    /// How many pieces are fetched from peers at a time.
    fn at_a_time(&self, config: &Config) -> usize {
        let share = if self.waiters.is_empty() { BACKGROUND_SHARE } else { 1 };
        let limit = self.with_those_on_the_way((config.max_downloads / share).max(1)) as usize;
        // What comes from the origin shares the downlink with the rest.
        let from_origin = self.download.as_ref().map_or(0, Download::origin_fetches);
        limit.saturating_sub(from_origin).max(1) + usize::from(mutant!("download-limit-off-by-one"))
    }

    /// Whom to ask now. With half of what may be fetched on its way the rest can wait for slots: asking everybody over and
    /// over would be refused by most.
    pub(super) fn asking(&self, config: &Config, now: Time) -> Asking {
        let fetches = self.download.as_ref().map_or(0, Download::piece_fetches);
        Asking { now, waits: 2 * fetches >= self.at_a_time(config) }
    }
}

/// A piece from a peer is late after this long, if pieces take `typical`.
pub(super) fn late_after(typical: Duration) -> Duration {
    if typical.is_zero() { LATE.1 } else { (typical * LATE_FACTOR).clamp(LATE.0, LATE.1) }
}
