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
        let others = self.participants.iter().filter(|(other, _)| *other != peer || mutant!("introduced-to-itself"));
        let others: Vec<_> = others.collect();
        // A crowd comes at once, and all of it is looked at for each of it: small numbers are shuffled, and nothing is sorted.
        let class = |other: &Participant| {
            let is_foreign = asker.zone.is_some() && other.zone != asker.zone;
            (is_foreign, other.links >= FULL)
        };
        let classes: Vec<_> = others.iter().map(|(_, other)| class(other)).collect();
        let mut places: Vec<_> = (0..others.len() as u32).collect();
        cx.shuffle(&mut places);
        let places = || places.iter().map(|place| *place as usize);
        // Of those that are alike, any.
        let of = |foreign: bool| {
            let classes = &classes;
            let of_class = move |is_full| places().filter(move |place| classes[*place] == (foreign, is_full));
            of_class(false).chain(of_class(true)).map(|place| others[place])
        };
        let foreigners = classes.iter().filter(|(is_foreign, _)| *is_foreign).count();
        let near = wanted.saturating_sub(FOREIGN.min(foreigners));
        let mut chosen: Vec<_> = of(false).take(near).collect();
        chosen.extend(of(true).take(wanted - chosen.len()));
        if let Some(missing) = missing
            && !chosen.iter().any(|(_, other)| other.pieces.contains(missing))
            && let Some(holder) = of(false).chain(of(true)).find(|(_, other)| other.pieces.contains(missing))
        {
            chosen.push(holder);
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
