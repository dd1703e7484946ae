//! Who is told of whom: each participant gets to know about as many others as every other one, most of them in its own zone.

use crate::context::Context;
use crate::message::Neighbour;
use crate::names::PeerId;
use crate::swarm::tracker::{Participant, Tracker};

/// How many neighbours a participant should have, those that were given to it and those that it was given to (reference,
/// section 9.3: ten are enough, twenty buy 2 to 3 %). What each has to say goes to all of them.
pub(crate) const DEGREE: usize = 16;
/// Somebody that was given to, or got, this many is given to nobody else while others have fewer: whoever comes first would
/// be known to all and whoever comes last to few, and the slowest nodes would be those that few know.
pub(crate) const FULL: usize = 20;
/// The first answer names this many, out of those that have come by then. The second one, when everybody has come, names
/// the rest: a crowd that starts at once is mixed well only after it has come.
pub(crate) const FIRST: usize = 6;
/// A participant gets at least this many new ones with each sign of life: some of the old ones may have gone.
pub(crate) const FRESH: usize = 2;
/// Of those in one answer, how many may come from other zones when the own zone has enough.
pub(crate) const FOREIGN: usize = 2;

impl Tracker {
    /// Neighbours for `peer`: its own zone first, a few across, and whoever has few so far; one that has what it misses.
    pub(crate) fn neighbours(&mut self, cx: &mut Context, peer: &PeerId) -> Vec<Neighbour> {
        let Some(asker) = self.participants.get_mut(peer) else { return Vec::new() };
        let wanted = if core::mem::replace(&mut asker.introduced, true) {
            asker.links = asker.links.saturating_sub(FRESH);
            DEGREE.saturating_sub(asker.links).max(FRESH)
        } else {
            FIRST
        };
        let asker = &self.participants[peer];
        let missing = asker.pieces.missing_from(0).next();
        let mut others: Vec<_> =
            self.participants.iter().filter(|(other, _)| *other != peer || mutant!("introduced-to-itself")).collect();
        cx.shuffle(&mut others);
        let is_foreign = |other: &Participant| asker.zone.is_some() && other.zone != asker.zone;
        // A stable sort: of those that are alike, any.
        others.sort_by_key(|(_, other)| (is_foreign(other), other.links >= FULL));
        let local = others.iter().filter(|(_, other)| !is_foreign(other)).count();
        let foreign_from = local.min(wanted.saturating_sub(FOREIGN.min(others.len() - local)));
        let mut chosen: Vec<_> = others[..foreign_from].to_vec();
        chosen.extend(others[local..].iter().take(wanted - chosen.len()));
        if let Some(missing) = missing
            && !chosen.iter().any(|(_, other)| other.pieces.contains(missing))
            && let Some(holder) = others.iter().find(|(_, other)| other.pieces.contains(missing))
        {
            chosen.push(*holder);
        }
        let contact = |(peer, other): (&PeerId, &Participant)| Neighbour {
            peer: peer.clone(),
            addresses: other.addresses.clone(),
            zone: other.zone.clone(),
        };
        let chosen: Vec<_> = chosen.into_iter().map(contact).collect();
        for one in &chosen {
            if let Some(other) = self.participants.get_mut(&one.peer) {
                other.links += 1;
            }
        }
        if let Some(asker) = self.participants.get_mut(peer) {
            asker.links += chosen.len();
        }
        chosen
    }
}
