//! What values have to mean together, and what they must not mean.

use std::time::Duration;

use super::layers::Effective;
use super::problem::Problem;

/// containerd's response-header timeout: later headers find nobody waiting.
const CONTAINERD_HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// containerd cancels a pull after this long without a new byte.
const CONTAINERD_PROGRESS_TIMEOUT: Duration = Duration::from_secs(300);

/// Everything that is wrong with values that are each well-formed.
#[must_use]
pub fn check(effective: &Effective) -> Vec<Problem> {
    let settings = &effective.settings;
    let mut problems = Vec::new();
    let mut report = |key: &str, found: String, expected: &str| {
        problems.push(Problem {
            origin: effective.origin(key),
            key: key.to_owned(),
            found,
            expected: expected.to_owned(),
        });
    };

    let mirror = settings.mirror_listen;
    if !mirror.ip().is_loopback() && !settings.mirror_allow_non_loopback {
        report(
            "mirror_listen",
            format!("{mirror}, which other machines can reach"),
            "a loopback address such as 127.0.0.1:5000, or mirror_allow_non_loopback = true",
        );
    }
    if let Some(status) = settings.status_listen
        && status == mirror
        && status.port() != 0
    {
        report("status_listen", format!("{status}, which is mirror_listen too"), "another port");
    }
    if settings.peer_listen.is_empty() {
        report("peer_listen", "no address".to_owned(), "at least one multiaddr such as /ip4/0.0.0.0/tcp/4001");
    }
    if !settings.members.is_empty() && settings.members_file.is_some() {
        report("members_file", "a file although members is set too".to_owned(), "one of the two");
    }
    let mut peers: Vec<_> = settings.members.iter().filter_map(super::kinds::Member::peer_id).collect();
    peers.sort_unstable();
    for pair in peers.windows(2) {
        if pair[0] == pair[1] {
            report("members", format!("the peer {} twice", pair[0]), "each peer once");
        }
    }
    if settings.header_timeout >= CONTAINERD_HEADER_TIMEOUT {
        report(
            "header_timeout",
            super::kinds::show_duration(settings.header_timeout),
            "less than 30s, when containerd stops waiting for headers",
        );
    }
    if settings.body_timeout >= CONTAINERD_PROGRESS_TIMEOUT {
        report(
            "body_timeout",
            super::kinds::show_duration(settings.body_timeout),
            "less than 5m, when containerd cancels a pull without progress",
        );
    }
    if let Some(default) = &settings.default_registry
        && !settings.registry_allowlist.is_empty()
        && !settings.registry_allowlist.contains(default)
    {
        report("default_registry", default.0.clone(), "a registry that registry_allowlist has, too");
    }
    problems
}
