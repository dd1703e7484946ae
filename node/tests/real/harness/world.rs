//! A registry with an image, a faulty front before it, and nodes: an agent and a containerd each.

use super::agent::{Agent, Cluster, Settings};
use super::containerd::{Containerd, Ctr, HostsDir};
use super::faulty::{Door, FaultyRegistry};
use super::image::{Blob, Image};
use super::lab::Lab;
use super::process::Finished;
use super::registry::{Access, Registry};

/// Where the image is in the registry.
pub(crate) const REPOSITORY: &str = "demo/app";

/// Bytes in a MiB.
pub(crate) const MIB: u64 = 1024 * 1024;

/// Everything of a test. Images are referred to at the faulty front's port, so that every byte passes it.
pub(crate) struct World {
    /// The agents.
    pub(crate) cluster: Cluster,
    /// As many containerds as agents; each asks the agent of the same number.
    pub(crate) containerds: Vec<Containerd>,
    hosts: Vec<HostsDir>,
    /// What everybody takes for the registry.
    pub(crate) front: FaultyRegistry,
    /// The image.
    pub(crate) image: Image,
    /// The real registry behind the front.
    pub(crate) registry: Registry,
}

impl World {
    /// `nodes` agents with a containerd each, and an image with layers of these sizes.
    pub(crate) fn build(lab: &Lab, nodes: usize, layer_bytes: &[u64], extra: &str) -> Self {
        Self::guarded(lab, nodes, layer_bytes, extra, Door::Open)
    }

    /// As [`Self::build`], with a door before the registry.
    pub(crate) fn guarded(lab: &Lab, nodes: usize, layer_bytes: &[u64], extra: &str, door: Door) -> Self {
        let registry = Registry::start(lab, Access::Anonymous);
        let image = Image::build(lab, 7, layer_bytes);
        image.push(registry.port, REPOSITORY, None);
        let front = FaultyRegistry::guarded(registry.port, door);
        let cluster = Cluster::start(lab, nodes, &Settings::with_registry(front.port).and(extra));
        let hosts = cluster.agents.iter().enumerate();
        let hosts =
            hosts.map(|(number, agent)| HostsDir::new(lab, &format!("hosts-{number}"), front.port, agent.mirror_port));
        let hosts = hosts.collect();
        let containerds = (0..nodes).map(|number| Containerd::start(lab, &format!("containerd-{number}"))).collect();
        Self { cluster, containerds, hosts, front, image, registry }
    }

    /// The image by tag.
    pub(crate) fn by_tag(&self) -> String {
        Image::by_tag(self.front.port, REPOSITORY)
    }

    /// The image by digest.
    pub(crate) fn by_digest(&self) -> String {
        self.image.by_digest(self.front.port, REPOSITORY)
    }

    /// Starts a pull of `reference` on a node.
    pub(crate) fn start_pull(&self, node: usize, reference: &str, user: Option<&str>) -> Ctr {
        self.containerds[node].start_pull(reference, &self.hosts[node], user)
    }

    /// Pulls the image by tag on a node, to the end.
    pub(crate) fn pull(&self, node: usize, user: Option<&str>) -> Finished {
        self.start_pull(node, &self.by_tag(), user).wait()
    }

    /// Starts pulling the image by tag on all nodes at once.
    pub(crate) fn start_all(&self) -> Vec<Ctr> {
        (0..self.containerds.len()).map(|node| self.start_pull(node, &self.by_tag(), None)).collect()
    }

    /// What containerd `node` has, all of it.
    pub(crate) fn assert_complete(&self, node: usize) {
        let content = self.containerds[node].content();
        for blob in self.image.blobs() {
            assert!(content.contains(&blob.digest), "containerd {node} lacks {}; it has {content:?}", blob.digest);
        }
    }

    /// Body bytes of a blob that the registry has sent to agents.
    pub(crate) fn bytes_to_agents(&self, blob: &Blob) -> u64 {
        self.bytes(blob, false)
    }

    /// Body bytes of a blob that the registry has sent to containerds: their own fall-back.
    pub(crate) fn bytes_to_containerds(&self, blob: &Blob) -> u64 {
        self.bytes(blob, true)
    }

    fn bytes(&self, blob: &Blob, to_containerd: bool) -> u64 {
        let seen = self.front.seen();
        let to_them = seen.iter().filter(|seen| {
            seen.method == "GET" && seen.path.contains(&blob.digest) && seen.is_from_containerd() == to_containerd
        });
        to_them.map(|seen| seen.bytes).sum()
    }

    /// Asserts that each blob left the registry at most 1.05 times, and only to agents.
    pub(crate) fn assert_one_copy(&self) {
        for blob in self.image.blobs() {
            let (agents, containerds) = (self.bytes_to_agents(&blob), self.bytes_to_containerds(&blob));
            assert_eq!(containerds, 0, "a containerd went past its agent for {blob:?}");
            assert!(agents * 100 <= blob.size * 105, "{agents} bytes of {blob:?} left the registry");
        }
    }

    /// What the mirror is asked for a blob of the image.
    pub(crate) fn blob_path(&self, blob: &Blob) -> String {
        Agent::blob_path(self.front.port, REPOSITORY, &blob.digest)
    }

    /// What the mirror is asked for the image's manifest.
    pub(crate) fn manifest_path(&self) -> String {
        Agent::manifest_path(self.front.port, REPOSITORY, &self.image.manifest.digest)
    }
}
