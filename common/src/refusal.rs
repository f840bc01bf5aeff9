//! What an endpoint is told about a packet of its own that was refused: a reset, or an ICMP error that quotes it.
//!
//! Pure: from the refused frame to the headers of the answer. Nothing is answered that could be an answer itself, and no
//! part of a datagram but its first.

use crate::{
    address::{Address, GATEWAY_V4, GATEWAY_V6},
    packet::{Bytes, ETHERNET_LENGTH, Family, IPV4_LENGTH, Kind, Packet, Protocol},
    verdict::DropReason,
};

pub const TCP_LENGTH: usize = 20;
pub const ICMP_LENGTH: usize = 8;
/// How much of the refused packet's transport an error quotes.
const QUOTED_TRANSPORT: usize = 8;

/// How an endpoint is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    pub family: Family,
    pub packet: &'a Packet,
    pub form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A TCP reset in the name of the other end.
    Reset,
    /// An ICMP error.
    Error,
}

impl<'a> Refusal<'a> {
    /// What is to be said about a refused packet, if anything.
    #[inline(always)]
    pub fn of(packet: &'a Packet, reason: DropReason) -> Option<Self> {
        let family = if packet.source.is_v4() { Family::V4 } else { Family::V6 };
        let form = match (packet.kind, packet.protocol) {
            (Kind::Reset | Kind::Error | Kind::Tail, _) => return None,
            (Kind::Reply, Protocol::Icmp) => return None,
            (_, Protocol::Tcp) if reason != DropReason::TooBig => Form::Reset,
            (_, _) => Form::Error,
        };
        Some(Self { family, packet, form })
    }

    /// How much of the refused packet, from its IP header on, an error quotes.
    #[inline(always)]
    pub fn quoted(&self) -> usize {
        usize::from(self.packet.transport) + QUOTED_TRANSPORT - ETHERNET_LENGTH
    }

    /// The IP header of the answer, from the refused packet's destination to its source. Errors about the way, and those
    /// about addresses that nobody has, come from the gateway.
    #[inline(always)]
    fn source(&self, reason: DropReason) -> Address {
        match (reason, self.family) {
            (DropReason::TooBig, Family::V4) => Address::from_v4(GATEWAY_V4.octets()),
            (DropReason::TooBig, Family::V6) => Address::from_v6(GATEWAY_V6.octets()),
            (_, _) => self.packet.destination,
        }
    }
}

/// A sum as the Internet checksum wants it, over bytes in network order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    #[inline(always)]
    pub fn add(&mut self, word: [u8; 4]) {
        self.0 += u64::from(u32::from_be_bytes(word));
    }

    #[inline(always)]
    fn add_address(&mut self, address: Address, family: Family) {
        let [high, low] = address.words();
        let [a, b, c, d, e, f, g, h] = high.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = low.to_ne_bytes();
        if family == Family::V6 {
            self.add([a, b, c, d]);
            self.add([e, f, g, h]);
            self.add([i, j, k, l]);
        }
        self.add([m, n, o, p]);
    }

    #[inline(always)]
    pub fn add_v6(&mut self, address: Address) {
        self.add_address(address, Family::V6);
    }

    /// The checksum: the sum folded into 16 bits, turned over.
    #[inline(always)]
    pub const fn checksum(self) -> [u8; 2] {
        let mut sum = self.0;
        sum = (sum >> 32) + (sum & 0xffff_ffff);
        sum = (sum >> 16) + (sum & 0xffff);
        sum = (sum >> 16) + (sum & 0xffff);
        sum = (sum >> 16) + (sum & 0xffff);
        #[expect(clippy::cast_possible_truncation, reason = "folded into 16 bits")]
        (!(sum as u16)).to_be_bytes()
    }
}

/// Sequence and acknowledgement of the reset that answers a segment, and its flags.
struct Answer {
    sequence: [u8; 4],
    acknowledgement: [u8; 4],
    flags: u8,
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

impl Refusal<'_> {
    /// As a closed port answers: with the sequence that the segment acknowledges, or by acknowledging all of the segment.
    #[inline(always)]
    fn answer<B: Bytes + ?Sized>(&self, bytes: &B) -> Option<Answer> {
        let at = usize::from(self.packet.transport);
        let header = bytes.load::<TCP_LENGTH>(at)?;
        let [_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, _, flags, ..] = header;
        if flags & ACK != 0 {
            return Some(Answer { sequence: [a0, a1, a2, a3], acknowledgement: [0; 4], flags: RST });
        }
        let data = u32::from(self.packet.length.saturating_sub(self.packet.header));
        let counted = data + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let acknowledgement = u32::from_be_bytes([s0, s1, s2, s3]).wrapping_add(counted).to_be_bytes();
        Some(Answer { sequence: [0; 4], acknowledgement, flags: RST | ACK })
    }

    /// The TCP header of a reset: as a closed port answers.
    #[inline(always)]
    pub fn reset<B: Bytes + ?Sized>(&self, bytes: &B) -> Option<[u8; TCP_LENGTH]> {
        let Answer { sequence, acknowledgement, flags } = self.answer(bytes)?;
        let ([s0, s1, s2, s3], [a0, a1, a2, a3]) = (sequence, acknowledgement);
        let [p0, p1] = self.packet.destination_port.to_be_bytes();
        let [q0, q1] = self.packet.source_port.to_be_bytes();
        let mut sum = Sum::default();
        sum.add_address(self.packet.source, self.family);
        sum.add_address(self.packet.destination, self.family);
        let [l0, l1] = self.payload().to_be_bytes();
        sum.add([0, Protocol::Tcp as u8, l0, l1]);
        sum.add([p0, p1, q0, q1]);
        sum.add(sequence);
        sum.add(acknowledgement);
        sum.add([0x50, flags, 0, 0]);
        let [c0, c1] = sum.checksum();
        Some([p0, p1, q0, q1, s0, s1, s2, s3, a0, a1, a2, a3, 0x50, flags, 0, 0, c0, c1, 0, 0])
    }

    /// The ICMP header of an error, ahead of a quote whose words have this sum.
    #[inline(always)]
    pub fn error(&self, reason: DropReason, mtu: u32, quote: Sum) -> [u8; ICMP_LENGTH] {
        let too_big = reason == DropReason::TooBig;
        let [m0, m1, m2, m3] = if too_big { mtu.to_be_bytes() } else { [0; 4] };
        let (kind, code) = match (self.family, too_big) {
            // Destination unreachable: fragmentation needed, or administratively prohibited.
            (Family::V4, true) => (3, 4),
            (Family::V4, false) => (3, 13),
            // Packet too big; destination unreachable: administratively prohibited.
            (Family::V6, true) => (2, 0),
            (Family::V6, false) => (1, 1),
        };
        let mut sum = quote;
        if self.family == Family::V6 {
            sum.add_address(self.source(reason), Family::V6);
            sum.add_address(self.packet.source, Family::V6);
            let [l0, l1] = self.error_length().to_be_bytes();
            sum.add([0, ICMPV6, l0, l1]);
        }
        sum.add([kind, code, 0, 0]);
        sum.add([m0, m1, m2, m3]);
        let [c0, c1] = sum.checksum();
        [kind, code, c0, c1, m0, m1, m2, m3]
    }

    /// How long the answer is behind its IP header.
    #[inline(always)]
    fn payload(&self) -> u16 {
        #[expect(clippy::cast_possible_truncation, reason = "20 bytes")]
        match self.form {
            Form::Reset => TCP_LENGTH as u16,
            Form::Error => self.error_length(),
        }
    }

    #[inline(always)]
    fn error_length(&self) -> u16 {
        #[expect(clippy::cast_possible_truncation, reason = "headers and eight bytes")]
        {
            (ICMP_LENGTH + self.quoted()) as u16
        }
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        match (self.form, self.family) {
            (Form::Reset, _) => Protocol::Tcp as u8,
            (Form::Error, Family::V4) => Protocol::Icmp as u8,
            (Form::Error, Family::V6) => ICMPV6,
        }
    }

    /// The IPv4 header of the answer.
    #[inline(always)]
    pub fn ipv4(&self, reason: DropReason) -> [u8; IPV4_LENGTH] {
        let [s0, s1, s2, s3] = self.source(reason).v4_octets();
        let [d0, d1, d2, d3] = self.packet.source.v4_octets();
        #[expect(clippy::cast_possible_truncation, reason = "20 bytes")]
        let [l0, l1] = (IPV4_LENGTH as u16 + self.payload()).to_be_bytes();
        let protocol = self.protocol();
        let mut sum = Sum::default();
        sum.add([0x45, 0, l0, l1]);
        sum.add([0, 0, 0x40, 0]);
        sum.add([HOPS, protocol, 0, 0]);
        sum.add([s0, s1, s2, s3]);
        sum.add([d0, d1, d2, d3]);
        let [c0, c1] = sum.checksum();
        [0x45, 0, l0, l1, 0, 0, 0x40, 0, HOPS, protocol, c0, c1, s0, s1, s2, s3, d0, d1, d2, d3]
    }

    /// The IPv6 header of the answer: what is ahead of the addresses, source and destination.
    #[inline(always)]
    pub fn ipv6(&self, reason: DropReason) -> ([u8; 8], Address, Address) {
        let [l0, l1] = self.payload().to_be_bytes();
        ([0x60, 0, 0, 0, l0, l1, self.protocol(), HOPS], self.source(reason), self.packet.source)
    }
}

const HOPS: u8 = 64;
const ICMPV6: u8 = 58;
