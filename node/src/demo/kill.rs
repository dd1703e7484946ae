//! Which agents die, and when: decided by the seed.

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore as _, SeedableRng as _};

/// Earliest and latest moment, in thousandths of the victim's own pull: late enough that it takes part, early enough that
/// it is still pulling.
const MOMENTS: std::ops::Range<u64> = 50..800;
/// A stream of the generator of its own: the image's bytes use the streams from 0 on.
const STREAM: u64 = u64::MAX;

/// For each node, the share of its pull, in thousandths, after which it is killed; `None` for those that survive.
#[must_use]
pub fn plan(nodes: usize, kill: usize, seed: u64) -> Vec<Option<u64>> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(STREAM);
    let mut moments = vec![None; nodes];
    let mut alive: Vec<usize> = (0..nodes).collect();
    for _ in 0..kill.min(nodes) {
        let victim = alive.swap_remove((generator.next_u64() % alive.len() as u64) as usize);
        moments[victim] = Some(MOMENTS.start + generator.next_u64() % (MOMENTS.end - MOMENTS.start));
    }
    moments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_who_dies_and_when() {
        let plan_of = |seed| plan(8, 2, seed);
        assert_eq!(plan_of(1), plan_of(1));
        assert!((2..20).any(|seed| plan_of(seed) != plan_of(1)));
        for seed in 0..50 {
            let moments: Vec<_> = plan_of(seed).into_iter().flatten().collect();
            assert_eq!(moments.len(), 2);
            assert!(moments.iter().all(|moment| MOMENTS.contains(moment)));
        }
    }
}
