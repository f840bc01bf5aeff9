//! The two ends of a flow, in an order that both directions share, and the key that the table of flows is asked by.

use crate::{
    address::Address,
    check::sum,
    packet::{Packet, Protocol},
};

/// The two ends of a flow and its protocol, in an order that both directions share.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    low: Address,
    high: Address,
    /// Two ports, the echo's identifier and the protocol, as they lie in memory. One word: the look-up that follows reads
    /// more at a time than a half, and would wait for halves that were written one by one.
    rest: u64,
}

/// Which of a tuple's two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Low,
    High,
}

impl Tuple {
    /// The packet's tuple, and which end of it sent the packet.
    #[inline(always)]
    pub fn of(packet: &Packet) -> (Self, Side) {
        let (source, destination) =
            ((packet.source, packet.source_port), (packet.destination, packet.destination_port));
        let side = if source <= destination { Side::Low } else { Side::High };
        let ((low, low_port), (high, high_port)) = match side {
            Side::Low => (source, destination),
            Side::High => (destination, source),
        };
        let rest = Self::rest([low_port, high_port, packet.echo_id, packet.protocol as u16]);
        (Self { low, high, rest }, side)
    }

    #[inline(always)]
    const fn rest([a, b, c, d]: [u16; 4]) -> u64 {
        let ([a0, a1], [b0, b1], [c0, c1], [d0, d1]) =
            (a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes(), d.to_ne_bytes());
        u64::from_ne_bytes([a0, a1, b0, b1, c0, c1, d0, d1])
    }

    /// The two ports, the echo's identifier and the protocol.
    #[inline(always)]
    const fn halves(&self) -> [u16; 4] {
        let [a, b, c, d, e, f, g, h] = self.rest.to_ne_bytes();
        [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]), u16::from_ne_bytes([e, f]), u16::from_ne_bytes([g, h])]
    }

    pub fn address(&self, side: Side) -> Address {
        match side {
            Side::Low => self.low,
            Side::High => self.high,
        }
    }

    pub fn port(&self, side: Side) -> u16 {
        let [low, high, ..] = self.halves();
        match side {
            Side::Low => low,
            Side::High => high,
        }
    }

    pub fn protocol(&self) -> Option<Protocol> {
        Protocol::from_number(self.protocol_number())
    }

    /// From the bytes that a map holds of it.
    pub fn from_bytes(bytes: &[u8; 40]) -> Self {
        let address = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&bytes[at..at + 16]);
            Address::from_v6(octets)
        };
        let mut rest = [0; 8];
        rest.copy_from_slice(&bytes[32..]);
        Self { low: address(0), high: address(16), rest: u64::from_ne_bytes(rest) }
    }

    #[inline(always)]
    pub const fn protocol_number(&self) -> u8 {
        #[expect(clippy::cast_possible_truncation, reason = "made from a u8")]
        {
            self.halves()[3] as u8
        }
    }

    pub const fn echo_id(&self) -> u16 {
        self.halves()[2]
    }

    /// Both addresses in one word, if they are IPv4.
    #[inline(always)]
    const fn v4_ends(&self) -> Option<u64> {
        if self.low.is_v4() && self.high.is_v4() {
            Some((self.low.v4_word() as u64) << 32 | self.high.v4_word() as u64)
        } else {
            None
        }
    }
}

/// What the table of flows is asked by: 16 bytes, which the kernel hashes for every packet.
///
/// Of IPv4 it is the whole tuple. Of IPv6 the addresses are folded by the node's secret; where two pairs fold to the same,
/// which chance does once in 2^64, their flows of the same ports take turns in one entry. Its word lends a verdict only to the
/// same identities and ports, so that neither gets what the other may.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    ends: u64,
    /// As in the tuple, with [`FlowKey::FOLDED`].
    rest: u64,
}

impl FlowKey {
    /// Beside the protocol, which takes half of what is left for it.
    const FOLDED: u64 = Tuple::rest([0, 0, 0, 0x100]);

    #[inline(always)]
    pub fn of(tuple: &Tuple, seed: u64) -> Self {
        match tuple.v4_ends() {
            Some(ends) => Self { ends, rest: tuple.rest },
            None => Self { ends: fold(seed, tuple.low, tuple.high), rest: tuple.rest | Self::FOLDED },
        }
    }

    /// From the bytes that a map holds of it.
    pub const fn from_bytes(bytes: &[u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *bytes;
        Self { ends: u64::from_ne_bytes([a, b, c, d, e, f, g, h]), rest: u64::from_ne_bytes([i, j, k, l, m, n, o, p]) }
    }

    pub fn protocol(&self) -> Option<Protocol> {
        self.tuple(Address::NONE, Address::NONE).protocol()
    }

    #[inline(always)]
    pub const fn words(&self) -> [u64; 2] {
        [self.ends, self.rest]
    }

    /// The tuple that it was made of, whose addresses its entry holds.
    #[inline(always)]
    pub const fn tuple(&self, low: Address, high: Address) -> Tuple {
        Tuple { low, high, rest: self.rest & !Self::FOLDED }
    }
}

/// Two addresses in one word. Addresses differ in their last bytes most, which so are the lower bits of what is summed up.
#[inline(always)]
fn fold(seed: u64, low: Address, high: Address) -> u64 {
    let ([a, b], [c, d]) = (low.words(), high.words());
    sum(seed, [a, b, c, d].map(u64::from_be))
}

impl Side {
    pub const fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

crate::border!(Tuple = 40, FlowKey = 16);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Fragment, Kind};
    use std::{collections::HashSet, vec::Vec};

    #[test]
    fn no_two_of_many_pairs_of_neighbours_share_a_key() {
        let address = |node: u8, instance: u8| {
            Address::from_v6([0xfd, 0x6e, 0x65, 0x74, 0, 0, 0, node, 0, 0, 0, 0, 0, 0, 0, instance])
        };
        let all: Vec<Address> = (0..25).flat_map(|node| (0..40).map(move |i| address(node, i))).collect();
        let pairs = all.iter().flat_map(|low| all.iter().map(|high| Tuple { low: *low, high: *high, rest: 0 }));
        let keys: HashSet<FlowKey> = pairs.map(|tuple| FlowKey::of(&tuple, 0x5eed)).collect();
        assert_eq!(keys.len(), all.len() * all.len());
    }

    #[test]
    fn a_key_and_the_addresses_beside_it_are_the_tuple() {
        let v4 = [Address::from_v4([10, 255, 1, 2]), Address::from_v4([10, 255, 2, 3])];
        let v6 = [Address::from_v6([0xfd; 16]), Address::from_v6([1; 16])];
        for [low, high] in [v4, v6, [v4[0], v6[0]]] {
            let tuple = Tuple { low, high, rest: Tuple::rest([40_000, 8_080, 0, 6]) };
            let key = FlowKey::of(&tuple, 7);
            assert_eq!((key.tuple(low, high), key.protocol()), (tuple, Some(Protocol::Tcp)));
        }
    }

    #[test]
    fn both_directions_of_a_flow_share_a_tuple() {
        let there = Packet {
            source: Address::from_v4([10, 255, 1, 2]),
            destination: Address::from_v4([10, 255, 2, 3]),
            protocol: Protocol::Tcp,
            kind: Kind::Opening,
            source_port: 40000,
            destination_port: 8080,
            echo_id: 0,
            transport: 34,
            header: 20,
            length: 20,
            fragment: Fragment::WHOLE,
        };
        let back = Packet {
            source: there.destination,
            destination: there.source,
            source_port: there.destination_port,
            destination_port: there.source_port,
            ..there
        };
        let (tuple, side) = Tuple::of(&there);
        assert_eq!(Tuple::of(&back), (tuple, side.other()));
        assert_eq!((tuple.address(side), tuple.port(side)), (there.source, there.source_port));
    }
}
