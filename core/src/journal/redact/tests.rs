use super::*;
use crate::digest::Digest;
use crate::input::{Input, Method};
use crate::message::Neighbour;
use crate::names::{Kind, OpId, PeerId, RequestId, Source};

fn providers(peer: &str, address: &str) -> Input {
    let peers = vec![Neighbour { peer: PeerId::new(peer), addresses: vec![address.into()], zone: Some("z".into()) }];
    Input::Providers { op: OpId(1), peers }
}

fn mirror(repository: &str, digest: u8) -> Input {
    Input::Mirror {
        request: RequestId(1),
        method: Method::Get,
        source: Source { registry: "r.example".into(), repository: repository.into(), kind: Kind::Blob },
        digest: Digest::from_bytes([digest; 32]),
        credential: None,
    }
}

#[test]
fn a_shape_tells_apart_what_decisions_depend_on_and_nothing_else() {
    let shape = |input: &Input| shape(input).unwrap();
    assert_eq!(shape(&providers("A", "/ip4/10.0.0.1")), shape(&providers("A", "/ip4/10.0.0.2")));
    assert_ne!(shape(&providers("A", "/ip4/10.0.0.1")), shape(&providers("B", "/ip4/10.0.0.1")));
    assert_eq!(shape(&mirror("public/a", 1)), shape(&mirror("secret/b", 1)));
    assert_ne!(shape(&mirror("public/a", 1)), shape(&mirror("public/a", 2)));
}

#[test]
fn pseudonyms_keep_equality_and_order_and_tell_nothing() {
    let mut pseudonyms = Pseudonyms::default();
    let inputs: Vec<_> = ["b", "a/x", "c", "a"].into_iter().map(|name| mirror(name, 1)).collect();
    for input in &inputs {
        pseudonyms.collect(input).unwrap();
    }
    assert_eq!(pseudonyms.assign().count(), 5);
    let name = |input: &Input| match pseudonyms.redact(input).unwrap() {
        Input::Mirror { source, .. } => source.repository.to_string(),
        other => panic!("{other:?}"),
    };
    let names: Vec<_> = inputs.iter().map(name).collect();
    let numbers = ["repository-0000003", "repository-0000002", "repository-0000004", "repository-0000001"];
    assert_eq!(names, numbers);
    assert_eq!(name(&mirror("never/collected", 1)), "repository-unknown");
}

#[test]
fn a_registry_has_one_pseudonym_wherever_it_stands() {
    let now = crate::time::Time::ZERO;
    let (answers, silent): (std::sync::Arc<str>, std::sync::Arc<str>) = ("canary one".into(), "canary two".into());
    let mut failures = crate::failures::Failures::default();
    failures.origin_answered(now, &answers);
    failures.bytes_came(now, &answers);
    let mut config = crate::config::Config::new("node", crate::names::PeerId::new("peer"));
    config.registries = Some(vec![silent.clone()]);
    let source = |registry: &std::sync::Arc<str>| crate::names::Source {
        registry: registry.clone(),
        repository: "canary app".into(),
        kind: crate::names::Kind::Blob,
    };
    let mut pseudonyms = Pseudonyms::default();
    for registry in [&answers, &silent] {
        pseudonyms.collect(&source(registry)).unwrap();
    }
    pseudonyms.collect(&failures).unwrap();
    pseudonyms.collect(&config).unwrap();
    let _ = pseudonyms.assign();
    let [answers, silent] = [&answers, &silent].map(|registry| pseudonyms.redact(&source(registry)).unwrap().registry);
    assert!(!answers.contains("canary"));
    let failures = pseudonyms.redact(&failures).unwrap();
    assert!(failures.origin_answers(now, &answers) && !failures.origin_answers(now, &silent));
    let came = |registry| failures.nothing_came_for(now, registry).is_some();
    assert!(came(&answers) && !came(&silent));
    assert_eq!(pseudonyms.redact(&config).unwrap().registries, Some(vec![silent]));
}
