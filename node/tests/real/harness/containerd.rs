//! A containerd of one's own: root, state and socket in the lab, driven with ctr.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::lab::{Lab, find_program};
use super::process::{Finished, Process};
use super::{PATIENCE, wait_for};

/// Longest that a pull may take here; images are some tens of MiB.
const PULL_PATIENCE: Duration = Duration::from_secs(120);

/// A running containerd.
pub(crate) struct Containerd {
    process: Process,
    directory: PathBuf,
    socket: PathBuf,
}

impl Containerd {
    /// Starts one and waits until its socket answers.
    pub(crate) fn start(lab: &Lab, name: &str) -> Self {
        let directory = lab.directory(name);
        let socket = directory.join("containerd.sock");
        let config = directory.join("config.toml");
        std::fs::write(&config, configuration(&directory, &socket)).expect("the lab can be written to");
        let program = find_program("containerd").expect("the lab has checked the parts");
        let config = config.to_str().expect("temporary paths are text");
        let process = Process::spawn(&format!("containerd {name}"), &program, &["-c", config], &directory.join("log"));
        let mut containerd = Self { process, directory, socket };
        wait_for("containerd to answer", PATIENCE, || {
            containerd.process.assert_running();
            (containerd.socket.exists() && containerd.ctr(&["version"]).success).then_some(())
        });
        containerd
    }

    /// Runs `ctr` against this containerd, to its end.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> Finished {
        self.start_ctr(arguments).wait()
    }

    fn start_ctr(&self, arguments: &[&str]) -> Ctr {
        let log = tempfile::Builder::new()
            .prefix("ctr-")
            .tempfile_in(&self.directory)
            .expect("the lab can be written to")
            .into_temp_path();
        let mut command = Command::new("ctr");
        command.arg("-a").arg(&self.socket).args(arguments);
        let process = Process::spawn_command(&format!("ctr {}", arguments.join(" ")), command, &log);
        Ctr { process, _log: log }
    }

    /// Starts pulling an image with `DIR/HOST/hosts.toml`; `user` is `name:password`.
    pub(crate) fn start_pull(&self, image: &str, hosts: &HostsDir, user: Option<&str>) -> Ctr {
        let hosts = hosts.path.to_str().expect("temporary paths are text");
        let mut arguments = vec!["images", "pull", "--hosts-dir", hosts];
        if let Some(user) = user {
            arguments.extend(["--user", user]);
        }
        arguments.push(image);
        self.start_ctr(&arguments)
    }

    /// Pulls an image and waits for the result.
    pub(crate) fn pull(&self, image: &str, hosts: &HostsDir, user: Option<&str>) -> Finished {
        self.start_pull(image, hosts, user).wait()
    }

    /// Runs a container from a pulled image to its end and returns what it printed.
    pub(crate) fn run(&self, image: &str, container: &str, command: &[&str]) -> String {
        let fifos = self.directory.join("fifos");
        std::fs::create_dir_all(&fifos).expect("the lab can be written to");
        let fifos = fifos.to_str().expect("temporary paths are text");
        let runc = self.directory.join("runc");
        let runc = runc.to_str().expect("temporary paths are text");
        let mut arguments =
            vec!["run", "--rm", "--net-host", "--fifo-dir", fifos, "--runc-root", runc, image, container];
        arguments.extend(command);
        self.ctr(&arguments).expect_success(&format!("container {container}"))
    }

    /// Digests of everything in its content store.
    pub(crate) fn content(&self) -> Vec<String> {
        let output = self.ctr(&["content", "ls", "-q"]).expect_success("ctr content ls");
        output.lines().map(str::to_owned).collect()
    }
}

/// A `ctr` on its way.
pub(crate) struct Ctr {
    process: Process,
    _log: tempfile::TempPath,
}

impl Ctr {
    /// Waits until it ends.
    pub(crate) fn wait(mut self) -> Finished {
        let success = self.process.wait(PULL_PATIENCE).success();
        Finished { success, output: self.process.output() }
    }
}

fn configuration(directory: &Path, socket: &Path) -> String {
    // CRI wants a network and /etc/containerd; the others want kernel modules or look for them at every start.
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.tracing",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{opt}"
"#,
        root = directory.join("root").display(),
        state = directory.join("state").display(),
        socket = socket.display(),
        opt = directory.join("opt").display(),
    )
}

/// A directory as containerd's `--hosts-dir` takes it.
pub(crate) struct HostsDir {
    path: PathBuf,
}

impl HostsDir {
    /// Pulls from the registry at `registry_port` ask the mirror first, then the registry itself.
    pub(crate) fn new(lab: &Lab, name: &str, registry_port: u16, mirror_port: u16) -> Self {
        let registry = format!("127.0.0.1:{registry_port}");
        let path = lab.directory(name);
        std::fs::create_dir_all(path.join(&registry)).expect("the lab can be written to");
        let text = format!(
            "server = \"http://{registry}\"\n\n\
             [host.\"http://127.0.0.1:{mirror_port}\"]\n  \
             capabilities = [\"pull\", \"resolve\"]\n  \
             dial_timeout = \"200ms\"\n"
        );
        std::fs::write(path.join(&registry).join("hosts.toml"), text).expect("the lab can be written to");
        Self { path }
    }

    /// Pulls go straight to the registry.
    pub(crate) fn direct(lab: &Lab, name: &str, registry_port: u16) -> Self {
        let registry = format!("127.0.0.1:{registry_port}");
        let path = lab.directory(name);
        std::fs::create_dir_all(path.join(&registry)).expect("the lab can be written to");
        let text = format!("server = \"http://{registry}\"\n");
        std::fs::write(path.join(&registry).join("hosts.toml"), text).expect("the lab can be written to");
        Self { path }
    }
}
