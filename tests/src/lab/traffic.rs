//! Frames for the lab: well-formed ones by what they mean, and those that nobody meant.

use std::net::Ipv4Addr;

use common::{Address, Mac, Protocol, packet::parse_ipv4};

use super::Scene;

/// What a frame says.
#[derive(Clone, Copy, Debug)]
pub struct Speech {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub kind: Speaking,
    pub source_port: u16,
    pub destination_port: u16,
}

/// The transport, as far as it matters to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaking {
    Tcp(u8),
    Udp,
    EchoRequest,
    EchoReply,
    /// An ICMP error about a packet of this protocol that the other end sent.
    Unreachable(Protocol),
    /// An ICMP message that is for routers.
    Redirect,
    /// A protocol that no rule names.
    Gre,
}

pub const SYN: u8 = 0x02;
pub const SYN_ACK: u8 = 0x12;
pub const ACK: u8 = 0x10;
pub const FIN_ACK: u8 = 0x11;
pub const RST: u8 = 0x04;

impl Speech {
    /// The whole frame, from the instance's MAC address to the gateway's, with a payload of this many bytes.
    pub fn frame(&self, payload: usize) -> Vec<u8> {
        let (protocol, transport) = self.transport();
        let length = u16::try_from(20 + transport.len() + payload).unwrap_or(u16::MAX);
        let Mac(source_mac) = Scene::mac(self.source);
        let mut frame = Vec::with_capacity(34 + transport.len() + payload);
        frame.extend(Mac::GATEWAY.0);
        frame.extend(source_mac);
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        frame.extend(self.source.octets());
        frame.extend(self.destination.octets());
        frame.extend(transport);
        frame.resize(frame.len() + payload, 0x5a);
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
            Speaking::Tcp(_) | Speaking::Udp | Speaking::Unreachable(_) | Speaking::Redirect | Speaking::Gre => Self {
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
        let packet = parse_ipv4(frame).ok()?;
        let (kind, source_port) = match packet.protocol {
            Protocol::Tcp => (Speaking::Tcp(SYN), packet.source_port),
            Protocol::Udp => (Speaking::Udp, packet.source_port),
            Protocol::Icmp => (Speaking::EchoRequest, packet.echo_id),
        };
        let v4 = |address: Address| Ipv4Addr::from(address.v4_octets());
        Some(Self {
            source: v4(packet.source),
            destination: v4(packet.destination),
            kind,
            source_port,
            destination_port: packet.destination_port,
        })
    }

    fn transport(&self) -> (u8, Vec<u8>) {
        let mut ports = Vec::from(self.source_port.to_be_bytes());
        ports.extend(self.destination_port.to_be_bytes());
        match self.kind {
            Speaking::Tcp(flags) => {
                ports.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
                (6, ports)
            }
            Speaking::Udp => {
                ports.extend([0, 8, 0, 0]);
                (17, ports)
            }
            Speaking::EchoRequest => (1, self.icmp(8)),
            Speaking::EchoReply => (1, self.icmp(0)),
            Speaking::Unreachable(protocol) => (1, self.unreachable(protocol)),
            Speaking::Redirect => (1, self.icmp(5)),
            Speaking::Gre => (47, vec![0; 8]),
        }
    }

    /// Says that a packet of the other end did not arrive, and quotes it.
    fn unreachable(&self, protocol: Protocol) -> Vec<u8> {
        const HOST_UNREACHABLE: u8 = 1;
        let kind = match protocol {
            Protocol::Tcp => Speaking::Tcp(ACK),
            Protocol::Udp => Speaking::Udp,
            Protocol::Icmp => Speaking::EchoRequest,
        };
        // An echo has one identifier, which both ends name first.
        let about = match protocol {
            Protocol::Icmp => Self { kind, source: self.destination, destination: self.source, ..*self },
            Protocol::Tcp | Protocol::Udp => Self { kind, ..*self }.turned(),
        };
        let mut message = vec![3, HOST_UNREACHABLE, 0, 0, 0, 0, 0, 0];
        message.extend(&about.frame(0)[14..42]);
        message
    }

    fn icmp(&self, kind: u8) -> Vec<u8> {
        let mut message = vec![kind, 0, 0, 0];
        message.extend(self.source_port.to_be_bytes());
        message.extend([0, 1]);
        message
    }
}
