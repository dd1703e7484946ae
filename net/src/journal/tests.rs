use longshore_core::journal::JournalError;
use longshore_core::journal::file::Frames;
use longshore_core::names::PeerId;
use longshore_core::timers::Deadline;
use longshore_sim::replay::{Journal, replay};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

struct Tested {
    directory: tempfile::TempDir,
    agent: Agent,
    recorder: Recorder,
    now: Time,
}

impl Tested {
    fn new(cap_bytes: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config::new("node", PeerId::new("12D3KooWNode"));
        let journal = JournalConfig { directory: directory.path().join("a/b"), cap_bytes, program: "test".to_owned() };
        let recorder = Recorder::start(&journal, config.clone(), 3).unwrap();
        let mut tested = Self { directory, agent: Agent::new(config, 3, Time::ZERO), recorder, now: Time::ZERO };
        tested.input(Time::ZERO, Input::Recovered { blobs: Vec::new(), partials: Vec::new() });
        tested
    }

    fn input(&mut self, now: Time, input: Input) {
        self.now = now;
        self.recorder.input(now, &input);
        self.agent.handle(now, input);
        while let Some(output) = self.agent.poll_output() {
            self.recorder.output(&output);
        }
        self.recorder.settle(now, &self.agent);
    }

    /// A piece of work that hardly compresses.
    fn work(&mut self, number: u64) {
        use longshore_core::message::{Notice, PieceSum};
        let sums = (0..20_u32).map(|piece| PieceSum {
            piece,
            sum: longshore_core::members::score(
                &number.to_string(),
                &longshore_core::digest::Digest::from_bytes([piece as u8; 32]),
            ),
            author: PeerId::new("12D3KooWOther"),
        });
        let digest = longshore_core::digest::Digest::from_bytes([1; 32]);
        let pieces = longshore_core::message::Have::Also(Vec::new());
        let notice =
            Notice::Have { digest, size: None, pieces, sums: sums.collect(), spine: Vec::new(), private: false };
        let now = self.now + Duration::from_millis(10);
        self.input(now, Input::Notice { peer: PeerId::new("12D3KooWOther"), notice: notice.into() });
    }

    /// Waits until the thread has written this many inputs, or has given up.
    fn wait(&self, inputs: u64) {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while self.recorder.state.inputs() < inputs && !self.recorder.state.stopped() {
            assert!(std::time::Instant::now() < deadline, "only {} inputs written", self.recorder.state.inputs());
            std::thread::yield_now();
        }
    }

    fn files(directory: &std::path::Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory.join("a/b")).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn close(self) -> Vec<Journal> {
        let Self { directory, recorder, .. } = self;
        drop(recorder);
        let files = Self::files(directory.path());
        files.iter().map(|path| Journal::read(&std::fs::read(path).unwrap()).unwrap()).collect()
    }
}

#[test]
fn what_happened_is_in_the_file_when_the_agent_ends() {
    let mut tested = Tested::new(1 << 20);
    while let Some((due, _)) = tested.agent.poll_deadline()
        && due < Time::ZERO + HOUR
    {
        tested.input(due, Input::Tick);
    }
    let inputs = tested.recorder.scribe.inputs();
    let journals = tested.close();
    assert_eq!(journals.len(), 1);
    assert_eq!((journals[0].inputs(), &journals[0].end), (inputs, &Some(End::Closed)));
    let replayed = replay(&journals, |_| {}).unwrap();
    assert_eq!((replayed.inputs, replayed.divergence), (inputs, None));
}

#[test]
fn full_files_are_followed_by_others_that_replay_alone_and_the_oldest_go() {
    let cap = 8 * *FILE_BYTES.start();
    let mut tested = Tested::new(cap);
    let mut inputs = 1;
    while tested.recorder.state.bytes() < 3 * cap {
        tested.work(inputs);
        inputs += 1;
        let agent = &tested.agent;
        tested.recorder.flush(agent);
        tested.wait(inputs);
    }
    assert!(!tested.recorder.state.stopped());
    let journals = tested.close();
    let sizes: u64 = journals.iter().map(|journal| journal.write().unwrap().len() as u64).sum();
    assert!(sizes <= cap && sizes > cap / 2, "{sizes} bytes of {cap}");
    assert!(journals[0].header.number > 0, "the first file is still there");
    assert_eq!(journals.last().unwrap().end, Some(End::Closed));
    for pair in journals.windows(2) {
        assert!(pair[0].is_followed_by(&pair[1]) && pair[0].end == Some(End::Rotated));
    }
    assert_eq!(replay(&journals, |_| {}).unwrap().divergence, None);
    for journal in &journals {
        assert_eq!(replay(std::slice::from_ref(journal), |_| {}).unwrap().divergence, None);
    }
}

#[test]
fn other_files_in_the_directory_are_left_alone() {
    let cap = 8 * *FILE_BYTES.start();
    let mut tested = Tested::new(cap);
    let directory = tested.directory.path().join("a/b");
    for name in ["notes.journal", "0000000000000001.journal", "0000000000000001-000000.journal.keep"] {
        std::fs::write(directory.join(name), vec![0; 1 << 20]).unwrap();
    }
    let old = directory.join("0000000000000001-000000.journal");
    std::fs::write(&old, vec![0; 1 << 20]).unwrap();
    let mut inputs = 1;
    while old.exists() {
        tested.work(inputs);
        inputs += 1;
        assert!(inputs < 10_000, "the oldest journal is still there");
        let agent = &tested.agent;
        tested.recorder.flush(agent);
        tested.wait(inputs);
    }
    let left = Tested::files(tested.directory.path());
    assert_eq!(left.iter().filter(|path| std::fs::metadata(path).unwrap().len() == 1 << 20).count(), 3);
}

#[test]
fn when_files_cannot_be_made_the_recording_stops_and_says_so_and_the_agent_goes_on() {
    let mut tested = Tested::new(8 * *FILE_BYTES.start());
    std::fs::remove_dir_all(tested.directory.path().join("a")).unwrap();
    let mut inputs = 1;
    while !tested.recorder.state.stopped() {
        tested.work(inputs);
        inputs += 1;
        assert!(inputs < 10_000);
        let agent = &tested.agent;
        tested.recorder.flush(agent);
        tested.wait(inputs);
    }
    let reason = tested.recorder.state.reason().unwrap();
    assert!(reason.contains("journal cannot be written"), "{reason}");
    // It notices when it hands over the next batch, and does nothing more.
    tested.work(inputs);
    let agent = &tested.agent;
    tested.recorder.flush(agent);
    tested.work(inputs + 1);
    assert!(tested.recorder.sender.is_none() && tested.recorder.flush_at().is_none());
    assert_eq!(tested.recorder.scribe.pending_bytes(), 0);
}

#[test]
fn a_disk_that_does_not_keep_up_stops_the_recording_instead_of_the_agent() {
    let mut tested = Tested::new(1 << 20);
    // A thread that never takes anything.
    let (sender, stuck) = sync_channel(2);
    let (_finish, finished) = sync_channel::<()>(0);
    tested.recorder.sender = Some(sender);
    tested.recorder.finished = finished;
    let started = std::time::Instant::now();
    for number in 0..5 {
        tested.work(number);
        let agent = &tested.agent;
        tested.recorder.flush(agent);
    }
    assert!(tested.recorder.state.stopped());
    assert!(tested.recorder.state.reason().unwrap().contains("does not keep up"));
    assert!(started.elapsed() < Duration::from_secs(10));
    // What was handed over has no hole: batches follow each other.
    let firsts: Vec<_> = stuck.try_iter().map(|frame| matches!(frame, Frame::Batch(_))).collect();
    assert_eq!(firsts, [true, true]);
}

#[test]
fn the_input_that_an_agent_dies_of_is_the_last_in_its_journal() {
    let mut tested = Tested::new(1 << 20);
    tested.work(1);
    // As the shell does it, up to the moment of the panic.
    tested.recorder.input(tested.now, &Input::Drain);
    let journals = tested.close();
    let records: Vec<_> = journals[0].batches.iter().flat_map(|batch| batch.records()).map(Result::unwrap).collect();
    assert_eq!(records.len(), 3);
    assert_eq!((&records[2].input, records[2].check), (&Input::Drain, None));
    assert!(replay(&journals, |_| {}).unwrap().died);
}

#[test]
fn a_file_is_readable_while_it_is_written_up_to_the_last_second() {
    let mut tested = Tested::new(1 << 20);
    let first = tested.recorder.flush_at().unwrap();
    assert_eq!(first, Time::ZERO + BATCH_AGE);
    let (due, reason) = tested.agent.poll_deadline().unwrap();
    assert!(due > first && matches!(reason, Deadline::Reconcile | Deadline::Sweep));
    let agent = &tested.agent;
    tested.recorder.flush(agent);
    assert_eq!(tested.recorder.flush_at(), None);
    tested.wait(1);
    let files = Tested::files(tested.directory.path());
    let bytes = std::fs::read(&files[0]).unwrap();
    assert_eq!(Journal::read(&bytes).unwrap().inputs(), 1);
    assert!(!matches!(Frames::open(&bytes), Err(JournalError::Truncated { .. })));
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
}
