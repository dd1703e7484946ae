//! Who fetches what from the origin next.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::context::Context;
use crate::names::PeerId;
use crate::swarm::tracker::{Assignment, MOST_RUNS_EACH, Participant, RUNS_EACH, Tracker};
use crate::time::Time;

impl Tracker {
    /// What the way to the registry takes from this node, which leads.
    pub(crate) fn set_way(&mut self, way: Duration) {
        self.pace.set_way(way);
    }

    /// Peers are far from this node, which leads.
    pub(crate) fn peers_are_far(&mut self, far: bool) {
        self.pace.set_peers_are_far(far);
    }

    /// The registry limits the requests of this node, which leads.
    pub(crate) fn registry_limits_requests(&mut self) {
        self.outage.limits_requests();
    }

    /// Hands out runs until everything is held or assigned, or everybody is at work: at most `limit` at a time. A blob of
    /// unknown size is fetched by this node (`own`) if it can: it is here, and it is alive.
    pub(crate) fn assign(&mut self, cx: &mut Context, own: &PeerId, limit: u32) -> Vec<Assignment> {
        let now = cx.now;
        let mut handed_out = Vec::new();
        if now < self.collecting_until || now < self.outage.until() {
            return handed_out;
        }
        let resting = self.outage.rests() > 0;
        let most = limit;
        let limit = self.outage.limit(self.pace.width(limit));
        // All that one participant wishes takes the place of one run, and it wishes again when it has that: whoever complains of
        // everything and fetches nothing holds up one place and not the swarm.
        let mut wishing = self.wishing();
        let before = wishing.len();
        for peer in self.wishes.turns() {
            let (since, pieces) = self.wishes.take(&peer);
            if wishing[..before].contains(&peer) || wishing.len() as u32 >= (limit / 2).max(1) {
                // It has its turn when somebody has got what it wished for.
                let participant = self.participants.get(&peer);
                let missing = |piece: &u32| participant.is_some_and(|it| !it.pieces.contains(*piece));
                self.wishes.keep(peer, since, pieces.into_iter().filter(missing));
                continue;
            }
            let mut is_heard = false;
            for piece in pieces {
                if resting && !self.assignments.is_empty() {
                    // One at a time.
                    self.wishes.keep(peer.clone(), since, [piece]);
                    continue;
                }
                // Nor by who failed lately: that others got on meanwhile does not mean that the origin wants to hear of it again.
                if !self.is_able(now, &peer) || self.is_assigned(piece) {
                    continue;
                }
                match self.geometry {
                    // All or nothing, and one at a time.
                    Some(geometry) if self.no_ranges && self.assignments.is_empty() => {
                        handed_out.push(self.hand_out(now, peer.clone(), 0, geometry.pieces(), false));
                    }
                    _ if self.no_ranges => {}
                    _ => {
                        is_heard = true;
                        handed_out.push(self.hand_out(now, peer.clone(), piece, 1, true));
                    }
                }
            }
            if is_heard {
                wishing.push(peer);
            }
        }
        let wishing = wishing.len();
        self.pace.set_room(most);
        self.pace.set_longest(self.most_doubled());
        while self.assignments.iter().filter(|run| !run.is_wish).count() + wishing < limit as usize {
            let Some((first, count)) = self.next_run() else { break };
            let is_ours = count == 0 || self.is_deserted(now, first, own);
            let own = is_ours.then_some(own).filter(|own| self.is_able(now, own));
            let Some(peer) = own.cloned().or_else(|| self.next_fetcher(cx)) else {
                // All who may ask the registry have as much as they may have, unless they are to wait.
                if self.participants.values().any(|it| it.is_able(now)) {
                    self.pace.set_room(self.assignments.iter().filter(|run| !run.is_wish).count() as u32);
                }
                break;
            };
            handed_out.push(self.hand_out(now, peer, first, count, false));
        }
        handed_out
    }

    /// What this node (`own`) was to fetch and has not begun is for `peer` to fetch, if that may, was not late lately, and its credential is
    /// as good.
    pub(crate) fn pass_on(&mut self, now: Time, own: &PeerId, peer: &PeerId, run: (u32, u32)) -> Option<Assignment> {
        let (first, count) = run;
        let takes = |it: &Participant| it.is_able(now) && it.late_until <= now && !self.asks_in_vain(it);
        // Of what was deserted it is for this node to find out why.
        let is_deserted = (first..first + count).any(|piece| self.deserted.contains(&piece));
        if is_deserted || !self.participants.get(peer).is_some_and(takes) {
            return None;
        }
        self.release(own, &[run]);
        Some(self.hand_out(now, peer.clone(), first, count, false))
    }

    /// Whether somebody has gone who had this piece, or was to fetch it, and nobody else has it: with it that one may have found that the
    /// whole is wrong. Whoever is given the piece now finds the same, and goes as well. It is for this node to find it, who makes it
    /// good for all; with two such runs it has enough, and if it was late lately others try.
    fn is_deserted(&self, now: Time, first: u32, own: &PeerId) -> bool {
        let runs = || self.assignments.iter().filter(|run| run.peer == *own).count();
        let is_late = || self.participants.get(own).is_some_and(|it| it.late_until > now);
        self.deserted.contains(&first)
            && !is_late()
            && runs() < RUNS_EACH
            && !mutant!("what-was-deserted-given-to-anybody")
    }

    /// Who fetches what others have, each once.
    fn wishing(&self) -> Vec<PeerId> {
        let mut wishing: Vec<_> =
            self.assignments.iter().filter(|run| run.is_wish).map(|run| run.peer.clone()).collect();
        wishing.sort();
        wishing.dedup();
        wishing
    }

    /// The first pieces that nobody has and nobody is fetching.
    pub(super) fn next_run(&self) -> Option<(u32, u32)> {
        let Some(geometry) = self.geometry else { return self.assignments.is_empty().then_some((0, 0)) };
        let pieces = geometry.pieces();
        let mut free: Vec<bool> = self.holders.iter().map(|holders| *holders == 0).collect();
        if self.no_ranges {
            // One fetcher for everything, or for nothing.
            return (self.assignments.is_empty() && free.contains(&true)).then_some((0, pieces));
        }
        for run in &self.assignments {
            for piece in run.first..run.end() {
                if let Some(slot) = free.get_mut(piece as usize) {
                    *slot = mutant!("assigned-twice") && run.count > 1 && piece + 1 == run.end();
                }
            }
        }
        let first = free.iter().position(|free| *free)?;
        let count = free[first..].iter().take(self.longest_run(geometry)).take_while(|free| **free).count();
        Some((first as u32, count as u32))
    }

    pub(super) fn is_able(&self, now: Time, peer: &PeerId) -> bool {
        self.participants.get(peer).is_some_and(|it| it.is_able(now))
    }

    /// The registry wants a credential, and this one has none.
    fn asks_in_vain(&self, participant: &Participant) -> bool {
        self.wants_credential && !participant.has_credential && !mutant!("whoever-has-no-credential-asked")
    }

    /// Who was not late lately, then who has the credential that is wanted, then who has nothing else to do, then who has the
    /// fewest runs; of several, any.
    fn next_fetcher(&self, cx: &mut Context) -> Option<PeerId> {
        let now = cx.now;
        let most = self.pace.runs_each(RUNS_EACH, MOST_RUNS_EACH);
        let mut runs: BTreeMap<&PeerId, usize> = BTreeMap::new();
        for assignment in &self.assignments {
            *runs.entry(&assignment.peer).or_default() += 1;
        }
        self.participants
            .iter()
            .filter(|(_, participant)| participant.is_able(now))
            .map(|(peer, it)| (runs.get(peer).copied().unwrap_or(0), it, peer))
            .filter(|(runs, _, _)| *runs < most)
            .map(|(runs, it, peer)| {
                (
                    (it.late_until > now, self.asks_in_vain(it), runs > 0 || !it.starves(now), runs, cx.below(1 << 16)),
                    peer,
                )
            })
            .min()
            .map(|(_, peer)| peer.clone())
    }
}
