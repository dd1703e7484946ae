//! What was pulled, and when by whom.

use std::collections::{BTreeMap, BTreeSet};

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

/// Layers of images whose manifests no agent has read are one image if they were first asked for within this.
const ONE_IMAGE: i64 = 20_000_000;

/// An image, and when each node was first asked for it.
struct Pulled {
    layers: Vec<(Digest, u64)>,
    starts: Vec<i64>,
}

/// When each node was first asked for one of these.
fn starts<'a>(history: &History<'_>, watch: &Watch, digests: impl Iterator<Item = &'a Digest>) -> Vec<i64> {
    let mut nodes = BTreeMap::new();
    for digest in digests {
        for ((_, life), time) in watch.asked.range((*digest, 0)..=(*digest, u32::MAX)) {
            let at = history.clocks.common(*life as usize, *time);
            // A node that was asked again after a restart goes on with the same pull.
            let first = nodes.entry(&history.lives[*life as usize].peer).or_insert(at);
            *first = at.min(*first);
        }
    }
    let mut starts: Vec<i64> = nodes.into_values().collect();
    starts.sort_unstable();
    starts
}

/// The images in the order of their first pull.
pub(super) fn images(
    history: &History<'_>,
    watch: &Watch,
    topology: &Topology,
    comments: &mut Comments,
) -> Vec<ImageSpec> {
    let mut pulled: Vec<Pulled> = Vec::new();
    let mut known = BTreeSet::new();
    for (manifest, children) in &watch.manifests {
        let layers: Vec<_> =
            children.iter().filter(|child| child.kind == Kind::Blob).map(|child| (child.digest, child.size)).collect();
        known.extend(layers.iter().map(|(digest, _)| *digest));
        let starts = starts(history, watch, std::iter::once(manifest));
        if !starts.is_empty() {
            pulled.push(Pulled { layers, starts });
        }
    }
    // A registry that fails gives containerd the manifest only when nobody looks: then the layers are all there is.
    let mut orphans: Vec<(i64, Digest, u64)> = watch
        .blobs
        .iter()
        .filter(|(digest, size)| !known.contains(*digest) && **size > 0)
        .filter_map(|(digest, size)| Some((*starts(history, watch, std::iter::once(digest)).first()?, *digest, *size)))
        .collect();
    orphans.sort_unstable();
    for group in orphans.chunk_by(|one, other| other.0 - one.0 <= ONE_IMAGE) {
        let layers: Vec<_> = group.iter().map(|(_, digest, size)| (*digest, *size)).collect();
        let starts = starts(history, watch, layers.iter().map(|(digest, _)| digest));
        comments.push(format!(
            "{} layers that are in no manifest that an agent read are taken for one image",
            layers.len()
        ));
        pulled.push(Pulled { layers, starts });
    }
    pulled.sort_by(|this, that| (this.starts[0], &this.layers).cmp(&(that.starts[0], &that.layers)));
    let missing = history.missing().len();
    if !pulled.is_empty() {
        comments.push("images: from manifests that agents read; when each node was first asked for one".into());
        if missing > 0 {
            comments
                .push(format!("{missing} nodes without a journal that took part are taken to have pulled every image"));
        }
    }
    let mut before: Vec<Digest> = Vec::new();
    let mut specs = Vec::new();
    for Pulled { layers, starts } in pulled {
        let digests: Vec<Digest> = layers.iter().map(|(digest, _)| *digest).collect();
        let shared = digests.iter().zip(&before).take_while(|(this, that)| this == that).count();
        let pulls = (starts.len() + missing).min(topology.nodes);
        let (arrivals, over) = arrivals(&starts);
        specs.push(ImageSpec {
            layers: layers[shared..].iter().map(|(_, size)| Bytes(*size)).collect(),
            shared_layers: shared,
            at: span(starts[0]),
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
