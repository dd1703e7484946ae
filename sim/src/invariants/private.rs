//! Checked by a second tenant without a credential, or with a wrong one, where the agents are told to ask the origin.

use std::time::Duration;

use longshore_core::config::AuthCheck;
use longshore_core::digest::Digest;
use longshore_core::input::{Input, Method};
use longshore_core::names::{CredentialId, Kind, RequestId};

use super::Invariant;
use crate::world::{NodeIndex, World, source};

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "private-stays-private",
    sentence: "Where the origin decides who may have a private blob, nobody gets it whom the origin would refuse.",
    source: "design, section 3.4; gantry reference, section 10.3, 7",
};

/// A credential that the origin does not accept.
const STRANGER: CredentialId = CredentialId(u64::MAX);

/// Whether the origin accepts a credential.
pub(crate) fn is_accepted(credential: Option<CredentialId>) -> bool {
    credential.is_some_and(|credential| credential != STRANGER)
}

impl World {
    /// Somebody without a credential asks for what is here, or is coming.
    pub(crate) fn intrude(&mut self, node: NodeIndex, digest: Digest) {
        // Nodes of the other version may have been told otherwise.
        let checks = self.watched_config(node).is_some_and(|config| config.auth_check == AuthCheck::Origin);
        if !self.origin.private || !checks {
            return;
        }
        let request = RequestId(self.next_id());
        self.intruders.insert(request);
        let source = source(self.blob(&digest).map_or(Kind::Blob, |blob| blob.kind));
        // A wrong credential is as good as none, but looks like one.
        let credential = (node % 2 == 1).then_some(STRANGER);
        self.later(node, Duration::ZERO, Input::Mirror { request, method: Method::Get, source, digest, credential });
    }

    /// An answer to a request; returns whether it was an intruder's.
    pub(crate) fn intruder_answered(&mut self, node: NodeIndex, request: RequestId, served: bool) -> bool {
        if !self.intruders.remove(&request) {
            return false;
        }
        if served {
            self.violate(&RULE, node, "somebody without a credential was served a private blob");
        }
        self.later(node, Duration::ZERO, Input::MirrorClosed { request, sent_bytes: 0 });
        true
    }
}
