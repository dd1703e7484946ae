use std::path::Path;
use std::time::Duration;

use longshore_core::names::PeerId;
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

use super::file::{Follower, Look};
use super::*;

const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
const OTHER: &str = "12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf";

fn members(text: &str) -> Result<Vec<Member>, String> {
    parse(Path::new("members.toml"), text).map_err(|error| error.to_string())
}

fn refusal(text: &str) -> String {
    members(text).expect_err(text)
}

fn named(name: &str) -> Member {
    Member { name: name.into(), peer: None, addresses: vec![], zone: None, ready: true }
}

#[test]
fn a_member_is_read_with_all_that_can_be_said_of_it() {
    let text = format!(
        r#"
        [[member]]
        name = "node-1"
        peer = "{PEER}"
        addresses = ["/ip4/10.0.0.1/tcp/4001", "/dns/node-1.local/tcp/4001/p2p/{PEER}"]
        zone = "a"
        ready = false
        "#
    );
    let expected = Member {
        name: "node-1".into(),
        peer: Some(PeerId::new(PEER)),
        addresses: vec!["/ip4/10.0.0.1/tcp/4001".into(), "/dns/node-1.local/tcp/4001".into()],
        zone: Some("a".into()),
        ready: false,
    };
    assert_eq!(members(&text), Ok(vec![expected]));
}

#[test]
fn what_is_left_out_has_a_default() {
    assert_eq!(members(""), Ok(vec![]));
    assert_eq!(members("[[member]]\nname = 'a'"), Ok(vec![named("a")]));
    let text = format!("[[member]]\naddresses = ['/ip6/::1/tcp/1/p2p/{PEER}']");
    let found = members(&text).unwrap();
    assert_eq!((&*found[0].name, &found[0].peer), (PEER, &Some(PeerId::new(PEER))));
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_valid_one() {
    let error = refusal("[[member]]\nname = 'a'\nadresses = []");
    assert!(
        error.contains("member 1 ('a')") && error.contains("'adresses'") && error.contains("'addresses'"),
        "{error}"
    );
    let error = refusal("[[members]]\nname = 'a'");
    assert!(error.contains("'members'") && error.contains("did you mean 'member'?"), "{error}");
}

#[test]
fn duplicates_are_refused() {
    let error = refusal("[[member]]\nname = 'a'\n[[member]]\nname = 'a'");
    assert!(error.contains("member 2 ('a')") && error.contains("unique"), "{error}");
    let error = refusal(&format!("[[member]]\nname='a'\npeer='{PEER}'\n[[member]]\nname='b'\npeer='{PEER}'"));
    assert!(error.contains("member 2 ('b')") && error.contains(PEER), "{error}");
    let error =
        refusal(&format!("[[member]]\nname='a'\naddresses=['/ip4/1.1.1.1/tcp/1','/ip4/1.1.1.1/tcp/1/p2p/{PEER}']"));
    assert!(error.contains("twice"), "{error}");
    assert!(refusal("[[member]]\nname = 'a'\nname = 'b'").contains("line 3"));
}

#[test]
fn contradicting_identities_are_refused() {
    let error = refusal(&format!("[[member]]\npeer='{PEER}'\naddresses=['/ip4/1.1.1.1/tcp/1/p2p/{OTHER}']"));
    assert!(error.contains(PEER) && error.contains(OTHER), "{error}");
    let error =
        refusal(&format!("[[member]]\naddresses=['/ip4/1.1.1.1/tcp/1/p2p/{PEER}', '/ip4/1.1.1.1/tcp/2/p2p/{OTHER}']"));
    assert!(error.contains("another peer"), "{error}");
}

#[test]
fn every_other_mistake_is_named_with_its_member_and_a_remedy() {
    for (entry, said) in [
        ("zone = 'a'", "give it a name"),
        ("name = 3", "name has the type integer"),
        ("name = ''", "name is empty"),
        ("name = \"a\\u0007\"", "control characters"),
        ("name = 'a'\nready = 'yes'", "write true or false"),
        ("name = 'a'\npeer = 'QmNonsense'", "not a libp2p peer ID"),
        ("name = 'a'\naddresses = '/ip4/1.1.1.1/tcp/1'", "write a list"),
        ("name = 'a'\naddresses = [1]", "a text in quotes"),
        ("name = 'a'\naddresses = ['10.0.0.1:4001']", "is no multiaddr"),
        ("name = 'a'\naddresses = ['/ip4/10.0.0.1']", "cannot be dialled"),
        ("name = 'a'\naddresses = ['/ip4/10.0.0.1/udp/4001/quic-v1']", "cannot be dialled"),
        ("name = 'a'\naddresses = ['/ip4/10.0.0.1/tcp/0']", "cannot be dialled"),
    ] {
        let error = refusal(&format!("[[member]]\n{entry}"));
        assert!(error.contains("member 1") && error.contains(said), "{entry}: {error}");
    }
    assert!(refusal("member = 1").contains("[[member]]"));
    assert!(refusal("member = [1]").contains("[[member]]"));
    assert!(refusal("[[member]\n").contains("line 1"));
}

#[tokio::test]
async fn a_static_view_is_reported_once() {
    let (sender, mut inputs) = Inputs::channel();
    let following = Membership::Static(vec![named("a"), named("b")]).follow(sender).unwrap();
    assert_eq!(inputs.recv().await, Some(Input::Members(Roster::new(vec![named("a"), named("b")]))));
    following.stop().await;
    assert_eq!(inputs.recv().await, None);
}

#[tokio::test]
async fn an_agent_does_not_start_on_a_file_that_is_missing_or_wrong() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("members.toml");
    let (sender, mut inputs) = Inputs::channel();
    let error = Membership::File(path.clone()).follow(sender.clone()).unwrap_err().to_string();
    assert!(error.contains("members.toml") && error.contains("has to exist"), "{error}");
    std::fs::write(&path, "oops").unwrap();
    let error = Membership::File(path).follow(sender).unwrap_err().to_string();
    assert!(error.contains("members.toml") && error.contains("wrong"), "{error}");
    assert!(inputs.try_recv().is_err());
}

/// Names of the members that a follower knows.
fn names(follower: &Follower) -> Vec<&str> {
    follower.members().iter().map(|member| &*member.name).collect()
}

/// Looks until a new state has settled.
fn look_twice(follower: &mut Follower) -> Look {
    assert!(matches!(follower.look(), Look::Same), "a new state has to settle first");
    follower.look()
}

#[test]
fn a_changed_file_is_read_when_it_has_settled_and_only_then() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("members.toml");
    std::fs::write(&path, "[[member]]\nname = 'a'").unwrap();
    let mut follower = Follower::open(path.clone()).unwrap();
    assert!(matches!(follower.look(), Look::Same));

    // Half of a file that is being written.
    std::fs::write(&path, "").unwrap();
    assert!(matches!(follower.look(), Look::Same));
    std::fs::write(&path, "[[member]]\nname = 'a'\n[[member]]\nname = 'b'").unwrap();
    assert!(matches!(look_twice(&mut follower), Look::Changed));
    assert_eq!(names(&follower), ["a", "b"]);

    // Atomic rename, of the same length.
    let new = directory.path().join("new");
    std::fs::write(&new, "[[member]]\nname = 'a'\n[[member]]\nname = 'c'").unwrap();
    std::fs::rename(&new, &path).unwrap();
    assert!(matches!(look_twice(&mut follower), Look::Changed));
    assert_eq!(names(&follower), ["a", "c"]);

    // Touched, with the same members in it.
    std::fs::write(&path, "# a comment\n[[member]]\nname = 'a'\n[[member]]\nname = 'c'").unwrap();
    assert!(matches!(look_twice(&mut follower), Look::Same));
}

#[test]
fn a_bad_or_missing_file_keeps_the_view_is_told_once_and_is_left_behind_when_it_is_good_again() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("members.toml");
    std::fs::write(&path, "[[member]]\nname = 'a'").unwrap();
    let mut follower = Follower::open(path.clone()).unwrap();
    let bad = |path: &Path| {
        std::fs::remove_file(path).unwrap();
        "has to exist"
    };
    let syntax = |path: &Path| {
        std::fs::write(path, "[[member]]\nnam = 'b'").unwrap();
        "did you mean 'name'?"
    };
    let binary = |path: &Path| {
        std::fs::write(path, [0xff, 0xfe]).unwrap();
        "cannot read"
    };
    let cases: [&dyn Fn(&Path) -> &'static str; 3] = [&bad, &syntax, &binary];
    for (index, spoil) in cases.into_iter().enumerate() {
        let said = spoil(&path);
        let Look::Bad(error) = look_twice(&mut follower) else { panic!("case {index} is bad") };
        assert!(error.to_string().contains(said), "{error}");
        assert!(matches!((follower.look(), follower.look()), (Look::Same, Look::Same)), "told once");
        let name = format!("good-{index}");
        std::fs::write(&path, format!("[[member]]\nname = '{name}'")).unwrap();
        assert!(matches!(look_twice(&mut follower), Look::Changed));
        assert_eq!(names(&follower), [name]);
    }
}

#[test]
fn the_links_of_a_mounted_config_map_are_followed() {
    use std::os::unix::fs::symlink;
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (version, name) in [("v1", "a"), ("v2", "b")] {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("members.toml"), format!("[[member]]\nname = '{name}'")).unwrap();
    }
    symlink("v1", at("data")).unwrap();
    symlink("data/members.toml", at("members.toml")).unwrap();
    let mut follower = Follower::open(at("members.toml")).unwrap();
    symlink("v2", at("data.new")).unwrap();
    std::fs::rename(at("data.new"), at("data")).unwrap();
    assert!(matches!(look_twice(&mut follower), Look::Changed));
    assert_eq!(names(&follower), ["b"]);
}

async fn next(inputs: &mut UnboundedReceiver<Input>) -> Option<Input> {
    tokio::time::timeout(Duration::from_secs(30), inputs.recv()).await.expect("a view is reported")
}

#[tokio::test]
async fn a_running_agent_hears_of_a_change_and_of_none_after_the_end() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("members.toml");
    std::fs::write(&path, "[[member]]\nname = 'a'").unwrap();
    let (sender, mut inputs) = Inputs::channel();
    let following = Membership::File(path.clone()).follow(sender).unwrap();
    assert_eq!(next(&mut inputs).await, Some(Input::Members(Roster::new(vec![named("a")]))));
    std::fs::write(&path, "[[member]]\nname = 'b'").unwrap();
    assert_eq!(next(&mut inputs).await, Some(Input::Members(Roster::new(vec![named("b")]))));
    following.stop().await;
    assert_eq!(next(&mut inputs).await, None);
}
