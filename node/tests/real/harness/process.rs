//! A program that ends when its owner does.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a process gets to end on SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// Lines of each log that are shown when a test panics, and how much of each.
const TAIL_LINES: usize = 40;
const TAIL_COLUMNS: usize = 400;

/// A running program with its output in a file. Stopped when dropped; on a panic its last lines are printed.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program with stdout and stderr appended to `log`.
    ///
    /// Through `setpriv`, so that the kernel ends it should the test process itself be killed. Start processes that
    /// outlive the calling thread from the test's own thread only: the kernel's signal follows the thread.
    pub(crate) fn spawn(name: &str, program: &Path, arguments: &[&str], log: &Path) -> Self {
        Self::spawn_split(name, program, arguments, log, log)
    }

    /// As [`Self::spawn`], with stderr in a file of its own.
    pub(crate) fn spawn_split(name: &str, program: &Path, arguments: &[&str], log: &Path, errors: &Path) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments);
        Self::start(name, command, log, errors)
    }

    /// As [`Self::spawn`], for a command that is more than arguments. The caller brings `setpriv` if it wants it.
    pub(crate) fn spawn_command(name: &str, command: Command, log: &Path) -> Self {
        Self::start(name, command, log, log)
    }

    fn start(name: &str, mut command: Command, log: &Path, errors: &Path) -> Self {
        let open = |path| File::options().create(true).append(true).open(path).expect("a log in the lab can be opened");
        let child = command
            .stdin(Stdio::null())
            .stdout(open(log))
            .stderr(open(errors))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// The process number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has printed.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Panics with its output if it has ended.
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
            panic!("{} has ended ({status}):\n{}", self.name, tail(&self.output()));
        }
    }

    /// Waits until it ends by itself; kills it and panics after `patience`.
    pub(crate) fn wait(&mut self, patience: Duration) -> ExitStatus {
        match self.wait_at_most(patience) {
            Some(status) => status,
            None => {
                self.kill();
                panic!("{} did not end within {patience:?}:\n{}", self.name, tail(&self.output()));
            }
        }
    }

    fn wait_at_most(&mut self, patience: Duration) -> Option<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return Some(status);
            }
            if started.elapsed() >= patience {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and SIGKILL if that does not end it. The status, if it ended by itself.
    pub(crate) fn stop(&mut self) -> Option<ExitStatus> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Some(status);
        }
        self.signal(Signal::TERM);
        let status = self.wait_at_most(GRACE);
        if status.is_none() {
            self.kill();
        }
        status
    }

    /// Sends a signal, for instance STOP and CONT.
    pub(crate) fn signal(&self, signal: Signal) {
        // Fails only if it has ended already.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended_before = matches!(self.child.try_wait(), Ok(Some(_)));
        self.stop();
        if std::thread::panicking() {
            let state = if ended_before { "had ended by itself" } else { "was running" };
            eprintln!("--- {} {state}; its last lines:\n{}", self.name, tail(&self.output()));
        }
    }
}

/// The last lines of an output.
pub(crate) fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    last.iter().map(|line| line.chars().take(TAIL_COLUMNS).collect::<String>()).collect::<Vec<_>>().join("\n")
}

/// What a program that ran to its end has left.
pub(crate) struct Finished {
    /// Whether it ended well.
    pub(crate) success: bool,
    /// Its stdout and stderr.
    pub(crate) output: String,
}

impl Finished {
    /// The output of a program that had to succeed.
    pub(crate) fn expect_success(self, what: &str) -> String {
        assert!(self.success, "{what} failed:\n{}", tail(&self.output));
        self.output
    }

    /// The output of a program that had to fail.
    pub(crate) fn expect_failure(self, what: &str) -> String {
        assert!(!self.success, "{what} succeeded, but must not:\n{}", tail(&self.output));
        self.output
    }
}

/// Runs a program to its end, within a minute, and expects it to succeed.
pub(crate) fn run(program: &str, arguments: &[&str], directory: &Path) -> String {
    let log = tempfile::NamedTempFile::new_in(directory).expect("the lab can be written to");
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory);
    let mut process = Process::spawn_command(program, command, log.path());
    let success = process.wait(Duration::from_secs(60)).success();
    Finished { success, output: process.output() }.expect_success(&format!("{program} {}", arguments.join(" ")))
}
