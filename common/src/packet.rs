//! Bytes to fields: what a frame says, without believing any of it.
//!
//! Generic over where the bytes are, so that the kernel's programs and the tests parse with the same code. Both families end
//! in one [`Packet`]; what is behind the IP headers is in [`transport`].

mod fragment;
mod network;
#[cfg(test)]
mod tests;
mod transport;

pub use fragment::Fragment;
pub use network::{parse, parse_source, read};
pub use transport::is_neighbor_discovery;

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
    /// How many bytes of payload each packet will have that this one is still to be cut into; 0 if it is one.
    fn segment(&self) -> usize;
}

impl Bytes for [u8] {
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..offset.checked_add(N)?)?.try_into().ok()
    }

    fn length(&self) -> usize {
        self.len()
    }

    fn segment(&self) -> usize {
        0
    }
}

/// The protocols that rules can name, by IP protocol number; ICMP stands for that of both families.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Icmp = 1,
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

impl Protocol {
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Sctp, Self::Icmp];

    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Icmp),
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    #[inline(always)]
    pub const fn has_ports(self) -> bool {
        match self {
            Self::Tcp | Self::Udp | Self::Sctp => true,
            Self::Icmp => false,
        }
    }
}

/// What a packet can do to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP SYN without ACK, SCTP INIT, echo request: always its sender's new flow.
    Opening,
    /// UDP: opens a flow if there is none.
    Datagram,
    /// A TCP segment or an SCTP packet in the middle: picks a flow up again if a rule allows that direction.
    Segment,
    /// TCP SYN-ACK, SCTP INIT ACK, echo reply: never without a flow.
    Reply,
    /// TCP FIN: half of a flow's end.
    Finish,
    /// TCP RST, SCTP ABORT or SHUTDOWN COMPLETE: a flow's end.
    Reset,
    /// An ICMP error about a flow: the packet describes the answer that the quoted packet did not get. It never makes,
    /// changes or extends an entry.
    Error,
    /// A fragment behind the first: it goes the way of its datagram's flow, and never makes an entry.
    Tail,
}

/// The IP version of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// The fields that a verdict needs. What is zero until the transport header is read is one word, and lies apart from the
/// fragment, which is zero in nearly all: side by side they would be a call of `memset`, which on the BPF target goes byte by
/// byte.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: Address,
    pub destination: Address,
    /// With ports: the port. Echo: 1 for the side that asks, 0 for the side that answers.
    pub source_port: u16,
    /// With ports: the port. Echo: as above.
    pub destination_port: u16,
    /// Echo: the identifier; else 0.
    pub echo_id: u16,
    /// How long the transport header is, as far as a filter has to see it; 0 in a tail.
    pub header: u16,
    /// Where the transport header begins in the frame.
    pub transport: u16,
    /// How much of the packet is left from there.
    pub length: u16,
    pub protocol: Protocol,
    pub kind: Kind,
    pub fragment: Fragment,
}

pub const ETHERNET_LENGTH: usize = 14;
pub const IPV4_LENGTH: usize = 20;
pub const IPV6_LENGTH: usize = 40;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ethertype {
    Ip(Family),
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
        0x0800 => Ok(Ethertype::Ip(Family::V4)),
        0x86dd => Ok(Ethertype::Ip(Family::V6)),
        0x0806 => Ok(Ethertype::Arp),
        _ => Err(DropReason::UnsupportedEthertype),
    };
    Ok(Frame { source: Mac([a, b, c, d, e, f]), ethertype })
}
