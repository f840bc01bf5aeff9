//! Bytes to fields: what a frame says, without believing any of it.
//!
//! Generic over where the bytes are, so that the kernel's programs and the tests parse with the same code.

use crate::{
    address::{Address, Mac},
    verdict::DropReason,
};

/// Bytes that can be read at fixed sizes.
pub trait Bytes {
    /// The `N` bytes at `offset`, if all of them are there.
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
    /// How many bytes the whole frame has.
    fn length(&self) -> usize;
}

impl Bytes for [u8] {
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..offset.checked_add(N)?)?.try_into().ok()
    }

    fn length(&self) -> usize {
        self.len()
    }
}

/// The protocols that rules can name, by IP protocol number.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Icmp = 1,
    Tcp = 6,
    Udp = 17,
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Icmp];

    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Icmp),
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// What a packet can do to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP SYN without ACK, echo request: always its sender's new flow.
    Opening,
    /// UDP: opens a flow if there is none.
    Datagram,
    /// A TCP segment in the middle: picks a flow up again if a rule allows that direction.
    Segment,
    /// TCP SYN-ACK, echo reply: never without a flow.
    Reply,
    /// TCP FIN: half of a flow's end.
    Finish,
    /// TCP RST: a flow's end.
    Reset,
    /// An ICMP error about a flow: the packet describes the answer that the quoted packet did not get. It never makes,
    /// changes or extends an entry.
    Error,
}

/// The fields that a verdict needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: Address,
    pub destination: Address,
    pub protocol: Protocol,
    pub kind: Kind,
    /// TCP and UDP: the port. Echo: 1 for the side that asks, 0 for the side that answers.
    pub source_port: u16,
    /// TCP and UDP: the port. Echo: as above.
    pub destination_port: u16,
    /// Echo: the identifier; else 0.
    pub echo_id: u16,
}

pub const ETHERNET_LENGTH: usize = 14;
const IPV4_LENGTH: usize = 20;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ethertype {
    Ipv4,
    Arp,
}

/// The Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub source: Mac,
    pub ethertype: Result<Ethertype, DropReason>,
}

/// Reads the Ethernet header.
#[inline(always)]
pub fn parse_frame<B: Bytes + ?Sized>(bytes: &B) -> Result<Frame, DropReason> {
    let header = bytes.load::<ETHERNET_LENGTH>(0).ok_or(DropReason::Malformed)?;
    let [_, _, _, _, _, _, a, b, c, d, e, f, high, low] = header;
    let ethertype = match u16::from_be_bytes([high, low]) {
        0x0800 => Ok(Ethertype::Ipv4),
        0x0806 => Ok(Ethertype::Arp),
        _ => Err(DropReason::UnsupportedEthertype),
    };
    Ok(Frame { source: Mac([a, b, c, d, e, f]), ethertype })
}

/// Reads the IPv4 source address and nothing else, for the check that comes before any other.
#[inline(always)]
pub fn parse_ipv4_source<B: Bytes + ?Sized>(bytes: &B) -> Result<Address, DropReason> {
    bytes.load::<4>(ETHERNET_LENGTH + 12).map(Address::from_v4).ok_or(DropReason::Malformed)
}

/// Reads an IPv4 packet behind an Ethernet header, as far as a verdict needs it.
#[inline(always)]
pub fn parse_ipv4<B: Bytes + ?Sized>(bytes: &B) -> Result<Packet, DropReason> {
    let header = bytes.load::<IPV4_LENGTH>(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let header_length = usize::from(header[0] & 0x0f) * 4;
    let whole = header[0] >> 4 == 4
        && header_length >= IPV4_LENGTH
        && total >= header_length
        && ETHERNET_LENGTH + total <= bytes.length();
    if !whole {
        return Err(DropReason::Malformed);
    }
    // More fragments, or an offset: only "don't fragment" and the reserved bit may be set.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Err(DropReason::Fragment);
    }
    let protocol = Protocol::from_number(header[9]).ok_or(DropReason::UnsupportedProtocol)?;
    let transport = Transport { offset: ETHERNET_LENGTH + header_length, length: total - header_length };
    let addresses = Addresses {
        source: Address::from_v4([header[12], header[13], header[14], header[15]]),
        destination: Address::from_v4([header[16], header[17], header[18], header[19]]),
    };
    match protocol {
        Protocol::Tcp => transport.parse_tcp(bytes).map(|fields| addresses.packet(Protocol::Tcp, fields)),
        Protocol::Udp => transport.parse_udp(bytes).map(|fields| addresses.packet(Protocol::Udp, fields)),
        Protocol::Icmp => transport.parse_icmp(bytes, &addresses),
    }
}

/// Who speaks to whom.
struct Addresses {
    source: Address,
    destination: Address,
}

impl Addresses {
    #[inline(always)]
    fn packet(&self, protocol: Protocol, fields: Fields) -> Packet {
        Packet {
            source: self.source,
            destination: self.destination,
            protocol,
            kind: fields.kind,
            source_port: fields.source_port,
            destination_port: fields.destination_port,
            echo_id: fields.echo_id,
        }
    }
}

/// Where the transport header is, and how much of the packet is left from there.
struct Transport {
    offset: usize,
    length: usize,
}

struct Fields {
    kind: Kind,
    source_port: u16,
    destination_port: u16,
    echo_id: u16,
}

impl Transport {
    #[inline(always)]
    fn header<const N: usize, B: Bytes + ?Sized>(&self, bytes: &B) -> Result<[u8; N], DropReason> {
        if self.length < N {
            return Err(DropReason::Malformed);
        }
        bytes.load::<N>(self.offset).ok_or(DropReason::Malformed)
    }

    #[inline(always)]
    fn parse_tcp<B: Bytes + ?Sized>(&self, bytes: &B) -> Result<Fields, DropReason> {
        let header = self.header::<20, B>(bytes)?;
        let header_length = usize::from(header[12] >> 4) * 4;
        if header_length < 20 || header_length > self.length {
            return Err(DropReason::Malformed);
        }
        Ok(Fields {
            kind: tcp_kind(header[13])?,
            source_port: u16::from_be_bytes([header[0], header[1]]),
            destination_port: u16::from_be_bytes([header[2], header[3]]),
            echo_id: 0,
        })
    }

    #[inline(always)]
    fn parse_udp<B: Bytes + ?Sized>(&self, bytes: &B) -> Result<Fields, DropReason> {
        let header = self.header::<8, B>(bytes)?;
        Ok(Fields {
            kind: Kind::Datagram,
            source_port: u16::from_be_bytes([header[0], header[1]]),
            destination_port: u16::from_be_bytes([header[2], header[3]]),
            echo_id: 0,
        })
    }

    #[inline(always)]
    fn parse_icmp<B: Bytes + ?Sized>(&self, bytes: &B, addresses: &Addresses) -> Result<Packet, DropReason> {
        let header = self.header::<8, B>(bytes)?;
        let echo = |kind, asks: u16| Fields {
            kind,
            source_port: asks,
            destination_port: 1 - asks,
            echo_id: u16::from_be_bytes([header[4], header[5]]),
        };
        match (header[0], header[1]) {
            (ECHO_REQUEST, 0) => Ok(addresses.packet(Protocol::Icmp, echo(Kind::Opening, 1))),
            (ECHO_REPLY, 0) => Ok(addresses.packet(Protocol::Icmp, echo(Kind::Reply, 0))),
            (UNREACHABLE, FRAGMENTATION_NEEDED) if u16::from_be_bytes([header[6], header[7]]) < LEAST_MTU => {
                Err(DropReason::MtuTooSmall)
            }
            (UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM, _) => self.parse_quote(bytes, addresses),
            _ => Err(DropReason::UnsupportedIcmp),
        }
    }

    /// Reads the packet that an error quotes, and turns it round: what its receiver would have answered. It must have gone
    /// from the error's receiver to the error's sender.
    #[inline(always)]
    fn parse_quote<B: Bytes + ?Sized>(&self, bytes: &B, addresses: &Addresses) -> Result<Packet, DropReason> {
        const ICMP_LENGTH: usize = 8;
        let quote = self.offset + ICMP_LENGTH;
        let header = bytes.load::<IPV4_LENGTH>(quote).ok_or(DropReason::Malformed)?;
        let header_length = usize::from(header[0] & 0x0f) * 4;
        // The quoted transport header begins where the quoted packet says; eight bytes of it are all that is promised.
        let whole = header[0] >> 4 == 4
            && header_length >= IPV4_LENGTH
            && self.length >= ICMP_LENGTH + header_length + QUOTED_TRANSPORT;
        if !whole || u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0 {
            return Err(DropReason::Malformed);
        }
        let source = Address::from_v4([header[12], header[13], header[14], header[15]]);
        let destination = Address::from_v4([header[16], header[17], header[18], header[19]]);
        if source != addresses.destination || destination != addresses.source {
            return Err(DropReason::ForeignQuote);
        }
        let protocol = Protocol::from_number(header[9]).ok_or(DropReason::UnsupportedProtocol)?;
        let [a, b, c, d, e, f, ..] =
            bytes.load::<QUOTED_TRANSPORT>(quote + header_length).ok_or(DropReason::Malformed)?;
        let (source_port, destination_port, echo_id) = match (protocol, a) {
            (Protocol::Tcp | Protocol::Udp, _) => (u16::from_be_bytes([c, d]), u16::from_be_bytes([a, b]), 0),
            (Protocol::Icmp, ECHO_REQUEST) => (0, 1, u16::from_be_bytes([e, f])),
            (Protocol::Icmp, ECHO_REPLY) => (1, 0, u16::from_be_bytes([e, f])),
            // No error about an error.
            (Protocol::Icmp, _) => return Err(DropReason::UnsupportedIcmp),
        };
        Ok(addresses.packet(protocol, Fields { kind: Kind::Error, source_port, destination_port, echo_id }))
    }
}

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;
/// The code of [`UNREACHABLE`] that tells a path's MTU.
const FRAGMENTATION_NEEDED: u8 = 4;
/// What every IPv4 host takes; who claims less wants to slow somebody down.
const LEAST_MTU: u16 = 576;
/// How much of the quoted transport header an error holds at least.
const QUOTED_TRANSPORT: usize = 8;

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{vec, vec::Vec};

    fn tcp(flags: u8) -> Vec<u8> {
        let mut frame = vec![0; 54];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&40_u16.to_be_bytes());
        frame[23] = 6;
        frame[26..30].copy_from_slice(&[10, 255, 1, 2]);
        frame[30..34].copy_from_slice(&[10, 255, 2, 3]);
        frame[34..38].copy_from_slice(&[0x9c, 0x40, 0x1f, 0x90]);
        frame[46] = 0x50;
        frame[47] = flags;
        frame
    }

    fn parse(frame: &[u8]) -> Result<Packet, DropReason> {
        parse_ipv4(frame)
    }

    #[test]
    fn a_syn_opens_and_names_its_ends() {
        let packet = parse(&tcp(SYN)).expect("well-formed");
        assert_eq!((packet.kind, packet.source_port, packet.destination_port), (Kind::Opening, 40000, 8080));
        assert_eq!(packet.source, Address::from_v4([10, 255, 1, 2]));
        assert_eq!(packet.destination, Address::from_v4([10, 255, 2, 3]));
    }

    #[test]
    fn flags_that_no_stack_sends_are_refused() {
        for flags in [SYN | FIN, SYN | RST, FIN | RST, SYN | FIN | RST] {
            assert_eq!(parse(&tcp(flags)), Err(DropReason::Malformed));
        }
    }

    #[test]
    fn a_header_that_promises_more_than_is_there_is_malformed() {
        for (at, value) in [(17, 60), (14, 0x44), (14, 0x65), (14, 0x4f), (46, 0x40), (46, 0xf0)] {
            let mut frame = tcp(SYN);
            frame[at] = value;
            assert_eq!(parse(&frame), Err(DropReason::Malformed), "byte {at} = {value:#x}");
        }
        for length in 0..54 {
            assert!(parse(&tcp(SYN)[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn fragments_and_foreign_protocols_have_reasons_of_their_own() {
        for fragment in [[0x20, 0], [0, 1], [0x3f, 0xff]] {
            let mut frame = tcp(SYN);
            frame[20..22].copy_from_slice(&fragment);
            assert_eq!(parse(&frame), Err(DropReason::Fragment));
        }
        let mut frame = tcp(SYN);
        frame[23] = 47;
        assert_eq!(parse(&frame), Err(DropReason::UnsupportedProtocol));
    }

    /// An error about `tcp(SYN)`, from its receiver to its sender.
    fn error(kind: u8, code: u8) -> Vec<u8> {
        let quoted = tcp(SYN);
        let mut frame = quoted[..34].to_vec();
        frame[16..18].copy_from_slice(&56_u16.to_be_bytes());
        frame[23] = 1;
        frame[26..30].copy_from_slice(&quoted[30..34]);
        frame[30..34].copy_from_slice(&quoted[26..30]);
        frame.extend([kind, code, 0, 0, 0, 0, 0x05, 0x78]);
        frame.extend(&quoted[14..42]);
        frame
    }

    #[test]
    fn an_error_speaks_for_the_answer_that_the_quoted_packet_did_not_get() {
        for (kind, code) in [(3, 3), (3, 4), (11, 0), (12, 0)] {
            let packet = parse(&error(kind, code)).expect("well-formed");
            assert_eq!((packet.kind, packet.protocol), (Kind::Error, Protocol::Tcp));
            assert_eq!(packet.source, Address::from_v4([10, 255, 2, 3]));
            assert_eq!((packet.source_port, packet.destination_port), (8080, 40000));
        }
    }

    #[test]
    fn an_error_that_quotes_somebody_else_or_lies_about_the_mtu_is_refused() {
        let mut foreign = error(3, 3);
        foreign[14 + 20 + 8 + 15] ^= 1;
        assert_eq!(parse(&foreign), Err(DropReason::ForeignQuote));
        let mut small = error(3, 4);
        small[14 + 20 + 6..14 + 20 + 8].copy_from_slice(&575_u16.to_be_bytes());
        assert_eq!(parse(&small), Err(DropReason::MtuTooSmall));
        for kind in [4, 5, 9, 13, 17] {
            assert_eq!(parse(&error(kind, 0)), Err(DropReason::UnsupportedIcmp), "type {kind}");
        }
        for length in 42..70 {
            assert!(parse(&error(3, 3)[..length]).is_err(), "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(frame: Vec<u8>) {
            let _ = parse_frame(frame.as_slice());
            let _ = parse(&frame);
        }
    }
}
