//! The room a test works in: a private directory, free ports, and the certainty that the parts are there.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

/// Programs that the tests run, with the Debian package of each.
const PARTS: &[(&str, &str)] = &[
    ("docker-registry", "docker-registry"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("skopeo", "skopeo"),
    ("umoci", "umoci"),
    ("setpriv", "util-linux"),
];

/// A statically linked busybox, the only program in the test images.
pub(crate) const BUSYBOX: &str = "/bin/busybox";

/// A private directory and what is missing on this machine, if anything. Declare it first in a test: it goes last.
pub(crate) struct Lab {
    directory: Option<tempfile::TempDir>,
}

impl Lab {
    /// A lab with every real part at hand; `None` after saying why if this machine lacks one.
    ///
    /// # Panics
    /// If a part is missing and `CI=true`: there, a skipped proof is a failure.
    pub(crate) fn open() -> Option<Self> {
        if let Some(reason) = what_is_missing() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "in CI nothing may be skipped: {reason}");
            eprintln!("SKIPPED: {reason}");
            return None;
        }
        Some(Self::without_parts())
    }

    /// A lab for tests that need no real part beside the agent itself.
    pub(crate) fn without_parts() -> Self {
        let directory =
            tempfile::Builder::new().prefix("longshore-real-").tempdir().expect("a temporary directory can be made");
        Self { directory: Some(directory) }
    }

    /// A lab within this one, so that names can be used again.
    pub(crate) fn room(&self, name: &str) -> Self {
        let directory = self.directory(name);
        let directory =
            tempfile::Builder::new().prefix("room-").tempdir_in(directory).expect("the lab can be written to");
        Self { directory: Some(directory) }
    }

    /// A new directory of this name in the lab.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        path
    }

    fn path(&self) -> &Path {
        self.directory.as_ref().expect("the directory is taken only in drop").path()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        unmount_below(self.path());
        let directory = self.directory.take().expect("drop runs once");
        if std::env::var_os("KEEP_LAB").is_some() {
            eprintln!("kept: {}", directory.keep().display());
        }
    }
}

fn what_is_missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("this test starts containerd, which needs root".to_owned());
    }
    let missing = PARTS.iter().find(|(program, _)| find_program(program).is_none());
    let missing = missing.or_else(|| (!Path::new(BUSYBOX).exists()).then_some(&(BUSYBOX, "busybox-static")));
    missing.map(|(program, package)| format!("{program} is not installed; scripts/install-parts.sh installs {package}"))
}

/// Where a program is, on `PATH` or where Debian keeps its daemons.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into(), "/usr/local/sbin".into()]);
    directories.map(|directory| directory.join(name)).find(|candidate| candidate.is_file())
}

/// What a containerd that was killed has left mounted, innermost first.
fn unmount_below(directory: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut points: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    points.retain(|point| Path::new(point).starts_with(directory));
    points.sort_unstable();
    for point in points.into_iter().rev() {
        if let Err(error) = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH) {
            eprintln!("cannot unmount {point}: {error}");
        }
    }
}

/// A port on loopback that is free now, and that no outgoing connection will take.
///
/// Ports below the kernel's ephemeral range (32768 and up) are never taken by a `connect`; each test process starts at
/// a place of its own, so that two rarely probe the same port, and a part that loses the race fails to start, loudly.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 22_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let start = std::process::id().wrapping_mul(97) % u32::from(COUNT);
        let offset = (start + u32::from(step)) % u32::from(COUNT);
        let port = FIRST + u16::try_from(offset).expect("the offset is below COUNT");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on loopback between {FIRST} and {}", FIRST + COUNT);
}
