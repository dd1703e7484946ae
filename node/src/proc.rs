//! What the kernel says about a process.

use std::io;
use std::time::Duration;

/// Bytes of memory that this process has resident; 0 where `/proc` does not say.
#[must_use]
pub fn own_resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// CPU time, user and system, that a process has used.
///
/// # Errors
/// When the process is gone, or its `stat` is not as documented in proc(5).
pub fn cpu_time(process: u32) -> io::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    cpu_ticks(&stat)
        .map(|ticks| Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
        .ok_or_else(|| io::Error::other(format!("/proc/{process}/stat has an unknown form")))
}

/// utime + stime: fields 14 and 15, counted from 1. The second field, the name, may hold spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Most bytes of memory that a process has had resident (`VmHWM`).
///
/// # Errors
/// When the process is gone, or a zombie.
pub fn peak_memory_bytes(process: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|number| number.parse::<u64>().ok());
    kibibytes
        .map(|kibibytes| kibibytes * 1024)
        .ok_or_else(|| io::Error::other(format!("/proc/{process}/status has no VmHWM")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_ticks_are_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "42 (a ) (b) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100 1000 10";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("42 (a"), None);
    }

    #[test]
    fn this_process_has_memory_and_a_peak_that_is_no_smaller() {
        let resident = own_resident_bytes();
        assert!(resident > 100_000);
        assert!(peak_memory_bytes(std::process::id()).unwrap() >= 100_000);
    }
}
