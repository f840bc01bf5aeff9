//! The transport headers, and the packets that ICMP errors quote.

use super::{
    Bytes, Family, IPV4_LENGTH, IPV6_LENGTH, Kind, Packet, Protocol,
    network::{Chain, protocol_of_v6},
};
use crate::{address::Address, verdict::DropReason};

/// Reads the transport header of a packet whose IP headers are read.
#[inline(always)]
pub(super) fn complete<B: Bytes + ?Sized>(packet: &mut Packet, bytes: &B, family: Family) -> Result<(), DropReason> {
    match packet.protocol {
        Protocol::Tcp => complete_tcp(packet, bytes),
        Protocol::Udp => complete_udp(packet, bytes),
        Protocol::Sctp => complete_sctp(packet, bytes),
        Protocol::Icmp => complete_icmp(packet, bytes, family),
    }
}

#[inline(always)]
fn header<const N: usize, B: Bytes + ?Sized>(packet: &Packet, bytes: &B) -> Result<[u8; N], DropReason> {
    if usize::from(packet.length) < N {
        return Err(DropReason::Malformed);
    }
    bytes.load::<N>(usize::from(packet.transport)).ok_or(DropReason::Malformed)
}

#[inline(always)]
fn complete_tcp<B: Bytes + ?Sized>(packet: &mut Packet, bytes: &B) -> Result<(), DropReason> {
    let header = header::<20, B>(packet, bytes)?;
    let length = u16::from(header[12] >> 4) * 4;
    if length < 20 || length > packet.length {
        return Err(DropReason::Malformed);
    }
    packet.kind = tcp_kind(header[13])?;
    packet.source_port = u16::from_be_bytes([header[0], header[1]]);
    packet.destination_port = u16::from_be_bytes([header[2], header[3]]);
    packet.header = length;
    Ok(())
}

#[inline(always)]
fn complete_udp<B: Bytes + ?Sized>(packet: &mut Packet, bytes: &B) -> Result<(), DropReason> {
    let header = header::<8, B>(packet, bytes)?;
    packet.kind = Kind::Datagram;
    packet.source_port = u16::from_be_bytes([header[0], header[1]]);
    packet.destination_port = u16::from_be_bytes([header[2], header[3]]);
    packet.header = 8;
    Ok(())
}

/// An SCTP packet is what its first chunk is: those that open or answer stand alone.
#[inline(always)]
fn complete_sctp<B: Bytes + ?Sized>(packet: &mut Packet, bytes: &B) -> Result<(), DropReason> {
    const INIT: u8 = 1;
    const INIT_ACK: u8 = 2;
    const ABORT: u8 = 6;
    const SHUTDOWN_COMPLETE: u8 = 14;
    let header = header::<16, B>(packet, bytes)?;
    packet.kind = match header[12] {
        INIT => Kind::Opening,
        INIT_ACK => Kind::Reply,
        ABORT | SHUTDOWN_COMPLETE => Kind::Reset,
        _ => Kind::Segment,
    };
    packet.source_port = u16::from_be_bytes([header[0], header[1]]);
    packet.destination_port = u16::from_be_bytes([header[2], header[3]]);
    packet.header = 16;
    Ok(())
}

/// A function of its own, so that what quotes take of the stack is taken only here.
#[inline(never)]
fn complete_icmp<B: Bytes + ?Sized>(packet: &mut Packet, bytes: &B, family: Family) -> Result<(), DropReason> {
    let header = header::<8, B>(packet, bytes)?;
    let (kind, asks) = match message(family, header[0], header[1]) {
        Message::EchoRequest => (Kind::Opening, 1),
        Message::EchoReply => (Kind::Reply, 0),
        Message::Neighbor => return Err(DropReason::NeighborDiscovery),
        Message::Other => return Err(DropReason::UnsupportedIcmp),
        // An error in parts quotes something that nobody could read.
        Message::Error | Message::TooBig if !packet.fragment.is_whole() => return Err(DropReason::Malformed),
        Message::TooBig if claimed_mtu(family, header) < least_mtu(family) => return Err(DropReason::MtuTooSmall),
        Message::Error | Message::TooBig => return complete_error(packet, bytes, family),
    };
    packet.kind = kind;
    packet.source_port = asks;
    packet.destination_port = 1 - asks;
    packet.echo_id = u16::from_be_bytes([header[4], header[5]]);
    packet.header = 8;
    Ok(())
}

#[inline(always)]
fn claimed_mtu(family: Family, header: [u8; 8]) -> u32 {
    match family {
        Family::V4 => u32::from(u16::from_be_bytes([header[6], header[7]])),
        Family::V6 => u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
    }
}

/// What every host of the family takes; who claims less wants to slow somebody down.
#[inline(always)]
const fn least_mtu(family: Family) -> u32 {
    match family {
        Family::V4 => 576,
        Family::V6 => 1280,
    }
}

/// Reads the packet that an error quotes, and turns it round: what its receiver would have answered. It must have gone from
/// the error's receiver to the error's sender.
#[inline(always)]
fn complete_error<B: Bytes + ?Sized>(packet: &mut Packet, bytes: &B, family: Family) -> Result<(), DropReason> {
    let at = usize::from(packet.transport);
    let quote = match family {
        Family::V4 => Quote::v4(bytes, at + ICMP_LENGTH)?,
        Family::V6 => Quote::v6(bytes, at + ICMP_LENGTH)?,
    };
    if quote.offset + QUOTED_TRANSPORT > at + usize::from(packet.length) {
        return Err(DropReason::Malformed);
    }
    if quote.source != packet.destination || quote.destination != packet.source {
        return Err(DropReason::ForeignQuote);
    }
    let [a, b, c, d, e, f, ..] = bytes.load::<QUOTED_TRANSPORT>(quote.offset).ok_or(DropReason::Malformed)?;
    (packet.source_port, packet.destination_port, packet.echo_id) = match (quote.protocol, message(family, a, b)) {
        (Protocol::Tcp | Protocol::Udp | Protocol::Sctp, _) => {
            (u16::from_be_bytes([c, d]), u16::from_be_bytes([a, b]), 0)
        }
        (Protocol::Icmp, Message::EchoRequest) => (0, 1, u16::from_be_bytes([e, f])),
        (Protocol::Icmp, Message::EchoReply) => (1, 0, u16::from_be_bytes([e, f])),
        // No error about an error.
        (Protocol::Icmp, Message::Error | Message::TooBig | Message::Neighbor | Message::Other) => {
            return Err(DropReason::UnsupportedIcmp);
        }
    };
    packet.protocol = quote.protocol;
    packet.kind = Kind::Error;
    packet.header = 8;
    Ok(())
}

const ICMP_LENGTH: usize = 8;
/// How much of the quoted transport header an error holds at least.
const QUOTED_TRANSPORT: usize = 8;

/// The quoted packet, as far as its IP headers tell.
struct Quote {
    source: Address,
    destination: Address,
    protocol: Protocol,
    offset: usize,
}

impl Quote {
    #[inline(always)]
    fn v4<B: Bytes + ?Sized>(bytes: &B, at: usize) -> Result<Self, DropReason> {
        let header = bytes.load::<IPV4_LENGTH>(at).ok_or(DropReason::Malformed)?;
        let header_length = usize::from(header[0] & 0x0f) * 4;
        // A later fragment has no transport header to quote.
        let is_first = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
        if header[0] >> 4 != 4 || header_length < IPV4_LENGTH || !is_first {
            return Err(DropReason::Malformed);
        }
        Ok(Self {
            source: Address::from_v4([header[12], header[13], header[14], header[15]]),
            destination: Address::from_v4([header[16], header[17], header[18], header[19]]),
            protocol: Protocol::from_number(header[9]).ok_or(DropReason::UnsupportedProtocol)?,
            offset: at + header_length,
        })
    }

    #[inline(always)]
    fn v6<B: Bytes + ?Sized>(bytes: &B, at: usize) -> Result<Self, DropReason> {
        let [first, _, _, _, _, _, next, _] = bytes.load::<8>(at).ok_or(DropReason::Malformed)?;
        let source = bytes.load::<16>(at + 8).ok_or(DropReason::Malformed)?;
        let destination = bytes.load::<16>(at + 24).ok_or(DropReason::Malformed)?;
        let chain = Chain::walk(bytes, next, at + IPV6_LENGTH)?;
        if first >> 4 != 6 || chain.part & 0xfff8 != 0 {
            return Err(DropReason::Malformed);
        }
        Ok(Self {
            source: Address::from_v6(source),
            destination: Address::from_v6(destination),
            protocol: protocol_of_v6(chain.next)?,
            offset: chain.offset,
        })
    }
}

/// What an ICMP message is to a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    EchoRequest,
    EchoReply,
    /// One of the errors that a flow may meet, except the next.
    Error,
    /// An error that tells a path's MTU.
    TooBig,
    /// Between neighbours on a link, of which an instance has only its gateway.
    Neighbor,
    Other,
}

#[inline(always)]
const fn message(family: Family, kind: u8, code: u8) -> Message {
    match family {
        Family::V4 => icmp_message(kind, code),
        Family::V6 => icmpv6_message(kind, code),
    }
}

#[inline(always)]
const fn icmp_message(kind: u8, code: u8) -> Message {
    match (kind, code) {
        (0, 0) => Message::EchoReply,
        (8, 0) => Message::EchoRequest,
        (3, 4) => Message::TooBig,
        (3 | 11 | 12, _) => Message::Error,
        _ => Message::Other,
    }
}

#[inline(always)]
const fn icmpv6_message(kind: u8, code: u8) -> Message {
    match (kind, code) {
        (128, 0) => Message::EchoRequest,
        (129, 0) => Message::EchoReply,
        (2, 0) => Message::TooBig,
        (1 | 3 | 4, _) => Message::Error,
        (133..=137, _) => Message::Neighbor,
        _ => Message::Other,
    }
}

/// Whether an ICMPv6 type is one of neighbour discovery.
#[inline(always)]
pub const fn is_neighbor_discovery(kind: u8) -> bool {
    matches!(icmpv6_message(kind, 0), Message::Neighbor)
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// What the flags mean; combinations that no stack sends are refused, as they only ever probe filters.
#[inline(always)]
fn tcp_kind(flags: u8) -> Result<Kind, DropReason> {
    match flags & (FIN | SYN | RST) {
        0 => Ok(Kind::Segment),
        SYN if flags & ACK == 0 => Ok(Kind::Opening),
        SYN => Ok(Kind::Reply),
        FIN => Ok(Kind::Finish),
        RST => Ok(Kind::Reset),
        _ => Err(DropReason::Malformed),
    }
}
