//! Checked every few inputs of each agent, by those who look closely.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::Agent;
use longshore_core::digest::Digest;
use longshore_core::message::{Have, Notice};
use longshore_core::names::PeerId;
use longshore_core::output::Output;
use longshore_core::piece::{Geometry, PieceSet};

use super::Invariant;
use crate::watch::Broken;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "told-at-all",
    sentence: "A neighbour was told of every piece that the agent will not tell it of any more.",
    source: "design, section 3.2",
};

/// Which pieces one agent has told whom of, since it last said exactly what it has.
#[derive(Debug, Default)]
pub(crate) struct Memory(BTreeMap<(PeerId, Digest), BTreeSet<u32>>);

impl Memory {
    pub(crate) fn output(&mut self, output: &Output) {
        let Output::Notify { peer, notice } = output else { return };
        let mut also = |digest: &Digest, pieces: &[u32]| {
            self.0.entry((peer.clone(), *digest)).or_default().extend(pieces);
        };
        match &**notice {
            Notice::Unchoke { digest, pieces, .. } | Notice::Have { digest, pieces: Have::Also(pieces), .. } => {
                also(digest, pieces);
            }
            Notice::Have { digest, size, pieces, .. } => {
                let all = size.map_or(0, |size| Geometry::of_blob(size).pieces());
                let stated = match pieces {
                    Have::Exactly(bytes) => PieceSet::from_bytes(all, bytes).iter().collect(),
                    _ => (0..all).collect(),
                };
                self.0.insert((peer.clone(), *digest), stated);
            }
            _ => {}
        }
    }

    /// Compares with what the agent believes.
    pub(crate) fn check(&self, agent: &Agent, broken: &mut Vec<Broken>) {
        let told = |peer: &PeerId, digest: Digest| self.0.get(&(peer.clone(), digest));
        let untold = agent.believes_told().find(|(digest, peer, pieces)| {
            let told = told(peer, *digest);
            pieces.iter().any(|piece| told.is_none_or(|told| !told.contains(piece)))
        });
        if let Some((digest, peer, pieces)) = untold {
            let count =
                pieces.iter().filter(|piece| told(peer, digest).is_none_or(|told| !told.contains(piece))).count();
            broken.push((
                &RULE,
                format!("{peer} was not told of {count} pieces of {} and never will be", digest.short()),
            ));
        }
    }
}
