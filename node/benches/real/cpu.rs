//! CPU time of a process, as the kernel counts it.

/// The kernel's clock ticks per second as /proc shows them (USER_HZ, 100 on every Linux that Rust supports).
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of CPU, user and system, that a process with all its threads has used since it started.
pub(crate) fn seconds(pid: u32) -> f64 {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
    // The second field, the name in parentheses, may hold anything; utime and stime are fields 14 and 15.
    let after_name = stat.rsplit_once(')').expect("the name is in parentheses").1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().expect("ticks are a number")).sum();
    ticks / TICKS_PER_SECOND
}

/// What one measurement used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Bytes moved.
    pub(crate) bytes: f64,
    /// Seconds on the clock.
    pub(crate) seconds: f64,
    /// Seconds of CPU.
    pub(crate) cpu_seconds: f64,
}

impl Cost {
    /// Measures what `work`, which moves `bytes`, costs these processes.
    pub(crate) fn of(pids: &[u32], bytes: u64, work: impl FnOnce()) -> Self {
        let used = || pids.iter().copied().map(seconds).sum::<f64>();
        let (before, started) = (used(), std::time::Instant::now());
        work();
        Self { bytes: bytes as f64, seconds: started.elapsed().as_secs_f64(), cpu_seconds: used() - before }
    }

    /// MB (10^6 bytes) for each second of CPU.
    pub(crate) fn megabytes_per_cpu_second(self) -> f64 {
        self.bytes / 1e6 / self.cpu_seconds
    }

    /// Seconds of CPU for each GB (10^9 bytes).
    pub(crate) fn cpu_seconds_per_gigabyte(self) -> f64 {
        self.cpu_seconds / (self.bytes / 1e9)
    }

    /// MB (10^6 bytes) for each second on the clock.
    pub(crate) fn megabytes_per_second(self) -> f64 {
        self.bytes / 1e6 / self.seconds
    }
}
