//! What has to hold in every run: one table, one file for each rule.
//!
//! Rules about single steps are checked by the world at the step ([`World::violate`](crate::world::World)); rules about a
//! whole run have a `check` here that the runner calls when the cluster is quiet.

pub mod announced;
pub mod answered_once;
pub mod asked_politely;
pub mod calm;
pub mod come_back_later;
pub mod consistent;
pub mod contract;
pub mod cooldowns;
pub mod credentials;
pub mod finishes;
pub mod in_time;
pub mod introductions;
pub mod kept_word;
pub mod limits;
pub mod moves_on;
pub mod no_ghosts;
pub mod no_leaks;
pub mod one_copy;
pub mod one_question;
pub mod patience;
pub mod private;
pub mod quiet_network;
pub mod ranks;
pub mod right_blame;
pub mod right_bytes;
pub mod told_at_all;
pub mod told_once;
pub mod withdrawn;

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invariant {
    /// Its name, in kebab case.
    pub name: &'static str,
    /// What has to hold.
    pub sentence: &'static str,
    /// Where it is written.
    pub source: &'static str,
}

/// The rule that a panic breaks, wherever it happens.
pub const NO_PANIC: Invariant =
    Invariant { name: "no-panic", sentence: "No input makes an agent panic.", source: "design, section 2" };

/// All rules.
pub const TABLE: &[Invariant] = &[
    right_bytes::RULE,
    announced::RULE,
    contract::RULE,
    finishes::RULE,
    no_leaks::RULE,
    one_copy::RULE,
    quiet_network::RULE,
    answered_once::RULE,
    asked_politely::RULE,
    calm::RULE,
    come_back_later::RULE,
    consistent::RULE,
    cooldowns::RULE,
    credentials::RULE,
    in_time::RULE,
    introductions::RULE,
    kept_word::RULE,
    limits::RULE,
    moves_on::RULE,
    no_ghosts::RULE,
    one_question::RULE,
    patience::RULE,
    private::RULE,
    ranks::RULE,
    right_blame::RULE,
    told_at_all::RULE,
    told_once::RULE,
    withdrawn::RULE,
    NO_PANIC,
];
