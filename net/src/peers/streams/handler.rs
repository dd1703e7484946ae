//! One connection's part in opening and accepting streams.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use libp2p::StreamProtocol;
use libp2p::core::UpgradeInfo;
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, Stream, StreamUpgradeError, SubstreamProtocol};
use longshore_core::message::Protocol;

use super::{Open, OpenError};
use crate::wire::protocol_name;

type Reply = tokio::sync::oneshot::Sender<Result<Stream, OpenError>>;

/// A stream that the remote side opened.
#[derive(Debug)]
pub(in crate::peers) struct Accepted {
    pub(super) protocol: Protocol,
    pub(super) stream: Stream,
}

#[derive(Default)]
pub(in crate::peers) struct Handler {
    wishes: VecDeque<Open>,
    accepted: VecDeque<Accepted>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Accepted;
    type InboundProtocol = Speaks;
    type OutboundProtocol = Speaks;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Speaks> {
        SubstreamProtocol::new(Speaks(&[Protocol::Coord, Protocol::Swarm]), ())
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Speaks, Reply, Accepted>> {
        if let Some(accepted) = self.accepted.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(accepted));
        }
        while let Some(Open { protocol, reply }) = self.wishes.pop_front() {
            if reply.is_closed() {
                continue;
            }
            let speaks = match protocol {
                Protocol::Coord => Speaks(&[Protocol::Coord]),
                Protocol::Swarm => Speaks(&[Protocol::Swarm]),
            };
            let protocol = SubstreamProtocol::new(speaks, reply);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, wish: Open) {
        self.wishes.push_back(wish);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Speaks, Speaks, (), Reply>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (protocol, stream), ..
            }) => {
                self.accepted.push_back(Accepted { protocol, stream });
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (_, stream),
                info: reply,
            }) => {
                // If nobody waits for it any more, the stream is dropped, which resets it.
                let _ = reply.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: reply, error }) => {
                let problem = match error {
                    StreamUpgradeError::Timeout => "the peer did not answer".to_owned(),
                    StreamUpgradeError::NegotiationFailed => "the peer does not speak the protocol".to_owned(),
                    StreamUpgradeError::Io(error) => error.to_string(),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _ = reply.send(Err(OpenError::Broken(problem)));
            }
            _ => {}
        }
    }
}

/// Negotiates one of some protocols, and leaves the stream as it is.
#[derive(Clone, Copy, Debug)]
pub(in crate::peers) struct Speaks(&'static [Protocol]);

/// A protocol with its name, as negotiation wants it.
#[derive(Clone, Debug)]
pub(in crate::peers) struct Named(Protocol, StreamProtocol);

impl AsRef<str> for Named {
    fn as_ref(&self) -> &str {
        self.1.as_ref()
    }
}

impl UpgradeInfo for Speaks {
    type Info = Named;
    type InfoIter = std::iter::Map<std::slice::Iter<'static, Protocol>, fn(&Protocol) -> Named>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.iter().map(|protocol| Named(*protocol, StreamProtocol::new(protocol_name(*protocol))))
    }
}

impl libp2p::core::InboundUpgrade<Stream> for Speaks {
    type Output = (Protocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, Named(protocol, _): Named) -> Self::Future {
        ready(Ok((protocol, stream)))
    }
}

impl libp2p::core::OutboundUpgrade<Stream> for Speaks {
    type Output = (Protocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, Named(protocol, _): Named) -> Self::Future {
        ready(Ok((protocol, stream)))
    }
}
