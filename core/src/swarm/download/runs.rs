//! Runs that wait to be fetched from the origin.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Download, Fetch};
use crate::piece::PieceSet;
use crate::swarm::most_of_run;
use crate::time::Time;

/// Most runs that wait for the origin: far more than an honest tracker gives to one participant.
pub(super) const MAX_RUNS: usize = 1024;

/// What is to be fetched from the origin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Run {
    first: u32,
    count: u32,
    /// When the tracker gives it to somebody else, and how long that was from the beginning.
    until: Option<(Time, Duration)>,
    /// No neighbour had it when it was given to us.
    is_rare: bool,
}

impl Run {
    fn end(&self) -> u32 {
        self.first + self.count
    }
}

impl Download {
    /// Whether a piece is to be fetched from the origin by this node, and has not begun.
    pub(super) fn is_queued(&self, piece: u32) -> bool {
        self.runs.iter().any(|run| (run.first..run.end()).contains(&piece))
    }

    /// A run to fetch from the origin has been given to us. The numbers are a peer's: what the blob does not have is
    /// cut off, and what is beyond [`MAX_RUNS`] is dropped; its tracker gives it away again.
    /// `available`: what neighbours have.
    pub(crate) fn enqueue(&mut self, first: u32, count: u32, until: Option<(Time, Duration)>, available: &PieceSet) {
        let last = self.geometry.pieces() - u32::from(mutant!("last-piece-never-fetched") && first > 0);
        let end = first.saturating_add(count).min(last);
        // A tracker that has given it up may give it here once more.
        let covers = |start: u32, stop: u32| start <= first && end <= stop;
        if let Some(queued) = self.runs.iter_mut().find(|run| covers(run.first, run.end())) {
            queued.until = until;
            return;
        }
        if self.fetches.values().any(|fetch| matches!(fetch, Fetch::Origin { first, end, .. } if covers(*first, *end)))
        {
            return;
        }
        if first < end && self.runs.len() < MAX_RUNS {
            self.runs.push_back(Run { first, count: end - first, until, is_rare: !available.contains(first) });
        }
    }

    /// Forgets what has waited for too long: neighbours have it by now, or somebody else fetches it before `takes` is over, which
    /// is what its first piece would take. What was given just now is begun all the same. Returns the first piece and the number
    /// of pieces of each run that is forgotten.
    pub(crate) fn drop_late_runs(&mut self, now: Time, takes: Duration, available: &PieceSet) -> Vec<(u32, u32)> {
        let counts = self.recovery.is_none() && !self.no_ranges;
        let mut dropped = Vec::new();
        self.runs.retain_mut(|run| {
            let whole = (run.first, run.count);
            while counts && run.is_rare && run.count > 0 && available.contains(run.first) {
                run.first += 1;
                run.count -= 1;
            }
            let begins_late = |(until, deadline): (Time, Duration)| now + takes.min(deadline / 2) >= until;
            let too_late = run.until.is_some_and(begins_late) && !mutant!("late-run-fetched-as-well");
            let stays = run.count > 0 && !too_late;
            if !stays {
                dropped.push(whole);
            }
            stays
        });
        dropped
    }

    /// The run with this piece, if there is one that has not begun: its first piece and the number of pieces.
    pub(crate) fn run_with(&self, piece: u32) -> Option<(u32, u32)> {
        let run = self.runs.iter().find(|run| (run.first..run.end()).contains(&piece))?;
        Some((run.first, run.count))
    }

    /// Forgets the run with this piece, if it has not begun.
    pub(crate) fn drop_run_with(&mut self, piece: u32) {
        self.runs.retain(|run| !(run.first..run.end()).contains(&piece));
    }

    pub(crate) fn has_runs(&self) -> bool {
        !self.runs.is_empty()
    }

    /// Takes back what was enqueued and has not started: first piece and number of pieces of each run.
    pub(crate) fn drop_runs(&mut self) -> Vec<(u32, u32)> {
        self.runs.drain(..).map(|run| (run.first, run.count)).collect()
    }

    /// The next pieces to fetch from the origin: consecutive ones of a run that are missing, and if requests are few, of all runs that
    /// go on where it ends.
    pub(crate) fn next_run(&mut self, requests_are_few: bool) -> Option<(u32, u32)> {
        let (first, mut count) = self.next_single_run()?;
        while requests_are_few && !self.no_ranges && u64::from(count) < most_of_run(self.geometry) {
            let goes_on = |run: &Run| run.first == first + count && run.count > 0 && !self.have.contains(run.first);
            let next = self.runs.iter().position(goes_on).and_then(|next| self.runs.remove(next));
            let Some((_, more)) = next.and_then(|next| self.begin(next)) else { break };
            count += more;
        }
        Some((first, count))
    }

    fn next_single_run(&mut self) -> Option<(u32, u32)> {
        while let Some(run) = self.runs.pop_front() {
            let begun = self.begin(run);
            if begun.is_some() {
                return begun;
            }
        }
        None
    }

    /// The first missing pieces of a run; what is missing after one that is here is the next run. `None`: all of it is here, or comes.
    fn begin(&mut self, run: Run) -> Option<(u32, u32)> {
        let (first, end) = (run.first, run.end().min(self.geometry.pieces()));
        let start = (first..end).find(|piece| !self.have.contains(*piece))?;
        if self.fetches_whole() {
            // All of it is on its way: what would be written again after it was hashed would be vouched for unseen.
            return None;
        }
        if self.no_ranges && (first, end) == (0, self.geometry.pieces()) {
            self.start_over();
            return Some((first, run.count));
        }
        let stop = (start..end).find(|piece| self.have.contains(*piece)).unwrap_or(end);
        if stop < end {
            self.runs.push_front(Run { first: stop, count: end - stop, until: None, ..run });
        }
        Some((start, stop - start))
    }

    /// The origin is sending all of it in one go.
    fn fetches_whole(&self) -> bool {
        let all = (0, self.geometry.pieces());
        let is_whole = |fetch: &Fetch| matches!(fetch, Fetch::Origin { start, end, .. } if (*start, *end) == all);
        self.no_ranges && self.fetches.values().any(is_whole)
    }

    /// All of it is fetched in one go, over what is here: nothing counts that is about to be written again, or the chain
    /// would vouch for bytes that are not there any more.
    fn start_over(&mut self) {
        for piece in self.have.clone().iter() {
            self.lose(piece);
        }
        self.chain = Self::new(self.digest, self.geometry).chain;
        self.known = PieceSet::none(self.geometry.pieces());
        self.claimants.clear();
        self.compared = 0;
        // What is being hashed now may change meanwhile: what that gives is not waited for.
        self.hashing = None;
        self.keep_nothing();
    }
}
