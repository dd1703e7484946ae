//! What peers, registries and the store may say when anything is to be expected of them.

use super::*;
use crate::input::StoreError;
use crate::message::{Enrol, EnrolReply, Have, Neighbour, Notice, PullResult, RecentFailure};
use crate::piece::{MAX_BLOB_BYTES, MIN_PIECE_BYTES};

pub(super) const SIZES: [u64; 8] =
    [10, MIN_PIECE_BYTES, 3 * MIN_PIECE_BYTES + 1, 9 * MIN_PIECE_BYTES, 0, 1 << 60, u64::MAX, MAX_BLOB_BYTES + 1];
pub(super) const PIECES: [u32; 8] = [0, 1, 2, 3, 8, 9, u32::MAX - 1, u32::MAX];

/// Dice that were thrown before: they say what happens next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % bound
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    pub(super) fn maybe<T>(&mut self, value: T) -> Option<T> {
        (self.below(2) == 0).then_some(value)
    }

    pub(super) fn digest(&mut self) -> Digest {
        digest(self.below(4) as u8)
    }

    pub(super) fn peer(&mut self) -> PeerId {
        PeerId::new(self.pick(&["a", "b", "c", "d", "me"]))
    }

    pub(super) fn kind(&mut self) -> Kind {
        self.pick(&[Kind::Blob, Kind::Blob, Kind::Manifest, Kind::Config])
    }

    /// Mostly honest: each blob has one true size.
    pub(super) fn size(&mut self, of: Digest) -> u64 {
        if self.below(4) > 0 { SIZES[usize::from(of.as_bytes()[0]) % 4] } else { self.pick(&SIZES) }
    }

    pub(super) fn class(&mut self) -> FailureClass {
        self.pick(&[FailureClass::Auth, FailureClass::NotFound, FailureClass::RateLimited, FailureClass::Transient])
    }

    pub(super) fn duration(&mut self) -> Duration {
        self.pick(&[
            Duration::ZERO,
            Duration::from_millis(1),
            Duration::from_secs(5),
            Duration::from_secs(600),
            Duration::MAX,
        ])
    }

    pub(super) fn failure(&mut self) -> RecentFailure {
        RecentFailure { class: self.class(), cooldown: self.duration() }
    }

    pub(super) fn midstate(&mut self) -> Midstate {
        Midstate([self.below(3) as u32; 8])
    }

    pub(super) fn have(&mut self) -> Have {
        match self.below(3) {
            0 => Have::All,
            1 => Have::Exactly((0..self.below(4)).map(|_| self.below(256) as u8).collect()),
            _ => Have::Also((0..self.below(4)).map(|_| self.pick(&PIECES)).collect()),
        }
    }

    pub(super) fn spine(&mut self) -> Vec<(u32, Midstate)> {
        (0..self.below(3)).map(|_| (self.pick(&PIECES), self.midstate())).collect()
    }

    pub(super) fn neighbours(&mut self) -> Vec<Neighbour> {
        (0..self.below(3)).map(|_| Neighbour { peer: self.peer(), addresses: Vec::new(), zone: None }).collect()
    }

    pub(super) fn notice(&mut self) -> Notice {
        let digest = self.digest();
        match self.below(8) {
            0..=2 => {
                let size = self.size(digest);
                let (pieces, spine, private) = (self.have(), self.spine(), self.below(9) == 0);
                Notice::Have { digest, size: self.maybe(size), pieces, sums: Vec::new(), spine, private }
            }
            3 => {
                let size = self.size(digest);
                let (first, count) = (self.pick(&PIECES), self.pick(&PIECES));
                let source = source(self.kind());
                Notice::Assign { digest, size: self.maybe(size), first, count, source, deadline: self.duration() }
            }
            4 => Notice::Unassigned {
                digest,
                first: self.pick(&PIECES),
                count: self.pick(&PIECES),
                class: self.class(),
                cooldown: self.duration(),
                no_ranges: self.below(4) == 0,
            },
            5 => {
                let pieces = (0..self.below(3)).map(|_| self.pick(&PIECES)).collect();
                Notice::Unchoke { digest, pieces, spine: self.spine() }
            }
            6 => Notice::Starving { digest, piece: self.pick(&PIECES) },
            _ => Notice::Leave { digest },
        }
    }

    pub(super) fn request(&mut self) -> Request {
        let digest = self.digest();
        match self.below(4) {
            0 => Request::PullIntent { digest, leads: self.below(3) == 0 },
            1 => Request::PleasePull(PleasePull {
                digests: (0..self.below(4)).map(|_| self.digest()).collect(),
                source: source(self.kind()),
                resuming: self.below(2) == 0,
                origin_has_it: self.below(2) == 0,
            }),
            _ => {
                let size = self.size(digest);
                Request::Enrol(Enrol {
                    digest,
                    size: self.maybe(size),
                    pieces: (0..self.below(4)).map(|_| self.below(256) as u8).collect(),
                    can_fetch_origin: self.below(2) == 0,
                    source: source(self.kind()),
                    zone: None,
                    addresses: Vec::new(),
                    private: self.below(9) == 0,
                    has_credential: self.below(2) == 0,
                    fetching: (0..self.below(3)).map(|_| (self.below(9) as u32, self.below(9) as u32)).collect(),
                })
            }
        }
    }

    pub(super) fn response(&mut self, to: &Request) -> Response {
        match to {
            _ if self.below(12) == 0 => Response::PleasePull(Vec::new()),
            Request::PullIntent { .. } => {
                let (age, idle, failed) = (self.duration(), self.duration(), self.failure());
                let leader = Neighbour { peer: self.peer(), addresses: Vec::new(), zone: None };
                Response::PullIntent(PullIntent {
                    has_cached: self.below(4) == 0,
                    in_flight_for: self.maybe(age),
                    idle_for: self.maybe(idle),
                    rank: Some(self.below(3) as u32),
                    recently_failed: self.maybe(failed).filter(|_| self.below(4) == 0),
                    follows: self.maybe(leader).filter(|_| self.below(4) == 0),
                })
            }
            Request::PleasePull(batch) => {
                let digest = batch.digests[0];
                let outcome = match self.below(4) {
                    0 => PullOutcome::Declined,
                    1 => PullOutcome::RecentlyFailed(self.failure()),
                    _ => PullOutcome::Started,
                };
                Response::PleasePull(vec![PullResult { digest, outcome }])
            }
            Request::Enrol(enrol) => Response::Enrol(match self.below(8) {
                0 => EnrolReply::NotTracking,
                1 => EnrolReply::Failed(self.failure()),
                2 => {
                    let tracker = Neighbour { peer: self.peer(), addresses: Vec::new(), zone: None };
                    EnrolReply::Elsewhere { tracker }
                }
                _ => {
                    let size = self.size(enrol.digest);
                    let (neighbours, spine) = (self.neighbours(), self.spine());
                    let (size, private) = (self.maybe(size), self.below(9) == 0);
                    let quiet = Duration::from_secs(self.below(40));
                    EnrolReply::Enrolled { size, neighbours, spine, private, quiet: self.maybe(quiet) }
                }
            }),
        }
    }

    pub(super) fn origin_failure(&mut self) -> OriginFailure {
        let retry = self.duration();
        OriginFailure {
            class: self.class(),
            status: None,
            retry_after: self.maybe(retry),
            challenge: vec!["Basic".into()],
            detail: "the dice say so".into(),
        }
    }

    pub(super) fn store_error(&mut self) -> StoreError {
        self.pick(&[0, 1, 2]).min(self.below(3)).checked_sub(1).map_or(StoreError::Full, |_| StoreError::Missing)
    }
}
