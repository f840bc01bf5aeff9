//! The two ends of a flow, in an order that both directions share.

use crate::{
    address::Address,
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

    #[inline(always)]
    pub(crate) fn words(&self) -> [u64; 5] {
        let [a, b] = self.low.words();
        let [c, d] = self.high.words();
        let [low_port, high_port, echo_id, protocol] = self.halves().map(u64::from);
        [a, b, c, d, low_port << 48 | high_port << 32 | echo_id << 16 | protocol]
    }
}

impl Side {
    pub const fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

crate::border!(Tuple = 40);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Fragment, Kind};

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
