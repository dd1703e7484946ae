//! The program `longshore`: command line, configuration, wiring, metrics, status page, and the demo.

pub mod agent;
pub mod cli;
pub mod config;
pub mod demo;
pub mod http;
pub mod proc;
pub mod replay;
pub mod sim_command;
pub mod status;
