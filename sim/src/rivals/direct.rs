//! `direct`: no mirror. Every containerd gets every blob from the registry itself.
//!
//! Simplified: no token requests, no retries of a 429 before the pull fails. The registry shares its link fairly among all
//! connections, to which real ones come only near; both favour it.

use std::convert::Infallible;
use std::time::Duration;

use super::engine::{Broken, Cluster, Policy, Ticket, Transfer};

/// The policy has no state.
#[derive(Debug, Default)]
pub(super) struct Direct;

impl Policy for Direct {
    type Event = Infallible;

    /// Go's HTTP transport has no limit for bodies; containerd gives a pull up after its progress time-out.
    const PATIENCE: Duration = Duration::from_secs(300);

    fn want(&mut self, cluster: &mut Cluster<Infallible>, ticket: Ticket) {
        cluster.go_direct(ticket);
    }

    fn happen(&mut self, _cluster: &mut Cluster<Infallible>, event: Infallible) {
        match event {}
    }

    fn broke(&mut self, _cluster: &mut Cluster<Infallible>, _transfer: Transfer, _why: Broken) {}
}
