//! The origin client against scripted and real registries.

mod authentication;
mod bench;
mod faults;
mod fetching;
mod real;
mod redirects;
mod tls;
