use sha2::{Digest as _, Sha256};

use super::*;
use proptest::prelude::*;

fn member(name: &str, zone: &str) -> Member {
    Member {
        name: name.into(),
        peer: Some(PeerId::new(&format!("peer-{name}"))),
        addresses: Vec::new(),
        zone: (!zone.is_empty()).then(|| zone.into()),
        ready: true,
    }
}

fn view(own: &str, zone: &str, scope: Scope, members: Vec<Member>) -> Members {
    let mut config = Config::new(own, PeerId::new(&format!("peer-{own}")));
    config.zone = (!zone.is_empty()).then(|| zone.into());
    config.scope = scope;
    let mut view = Members::new(&config);
    view.replace(Roster::new(members));
    view
}

fn digest(seed: u8) -> Digest {
    Digest::from_bytes([seed; 32])
}

#[test]
fn the_score_is_gantrys_function() {
    let digest = digest(0xab);
    let expected: [u8; 32] = Sha256::digest(format!("node-1sha256:{}", "ab".repeat(32))).into();
    assert_eq!(score("node-1", &digest), expected);
}

#[test]
fn all_nodes_with_the_same_view_rank_alike() {
    let members: Vec<_> = (0..20).map(|index| member(&format!("n{index}"), "")).collect();
    let ranked = view("n0", "", Scope::Cluster, members.clone()).top(&digest(1), 20);
    for own in 1..20 {
        assert_eq!(view(&format!("n{own}"), "", Scope::Cluster, members.clone()).top(&digest(1), 20), ranked);
    }
}

#[test]
fn a_node_that_the_source_does_not_list_is_still_in_its_own_view() {
    let view = view("me", "", Scope::Cluster, vec![member("a", "")]);
    assert_eq!(view.top(&digest(1), 9).len(), 2);
    assert!(view.own_rank(&digest(1)).is_some());
}

#[test]
fn unready_members_and_members_without_identity_are_no_candidates() {
    let unready = Member { ready: false, ..member("a", "") };
    let anonymous = Member { peer: None, ..member("b", "") };
    let view = view("me", "", Scope::Cluster, vec![unready, anonymous, member("c", "")]);
    assert_eq!(view.top(&digest(1), 9).len(), 2);
}

#[test]
fn zone_scope_ranks_the_own_zone_and_falls_back_to_the_cluster_when_alone_there() {
    let members = vec![member("me", "a"), member("x", "a"), member("y", "b"), member("z", "b")];
    assert_eq!(view("me", "a", Scope::Zone, members.clone()).top(&digest(1), 9).len(), 2);
    assert_eq!(view("me", "c", Scope::Zone, members.clone()).top(&digest(1), 9).len(), 4);
    assert_eq!(view("me", "a", Scope::Cluster, members).top(&digest(1), 9).len(), 4);
}

#[test]
fn strangers_are_recognized_only_once_somebody_has_an_identity() {
    let empty = view("me", "", Scope::Cluster, vec![]);
    assert_eq!(empty.recognize(&PeerId::new("peer-a")), Recognition::Unevaluable);
    let full = view("me", "", Scope::Cluster, vec![member("a", "")]);
    assert_eq!(full.recognize(&PeerId::new("peer-a")), Recognition::Member);
    assert_eq!(full.recognize(&PeerId::new("peer-b")), Recognition::Unrecognized);
}

#[test]
fn an_identity_that_moves_to_another_name_leaves_the_old_one() {
    let mut renamed = member("b", "");
    renamed.peer = member("a", "").peer;
    let view = view("me", "", Scope::Cluster, vec![member("a", ""), renamed]);
    assert_eq!(view.len(), 2);
    assert_eq!(view.get(&PeerId::new("peer-a")).map(|member| &*member.name), Some("b"));
}

proptest! {
    #[test]
    fn losing_a_member_moves_only_what_it_led(seed: [u8; 32], lost in 0_usize..12) {
        let digest = Digest::from_bytes(seed);
        let all: Vec<_> = (0..12).map(|index| member(&format!("n{index}"), "")).collect();
        let before = view("n0", "", Scope::Cluster, all.clone()).top(&digest, 12);
        let rest: Vec<_> = all.into_iter().enumerate().filter(|(index, _)| *index != lost || *index == 0).map(|(_, member)| member).collect();
        let after = view("n0", "", Scope::Cluster, rest).top(&digest, 12);
        let expected: Vec<_> = before.into_iter().filter(|peer| after.contains(peer)).collect();
        prop_assert_eq!(after, expected);
    }

    #[test]
    fn the_narrow_ranking_is_the_head_of_the_wide_one(seed: [u8; 32], width in 0_usize..40) {
        let digest = Digest::from_bytes(seed);
        let members: Vec<_> = (0..30).map(|index| member(&format!("n{index}"), "")).collect();
        let view = view("n7", "", Scope::Cluster, members);
        let wide = view.top(&digest, usize::MAX);
        prop_assert_eq!(view.top(&digest, width), wide[..width.min(30)].to_vec());
        prop_assert_eq!(view.own_rank(&digest), wide.iter().position(|peer| peer.as_str() == "peer-n7").map(|rank| rank as u32));
    }
}

#[test]
fn a_node_goes_by_the_name_that_the_source_gives_it() {
    let mut listed = member("listed", "");
    listed.peer = Some(PeerId::new("peer-me"));
    let view = view("me", "", Scope::Cluster, vec![listed, member("a", "")]);
    assert_eq!(view.len(), 2);
    assert_eq!(&*view.own().name, "listed");
    assert!(view.own_rank(&digest(1)).is_some());
}
