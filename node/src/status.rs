//! What a running agent shows of itself: `/metrics`, `/livez`, `/readyz`, `/status`.

pub mod metrics;
pub mod page;
mod server;
pub mod view;

pub use server::StatusServer;
pub use view::{Phase, Status};
