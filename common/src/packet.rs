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

impl Packet {
    /// The port that rules are asked about if this packet's sender is the initiator.
    pub const fn rule_port(&self) -> u16 {
        match self.protocol {
            Protocol::Tcp | Protocol::Udp => self.destination_port,
            Protocol::Icmp => 0,
        }
    }
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
    let fields = match protocol {
        Protocol::Tcp => transport.parse_tcp(bytes),
        Protocol::Udp => transport.parse_udp(bytes),
        Protocol::Icmp => transport.parse_icmp(bytes),
    }?;
    Ok(Packet {
        source: Address::from_v4([header[12], header[13], header[14], header[15]]),
        destination: Address::from_v4([header[16], header[17], header[18], header[19]]),
        protocol,
        kind: fields.kind,
        source_port: fields.source_port,
        destination_port: fields.destination_port,
        echo_id: fields.echo_id,
    })
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
    fn parse_icmp<B: Bytes + ?Sized>(&self, bytes: &B) -> Result<Fields, DropReason> {
        let header = self.header::<8, B>(bytes)?;
        let (kind, source_port, destination_port) = match (header[0], header[1]) {
            (8, 0) => (Kind::Opening, 1, 0),
            (0, 0) => (Kind::Reply, 0, 1),
            _ => return Err(DropReason::UnsupportedIcmp),
        };
        Ok(Fields { kind, source_port, destination_port, echo_id: u16::from_be_bytes([header[4], header[5]]) })
    }
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

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(frame: Vec<u8>) {
            let _ = parse_frame(frame.as_slice());
            let _ = parse(&frame);
        }
    }
}
