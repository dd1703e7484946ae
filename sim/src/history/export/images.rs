//! What was pulled, and when by whom.

use longshore_core::digest::Digest;
use longshore_core::names::Kind;

use super::super::History;
use super::topology::Topology;
use super::watch::Watch;
use super::{Comments, span};
use crate::scenario::units::{Bytes, Span};
use crate::scenario::{Arrivals, ImageSpec};

/// Pulls that begin within this are at once, in microseconds: kubelets do not agree better than that.
const AT_ONCE: i64 = 200_000;
/// Pulls are in step if none is further from its place than this share of the whole time.
const IN_STEP: i64 = 10;

/// An image, and when each life was first asked for it.
struct Pulled {
    manifest: Digest,
    starts: Vec<i64>,
}

/// The images in the order of their first pull.
pub(super) fn images(history: &History<'_>, watch: &Watch, topology: &Topology, comments: &mut Comments) -> Vec<ImageSpec> {
    let mut pulled: Vec<Pulled> = Vec::new();
    for manifest in watch.manifests.keys() {
        let mut nodes = std::collections::BTreeMap::new();
        for ((_, life), time) in watch.asked.range((*manifest, 0)..=(*manifest, u32::MAX)) {
            let at = history.clocks.common(*life as usize, *time);
            // A node that was asked again after a restart goes on with the same pull.
            let first = nodes.entry(&history.lives[*life as usize].peer).or_insert(at);
            *first = at.min(*first);
        }
        let mut starts: Vec<i64> = nodes.into_values().collect();
        starts.sort_unstable();
        if !starts.is_empty() {
            pulled.push(Pulled { manifest: *manifest, starts });
        }
    }
    pulled.sort_by_key(|image| (image.starts[0], image.manifest));
    let missing = history.missing().len();
    if !pulled.is_empty() {
        comments.push("images: from manifests that agents read; when each node was first asked for one".into());
        if missing > 0 {
            comments.push(format!("{missing} nodes without a journal that took part are taken to have pulled every image"));
        }
    }
    let mut before: Vec<Digest> = Vec::new();
    let mut specs = Vec::new();
    for image in pulled {
        let layers: Vec<_> = watch.manifests[&image.manifest].iter().filter(|child| child.kind == Kind::Blob).collect();
        let digests: Vec<Digest> = layers.iter().map(|child| child.digest).collect();
        let shared = digests.iter().zip(&before).take_while(|(this, that)| this == that).count();
        let pulls = (image.starts.len() + missing).min(topology.nodes);
        let (arrivals, over) = arrivals(&image.starts);
        specs.push(ImageSpec {
            layers: layers[shared..].iter().map(|child| Bytes(child.size)).collect(),
            shared_layers: shared,
            at: span(image.starts[0]),
            arrivals,
            over,
            nodes: (pulls < topology.nodes).then_some(pulls),
            fresh: false,
        });
        before = digests;
    }
    specs
}

/// How nodes follow each other.
fn arrivals(starts: &[i64]) -> (Arrivals, Span) {
    let count = starts.len() as i64;
    let (Some(first), Some(last)) = (starts.first(), starts.last()) else { return (Arrivals::AtOnce, Span::default()) };
    let whole = last - first;
    if whole <= AT_ONCE || count < 2 {
        return (Arrivals::AtOnce, Span::default());
    }
    let place = |position: i64| first + whole * position / (count - 1);
    let off = (0..).zip(starts).map(|(position, start)| (start - place(position)).abs()).max().unwrap_or(0);
    let arrivals = if off * IN_STEP <= whole { Arrivals::Rolling } else { Arrivals::Poisson };
    // The last one of n begins after n-1 of n steps.
    (arrivals, span(whole * count / (count - 1)))
}
