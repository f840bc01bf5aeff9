//! Frames for the lab: well-formed ones by what they mean, of both families, and parts of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::{Address, Family, Mac, Protocol, packet::read};

use super::Scene;

/// What a frame says.
#[derive(Clone, Copy, Debug)]
pub struct Speech {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub kind: Speaking,
    pub source_port: u16,
    pub destination_port: u16,
}

/// The transport, as far as it matters to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaking {
    Tcp(u8),
    Udp,
    /// An SCTP packet with this first chunk.
    Sctp(u8),
    EchoRequest,
    EchoReply,
    /// An ICMP error about a packet of this protocol that the other end sent.
    Unreachable(Protocol),
    /// An ICMP message that is for routers.
    Redirect,
    /// What a stack asks its neighbours; a redirect's twin where there is no such thing.
    Solicitation,
    /// A protocol that no rule names.
    Gre,
}

/// What stands between the IP header and the transport header, and which part of the whole the frame is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dress {
    /// Words of IPv4 options, or IPv6 extension headers.
    pub extras: usize,
    pub part: Option<Part>,
    /// "Don't fragment", where a header has it.
    pub whole: bool,
}

/// A fragment of a datagram: `offset` and what follows, in units of eight bytes.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub id: u32,
    pub offset: u16,
    pub more: bool,
}

pub const SYN: u8 = 0x02;
pub const SYN_ACK: u8 = 0x12;
pub const ACK: u8 = 0x10;
pub const FIN_ACK: u8 = 0x11;
pub const RST: u8 = 0x04;

/// Chunks of SCTP.
pub const INIT: u8 = 1;
pub const INIT_ACK: u8 = 2;
pub const DATA: u8 = 0;
pub const ABORT: u8 = 6;

impl Speech {
    pub fn is_v6(&self) -> bool {
        self.source.is_ipv6()
    }

    /// The whole frame, from the instance's MAC address to the gateway's, with a payload of this many bytes.
    pub fn frame(&self, payload: usize) -> Vec<u8> {
        self.dressed(payload, Dress { whole: true, ..Dress::default() })
    }

    /// The frame with options or extension headers, or one of its parts.
    pub fn dressed(&self, payload: usize, dress: Dress) -> Vec<u8> {
        let (protocol, mut content) = self.transport();
        content.resize(content.len() + payload, 0x5a);
        if let Some(part) = dress.part {
            let start = usize::from(part.offset) * 8;
            content = if start == 0 { content } else { vec![0x5a; payload] };
            if part.more {
                content.resize(content.len().next_multiple_of(8), 0x5a);
            }
        }
        let mut frame = Vec::from(Mac::GATEWAY.0);
        frame.extend(Scene::mac(self.source).0);
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([8, 0]);
                frame.extend(ipv4(source, destination, protocol, content.len(), dress));
            }
            (source, destination) => {
                frame.extend([0x86, 0xdd]);
                frame.extend(ipv6(as_v6(source), as_v6(destination), protocol, content.len(), dress));
            }
        }
        frame.extend(content);
        frame
    }

    /// The same flow, from its other end.
    #[must_use]
    pub fn turned(&self) -> Self {
        match self.kind {
            // An echo has one identifier, whoever speaks.
            Speaking::EchoRequest | Speaking::EchoReply => {
                Self { source: self.destination, destination: self.source, ..*self }
            }
            Speaking::Tcp(_)
            | Speaking::Udp
            | Speaking::Sctp(_)
            | Speaking::Unreachable(_)
            | Speaking::Redirect
            | Speaking::Solicitation
            | Speaking::Gre => Self {
                source: self.destination,
                destination: self.source,
                source_port: self.destination_port,
                destination_port: self.source_port,
                ..*self
            },
        }
    }

    /// What a frame that opened a flow said.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let packet = read(frame, family(frame)?).ok()?;
        let (kind, source_port) = match packet.protocol {
            Protocol::Tcp => (Speaking::Tcp(SYN), packet.source_port),
            Protocol::Udp => (Speaking::Udp, packet.source_port),
            Protocol::Sctp => (Speaking::Sctp(INIT), packet.source_port),
            Protocol::Icmp => (Speaking::EchoRequest, packet.echo_id),
        };
        let ip = |address: Address| address.ip();
        Some(Self {
            source: ip(packet.source),
            destination: ip(packet.destination),
            kind,
            source_port,
            destination_port: packet.destination_port,
        })
    }

    fn transport(&self) -> (u8, Vec<u8>) {
        let mut ports = Vec::from(self.source_port.to_be_bytes());
        ports.extend(self.destination_port.to_be_bytes());
        let icmp = if self.is_v6() { 58 } else { 1 };
        match self.kind {
            Speaking::Tcp(flags) => {
                ports.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
                (6, ports)
            }
            Speaking::Udp => {
                ports.extend([0, 8, 0, 0]);
                (17, ports)
            }
            Speaking::Sctp(chunk) => {
                ports.extend([0, 0, 0, 1, 0, 0, 0, 0, chunk, 0, 0, 4]);
                (132, ports)
            }
            Speaking::EchoRequest => (icmp, self.icmp(8, 128)),
            Speaking::EchoReply => (icmp, self.icmp(0, 129)),
            Speaking::Unreachable(protocol) => (icmp, self.unreachable(protocol)),
            Speaking::Redirect => (icmp, self.icmp(5, 137)),
            Speaking::Solicitation => (icmp, self.icmp(10, 135)),
            Speaking::Gre => (47, vec![0; 8]),
        }
    }

    /// Says that a packet of the other end did not arrive, and quotes it.
    fn unreachable(&self, protocol: Protocol) -> Vec<u8> {
        let kind = match protocol {
            Protocol::Tcp => Speaking::Tcp(ACK),
            Protocol::Udp => Speaking::Udp,
            Protocol::Sctp => Speaking::Sctp(DATA),
            Protocol::Icmp => Speaking::EchoRequest,
        };
        // An echo has one identifier, which both ends name first.
        let about = match protocol {
            Protocol::Icmp => Self { kind, source: self.destination, destination: self.source, ..*self },
            Protocol::Tcp | Protocol::Udp | Protocol::Sctp => Self { kind, ..*self }.turned(),
        };
        let (unreachable, headers) = if self.is_v6() { (1, 40) } else { (3, 20) };
        let mut message = vec![unreachable, 1, 0, 0, 0, 0, 0, 0];
        message.extend(&about.frame(0)[14..14 + headers + 8]);
        message
    }

    fn icmp(&self, v4: u8, v6: u8) -> Vec<u8> {
        let mut message = vec![if self.is_v6() { v6 } else { v4 }, 0, 0, 0];
        message.extend(self.source_port.to_be_bytes());
        message.extend([0, 1]);
        message
    }
}

/// The IP version of a frame that has one.
pub fn family(frame: &[u8]) -> Option<Family> {
    match frame.get(12..14)? {
        [8, 0] => Some(Family::V4),
        [0x86, 0xdd] => Some(Family::V6),
        _ => None,
    }
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, content: usize, dress: Dress) -> Vec<u8> {
    let words = dress.extras.min(10);
    let length = u16::try_from(20 + words * 4 + content).unwrap_or(u16::MAX);
    let version = 0x45 + u8::try_from(words).unwrap_or(0);
    let (id, part) = match dress.part {
        Some(part) => (part.id, part.offset | if part.more { 0x2000 } else { 0 }),
        None => (0, if dress.whole { 0x4000 } else { 0 }),
    };
    let [_, _, i0, i1] = id.to_be_bytes();
    let mut header = vec![version, 0];
    header.extend(length.to_be_bytes());
    header.extend([i0, i1]);
    header.extend(part.to_be_bytes());
    header.extend([64, protocol, 0, 0]);
    header.extend(source.octets());
    header.extend(destination.octets());
    // No operation, four times a word.
    header.resize(20 + words * 4, 1);
    header
}

fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, content: usize, dress: Dress) -> Vec<u8> {
    const DESTINATION: u8 = 60;
    const FRAGMENT: u8 = 44;
    let mut numbers = vec![DESTINATION; dress.extras];
    numbers.extend(dress.part.map(|_| FRAGMENT));
    numbers.push(protocol);
    let mut extensions = Vec::new();
    for (i, number) in numbers.iter().enumerate().take(numbers.len() - 1) {
        let next = numbers[i + 1];
        match (number, dress.part) {
            (&FRAGMENT, Some(part)) => {
                extensions.extend([next, 0]);
                extensions.extend((part.offset << 3 | u16::from(part.more)).to_be_bytes());
                extensions.extend(part.id.to_be_bytes());
            }
            (_, _) => extensions.extend([next, 0, 1, 4, 0, 0, 0, 0]),
        }
    }
    let length = u16::try_from(extensions.len() + content).unwrap_or(u16::MAX);
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(length.to_be_bytes());
    header.extend([numbers[0], 64]);
    header.extend(source.octets());
    header.extend(destination.octets());
    header.extend(extensions);
    header
}
