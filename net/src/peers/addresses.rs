//! Where peers can be reached, as far as somebody has told us.

use std::collections::{HashMap, VecDeque};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

/// Addresses kept for one peer: libp2p tries eight at a time.
pub(super) const MAX_ADDRESSES_PER_PEER: usize = 8;
/// Peers kept: twice the largest cluster in the design, so that a rolling restart with new identities fits.
pub(super) const MAX_PEERS: usize = 20_000;

/// Addresses by peer; the peers that were not mentioned for longest are forgotten first.
#[derive(Debug, Default)]
pub(super) struct AddressBook {
    /// Newest first.
    addresses: HashMap<PeerId, VecDeque<Multiaddr>>,
    /// Peers in the order in which they were first mentioned.
    order: VecDeque<PeerId>,
}

impl AddressBook {
    /// Remembers addresses, without a trailing `/p2p/...`; one that names another peer is not this peer's.
    pub(super) fn learn(&mut self, peer: PeerId, addresses: impl IntoIterator<Item = Multiaddr>) {
        for address in addresses {
            let Some(address) = without_peer(peer, address) else { continue };
            if !self.addresses.contains_key(&peer) {
                self.order.push_back(peer);
                self.make_room();
            }
            let known = self.addresses.entry(peer).or_default();
            known.retain(|other| *other != address);
            known.push_front(address);
            known.truncate(MAX_ADDRESSES_PER_PEER);
        }
    }

    pub(super) fn of(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.addresses.get(peer).map(|known| known.iter().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn forget(&mut self, peer: &PeerId, address: &Multiaddr) {
        let Some(address) = without_peer(*peer, address.clone()) else { return };
        if let Some(known) = self.addresses.get_mut(peer) {
            known.retain(|other| *other != address);
        }
    }

    fn make_room(&mut self) {
        if self.order.len() > MAX_PEERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.addresses.remove(&oldest);
        }
    }
}

/// The address without the peer at its end; `None` if it is empty, or leads to another peer.
pub(super) fn without_peer(peer: PeerId, mut address: Multiaddr) -> Option<Multiaddr> {
    if let Some(Protocol::P2p(named)) = address.iter().last() {
        if named != peer {
            return None;
        }
        address.pop();
    }
    (!address.is_empty()).then_some(address)
}

/// Whether only programs on the same machine can use this address.
pub(super) fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn an_address_is_kept_once_with_or_without_its_peer() {
        let peer = PeerId::random();
        let mut book = AddressBook::default();
        book.learn(peer, [address(1), address(1).with(Protocol::P2p(peer)), address(2)]);
        assert_eq!(book.of(&peer), [address(2), address(1)]);
    }

    #[test]
    fn an_address_of_another_peer_is_not_taken() {
        let peer = PeerId::random();
        let mut book = AddressBook::default();
        book.learn(peer, [address(1).with(Protocol::P2p(PeerId::random())), Multiaddr::empty()]);
        assert_eq!(book.of(&peer), Vec::<Multiaddr>::new());
    }

    #[test]
    fn the_newest_addresses_of_a_peer_are_kept() {
        let peer = PeerId::random();
        let mut book = AddressBook::default();
        book.learn(peer, (0..20).map(address));
        let newest: Vec<_> = (12..20).rev().map(address).collect();
        assert_eq!(book.of(&peer), newest);
        book.forget(&peer, &address(19).with(Protocol::P2p(peer)));
        assert_eq!(book.of(&peer), newest[1..]);
    }

    #[test]
    fn peers_beyond_the_bound_push_out_the_oldest() {
        let mut book = AddressBook::default();
        let peers: Vec<_> = (0..=MAX_PEERS).map(|_| PeerId::random()).collect();
        for peer in &peers {
            book.learn(*peer, [address(1)]);
        }
        assert!(book.of(&peers[0]).is_empty());
        assert_eq!(book.of(&peers[1]).len(), 1);
        assert_eq!((book.addresses.len(), book.order.len()), (MAX_PEERS, MAX_PEERS));
    }
}
