//! The program against real parts: Debian's docker-registry, containerd, runc, skopeo, umoci and busybox.
//!
//! Every test starts what it needs on free ports and in a directory of its own, and stops exactly that. A part that is
//! missing skips the test with a line that says so; with `CI=true` it fails it. `KEEP_LAB=1` keeps the directories.

#![allow(dead_code, reason = "the measurements in benches/ share the harness")]
#![allow(clippy::unwrap_used, reason = "everything here is a test, helpers of tests included")]

mod auth;
mod coord;
mod deaths;
mod demo;
mod disks;
mod harness;
mod links;
mod mirror;
mod parts;
mod registry_faults;
mod swarm;
