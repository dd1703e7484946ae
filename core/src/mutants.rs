//! Planted bugs: small, plausible mistakes that the simulator's rules have to notice.
//!
//! `mutant!("name")` is the constant `false`, so that a normal build contains nothing of them. Built with
//! `RUSTFLAGS="--cfg longshore_mutants"`, it asks whether [`select`] has chosen this one: one build serves all, and a
//! process has one bug at a time. `make mutants` tries each and writes `sim/MUTANTS.md`.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Its name, in kebab case, as `mutant!` refers to it.
    pub name: &'static str,
    /// What the agent does wrong.
    pub breaks: &'static str,
    /// Where such a bug was seen: a section of the project's references, or "classic".
    pub source: &'static str,
}

const CLASSIC: &str = "classic";
/// It was here once, until a rule found it.
const WAS_HERE: &str = "was here";

const fn mutant(name: &'static str, breaks: &'static str, source: &'static str) -> Mutant {
    Mutant { name, breaks, source }
}

/// All of them, room by room.
pub const TABLE: &[Mutant] = &[
    // Timers and calls.
    mutant("old-deadline-kept", "a deadline that is armed again still fires at its old time", CLASSIC),
    mutant("simultaneous-deadline-lost", "of two deadlines that are due at the same time one is lost", CLASSIC),
    mutant("call-without-deadline", "a call that nobody answers is waited for for ever", CLASSIC),
    mutant("cancelled-call-kept", "a cancelled call stays in the map of calls", CLASSIC),
    mutant("transfer-without-deadline", "a transfer that stands still is waited for for ever", CLASSIC),
    mutant("transfer-deadline-not-renewed", "a transfer is cut off although its bytes arrive", CLASSIC),
    mutant("finished-op-kept", "what a driver has finished stays in the map of operations", CLASSIC),
    mutant("sweep-happens-once", "faded memories are dropped once and never again", CLASSIC),
    mutant("handshake-without-deadline", "a stream that never says what it wants is kept", CLASSIC),
    // Members and the cascade.
    mutant("rank-off-by-one", "a node says that it ranks one place lower than it does", CLASSIC),
    mutant("rankings-outlive-view", "after a change of membership the old ranking is used", "node systems 2.6, D4"),
    mutant("best-rank-never-probed", "the cascade begins with the second-best node", CLASSIC),
    mutant("answers-not-awaited", "the cascade decides before all probes are answered", "gantry 10.4, l (reversed)"),
    mutant("health-never-recovers", "calls that are answered do not count for the view's health", "gantry 10.4, c"),
    mutant("refusing-node-asked-again", "a node that declined to pull is asked again at once", "gantry 10.4, i"),
    // Failures.
    mutant("cooldown-never-climbs", "every cool-down is the first one", "gantry 10.4, a"),
    mutant("ladder-never-reset", "a success does not end the row of failures", "gantry 10.4, b"),
    mutant("failure-never-expires", "a failed digest is refused for ever", CLASSIC),
    mutant(
        "not-looked-for-again",
        "containerd is sent to the registry for what could not be had a moment ago, until the cool-down is over",
        WAS_HERE,
    ),
    mutant(
        "body-cut-without-a-question",
        "a body that stands still is cut although the registry does not answer, or has just begun to",
        WAS_HERE,
    ),
    mutant(
        "out-of-order-for-the-whole-cool-down",
        "containerd is sent to the registry, until the cool-down is over, for what that has not sent to this node",
        WAS_HERE,
    ),
    mutant("retry-after-ignored", "the origin's Retry-After does not lengthen a cool-down", CLASSIC),
    mutant(
        "cooldown-told-as-instant",
        "peers are told when a cool-down ends, not for how long it lasts",
        "gantry 10.4, n",
    ),
    mutant("honour-without-limit", "another node's cool-down is honoured for as long as it says", "gantry 10.4, n"),
    mutant("convicted-asked-again", "a peer that sent wrong bytes is asked for more", "gantry 10.3, 13"),
    mutant("unreachable-asked-at-once", "a peer that cannot be reached is asked again at once", "gantry 10.4, k"),
    // Flights.
    mutant("second-flight", "whoever asks second starts a second flight", "node systems 4.2, R12"),
    mutant("flight-without-watchdog", "nobody looks whether a flight still moves", CLASSIC),
    mutant("watchdog-not-rearmed", "whether a flight moves is looked at once", CLASSIC),
    mutant("running-limit-off-by-one", "one flight too many runs at a time", CLASSIC),
    mutant("admission-limit-off-by-one", "one flight too many is admitted for peers", CLASSIC),
    mutant("queue-never-promoted", "a flight that fails leaves its place empty", CLASSIC),
    mutant("waiters-never-dismissed", "who waits for a flight that fails is told nothing", CLASSIC),
    mutant("transfers-outlive-flight", "the transfers of a flight that has ended go on", CLASSIC),
    // containerd's requests.
    mutant("waiter-forgotten", "who joins a running flight is not noted", CLASSIC),
    mutant("settled-waiter-forgotten", "who waits for headers when the blob is committed gets none", CLASSIC),
    mutant("headers-without-deadline", "a request may wait for its headers for ever", "gantry 10.2 (fail-open bypass)"),
    mutant("headers-sent-twice", "a request that has its headers gets them again", CLASSIC),
    mutant("body-deadline-not-rearmed", "a body is cut short although it moves", "gantry 10.2 (total time-outs)"),
    mutant(
        "body-cut-although-pieces-come",
        "a body whose next piece does not come is cut short although others do",
        WAS_HERE,
    ),
    mutant("abort-not-sent", "a body that cannot be finished is left open", "gantry 10.3, 13"),
    mutant("refused-while-in-flight", "a request is refused while its blob is on the way", "gantry 10.4, h"),
    mutant("private-blob-unchecked", "a private blob is served to whoever asks", "gantry 10.3, 7"),
    mutant("authorization-never-swept", "permissions that have lapsed stay in memory", CLASSIC),
    mutant("credential-never-forgotten", "the credential of a request that is over is kept", CLASSIC),
    mutant(
        "credential-of-another-requester",
        "one requester's credential is used for another's image",
        "gantry 10.4, g",
    ),
    mutant(
        "prefetch-with-unproven-credential",
        "an image is prefetched with a credential that the origin has not seen yet",
        WAS_HERE,
    ),
    // Complete blobs.
    mutant("announced-before-commit", "a blob is announced before it is durable", CLASSIC),
    mutant("committed-before-whole", "a blob is committed before all its pieces are there", CLASSIC),
    mutant("failed-commit-announced", "a blob that could not be made durable is announced", CLASSIC),
    mutant("withdrawn-after-deletion", "a blob is deleted first and withdrawn then", "node systems 4.2, R6"),
    mutant("announced-twice", "what is announced is announced once more", "gantry 10.4, d"),
    mutant("reconcile-happens-once", "what was announced is compared with what is there once", "node systems 2.6, D14"),
    mutant("evicted-while-read", "a blob is deleted while it is being sent", "node systems 4.2, R3"),
    mutant("upload-not-held-at-commit", "a blob that is committed while it is being sent may be deleted", WAS_HERE),
    mutant("reader-never-released", "a blob that was read once is never deleted", CLASSIC),
    mutant(
        "announcement-without-deadline",
        "what is complete is announced with the next blob, if there is one",
        CLASSIC,
    ),
    // Peers' requests.
    mutant("upload-slot-never-freed", "a piece that was sent holds its upload slot", CLASSIC),
    mutant("upload-limit-off-by-one", "one piece too many is sent at a time", CLASSIC),
    mutant("stream-limit-off-by-one", "one stream too many is admitted", CLASSIC),
    mutant("failed-digest-pulled-for-peers", "a peer's request ends a cool-down", CLASSIC),
    mutant("piece-from-wrong-offset", "a piece is sent from one byte further on", CLASSIC),
    mutant("spine-waiter-forgotten", "the first who waits for a spine is never answered", CLASSIC),
    // The swarm.
    mutant("far-registry-is-slow", "what the way to the registry takes counts as its being slow", WAS_HERE),
    mutant("runs-as-short-far-away", "runs are no longer than ever where a registry answers after 100 ms", WAS_HERE),
    mutant("as-few-pieces-from-far-away", "no more pieces are asked for where most of their time is the way", WAS_HERE),
    mutant(
        "far-fetchers-queue",
        "what takes longer because its fetcher is far away counts as a queue at the registry",
        WAS_HERE,
    ),
    mutant("as-few-slots-far-away", "no more slots where those who are told of them are far away", WAS_HERE),
    mutant("long-runs-of-slow-registries", "runs are as long as ever when each takes half a minute", WAS_HERE),
    mutant(
        "patience-begun-anew-with-each-tracker",
        "a flight that finds another tracker of no use before the watchdog looks at it lives for ever",
        WAS_HERE,
    ),
    mutant(
        "recovery-begun-anew-with-each-tracker",
        "who waits after a mismatch has all its time again with each tracker",
        WAS_HERE,
    ),
    mutant("enrolment-never-renewed", "a participant shows one sign of life and no more", CLASSIC),
    mutant("dead-tracker-kept", "a tracker that does not answer is followed on", "gantry 10.2 (stale pullers)"),
    mutant("never-steps-down", "of two leaders none gives way", CLASSIC),
    mutant(
        "gone-leaders-hide-others",
        "who asks for a better leader stops at the best, whether they can be asked or not",
        WAS_HERE,
    ),
    mutant("better-leaders-polled", "a leader asks better ones again with every event of its swarm", WAS_HERE),
    mutant("leaders-of-others-unknown", "a leader does not look whom those follow that it asks", WAS_HERE),
    mutant("whoever-asked-leads", "who finds that the origin has it after all leads, however many find that", WAS_HERE),
    mutant("assigned-twice", "the last piece of a run from the origin is given to somebody else as well", CLASSIC),
    mutant("late-run-never-reassigned", "a run whose fetcher is late is nobody else's", CLASSIC),
    mutant("silent-participant-kept", "a participant that has gone is reckoned with for ever", CLASSIC),
    mutant("introduced-to-itself", "a participant is named as its own neighbour", CLASSIC),
    mutant(
        "whole-unheard-before-the-first-piece",
        "what is said by who has it whole does not count while not even the first piece fits",
        WAS_HERE,
    ),
    mutant("wrong-one-blamed", "whoever finds wrong bytes convicts itself", CLASSIC),
    mutant("culprit-not-blamed", "a peer whose piece does not match its sum goes free", "gantry 10.3, 13"),
    mutant("origin-limit-off-by-one", "one request too many to the origin at a time", CLASSIC),
    mutant("download-limit-off-by-one", "one piece too many is fetched at a time", CLASSIC),
    mutant("missing-piece-asked-again", "a piece that a peer does not have is asked for again", "gantry 10.4, i"),
    mutant("busy-peer-polled", "a busy peer is asked again before its time", "gantry 10.2 (27.8 refusals a hit)"),
    mutant("piece-asked-twice", "a piece that is on its way is asked for again", CLASSIC),
    mutant("last-piece-never-fetched", "a run from the origin stops short of the last piece", CLASSIC),
    // Pieces and proofs.
    mutant("piece-beyond-the-end", "the last piece is as long as the others", CLASSIC),
    mutant("last-short-piece-lost", "a blob ends with its last full piece", CLASSIC),
    mutant("prefix-released-early", "containerd gets a piece that is not verified", CLASSIC),
    mutant("digest-not-compared", "a blob is committed whatever its digest", "gantry 10.3, 13"),
    mutant("claimed-midstate-trusted", "a piece counts that was hashed from somebody's word", CLASSIC),
    mutant("unreadable-piece-kept", "a piece that cannot be read is not fetched again", CLASSIC),
    // Upload slots, the share of each flight, registries that limit.
    mutant("free-slot-told-to-nobody", "who waits for an upload slot is not told when one is free", CLASSIC),
    mutant("everybody-told-of-one-slot", "all who wait are told of one free slot", CLASSIC),
    mutant("unchoke-not-believed", "who is told of a free slot does not take it", CLASSIC),
    mutant("line-without-end", "any number may wait for an upload slot", CLASSIC),
    mutant("gone-peer-stays-in-line", "who is gone still waits for an upload slot", CLASSIC),
    mutant(
        "news-lost-on-the-way-to-a-slot",
        "who is told of a slot does not hear what is new, and nobody tells it again",
        CLASSIC,
    ),
    mutant(
        "answer-of-before-the-credential-counts",
        "a 401 to a question without a credential ends the flight of one that has come since",
        WAS_HERE,
    ),
    mutant(
        "refused-without-a-challenge",
        "whoever asks without a credential for what others were turned away from is sent to the registry",
        WAS_HERE,
    ),
    mutant(
        "whoever-has-no-credential-asked",
        "a private blob is given to those to fetch who have no credential",
        WAS_HERE,
    ),
    mutant(
        "size-that-is-known-not-asked-for",
        "who hears that others know the size waits until it enrols again",
        WAS_HERE,
    ),
    mutant(
        "limiting-registry-fetched-from-at-once",
        "a registry that limits requests is asked by all flights of a node at the same time",
        WAS_HERE,
    ),
    mutant(
        "short-runs-of-a-limiting-registry",
        "a registry that limits requests gets as many for a large blob as one that does not",
        WAS_HERE,
    ),
    mutant(
        "what-goes-on-asked-for-by-itself",
        "what goes on where a run ends is a request of its own, although requests are limited",
        WAS_HERE,
    ),
    mutant("soon-not-waited-for", "a registry that says when to come back is asked for other blobs before", WAS_HERE),
    mutant("challenged-leader-gives-up", "a leader that is asked for a credential ends its swarm", WAS_HERE),
    mutant("what-is-on-its-way-given-out-again", "who leads next gives out what is being fetched", WAS_HERE),
    mutant("leader-does-not-look-again", "a leader asks nobody who had all before it led", WAS_HERE),
    mutant("fetches-in-vain-for-ever", "who gets only what does not fit tells nobody of it", WAS_HERE),
    mutant(
        "what-a-neighbour-lost-not-told-again",
        "a neighbour that has lost pieces is not told of those that it had before",
        WAS_HERE,
    ),
    mutant("same-news-told-again", "neighbours are told of every piece again and again", CLASSIC),
    mutant("held-back-for-ever", "a flight that leaves the link to others never goes on", CLASSIC),
    mutant("waited-for-flight-queued", "what containerd waits for stands in line behind what it does not", WAS_HERE),
    mutant("flight-of-others-queued", "a flight that others wait for stays queued", WAS_HERE),
    mutant(
        "limiting-registry-asked-at-once",
        "a registry that limits requests is asked everything at the same time",
        CLASSIC,
    ),
    mutant(
        "slow-origin-asked-for-as-much",
        "a registry that takes long is asked for as much at a time as before",
        WAS_HERE,
    ),
    mutant(
        "quiet-although-others-get-bytes",
        "a reader is cut off although others of its swarm get bytes of what it waits for, from a slow registry",
        WAS_HERE,
    ),
    mutant(
        "slow-registry-is-late",
        "what a slow registry has not sent by its deadline is given to somebody else, however slow it is here as well",
        WAS_HERE,
    ),
    mutant("late-run-fetched-as-well", "what has been given to somebody else meanwhile is fetched as well", WAS_HERE),
    mutant("complains-while-behind", "a flight that leaves the link to others complains of getting nothing", WAS_HERE),
    mutant(
        "leader-hoards",
        "what a leader is to fetch and does not begin is left to it, although a participant gets nothing else",
        WAS_HERE,
    ),
    mutant("turn-not-passed-on", "a request that gives up keeps its turn at a registry that limits", CLASSIC),
    mutant(
        "asks-and-leads-nobody",
        "a node that the registry has turned away counts on those who follow it, and does not lead them",
        WAS_HERE,
    ),
    mutant(
        "comes-back-for-what-was-lost",
        "what the disk has lost is asked for again while the registry says to wait",
        CLASSIC,
    ),
    // After a lie.
    mutant(
        "late-piece-asked-for-although-it-is-here",
        "what one peer is slow to deliver is asked of another over and over, after it has come",
        WAS_HERE,
    ),
    mutant(
        "rotten-blob-served-for-ever",
        "a blob that is not what it was when it was committed is served to containerd each time that it asks",
        WAS_HERE,
    ),
    mutant(
        "rot-of-others-unsuspected",
        "one blob after the other of a disk that forgets fails a pull, although the first has shown what the disk does",
        WAS_HERE,
    ),
    mutant(
        "asked-for-and-still-ahead",
        "a flight that others ask this node to lead stands behind what it fetches ahead of its own containerd",
        WAS_HERE,
    ),
    mutant(
        "everything-at-once",
        "all of an image is fetched at the same time, whatever containerd waits for",
        WAS_HERE,
    ),
    mutant(
        "spoiling-disk-asked-for-ever",
        "a disk that spoils each blob that it is given gets it again and again, and containerd never what it asks for",
        WAS_HERE,
    ),
    mutant(
        "earlier-release-stands",
        "what an earlier flight released is read on from the same file, although it has to be fetched again",
        WAS_HERE,
    ),
    mutant(
        "doubted-for-ever",
        "who has sent a piece that did not fit is never asked for it again, and nobody else has it",
        WAS_HERE,
    ),
    mutant("doubted-piece-asked-again", "a piece that did not fit is asked of the same neighbour again", WAS_HERE),
    mutant(
        "what-was-deserted-given-to-anybody",
        "what somebody had who has gone is fetched by one after the other, who all find the whole wrong and go as well",
        WAS_HERE,
    ),
    mutant(
        "tracker-that-moves-is-lost",
        "whoever follows a node that fetches everything again looks for another one before that can have it",
        WAS_HERE,
    ),
    mutant(
        "wrong-prefix-not-withdrawn",
        "what was released before a mismatch is still given to whoever begins to read after it",
        WAS_HERE,
    ),
    mutant(
        "unverified-prefix-released-again",
        "after a mismatch whoever begins to read is given what may be wrong once more",
        WAS_HERE,
    ),
    mutant(
        "truth-disbelieved-where-most-is-wrong",
        "if most of what is here does not fit what somebody says who has the whole, that is taken for a lie",
        WAS_HERE,
    ),
    mutant("mismatch-kept-secret", "others are not told that what is here counts no more", CLASSIC),
    mutant(
        "unclaimed-pieces-weighed-for-ever",
        "pieces that are not the blob are kept and hashed again and again, although nobody is left to be disbelieved",
        WAS_HERE,
    ),
    mutant(
        "last-piece-waited-for-in-vain",
        "a last piece that two have sent alike and that does not fit is not taken for a mismatch",
        WAS_HERE,
    ),
    mutant(
        "what-was-fetched-before-is-right",
        "what a node got from the origin before a mismatch is not fetched again by hand, although it may be wrong",
        WAS_HERE,
    ),
    mutant("nobody-fetches-by-hand", "after a mismatch the leader does not fetch from the origin either", CLASSIC),
];

/// Whether this build has the bugs in it.
pub const ENABLED: bool = cfg!(longshore_mutants);

/// The number of a mutant in the [`TABLE`]; a name that is not there does not compile.
pub(crate) const fn number_of(name: &str) -> usize {
    let mut number = 0;
    while number < TABLE.len() {
        if is_same(TABLE[number].name.as_bytes(), name.as_bytes()) {
            return number;
        }
        number += 1;
    }
    panic!("the mutant is not in the table")
}

/// Whether two texts are the same, for constants (`==` is not to be had there).
const fn is_same(left: &[u8], right: &[u8]) -> bool {
    let mut at = 0;
    while at < left.len() && at < right.len() && left[at] == right[at] {
        at += 1;
    }
    at == left.len() && at == right.len()
}

/// Whether the mutant of this name is at work: `false` in a normal build.
#[cfg(not(longshore_mutants))]
macro_rules! mutant {
    ($name:literal) => {{
        const _: usize = $crate::mutants::number_of($name);
        false
    }};
}

/// Whether the mutant of this name is at work.
#[cfg(longshore_mutants)]
macro_rules! mutant {
    ($name:literal) => {{
        const NUMBER: usize = $crate::mutants::number_of($name);
        $crate::mutants::is_selected(NUMBER)
    }};
}

/// One more than the number of the mutant that is at work in this process; 0: none. The core's only global state, and only
/// in builds for the hunt.
#[cfg(longshore_mutants)]
static SELECTED: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);

#[cfg(longshore_mutants)]
pub(crate) fn is_selected(number: usize) -> bool {
    SELECTED.load(core::sync::atomic::Ordering::Relaxed) == number + 1
}

/// Puts the mutant of this name to work in this process, instead of the one before. Returns whether there is one: in a
/// normal build there is none.
pub fn select(name: &str) -> bool {
    let number = TABLE.iter().position(|mutant| mutant.name == name);
    #[cfg(longshore_mutants)]
    SELECTED.store(number.map_or(0, |number| number + 1), core::sync::atomic::Ordering::Relaxed);
    ENABLED && number.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(longshore_mutants))]
    #[test]
    fn in_a_normal_build_a_mutant_is_the_constant_false() {
        // It can stand where only constants can, and there it is false: nothing is left of it at run time.
        const AT_WORK: [bool; 2] = [mutant!("rank-off-by-one"), mutant!("digest-not-compared")];
        const { assert!(!AT_WORK[0] && !AT_WORK[1]) };
        assert!(!select("rank-off-by-one") && !mutant!("rank-off-by-one"));
    }

    #[test]
    fn names_are_unique_and_say_what_they_break() {
        for (number, one) in TABLE.iter().enumerate() {
            assert_eq!(number_of(one.name), number, "{} is there twice", one.name);
            assert!(!one.breaks.is_empty() && !one.source.is_empty());
        }
    }
}
