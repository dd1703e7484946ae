//! The table of keys: every key's name, type, default and description, in one place.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::kinds::{
    AuthCheck, Authorization, ByteSize, Count, Encryption, LogFilter, LogFormat, Member, RegistryHost, Scope, Setting,
};
use super::raw::{Complaint, Raw};
use super::registries::Registries;

/// One key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// What it means, in lines.
    pub doc: &'static [&'static str],
    /// What an operator is told to write.
    pub expected: &'static str,
    /// What stands for the value in `--help`.
    pub placeholder: &'static str,
    /// Reads a value into the settings.
    pub(super) set: fn(&mut Settings, &Raw) -> Result<(), Vec<Complaint>>,
    /// The value as TOML; `None` if it is not set.
    pub(super) show: fn(&Settings) -> Option<toml::Value>,
}

impl Key {
    /// The name of its flag, dashes included.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }

    /// The name of its environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{}{}", super::ENVIRONMENT_PREFIX, self.name.to_ascii_uppercase())
    }

    /// Its description as one paragraph.
    #[must_use]
    pub fn paragraph(&self) -> String {
        self.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }

    /// Its default as TOML, if it has one.
    #[must_use]
    pub fn default_value(&self) -> Option<toml::Value> {
        (self.show)(&Settings::default())
    }
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr;)*) => {
        /// Every key with its effective value.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Settings { $($(#[doc = $doc])+ pub $name: $type,)* }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        static KEYS: &[Key] = &[$(Key {
            name: stringify!($name),
            doc: &[$($doc),+],
            expected: <$type as Setting>::EXPECTED,
            placeholder: <$type as Setting>::PLACEHOLDER,
            set: |settings, raw| {
                settings.$name = <$type as Setting>::read(raw)?;
                Ok(())
            },
            show: |settings| settings.$name.show(),
        },)*];
    };
}

/// Every key, in the order in which they are shown.
#[must_use]
pub fn keys() -> &'static [Key] {
    KEYS
}

settings! {
    /// Name of this node, as rendezvous hashing and the logs use it. Not set: the host's name.
    node_name: Option<String> = None;
    /// Zone of this node; neighbours are chosen from it first.
    zone: Option<String> = None;
    /// Directory of the blobs and of the identity. Made if it is missing.
    data_dir: PathBuf = PathBuf::from("/var/lib/longshore");
    /// File of the node's Ed25519 identity. Made if it is missing. Not set: DATA_DIR/identity.
    identity_file: Option<PathBuf> = None;
    /// Where containerd reaches the mirror. Has to be loopback: the mirror trusts its clients.
    mirror_listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 5000));
    /// Let mirror_listen be an address that others can reach. They can then read every image on this node.
    mirror_allow_non_loopback: bool = false;
    /// Where other agents reach this one.
    peer_listen: Vec<Multiaddr> = vec![Multiaddr::from(Ipv4Addr::UNSPECIFIED).with(Protocol::Tcp(4001))];
    /// Addresses to tell other agents instead of those that peer_listen resolves to.
    peer_advertise: Vec<Multiaddr> = Vec::new();
    /// Where /metrics, /livez, /readyz and /status are served. Empty: nowhere.
    status_listen: Option<SocketAddr> = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9095)));
    /// The agents of the cluster; this node's own address may be among them.
    members: Vec<Member> = Vec::new();
    /// File with the agents of the cluster, read again when it changes. Instead of members.
    members_file: Option<PathBuf> = None;
    /// How registries are reached, and with which credential of this node's own. Others: https, anonymously.
    registries: Registries = Registries::default();
    /// Files (PEM) of certificate authorities that registries may use beside the system's.
    registry_ca_files: Vec<PathBuf> = Vec::new();
    /// Registry of requests that do not say which one they mean (no ns parameter). Not set: such requests get a 404.
    default_registry: Option<RegistryHost> = None;
    /// Registries that may be mirrored; a request for any other gets a 404. Peers can send this node to these only. Empty:
    /// all may.
    registry_allowlist: Vec<RegistryHost> = Vec::new();
    /// Most bytes of blobs to keep; the least recently used go first. Not set: no limit.
    store_cap: Option<ByteSize> = None;
    /// Encryption between agents; the same on all of them.
    peer_encryption: Encryption = Encryption::Noise;
    /// Whether the registry is asked with containerd's credential before a private blob is served to it.
    auth_check: AuthCheck = AuthCheck::Off;
    /// What to do with requests of peers that are no members: count and serve them, or reject them.
    authorization: Authorization = Authorization::Observe;
    /// Whom rendezvous hashing ranks: all members, or those of this node's zone.
    scope: Scope = Scope::Cluster;
    /// How many of the best-ranked nodes are asked who has a blob.
    probe_width: Count = Count(3);
    /// Longest a call to a peer may take, dial included.
    call_timeout: Duration = Duration::from_secs(2);
    /// Longest an inbound stream may take until its request is there.
    handshake_timeout: Duration = Duration::from_secs(5);
    /// containerd gets headers or a 404 after this long. It gives up on its own after 30s.
    header_timeout: Duration = Duration::from_secs(20);
    /// A body without a new byte is cut short after this long, or four times as long (at most 4m) while its registry fails or others come.
    body_timeout: Duration = Duration::from_secs(30);
    /// A transfer without a new byte for this long has failed.
    no_progress_timeout: Duration = Duration::from_secs(300);
    /// How often what is announced is compared with what is there.
    reconcile_interval: Duration = Duration::from_secs(60);
    /// Fetch the layers of an image before containerd asks for them, in the order of its manifest, 64 MiB or one at a time.
    prefetch: bool = true;
    /// Most connections of containerd at a time; one more is answered with 503.
    max_mirror_connections: Count = Count(4096);
    /// Most connections with other agents at a time, both ways together.
    max_peer_connections: Count = Count(1000);
    /// Most inbound request streams at a time; one more is reset.
    max_streams: Count = Count(512);
    /// Most blobs that are transferred at a time, and as many again that containerd waits for; the others wait.
    max_running_flights: Count = Count(64);
    /// Most blobs that are fetched for peers or ahead of time; one more is declined.
    max_admitted_flights: Count = Count(64);
    /// Most pieces that are sent to peers at a time; up to sixteen times as many where peers are far away.
    max_uploads: Count = Count(3);
    /// Most pieces that are fetched from peers at a time, for one blob; up to sixteen times as many where peers are far away.
    max_downloads: Count = Count(4);
    /// Most requests of this node at registries at a time.
    max_origin_fetches: Count = Count(6);
    /// Most runs of pieces (about 1 MiB each, more where the registry is far away) that are fetched from it at a time, for one blob, in the cluster.
    max_assignments: Count = Count(16);
    /// Longest a stopping agent waits for what it is serving.
    drain_timeout: Duration = Duration::from_secs(25);
    /// Directory in which to record everything that happens to the agent, for `longshore replay`. Not set: nothing is recorded.
    journal_dir: Option<PathBuf> = None;
    /// Most bytes of recordings to keep in journal_dir; the oldest go first.
    journal_cap: ByteSize = ByteSize(256 << 20);
    /// Form of the log on standard error.
    log_format: LogFormat = LogFormat::Text;
    /// What the log shows.
    log_level: LogFilter = LogFilter("info".to_owned());
}
