use longshore_core::message::Neighbour;

use super::*;

impl Node {
    async fn find(&mut self, number: u64, digest: Digest) -> Vec<Neighbour> {
        self.driver.find_providers(OpId(number), digest);
        self.expect("the answer of the index", |input| match input {
            Input::Providers { op, peers } if op.0 == number => Some(peers.clone()),
            _ => None,
        })
        .await
    }
}

#[tokio::test]
async fn nobody_provides_in_an_empty_index() {
    let mut a = Node::start().await;
    assert_eq!(a.find(1, digest(1)).await, []);
}

#[tokio::test]
async fn a_peer_in_the_index_that_is_gone_does_not_delay_the_answer_for_long() {
    let (mut a, b) = pair().await;
    b.driver.stop().await;
    let started = tokio::time::Instant::now();
    assert_eq!(a.find(1, digest(1)).await, []);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn what_one_node_announces_a_third_finds_and_can_reach() {
    let (mut a, mut b, mut c) = (Node::start().await, Node::start().await, Node::start().await);
    // Both know the one in the middle only.
    a.learn(&b.local);
    c.learn(&b.local);
    let digests: Vec<_> = (0..20).map(digest).collect();
    a.driver.announce(digests.clone());
    let mut operation = 0;
    for digest in digests {
        // The announcement travels while it is looked for.
        let found = loop {
            operation += 1;
            let found = c.find(operation, digest).await;
            if !found.is_empty() {
                break found;
            }
            assert!(operation < 2_000, "{digest} is never found");
        };
        assert_eq!(found.iter().map(|provider| provider.peer.clone()).collect::<Vec<_>>(), [a.id()]);
    }
    // The announcing node is not told about itself.
    assert_eq!(a.find(1, digest(0)).await, []);
    // Where the provider is came with the answer.
    c.driver.call(CallId(1), a.id(), Request::PullIntent { digest: digest(0), leads: false }, Duration::from_secs(2));
    let (_, caller, _) = a.stream_opened().await;
    assert_eq!(caller, c.id());
    assert_eq!(b.count(|input| matches!(input, Input::StreamOpened { .. })), 0);
}

#[tokio::test]
async fn what_is_withdrawn_is_not_given_out_by_this_node_any_more() {
    let (mut a, mut b) = pair().await;
    // Nobody else knows b yet, so it is alone in keeping its records.
    b.driver.announce(vec![digest(1), digest(2)]);
    b.driver.withdraw(vec![digest(1)]);
    let found = a.find(1, digest(2)).await;
    assert_eq!(found.iter().map(|provider| provider.peer.clone()).collect::<Vec<_>>(), [b.id()]);
    assert_eq!(a.find(2, digest(1)).await, []);
    // Announced again, it is there again.
    b.driver.announce(vec![digest(1)]);
    let mut operation = 3;
    while a.find(operation, digest(1)).await.is_empty() {
        operation += 1;
        assert!(operation < 2_000, "the announcement never arrives");
    }
}
