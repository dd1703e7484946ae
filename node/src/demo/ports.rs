//! Free ports of the loopback interface, for processes that are started in a moment.

use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Ports that are tried: below those that the kernel gives to outgoing connections (32768 and up), so that none is taken
/// between the moment when it is found free and the moment when it is used.
const TRIED: std::ops::Range<u16> = 15_000..32_000;

/// `count` ports that nobody listens on.
///
/// # Errors
/// When there are not that many.
pub fn free(count: usize) -> io::Result<Vec<u16>> {
    let tried = u64::from(TRIED.end - TRIED.start);
    // Another demo at the same time should start somewhere else. The hasher's keys are random.
    let start = std::hash::RandomState::new().build_hasher().finish() % tried;
    // All are held until all are found: no port is found twice.
    let mut held = Vec::with_capacity(count);
    for step in 0..tried {
        if held.len() == count {
            break;
        }
        let port = TRIED.start + u16::try_from((start + step) % tried).unwrap_or(0);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push((port, listener));
        }
    }
    if held.len() < count {
        return Err(io::Error::other(format!("only {} of {count} free ports between {TRIED:?}", held.len())));
    }
    Ok(held.into_iter().map(|(port, _)| port).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_distinct_and_can_be_bound() {
        let ports = free(50).unwrap();
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), 50);
        // Others may take one meanwhile, but not most of them.
        let bound = ports.iter().filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, **port)).is_ok()).count();
        assert!(bound > 40, "{bound}");
    }
}
