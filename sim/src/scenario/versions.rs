//! Two versions in one cluster.

use serde::{Deserialize, Serialize};

use super::Knobs;
use crate::chance::Chance;
use crate::world::{NodeIndex, Version};

/// Nodes of another version: with other settings, or with a part of the protocols only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OtherVersion {
    /// So many of a hundred nodes, drawn from the seed.
    pub percent: u32,
    /// They take part in swarms; else they answer on the coordination protocol only, as Gantry's nodes do.
    #[serde(default = "yes")]
    pub swarm: bool,
    /// They send midstates.
    #[serde(default = "yes")]
    pub spine: bool,
    /// Their settings that differ from those of the others.
    #[serde(default)]
    pub knobs: Knobs,
}

const fn yes() -> bool {
    true
}

impl OtherVersion {
    pub(super) fn check(&self) -> Result<(), String> {
        match self.percent {
            0..=100 => Ok(()),
            percent => Err(format!("percent is {percent}; expected at most 100")),
        }
    }

    /// Which nodes of `all` it is.
    pub(crate) fn nodes(&self, all: usize, chance: &mut Chance) -> Vec<NodeIndex> {
        chance.some_of(all, all * self.percent as usize / 100)
    }

    pub(crate) const fn version(&self) -> Version {
        Version { has_swarm: self.swarm, has_spine: self.spine }
    }
}
