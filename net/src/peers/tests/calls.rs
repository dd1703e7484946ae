use longshore_core::input::{CallError, StreamError};
use longshore_core::message::{Have, PullIntent};

use super::*;

fn ask(number: u8) -> Request {
    Request::PullIntent { digest: digest(number), leads: false }
}

impl Node {
    fn call(&mut self, number: u64, peer: PeerId) {
        self.driver.call(CallId(number), peer, ask(1), Duration::from_secs(2));
    }

    async fn call_ended(&mut self, number: u64) -> Result<Response, CallError> {
        self.expect("the end of a call", |input| match input {
            Input::Reply { call, response } if call.0 == number => Some(Ok(response.clone())),
            Input::CallFailed { call, error } if call.0 == number => Some(Err(error.clone())),
            _ => None,
        })
        .await
    }

    async fn disconnected(&mut self) -> PeerId {
        self.expect("a disconnection", |input| match input {
            Input::Disconnected { peer } => Some(peer.clone()),
            _ => None,
        })
        .await
    }

    async fn request(&mut self) -> (StreamId, Request) {
        self.expect("a request", |input| match input {
            Input::StreamRequest { stream, request } => Some((*stream, request.clone())),
            _ => None,
        })
        .await
    }
}

fn notice(number: u32) -> Arc<Notice> {
    Arc::new(Notice::Have {
        digest: digest(1),
        size: None,
        pieces: Have::Also(vec![number]),
        sums: vec![],
        spine: vec![],
        private: false,
    })
}

#[tokio::test]
async fn a_call_is_answered_and_the_caller_is_the_authenticated_peer() {
    let (mut a, mut b) = pair().await;
    a.call(7, b.id());
    let (stream, peer, protocol) = b.stream_opened().await;
    assert_eq!((peer, protocol), (a.id(), Protocol::Coord));
    b.driver.admit(stream, MAX_MESSAGE_BYTES);
    assert_eq!(b.request().await, (stream, ask(1)));
    let response = Response::PullIntent(PullIntent { has_cached: true, rank: Some(3), ..PullIntent::default() });
    b.driver.reply(stream, response.clone());
    assert_eq!(a.call_ended(7).await, Ok(response));
    assert_eq!(b.closed(stream).await, (None, 0));
}

#[tokio::test]
async fn nothing_is_read_before_the_core_admits_the_stream() {
    let (mut a, mut b) = pair().await;
    a.call(1, b.id());
    let (stream, _, _) = b.stream_opened().await;
    // A second stream goes all the way while the first one waits.
    a.call(2, b.id());
    let second = b.admit().await;
    assert_eq!(b.request().await.0, second);
    b.driver.reply(second, Response::PullIntent(PullIntent::default()));
    a.call_ended(2).await.unwrap();
    assert_eq!(b.count(|input| matches!(input, Input::StreamRequest { .. })), 0);
    b.driver.admit(stream, MAX_MESSAGE_BYTES);
    assert_eq!(b.request().await.0, stream);
}

#[tokio::test]
async fn a_stream_that_the_core_resets_fails_the_call_and_closes_once() {
    let (mut a, mut b) = pair().await;
    a.call(1, b.id());
    let (stream, _, _) = b.stream_opened().await;
    b.driver.reset(stream);
    assert_eq!(a.call_ended(1).await, Err(CallError::Reset));
    assert_eq!(b.closed(stream).await, (None, 0));
    b.driver.reset(stream);
    b.driver.admit(stream, MAX_MESSAGE_BYTES);
    a.call(2, b.id());
    b.stream_opened().await;
    assert_eq!(b.count(|input| matches!(input, Input::StreamClosed { .. })), 0);
}

#[tokio::test]
async fn a_request_over_the_limit_is_oversized() {
    let (mut a, mut b) = pair().await;
    a.call(1, b.id());
    let (stream, _, _) = b.stream_opened().await;
    b.driver.admit(stream, 10);
    assert_eq!(b.closed(stream).await, (Some(StreamError::Oversized), 0));
    assert_eq!(a.call_ended(1).await, Err(CallError::Reset));
}

#[tokio::test]
async fn an_answer_of_another_kind_is_malformed() {
    let (mut a, mut b) = pair().await;
    a.call(1, b.id());
    let stream = b.admit().await;
    b.driver.reply(stream, Response::PleasePull(vec![]));
    assert_eq!(a.call_ended(1).await, Err(CallError::Malformed));
}

#[tokio::test]
async fn a_peer_where_nobody_listens_is_unreachable() {
    let mut a = Node::start().await;
    let free_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = Identity::generate().peer_id();
    a.driver.learn(nobody.clone(), vec![format!("/ip4/127.0.0.1/tcp/{free_port}").into()]);
    a.call(1, nobody.clone());
    assert_eq!(a.call_ended(1).await, Err(CallError::Unreachable));
    assert_eq!(a.disconnected().await, nobody);
}

#[tokio::test]
async fn peers_without_an_address_or_with_a_senseless_name_are_unreachable() {
    let mut a = Node::start().await;
    a.call(1, Identity::generate().peer_id());
    a.call(2, PeerId::new("not a peer"));
    a.call(3, a.id());
    for call in 1..=3 {
        assert_eq!(a.call_ended(call).await, Err(CallError::Unreachable), "call {call}");
    }
}

#[tokio::test]
async fn a_peer_that_lives_at_the_address_of_another_cannot_stand_in_for_it() {
    let (mut a, mut b) = (Node::start().await, Node::start().await);
    let absent = Identity::generate().peer_id();
    a.driver.learn(absent.clone(), b.local.reachable.clone());
    a.call(1, absent.clone());
    assert_eq!(a.call_ended(1).await, Err(CallError::Unreachable));
    assert_eq!(a.disconnected().await, absent);
    assert_eq!(b.count(|input| matches!(input, Input::StreamOpened { .. })), 0);
    // The address is not held against whoever really lives there.
    a.learn(&b.local.clone());
    a.call(2, b.id());
    b.admit().await;
}

#[tokio::test]
async fn the_end_of_the_last_connection_is_reported_by_both() {
    let (mut a, mut b) = pair().await;
    let (a_id, b_id) = (a.id(), b.id());
    a.call(1, b.id());
    let stream = b.admit().await;
    b.request().await;
    assert_eq!(b.count(|input| matches!(input, Input::StreamClosed { .. })), 0);
    a.driver.stop().await;
    assert_eq!(b.disconnected().await, a_id);
    b.driver.reply(stream, Response::PullIntent(PullIntent::default()));
    assert_eq!(b.closed(stream).await, (Some(StreamError::Broken), 0));

    let mut c = Node::start().await;
    c.learn(&b.local);
    c.call(1, b.id());
    b.stream_opened().await;
    b.driver.stop().await;
    assert_eq!(c.call_ended(1).await, Err(CallError::Reset));
    assert_eq!(c.disconnected().await, b_id);
}

#[tokio::test]
async fn a_peer_that_comes_back_at_another_port_is_reached_there() {
    let identity = Identity::generate();
    let mut a = Node::start().await;
    let mut b = Node::with(&config(), &identity).await;
    a.learn(&b.local);
    a.call(1, b.id());
    b.stream_opened().await;
    b.driver.stop().await;
    assert_eq!(a.call_ended(1).await, Err(CallError::Reset));
    a.disconnected().await;
    let mut b = Node::with(&config(), &identity).await;
    a.learn(&b.local);
    a.call(2, b.id());
    let stream = b.admit().await;
    b.driver.reply(stream, Response::PullIntent(PullIntent::default()));
    a.call_ended(2).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_call_is_not_heard_of_again() {
    let (mut a, mut b) = pair().await;
    a.call(1, b.id());
    let stream = b.admit().await;
    b.request().await;
    a.driver.cancel_call(CallId(1));
    // The cancelled call's stream is gone before the next call's is opened: they share a connection.
    a.call(2, b.id());
    let second = b.admit().await;
    b.driver.reply(stream, Response::PullIntent(PullIntent::default()));
    b.driver.reply(second, Response::PullIntent(PullIntent::default()));
    a.call_ended(2).await.unwrap();
    b.closed(stream).await;
    assert_eq!(a.count(|input| matches!(input, Input::Reply { .. } | Input::CallFailed { .. })), 0);
}

#[tokio::test]
async fn five_hundred_streams_at_once_all_arrive() {
    const STREAMS: u64 = 500;
    let (mut a, mut b) = pair().await;
    for call in 0..STREAMS {
        a.call(call, b.id());
    }
    for _ in 0..STREAMS {
        let stream = b.admit().await;
        b.driver.reply(stream, Response::PullIntent(PullIntent::default()));
    }
    for call in 0..STREAMS {
        assert!(a.call_ended(call).await.is_ok(), "call {call}");
    }
}

#[tokio::test]
async fn both_may_dial_at_once() {
    let (mut a, mut b) = pair().await;
    b.learn(&a.local);
    a.call(1, b.id());
    b.call(1, a.id());
    for node in [&mut a, &mut b] {
        let stream = node.admit().await;
        node.driver.reply(stream, Response::PullIntent(PullIntent::default()));
    }
    assert!(a.call_ended(1).await.is_ok());
    assert!(b.call_ended(1).await.is_ok());
}

#[tokio::test]
async fn notices_arrive_in_order_on_one_stream() {
    const NOTICES: u32 = 200;
    let (mut a, mut b) = pair().await;
    for number in 0..NOTICES {
        a.driver.notify(b.id(), notice(number));
    }
    let stream = b.admit().await;
    for number in 0..NOTICES {
        let (peer, received) = b
            .expect("a notice", |input| match input {
                Input::Notice { peer, notice } => Some((peer.clone(), notice.clone())),
                _ => None,
            })
            .await;
        assert_eq!((peer, received), (a.id(), notice(number)));
    }
    assert_eq!(b.count(|input| matches!(input, Input::StreamNotices { stream: of } if *of == stream)), 1);
    assert_eq!(b.count(|input| matches!(input, Input::StreamOpened { .. })), 0);
    a.driver.stop().await;
    b.closed(stream).await;
}

#[tokio::test]
async fn notices_for_an_unreachable_peer_are_lost_and_later_ones_arrive() {
    let (mut a, mut b) = (Node::start().await, Node::start().await);
    a.driver.notify(b.id(), notice(1));
    a.disconnected().await;
    a.learn(&b.local);
    // The queue of the lost notice is dropped right after the failed dial is reported; what comes before is lost with it.
    let mut sent = 1;
    let mut attempts = 0;
    while b.count(|input| matches!(input, Input::StreamOpened { .. })) == 0 {
        attempts += 1;
        assert!(attempts < 2_000, "no notice arrives");
        sent += 1;
        a.driver.notify(b.id(), notice(sent));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let stream = b.admit().await;
    let first = b
        .expect("a notice", |input| match input {
            Input::Notice { notice, .. } => match &**notice {
                Notice::Have { pieces: Have::Also(pieces), .. } => Some(pieces[0]),
                _ => None,
            },
            _ => None,
        })
        .await;
    assert!(first > 1);
    b.driver.reset(stream);
    assert_eq!(b.closed(stream).await, (None, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_that_is_admitted_at_once_is_not_lost_between_threads() {
    const CALLS: u64 = 2_000;
    let (mut a, mut b) = pair().await;
    let peer = b.id();
    let serving = tokio::spawn(async move {
        while let Some(input) = b.inputs.recv().await {
            match input {
                Input::StreamOpened { stream, .. } => b.driver.admit(stream, MAX_MESSAGE_BYTES),
                Input::StreamRequest { stream, .. } => {
                    b.driver.reply(stream, Response::PullIntent(PullIntent::default()));
                }
                _ => {}
            }
        }
    });
    for call in 0..CALLS {
        a.call(call, peer.clone());
        assert!(a.call_ended(call).await.is_ok(), "call {call}");
    }
    serving.abort();
}
