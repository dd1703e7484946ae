//! Checked at every answer to containerd, and whenever more of a blob may be read.

use std::collections::BTreeMap;

use longshore_core::digest::Digest;
use longshore_core::output::{Explanation, Output};

use super::Invariant;
use super::answered_once;
use crate::watch::Scene;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "withdrawn",
    sentence: "Of what a node has found not to be the blob nobody reads on, and nobody who begins to read gets a byte before all of it is right, as long as the flight lasts.",
    source: "design, section 7, rule 1",
};

/// A blob of which something wrong is here.
#[derive(Debug, Default)]
struct Mismatched {
    /// How many bytes of it may be read. `None`: what was released before has not been taken back.
    readable: Option<u64>,
    /// As those were told who began to read it afterwards.
    size: Option<u64>,
}

/// Blobs that one agent is making good.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    blobs: BTreeMap<Digest, Mismatched>,
    /// What a flight has begun to stage a moment ago: what an earlier one released of it counts no more.
    staged: Option<Digest>,
}

impl Memory {
    pub(crate) fn output(&mut self, scene: &mut Scene<'_>, output: &Output, answers: &answered_once::Memory) {
        let staged = self.staged.take();
        match output {
            Output::Stage { digest, .. } => self.staged = Some(*digest),
            Output::Explain(Explanation::Mismatched { digest }) => {
                self.blobs.insert(*digest, Mismatched::default());
            }
            Output::Release { digest, bytes: 0 } => match self.blobs.get_mut(digest) {
                None if staged == Some(*digest) && !answers.is_read(digest) => {}
                None => scene.violate(&RULE, format!("{digest} is withdrawn without a word of a mismatch")),
                Some(_) if answers.is_read(digest) => {
                    scene.violate(&RULE, format!("{digest} is withdrawn from those who read on"));
                }
                Some(blob) => blob.readable = Some(0),
            },
            _ if self.blobs.is_empty() => {}
            Output::Explain(Explanation::Completed { digest, .. } | Explanation::Failed { digest, .. }) => {
                self.blobs.remove(digest);
            }
            Output::Release { digest, bytes } => {
                let Some(blob) = self.blobs.get_mut(digest) else { return };
                blob.readable = blob.readable.map(|readable| readable.max(*bytes));
                blob.judge(scene, digest);
            }
            Output::MirrorServe { request, size, .. } => {
                let Some(digest) = answers.digest_of(*request) else { return };
                let Some(blob) = self.blobs.get_mut(&digest) else { return };
                blob.size = Some(*size);
                blob.judge(scene, &digest);
            }
            _ => {}
        }
    }
}

impl Mismatched {
    /// Somebody reads it, or can read more of it, if it is known how long it is.
    fn judge(&self, scene: &mut Scene<'_>, digest: &Digest) {
        let Some(size) = self.size else { return };
        let what = match self.readable {
            None => "what was released before is read".to_owned(),
            Some(bytes) if (1..size).contains(&bytes) => format!("{bytes} of {size} bytes can be read"),
            Some(_) => return,
        };
        scene.violate(&RULE, format!("{digest} is being made good, and {what}"));
    }
}
