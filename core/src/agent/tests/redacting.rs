//! What an agent remembers, redacted: one text has one pseudonym, whatever the field is called that it stands in.

use std::sync::Arc;

use super::*;
use crate::journal::redact::Pseudonyms;

#[test]
fn a_registry_has_one_pseudonym_in_all_that_an_agent_remembers() {
    let registry: Arc<str> = source(Kind::Blob).registry;
    let mut bench = Bench::new(|config| config.registries = Some(vec![registry.clone()]));
    bench.get(1, digest(1), None);
    let places = |agent: &Agent, text: &str| format!("{agent:?}").matches(&format!("{text:?}")).count();
    let fill: [fn(&mut Agent, &Arc<str>); 4] = [
        |agent, registry| agent.failures.origin_answered(Time::ZERO, registry),
        |agent, registry| agent.failures.bytes_came(Time::ZERO, registry),
        |agent, registry| agent.pacing.refused(&mut agent.cx, registry, Time::ZERO, Duration::ZERO),
        |agent, registry| drop(agent.limited.insert(registry.clone(), Default::default())),
    ];
    for (number, fill) in fill.into_iter().enumerate() {
        let before = places(&bench.agent, &registry);
        fill(&mut bench.agent, &registry);
        assert!(places(&bench.agent, &registry) > before, "{number}");
    }
    let mut pseudonyms = Pseudonyms::default();
    pseudonyms.collect(&bench.agent).unwrap();
    let names: Vec<_> =
        pseudonyms.assign().filter(|(text, _)| **text == *registry).map(|(_, name)| name.to_owned()).collect();
    let [name] = &names[..] else { panic!("one pseudonym is expected: {names:?}") };
    let redacted = pseudonyms.redact(&bench.agent).unwrap();
    assert_eq!(places(&bench.agent, &registry), places(&redacted, name));
}
