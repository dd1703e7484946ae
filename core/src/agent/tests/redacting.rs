//! What an agent remembers, redacted: one text has one pseudonym, whatever the field is called that it stands in.

use std::sync::Arc;

use super::*;
use crate::journal::redact::Pseudonyms;

#[test]
fn a_registry_has_one_pseudonym_in_all_that_an_agent_remembers() {
    let registry: Arc<str> = source(Kind::Blob).registry;
    let mut bench = Bench::new(|config| config.registries = Some(vec![registry.clone()]));
    bench.get(1, digest(1), None);
    let agent = &mut bench.agent;
    agent.failures.origin_answered(Time::ZERO, &registry);
    agent.failures.bytes_came(Time::ZERO, &registry);
    agent.pacing.refused(&mut agent.cx, &registry, Time::ZERO);
    agent.limited.entry(registry.clone()).or_default();
    let mut pseudonyms = Pseudonyms::default();
    pseudonyms.collect(&bench.agent).unwrap();
    let names: Vec<_> =
        pseudonyms.assign().filter(|(text, _)| **text == *registry).map(|(_, name)| name.to_owned()).collect();
    let [name] = &names[..] else { panic!("one pseudonym is expected: {names:?}") };
    let redacted = pseudonyms.redact(&bench.agent).unwrap();
    let [before, after] = [(&bench.agent, &*registry), (&redacted, name)]
        .map(|(agent, text)| format!("{agent:?}").matches(&format!("{text:?}")).count());
    assert!(before > 5, "it stands in no more than {before} places");
    assert_eq!(before, after);
}
