//! `/gantry/coord/1.0.0`, byte by byte: frames written by hand from the reference's field numbers (gantry.md, 2.1 and 2.2),
//! sent by a peer that shares no code with the agent.

use crate::harness::PATIENCE;
use crate::harness::agent::{Agent, Settings, member, member_table};
use crate::harness::faulty::FaultyRegistry;
use crate::harness::http;
use crate::harness::image::Image;
use crate::harness::lab::{Lab, free_port};
use crate::harness::raw_peer::{Answer, RawPeer};
use crate::harness::registry::{Access, Registry};
use crate::harness::wait_for;
use crate::harness::world::{MIB, REPOSITORY};

const PROTOCOL: &str = "/gantry/coord/1.0.0";

/// A protobuf field with a length: tag, length as varint, content.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    [vec![tag], varint(content.len()), content.to_vec()].concat()
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).expect("seven bits fit") | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).expect("seven bits fit"));
    bytes
}

/// The length as unsigned varint, then the message.
fn frame(message: &[u8]) -> Vec<u8> {
    [varint(message.len()), message.to_vec()].concat()
}

/// Envelope { 1: PullIntentRequest { 1: digest } }
fn pull_intent(digest: &str) -> Vec<u8> {
    frame(&field(0x0a, &field(0x0a, digest.as_bytes())))
}

/// Envelope { 3: PleasePullRequest { 1: digests, 2: upstream_registry, 3: repository, 4: kind } }
fn please_pull(digests: &[String], registry: &str, kind: u8) -> Vec<u8> {
    let mut request: Vec<u8> = digests.iter().flat_map(|digest| field(0x0a, digest.as_bytes())).collect();
    request.extend(field(0x12, registry.as_bytes()));
    request.extend(field(0x1a, REPOSITORY.as_bytes()));
    request.extend([0x20, kind]);
    frame(&field(0x1a, &request))
}

/// Reads a varint; the value and what follows.
fn read_varint(bytes: &[u8]) -> (u64, &[u8]) {
    let len = bytes.iter().position(|byte| byte & 0x80 == 0).expect("a varint ends") + 1;
    let value = bytes[..len].iter().enumerate().map(|(place, byte)| u64::from(byte & 0x7f) << (7 * place)).sum();
    (value, &bytes[len..])
}

/// The fields of a message: number, varint value, content of fields with a length.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (tag, rest) = read_varint(bytes);
        let (value, rest) = read_varint(rest);
        match tag & 7 {
            0 => {
                all.push((tag >> 3, value, Vec::new()));
                bytes = rest;
            }
            2 => {
                let (content, rest) = rest.split_at(usize::try_from(value).expect("lengths here are small"));
                all.push((tag >> 3, 0, content.to_vec()));
                bytes = rest;
            }
            wire_type => panic!("no field of the protocol has wire type {wire_type}"),
        }
    }
    all
}

/// The PleasePullResponse's results: digest and outcome.
fn results(answer: &Answer) -> Vec<(String, u64)> {
    let Answer::Bytes(bytes) = answer else { panic!("no answer to a please_pull") };
    let (len, message) = read_varint(bytes);
    assert_eq!(len, message.len() as u64, "one frame");
    let envelope = fields(message);
    let [(4, _, response)] = envelope.as_slice() else { panic!("not a PleasePullResponse: {envelope:?}") };
    let result = |content: &[u8]| {
        let inner = fields(content);
        let digest =
            inner.iter().find(|(number, ..)| *number == 1).map(|(_, _, text)| text.clone()).unwrap_or_default();
        let outcome = inner.iter().find(|(number, ..)| *number == 2).map_or(0, |(_, value, _)| *value);
        (String::from_utf8(digest).expect("a digest is text"), outcome)
    };
    fields(response).iter().map(|(_, _, content)| result(content)).collect()
}

/// One agent before a registry with an image, and a peer that nobody knows.
struct Table {
    agent: Agent,
    peer: RawPeer,
    image: Image,
    front: FaultyRegistry,
    _registry: Registry,
    _lab: Lab,
}

impl Table {
    fn set(extra: &str) -> Option<Self> {
        Self::set_with_members(extra, Vec::new())
    }

    fn set_with_members(extra: &str, strangers: Vec<String>) -> Option<Self> {
        let lab = Lab::open()?;
        let registry = Registry::start(&lab, Access::Anonymous);
        let image = Image::build(&lab, 11, &[MIB]);
        image.push(registry.port, REPOSITORY, None);
        let front = FaultyRegistry::start(registry.port);
        let settings = Settings { strangers, ..Settings::with_registry(front.port).and(extra) };
        let agent = Agent::alone(&lab, &settings);
        Some(Self { agent, peer: RawPeer::new(), image, front, _registry: registry, _lab: lab })
    }

    fn ask(&self, bytes: &[u8]) -> Answer {
        self.peer.ask(&self.agent, PROTOCOL, bytes, true)
    }

    fn upstream(&self) -> String {
        format!("127.0.0.1:{}", self.front.port)
    }

    fn assert_dropped(&self, what: &str, bytes: &[u8]) {
        let before = self.agent.counter("coord_stream_errors");
        assert_eq!(self.ask(bytes), Answer::Nothing, "{what}");
        wait_for(what, PATIENCE, || (self.agent.counter("coord_stream_errors") > before).then_some(()));
    }
}

#[test]
fn golden_bytes_a_pull_intent_query_for_an_unknown_and_for_a_cached_digest() {
    let Some(table) = Table::set("") else { return };
    let digest = table.image.largest_layer().digest.clone();
    let request = pull_intent(&digest);
    assert_eq!(request[..5], [75, 0x0a, 73, 0x0a, 71], "the frame is what the reference says, not what a library made");

    // PullIntentResponse with nothing but defaults: not cached, not in flight, rank 0 of a cluster of one.
    assert_eq!(table.ask(&request), Answer::Bytes(vec![2, 0x12, 0]));

    let path = Agent::blob_path(table.front.port, REPOSITORY, &digest);
    assert_eq!(http::get(table.agent.mirror_port, &path, &[]).unwrap().status, 200);
    // Field 1, has_cached: true. The body may end before the blob is durable; until then it is in flight.
    wait_for("the blob to be cached", PATIENCE, || {
        (table.ask(&request) == Answer::Bytes(vec![4, 0x12, 2, 0x08, 1])).then_some(())
    });
}

#[test]
fn golden_bytes_a_please_pull_starts_a_pull_and_says_so() {
    let Some(table) = Table::set("") else { return };
    let layer = table.image.largest_layer().clone();
    let answer = table.ask(&please_pull(std::slice::from_ref(&layer.digest), &table.upstream(), 1));
    assert_eq!(results(&answer), [(layer.digest.clone(), 2)], "started");
    wait_for("the pull to end", PATIENCE, || {
        (table.ask(&pull_intent(&layer.digest)) == Answer::Bytes(vec![4, 0x12, 2, 0x08, 1])).then_some(())
    });
    assert_eq!(table.front.bytes_sent(&layer.digest), layer.size);
    let again = table.ask(&please_pull(std::slice::from_ref(&layer.digest), &table.upstream(), 1));
    assert_eq!(results(&again), [(layer.digest, 1)], "already there");
}

#[test]
fn a_digest_in_flight_is_reported_with_its_start() {
    let Some(table) = Table::set("") else { return };
    let digest = table.image.largest_layer().digest.clone();
    table.front.hold_at(64 * 1024);
    table.ask(&please_pull(std::slice::from_ref(&digest), &table.upstream(), 1));
    table.front.wait_until_held(PATIENCE);
    let Answer::Bytes(bytes) = table.ask(&pull_intent(&digest)) else { panic!("no answer") };
    let envelope = fields(read_varint(&bytes).1);
    let response = fields(&envelope[0].2);
    assert!(response.contains(&(2, 1, Vec::new())), "in_flight: {response:?}");
    let started_at = response.iter().find(|(number, ..)| *number == 3).expect("started_at is set");
    let seconds = fields(&started_at.2).iter().find(|(number, ..)| *number == 1).expect("Timestamp.seconds").1;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(seconds) < 60, "started {seconds}, now {now}");
    table.front.release();
}

#[test]
fn a_bad_digest_in_a_batch_is_left_out_and_the_others_are_served() {
    let Some(table) = Table::set("") else { return };
    let good = table.image.largest_layer().digest.clone();
    let answer = table.ask(&please_pull(&["sha256:nonsense".to_owned(), good.clone()], &table.upstream(), 1));
    assert_eq!(results(&answer).into_iter().map(|(digest, _)| digest).collect::<Vec<_>>(), [good]);
}

#[test]
fn malformed_empty_oversized_and_slow_requests_get_no_reply_and_are_counted() {
    let Some(table) = Table::set("handshake_timeout = \"1s\"") else { return };
    let digest = table.image.largest_layer().digest.clone();
    table.assert_dropped("an empty frame", &[0]);
    table.assert_dropped("an envelope without a message", &frame(&[0x3a, 0]));
    table.assert_dropped("a response where a request belongs", &frame(&field(0x12, &[0x08, 1])));
    table.assert_dropped("bytes that are no protobuf", &frame(&[0xff; 40]));
    table.assert_dropped("a frame of more than 1 MiB", &varint((1 << 20) + 1));
    table.assert_dropped("a length that never ends", &[0xff; 16]);
    table.assert_dropped("a frame that is cut off", &pull_intent(&digest)[..40]);
    let batch: Vec<String> = (0..257).map(|number| format!("sha256:{number:064x}")).collect();
    table.assert_dropped("257 digests in one batch", &please_pull(&batch, &table.upstream(), 1));

    // Slow: the first byte comes and the rest does not; our half stays open.
    let started = std::time::Instant::now();
    assert_eq!(table.peer.ask(&table.agent, PROTOCOL, &[75], false), Answer::Nothing);
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
    assert_eq!(table.ask(&pull_intent(&digest)), Answer::Bytes(vec![2, 0x12, 0]), "the agent is well after all this");
}

#[test]
fn a_protocol_that_nobody_speaks_is_not_opened() {
    let Some(table) = Table::set("") else { return };
    assert_eq!(table.peer.ask(&table.agent, "/gantry/coord/9.0.0", &[0], true), Answer::Nothing);
}

/// A member that is known and never there: without any, nobody can be told from a stranger.
fn absent_member() -> Vec<String> {
    vec![member(free_port(), &RawPeer::new().peer_id().to_string())]
}

#[test]
fn with_authorization_observed_a_stranger_is_served_and_counted() {
    let Some(table) = Table::set_with_members("authorization = \"observe\"", absent_member()) else { return };
    assert_ne!(table.ask(&pull_intent(&table.image.manifest.digest)), Answer::Nothing);
    assert_eq!(table.agent.counter("coord_unauthorized_unrecognized"), 1);
}

#[test]
fn with_authorization_enforced_a_stranger_is_rejected_before_dispatch() {
    let Some(table) = Table::set_with_members("authorization = \"enforce\"", absent_member()) else { return };
    let digest = table.image.largest_layer().digest.clone();
    assert_eq!(table.ask(&pull_intent(&digest)), Answer::Nothing);
    assert_eq!(table.ask(&please_pull(&[digest], &table.upstream(), 1)), Answer::Nothing);
    assert_eq!(table.peer.ask(&table.agent, "/longshore/swarm/1.0.0", &[1, 0], true), Answer::Nothing);
    wait_for("the rejections to be counted", PATIENCE, || {
        (table.agent.counter("coord_unauthorized_unrecognized") >= 2).then_some(())
    });
    assert_eq!(table.agent.counter("coord_please_pull_served"), 0, "rejected before dispatch");
    assert_eq!(table.front.requests("sha256:"), 0, "a stranger cannot start a pull");
}

#[test]
fn with_authorization_enforced_and_no_other_member_everybody_is_rejected() {
    let Some(table) = Table::set("authorization = \"enforce\"") else { return };
    assert_eq!(table.ask(&pull_intent(&table.image.manifest.digest)), Answer::Nothing);
    wait_for("the rejection to be counted", PATIENCE, || {
        (table.agent.counter("coord_unauthorized_unevaluable") >= 1).then_some(())
    });
}

#[test]
fn with_authorization_enforced_a_member_is_served_and_an_impostor_is_not() {
    let Some(lab) = Lab::open() else { return };
    let registry = Registry::start(&lab, Access::Anonymous);
    let known = RawPeer::new();
    let settings = Settings {
        strangers: vec![member(free_port(), &known.peer_id().to_string())],
        ..Settings::with_registry(registry.port).and("authorization = \"enforce\"")
    };
    let agent = Agent::alone(&lab, &settings);
    let request = pull_intent(&format!("sha256:{:064x}", 1));
    let answer = known.ask(&agent, PROTOCOL, &request, true);
    assert_ne!(answer, Answer::Nothing, "a member is served");
    // Who claims to be the member has to prove it: another key is another peer, whatever address it comes from.
    assert_eq!(RawPeer::new().ask(&agent, PROTOCOL, &request, true), Answer::Nothing);
}

#[test]
fn a_member_that_is_added_to_the_file_is_served_without_a_restart() {
    let Some(lab) = Lab::open() else { return };
    let registry = Registry::start(&lab, Access::Anonymous);
    let file = lab.directory("members").join("members.toml");
    let settings = Settings {
        members_file: Some(file.clone()),
        ..Settings::with_registry(registry.port).and("authorization = \"enforce\"")
    };
    let agent = Agent::alone(&lab, &settings);
    let newcomer = RawPeer::new();
    let request = pull_intent(&format!("sha256:{:064x}", 1));
    assert_eq!(newcomer.ask(&agent, PROTOCOL, &request, true), Answer::Nothing);

    let before = std::fs::read_to_string(&file).unwrap();
    let table = member_table(free_port(), &newcomer.peer_id().to_string());
    // As tools replace files: a reader sees the old one or the new one.
    let next = file.with_extension("next");
    std::fs::write(&next, before + &table).unwrap();
    std::fs::rename(&next, &file).unwrap();
    wait_for("the newcomer to be served", PATIENCE, || {
        (newcomer.ask(&agent, PROTOCOL, &request, true) != Answer::Nothing).then_some(())
    });
}
