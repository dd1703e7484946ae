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
    sentence: "Of what a node has found not to be the blob nobody who begins to read gets a byte before all of it is right.",
    source: "design, section 7, rule 1",
};

/// A blob of which something wrong is here.
#[derive(Debug, Default)]
struct Mismatched {
    /// What may be read of it was taken back.
    is_withdrawn: bool,
    /// As those were told who began to read it afterwards.
    size: Option<u64>,
}

/// Blobs that one agent is making good.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    blobs: BTreeMap<Digest, Mismatched>,
}

impl Memory {
    pub(crate) fn output(&mut self, scene: &mut Scene<'_>, output: &Output, answers: &answered_once::Memory) {
        match output {
            Output::Explain(Explanation::Mismatched { digest }) => {
                self.blobs.insert(*digest, Mismatched::default());
            }
            _ if self.blobs.is_empty() => {}
            Output::Explain(Explanation::Completed { digest, .. } | Explanation::Failed { digest, .. }) => {
                self.blobs.remove(digest);
            }
            Output::Release { digest, bytes } => {
                let Some(blob) = self.blobs.get_mut(digest) else { return };
                match blob.size {
                    _ if *bytes == 0 => blob.is_withdrawn = true,
                    Some(size) if *bytes < size => {
                        scene.violate(&RULE, format!("{digest} can be read up to {bytes} of {size}"));
                    }
                    _ => {}
                }
            }
            Output::MirrorServe { request, size, .. } => {
                let Some((digest, blob)) = answers
                    .digest_of(*request)
                    .and_then(|digest| self.blobs.get_mut(&digest).map(|blob| (digest, blob)))
                else {
                    return;
                };
                blob.size = Some(*size);
                if !blob.is_withdrawn {
                    scene.violate(&RULE, format!("request {} reads what was released of {digest} before", request.0));
                }
            }
            _ => {}
        }
    }
}
