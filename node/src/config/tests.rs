use super::*;
use crate::config::kinds::{ByteSize, Count, RegistryHost};

fn file(text: &str) -> Option<FileText> {
    Some(FileText { path: "longshore.toml".to_owned(), text: text.to_owned() })
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn problems(layers: &Layers) -> Vec<String> {
    load(layers).unwrap_err().0.iter().map(ToString::to_string).collect()
}

const PEER: &str = "12D3KooWJ9w7m6wCGXvFHw5pLVKJYZkYBqcx3uBqk6A4AaJkbHJK";

/// A peer ID that parses; made, not written down, because it carries a key.
fn peer() -> String {
    let keypair = libp2p::identity::Keypair::ed25519_from_bytes([7; 32]).unwrap();
    keypair.public().to_peer_id().to_string()
}

#[test]
fn nothing_set_gives_the_defaults() {
    let effective = load(&Layers::default()).unwrap();
    assert_eq!(effective.settings, Settings::default());
    assert_eq!(effective.origin("data_dir"), Origin::Default);
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_defaults() {
    let mut layers = Layers {
        file: file("probe_width = 4\nmax_streams = 5\nstore_cap = '1GiB'\n"),
        environment: pairs(&[("LONGSHORE_MAX_STREAMS", "6"), ("LONGSHORE_STORE_CAP", "2GiB"), ("HOME", "/root")]),
        flags: pairs(&[("store_cap", "3GiB")]),
    };
    let effective = load(&layers).unwrap();
    assert_eq!(effective.settings.probe_width, Count(4));
    assert_eq!(effective.settings.max_streams, Count(6));
    assert_eq!(effective.settings.store_cap, Some(ByteSize(3 << 30)));
    assert_eq!(effective.origin("probe_width"), Origin::File { path: "longshore.toml".to_owned(), line: 1 });
    assert_eq!(effective.origin("max_streams"), Origin::Environment("LONGSHORE_MAX_STREAMS".to_owned()));
    assert_eq!(effective.origin("store_cap"), Origin::Flag("--store-cap".to_owned()));
    layers.flags = pairs(&[("store_cap", "")]);
    assert_eq!(load(&layers).unwrap().settings.store_cap, None, "an empty flag unsets what the file sets");
}

#[test]
fn every_key_can_be_set_by_file_environment_and_flag_with_the_text_that_it_prints() {
    for key in keys() {
        let Some(default) = key.default_value() else { continue };
        let bare = match &default {
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(items) => items.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join(","),
            toml::Value::Table(_) => "{}".to_owned(),
            other => other.to_string(),
        };
        let in_file = match &default {
            toml::Value::Table(_) => format!("[{}]\n", key.name),
            value => format!("{} = {value}\n", key.name),
        };
        for layers in [
            Layers { file: file(&in_file), ..Layers::default() },
            Layers { environment: vec![(key.variable(), bare.clone())], ..Layers::default() },
            Layers { flags: vec![(key.name.to_owned(), bare.clone())], ..Layers::default() },
        ] {
            let effective = load(&layers).unwrap_or_else(|error| panic!("{}: {error}", key.name));
            assert_eq!(effective.settings, Settings::default(), "{}", key.name);
            assert_ne!(effective.origin(key.name), Origin::Default, "{}", key.name);
        }
    }
}

#[test]
fn every_key_has_its_own_name_flag_variable_and_description() {
    let names: std::collections::BTreeSet<_> = keys().iter().map(|key| key.name).collect();
    assert_eq!(names.len(), keys().len());
    for key in keys() {
        assert!(key.name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'), "{}", key.name);
        assert!(key.paragraph().ends_with('.'), "{}", key.name);
        assert!(!key.expected.is_empty() && !key.placeholder.is_empty(), "{}", key.name);
    }
}

#[test]
fn all_problems_of_all_layers_are_reported_at_once() {
    let layers = Layers {
        file: file(
            "mirror_listn = '127.0.0.1:1'\ncall_timeout = 2\n\n[registries.'quay.io']\nurl = 'https://quay.io'\npasword_file = '/x'\n",
        ),
        environment: pairs(&[("LONGSHORE_PROBE_WIDTH", "many"), ("LONGSHORE_STORE_CAPP", "1GiB")]),
        flags: pairs(&[("scope", "galaxy"), ("members", "/ip4/10.0.0.1/tcp/4001")]),
    };
    insta::assert_snapshot!(load(&layers).unwrap_err());
}

#[test]
fn a_syntax_error_is_reported_with_its_line() {
    let found = problems(&Layers { file: file("zone = 'a'\nnode_name = \n"), ..Layers::default() });
    assert!(found.iter().all(|problem| problem.starts_with("longshore.toml:2:")), "{found:?}");
}

#[test]
fn secrets_are_neither_accepted_nor_repeated() {
    let layers = Layers {
        file: file(
            "[registries.'a.example']\npassword = 'hunter2'\n[registries.'b.example']\nurl = 'https://me:hunter2@b.example'\n",
        ),
        environment: pairs(&[("LONGSHORE_REGISTRIES", "hunter2")]),
        ..Layers::default()
    };
    let found = problems(&layers);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].contains("password_file") && found[1].contains("password_file"), "{found:?}");
    assert!(!found.iter().any(|problem| problem.contains("hunter2")), "{found:?}");
}

#[test]
fn the_mirror_is_on_loopback_unless_that_is_waived() {
    let mut layers = Layers { file: file("mirror_listen = '0.0.0.0:5000'\n"), ..Layers::default() };
    let found = problems(&layers);
    assert!(found[0].starts_with("longshore.toml:1: mirror_listen: found 0.0.0.0:5000"), "{found:?}");
    layers.flags = pairs(&[("mirror_allow_non_loopback", "true")]);
    assert!(load(&layers).is_ok());
    layers = Layers { flags: pairs(&[("mirror_listen", "[::1]:5000")]), ..Layers::default() };
    assert!(load(&layers).is_ok());
}

#[test]
fn members_need_an_identity_and_come_once() {
    let member = format!("/ip4/10.0.0.1/tcp/4001/p2p/{}", peer());
    let layers = |members: &str| Layers { flags: pairs(&[("members", members)]), ..Layers::default() };
    assert_eq!(load(&layers(&member)).unwrap().settings.members.len(), 1);
    assert!(problems(&layers(&format!("{member},/ip4/10.0.0.2/tcp/4001")))[0].contains("members[1]"));
    assert!(problems(&layers(&format!("{member},{member}")))[0].contains("twice"));
    assert!(problems(&layers(&format!("/p2p/{PEER}")))[0].contains("members[0]"));
}

#[test]
fn timeouts_stay_below_those_of_containerd() {
    let found = problems(&Layers { file: file("header_timeout = '30s'\nbody_timeout = '5m'\n"), ..Layers::default() });
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn what_kubernetes_sets_for_a_service_named_longshore_is_no_configuration() {
    let environment = pairs(&[
        ("LONGSHORE_SERVICE_HOST", "10.96.0.7"),
        ("LONGSHORE_SERVICE_PORT_STATUS", "9095"),
        ("LONGSHORE_PORT", "tcp://10.96.0.7:9095"),
        ("LONGSHORE_PORT_9095_TCP_ADDR", "10.96.0.7"),
        ("LONGSHORE_STATUS_SERVICE_HOST", "10.96.0.8"),
        ("LONGSHORE_STATUS_PORT_9095_TCP", "tcp://10.96.0.8:9095"),
        ("LONGSHORE_CONFIG", "/etc/longshore.toml"),
    ]);
    assert_eq!(load(&Layers { environment, ..Layers::default() }).unwrap().settings, Settings::default());
}

#[test]
fn no_key_looks_like_a_variable_of_kubernetes() {
    for key in keys() {
        let environment = vec![(key.variable(), "\u{1}".to_owned())];
        let result = load(&Layers { environment, ..Layers::default() });
        let seen = result.map_or(true, |effective| effective.origin(key.name) != Origin::Default);
        assert!(seen, "{} is never read", key.variable());
    }
}

#[test]
fn registries_can_be_given_as_an_inline_table() {
    let text = r#"{ "10.0.0.9:5000" = { plain_http = true }, "quay.io" = { url = "https://cache.example/quay/" } }"#;
    let settings = load(&Layers { flags: pairs(&[("registries", text)]), ..Layers::default() }).unwrap().settings;
    let base = |host: &str| {
        let host = RegistryHost(host.to_owned());
        settings.registries.0[&host].base_url(&host)
    };
    assert_eq!(base("10.0.0.9:5000"), "http://10.0.0.9:5000");
    assert_eq!(base("quay.io"), "https://cache.example/quay");
}

#[test]
fn the_effective_configuration_says_where_values_come_from() {
    let layers = Layers {
        file: file("data_dir = '/srv/longshore'\n\n[registries.'10.0.0.9:5000']\nurl = 'http://10.0.0.9:5000'\n"),
        environment: pairs(&[("LONGSHORE_STORE_CAP", "20GiB")]),
        flags: pairs(&[("log_format", "json"), ("zone", "")]),
    };
    insta::assert_snapshot!(print::print(&load(&layers).unwrap(), false));
}

#[test]
fn the_explained_configuration_is_this() {
    insta::assert_snapshot!(print::print(&load(&Layers::default()).unwrap(), true));
}

#[test]
fn what_is_printed_configures_the_same() {
    let layers = Layers {
        file: file(
            "zone = 'a'\nregistry_allowlist = ['quay.io']\n[registries.'quay.io']\nusername = 'me'\npassword_file = '/p'\n[registries.'b.example']\nplain_http = true\n",
        ),
        ..Layers::default()
    };
    let first = load(&layers).unwrap();
    for explain in [false, true] {
        let printed = print::print(&first, explain);
        let second = load(&Layers { file: file(&printed), ..Layers::default() }).unwrap();
        assert_eq!(first.settings, second.settings, "{printed}");
    }
}
