//! A transport that does not dial its own node.
//!
//! A node that listens on all interfaces tells others its loopback address, too, in its provider records. Whoever dials
//! that among the peer's other addresses reaches itself before it reaches the peer, and libp2p gives up the whole dial.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Transport};

/// Refuses to dial the addresses that the inner transport listens on: to the dial they are bad addresses among others.
#[derive(Debug)]
pub(super) struct NotMyself<Inner> {
    inner: Inner,
    own: BTreeSet<Multiaddr>,
}

impl<Inner> NotMyself<Inner> {
    pub(super) fn new(inner: Inner) -> Self {
        Self { inner, own: BTreeSet::new() }
    }

    fn is_own(&self, address: &Multiaddr) -> bool {
        let plain = address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect();
        self.own.contains(&plain)
    }
}

impl<Inner: Transport + Unpin> Transport for NotMyself<Inner> {
    type Output = Inner::Output;
    type Error = Inner::Error;
    type ListenerUpgrade = Inner::ListenerUpgrade;
    type Dial = Inner::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        if self.is_own(&address) {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.inner.dial(address, options)
    }

    fn poll(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let this = self.get_mut();
        let event = Pin::new(&mut this.inner).poll(context);
        match &event {
            Poll::Ready(TransportEvent::NewAddress { listen_addr, .. }) => {
                this.own.insert(listen_addr.clone());
            }
            Poll::Ready(TransportEvent::AddressExpired { listen_addr, .. }) => {
                this.own.remove(listen_addr);
            }
            _ => {}
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;
    use libp2p::core::Endpoint;
    use libp2p::core::transport::{MemoryTransport, PortUse};

    #[tokio::test]
    async fn only_addresses_that_this_node_listens_on_are_refused() {
        let mut transport = NotMyself::new(MemoryTransport::default());
        transport.listen_on(ListenerId::next(), "/memory/0".parse().unwrap()).unwrap();
        let mut boxed = futures::stream::poll_fn(|context| Pin::new(&mut transport).poll(context).map(Some));
        let own = match boxed.next().await {
            Some(TransportEvent::NewAddress { listen_addr, .. }) => listen_addr,
            other => panic!("{other:?}"),
        };
        let mut other = MemoryTransport::default();
        other.listen_on(ListenerId::next(), "/memory/77123".parse().unwrap()).unwrap();
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        for address in [own.clone(), own.with(Protocol::P2p(libp2p::PeerId::random()))] {
            let refused = transport.dial(address.clone(), options).err();
            assert!(matches!(refused, Some(TransportError::MultiaddrNotSupported(found)) if found == address));
        }
        assert!(transport.dial("/memory/77123".parse().unwrap(), options).is_ok());
    }
}
