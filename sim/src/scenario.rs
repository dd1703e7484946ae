//! Scenarios.

use longshore_core::config::Config;

/// x
#[derive(Clone, Debug, Default)]
pub struct Knobs {}
impl Knobs {
    pub(crate) fn apply(&self, _c: &mut Config) {}
}
