//! Rollouts and incidents for the simulator: the `.toml` files beside this crate, documented in `README.md`. Its tests run
//! them and compare what came of them with snapshots.
