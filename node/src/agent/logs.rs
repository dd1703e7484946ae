//! The log: readable or JSON lines on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::Settings;
use crate::config::kinds::LogFormat;

/// Starts logging as the settings say.
///
/// # Errors
/// When the filter is not understood, or this process logs already.
pub(super) fn start(settings: &Settings) -> Result<(), String> {
    let filter: Targets = settings.log_level.0.parse().map_err(|error| format!("cannot use log_level: {error}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = match settings.log_format {
        LogFormat::Json => registry.with(layer.json()).try_init(),
        LogFormat::Text => registry.with(layer.with_ansi(std::io::stderr().is_terminal())).try_init(),
    };
    started.map_err(|error| format!("cannot start the log: {error}"))
}
