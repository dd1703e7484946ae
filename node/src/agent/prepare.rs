//! What has to be there before an agent starts: its directory, its identity, its name.

use std::path::PathBuf;

use longshore_core::config as core;
use longshore_core::names::PeerId;
use longshore_net::peers::Identity;

use super::StartError;
use crate::config::Settings;
use crate::config::kinds::{AuthCheck, Authorization, Scope};

/// The file of the identity.
#[must_use]
pub(super) fn identity_path(settings: &Settings) -> PathBuf {
    settings.identity_file.clone().unwrap_or_else(|| settings.data_dir.join("identity"))
}

/// Makes the data directory, makes sure that it can be written, and loads or makes the identity.
pub(super) fn identity(settings: &Settings) -> Result<Identity, StartError> {
    let directory = &settings.data_dir;
    let failed = |action| {
        move |source| StartError::Directory {
            action,
            path: directory.display().to_string(),
            source,
            advice: "set data_dir to a directory that this user can write".to_owned(),
        }
    };
    std::fs::create_dir_all(directory).map_err(failed("make the data directory"))?;
    tempfile::NamedTempFile::new_in(directory).map_err(failed("write to the data directory"))?;
    Ok(Identity::load_or_create(&identity_path(settings))?)
}

/// This node's name: the configured one, or the host's.
#[must_use]
pub fn node_name(settings: &Settings) -> String {
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    settings.node_name.clone().unwrap_or_else(host)
}

/// The settings as the core wants them.
#[must_use]
pub fn core_config(settings: &Settings, peer: PeerId) -> core::Config {
    let addresses = if settings.peer_advertise.is_empty() { &settings.peer_listen } else { &settings.peer_advertise };
    core::Config {
        // Without a name of its own a node ranks as the others see it who know nothing but its identity.
        name: settings.node_name.as_deref().unwrap_or(peer.as_str()).into(),
        peer,
        zone: settings.zone.as_deref().map(Into::into),
        addresses: addresses.iter().map(|address| address.to_string().into()).collect(),
        scope: match settings.scope {
            Scope::Cluster => core::Scope::Cluster,
            Scope::Zone => core::Scope::Zone,
        },
        probe_width: settings.probe_width.0,
        call_timeout: settings.call_timeout,
        handshake_timeout: settings.handshake_timeout,
        max_streams: settings.max_streams.0,
        authorization: match settings.authorization {
            Authorization::Observe => core::Authorization::Observe,
            Authorization::Enforce => core::Authorization::Enforce,
        },
        max_running_flights: settings.max_running_flights.0,
        max_admitted_flights: settings.max_admitted_flights.0,
        no_progress_timeout: settings.no_progress_timeout,
        header_timeout: settings.header_timeout,
        body_timeout: settings.body_timeout,
        prefetch: settings.prefetch,
        max_uploads: settings.max_uploads.0,
        max_downloads: settings.max_downloads.0,
        max_origin_fetches: settings.max_origin_fetches.0,
        max_assignments: settings.max_assignments.0,
        store_cap_bytes: settings.store_cap.map(|cap| cap.0),
        registries: (!settings.registry_allowlist.is_empty())
            .then(|| settings.registry_allowlist.iter().map(|host| host.0.as_str().into()).collect()),
        auth_check: match settings.auth_check {
            AuthCheck::Off => core::AuthCheck::Off,
            AuthCheck::Origin => core::AuthCheck::Origin,
        },
        reconcile_interval: settings.reconcile_interval,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_defaults_are_the_cores_defaults() {
        let settings = Settings { node_name: Some("node".to_owned()), ..Settings::default() };
        let peer = PeerId::new("12D3KooW");
        let expected =
            core::Config { addresses: vec!["/ip4/0.0.0.0/tcp/4001".into()], ..core::Config::new("node", peer.clone()) };
        assert_eq!(core_config(&settings, peer), expected);
    }

    #[test]
    fn a_data_directory_that_cannot_be_made_is_named_with_its_key() {
        let settings = Settings { data_dir: PathBuf::from("/dev/null/longshore"), ..Settings::default() };
        let error = identity(&settings).unwrap_err().to_string();
        assert!(error.contains("/dev/null/longshore") && error.contains("data_dir"), "{error}");
    }
}
