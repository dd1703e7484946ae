//! The way to peers: TCP, an authenticated encrypted channel, and yamux to carry many streams.

use std::io;
use std::time::Duration;

use futures::future::{BoxFuture, Either};
use futures::{AsyncRead, AsyncWrite, FutureExt as _, TryFutureExt as _};
use libp2p::core::UpgradeInfo;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, Version};
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport as _, dns, noise, tcp, tls, yamux};
use serde::{Deserialize, Serialize};

/// Streams of one connection that may be open at a time. One more breaks the connection, so this is twice what the core
/// admits from all peers together.
const MAX_STREAMS_PER_CONNECTION: usize = 1024;

/// The encrypted channel that is asked for first. The other one is accepted, and fallen back to.
///
/// Noise is the default. `examples/piece_bench` shows no gain from TLS (noise 425, TLS 400 MB per CPU second for both ends
/// with hashing and files, 1 MiB pieces on an EPYC): libp2p's TLS chooses ChaCha20-Poly1305 as well, and a seventh of the
/// work is all that either spends on it. Noise shakes hands for less, and it is what Gantry speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// Noise XX with ChaCha20-Poly1305.
    #[default]
    Noise,
    /// TLS 1.3 with self-signed certificates that carry the peer's identity.
    Tls,
}

/// A transport that yields authenticated, multiplexed connections.
pub type PeerTransport = Boxed<(PeerId, StreamMuxerBox)>;

/// The transport of a real node. `handshake_timeout` limits dialing and the handshakes together.
///
/// # Errors
/// When no certificate can be made of the key.
pub fn tcp(keypair: &Keypair, encryption: Encryption, handshake_timeout: Duration) -> io::Result<PeerTransport> {
    let tcp = || tcp::tokio::Transport::new(tcp::Config::new().nodelay(true));
    // Without a readable resolver configuration names cannot be resolved; addresses that are numbers still work.
    let transport = match dns::tokio::Transport::system(tcp()) {
        Ok(transport) => transport.map(|stream, _| stream).boxed(),
        Err(error) => {
            tracing::warn!(%error, "cannot read the resolver's configuration; peers are reached by IP address only");
            tcp().map(|stream, _| stream).boxed()
        }
    };
    let security = Security::new(keypair, encryption)?;
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(MAX_STREAMS_PER_CONNECTION);
    Ok(transport.upgrade(Version::V1Lazy).authenticate(security).multiplex(muxer).timeout(handshake_timeout).boxed())
}

/// Negotiates one of the two channels, the preferred one first.
#[derive(Clone)]
pub(super) struct Security {
    preferred: Encryption,
    noise: noise::Config,
    tls: tls::Config,
}

impl Security {
    pub(super) fn new(keypair: &Keypair, preferred: Encryption) -> io::Result<Self> {
        Ok(Self {
            preferred,
            noise: noise::Config::new(keypair).map_err(io::Error::other)?,
            tls: tls::Config::new(keypair).map_err(io::Error::other)?,
        })
    }
}

/// A channel and its name in negotiation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel(Encryption);

impl AsRef<str> for Channel {
    fn as_ref(&self) -> &str {
        match self.0 {
            Encryption::Noise => "/noise",
            Encryption::Tls => "/tls/1.0.0",
        }
    }
}

impl UpgradeInfo for Security {
    type Info = Channel;
    type InfoIter = std::array::IntoIter<Channel, 2>;

    fn protocol_info(&self) -> Self::InfoIter {
        let other = match self.preferred {
            Encryption::Noise => Encryption::Tls,
            Encryption::Tls => Encryption::Noise,
        };
        [Channel(self.preferred), Channel(other)].into_iter()
    }
}

type Secured<Socket> = Either<tls::TlsStream<Socket>, noise::Output<Socket>>;

impl<Socket> InboundConnectionUpgrade<Socket> for Security
where
    Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, Secured<Socket>);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Output>>;

    fn upgrade_inbound(self, socket: Socket, channel: Channel) -> Self::Future {
        let name = channel.as_ref().to_owned();
        match channel.0 {
            Encryption::Tls => {
                <tls::Config as InboundConnectionUpgrade<Socket>>::upgrade_inbound(self.tls, socket, "/tls/1.0.0")
                    .map_ok(|(peer, stream)| (peer, Either::Left(stream)))
                    .map_err(move |error| io::Error::other(format!("{name}: {error}")))
                    .boxed()
            }
            Encryption::Noise => self
                .noise
                .upgrade_inbound(socket, "/noise")
                .map_ok(|(peer, stream)| (peer, Either::Right(stream)))
                .map_err(move |error| io::Error::other(format!("{name}: {error}")))
                .boxed(),
        }
    }
}

impl<Socket> OutboundConnectionUpgrade<Socket> for Security
where
    Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, Secured<Socket>);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Output>>;

    fn upgrade_outbound(self, socket: Socket, channel: Channel) -> Self::Future {
        let name = channel.as_ref().to_owned();
        match channel.0 {
            Encryption::Tls => self
                .tls
                .upgrade_outbound(socket, "/tls/1.0.0")
                .map_ok(|(peer, stream)| (peer, Either::Left(stream)))
                .map_err(move |error| io::Error::other(format!("{name}: {error}")))
                .boxed(),
            Encryption::Noise => self
                .noise
                .upgrade_outbound(socket, "/noise")
                .map_ok(|(peer, stream)| (peer, Either::Right(stream)))
                .map_err(move |error| io::Error::other(format!("{name}: {error}")))
                .boxed(),
        }
    }
}
