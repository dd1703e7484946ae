//! placeholder
pub mod options;
/// Runs it.
///
/// # Errors
/// Placeholder.
pub async fn run(_options: options::Options) -> Result<std::process::ExitCode, String> {
    Err("not yet".to_owned())
}
