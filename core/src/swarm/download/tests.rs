use super::*;
use crate::piece::MIN_PIECE_BYTES;

fn state(number: u32) -> Midstate {
    Midstate([number; 8])
}

fn peer(name: &str) -> PeerId {
    PeerId::new(name)
}

fn fetch(download: &mut Download, op: u64, sender: &str, piece: u32, after: u32) -> Verdict {
    let (op, peer) = (OpId(op), peer(sender));
    let check = download.check(piece);
    download.started(op, Fetch::Piece { peer, piece, check, since: Time::ZERO });
    let verdict = download.arrived(op, piece, Hashed::Chained(state(after)), None, &PeerId::new("me"));
    download.ended(op);
    verdict
}

/// A blob of two pieces, whose true midstates are `state(1)` and `state(2)`, its digest.
fn two_pieces() -> Download {
    Download::new(Digest::from_bytes(state(2).to_bytes()), Geometry::of_blob(2 * MIN_PIECE_BYTES))
}

/// Claims about the midstate between the two pieces; the sender's second piece gives `gave` and does not fit; then the whole
/// blob comes from elsewhere.
fn convicted(claim: u32, gave: u32) -> Vec<PeerId> {
    let mut download = two_pieces();
    download.claim(1, state(claim));
    assert_eq!(fetch(&mut download, 1, "sender", 1, gave), Verdict::Doubtful);
    for piece in 0..2 {
        assert_eq!(download.settle_doubts(), [], "before the blob is whole nobody is convicted");
        download.chain.hashed(piece, download.chain.state(), state(piece + 1));
    }
    download.settle_doubts()
}

#[test]
fn who_sent_the_right_piece_is_not_convicted_for_a_wrong_midstate_before_it() {
    assert_eq!(convicted(66, 77), []);
}

#[test]
fn who_sent_a_wrong_piece_from_a_right_midstate_is_convicted_when_the_blob_is_whole() {
    assert_eq!(convicted(1, 77), [peer("sender")]);
}

#[test]
fn who_sent_the_right_piece_is_not_convicted_where_the_chain_runs_through_a_lie() {
    let mut download = two_pieces();
    // Somebody vouched for a first piece that is wrong.
    download.chain.hashed(0, download.chain.state(), state(66));
    assert_eq!(fetch(&mut download, 1, "sender", 1, 77), Verdict::Doubtful);
    download.chain.hashed(1, state(66), state(77));
    assert_eq!(download.prefix(), Prefix::Mismatch);
    assert_eq!(download.settle_doubts(), []);
}
