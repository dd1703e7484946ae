//! Checked at every request to the origin that carries a credential.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::digest::Digest;
use longshore_core::input::Input;
use longshore_core::names::CredentialId;
use longshore_core::output::Output;

use super::Invariant;
use super::private::is_accepted;
use crate::world::{NodeIndex, World};

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "credentials-stay",
    sentence: "A credential is used only for what its owner asked for, or for what that refers to if the origin has accepted it, and not after it was forgotten.",
    source: "design, section 3.4; gantry reference, section 10.4 g",
};

/// What was asked for with which credential in one agent's life.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    asked: BTreeMap<CredentialId, BTreeSet<Digest>>,
}

pub(crate) fn input(memory: &mut Memory, input: &Input) {
    if let Input::Mirror { digest, credential: Some(credential), .. } = input {
        memory.asked.entry(*credential).or_default().insert(*digest);
    }
}

impl World {
    pub(crate) fn watch_credentials(&mut self, node: NodeIndex, output: &Output) {
        match output {
            Output::FetchOrigin { digest, credential: Some(credential), .. }
            | Output::StatOrigin { digest, credential: Some(credential), .. } => {
                let asked = self.watched_credentials(node).and_then(|memory| memory.asked.get(credential).cloned());
                let asked = asked.unwrap_or_default();
                let itself = asked.contains(digest);
                if !itself && !is_accepted(Some(*credential)) {
                    // What a manifest names is fetched for whoever was given the manifest.
                    let detail = format!("a credential that the origin does not accept goes there for {digest}");
                    self.violate(&RULE, node, &detail);
                }
                if !itself && !asked.iter().any(|parent| self.refers_to(parent, digest)) {
                    let detail = format!(
                        "credential {} goes to the origin for {digest}, which its owner did not ask for",
                        credential.0
                    );
                    self.violate(&RULE, node, &detail);
                }
            }
            Output::ForgetCredential { credential } => {
                if let Some(memory) = self.watched_credentials(node) {
                    memory.asked.remove(credential);
                }
            }
            _ => {}
        }
    }
}
