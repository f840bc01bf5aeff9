//! The IP headers of both families, up to where the transport header begins.

use core::mem::MaybeUninit;

use super::{
    Bytes, ETHERNET_LENGTH, Family, Fragment, IPV4_LENGTH, IPV6_LENGTH, Kind, Packet, Protocol, transport::complete,
};
use crate::{address::Address, verdict::DropReason};

/// Reads the source address and nothing else, for the check that comes before any other.
#[inline(always)]
pub fn parse_source<B: Bytes + ?Sized>(bytes: &B, family: Family) -> Result<Address, DropReason> {
    let source = match family {
        Family::V4 => bytes.load::<4>(ETHERNET_LENGTH + 12).map(Address::from_v4),
        Family::V6 => bytes.load::<16>(ETHERNET_LENGTH + 8).map(Address::from_v6),
    };
    source.ok_or(DropReason::Malformed)
}

/// Reads a packet behind an Ethernet header, as far as a verdict needs it, into a place of the caller's: its fields are
/// written once, where they stay.
#[inline(always)]
pub fn parse<'a, B: Bytes + ?Sized>(
    bytes: &B,
    family: Family,
    place: &'a mut MaybeUninit<Packet>,
) -> Result<&'a mut Packet, DropReason> {
    match family {
        Family::V4 => parse_ipv4(bytes, place)?,
        Family::V6 => parse_ipv6(bytes, place)?,
    }
    // SAFETY: either of the above has written all of it.
    let packet = unsafe { place.assume_init_mut() };
    if !packet.fragment.is_tail() {
        complete(packet, bytes, family)?;
    }
    Ok(packet)
}

/// The same, as a value.
pub fn read<B: Bytes + ?Sized>(bytes: &B, family: Family) -> Result<Packet, DropReason> {
    let mut place = MaybeUninit::uninit();
    parse(bytes, family, &mut place).copied()
}

/// What is known when the IP headers are read: a tail, until the transport header says more.
#[inline(always)]
fn begin(
    place: &mut MaybeUninit<Packet>,
    (source, destination): (Address, Address),
    protocol: Protocol,
    (transport, length): (usize, usize),
    fragment: Fragment,
) {
    #[expect(clippy::cast_possible_truncation, reason = "both lie within what a 16-bit length says")]
    place.write(Packet {
        source,
        destination,
        protocol,
        kind: Kind::Tail,
        source_port: 0,
        destination_port: 0,
        echo_id: 0,
        transport: transport as u16,
        header: 0,
        length: length as u16,
        fragment,
    });
}

#[inline(always)]
fn parse_ipv4<B: Bytes + ?Sized>(bytes: &B, place: &mut MaybeUninit<Packet>) -> Result<(), DropReason> {
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
    let protocol = Protocol::from_number(header[9]).ok_or(DropReason::UnsupportedProtocol)?;
    let length = total - header_length;
    // More fragments, or an offset: "don't fragment" and the reserved bit say nothing about this packet.
    let part = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    let fragment = if part == 0 {
        Fragment::WHOLE
    } else {
        let id = u32::from(u16::from_be_bytes([header[4], header[5]]));
        part_of(id, part << 3, length, part & 0x2000 != 0)?
    };
    let source = Address::from_v4([header[12], header[13], header[14], header[15]]);
    let destination = Address::from_v4([header[16], header[17], header[18], header[19]]);
    begin(place, (source, destination), protocol, (ETHERNET_LENGTH + header_length, length), fragment);
    Ok(())
}

/// A fragment, unless its datagram would be longer than any can be, or a part before the last one could not be followed.
#[inline(always)]
fn part_of(id: u32, offset: u16, length: usize, more: bool) -> Result<Fragment, DropReason> {
    let length = u16::try_from(length).map_err(|_| DropReason::Malformed)?;
    let fits = offset.checked_add(length).is_some() && length > 0 && !(more && length & 7 != 0);
    if fits { Ok(Fragment::new(id, offset, length, more)) } else { Err(DropReason::Malformed) }
}

#[inline(always)]
fn parse_ipv6<B: Bytes + ?Sized>(bytes: &B, place: &mut MaybeUninit<Packet>) -> Result<(), DropReason> {
    let header = bytes.load::<8>(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
    let offset = ETHERNET_LENGTH + IPV6_LENGTH;
    let end = offset + usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 || end > bytes.length() {
        return Err(DropReason::Malformed);
    }
    match protocol_of_v6(header[6]) {
        Ok(protocol) => begin_v6(bytes, place, protocol, (offset, end - offset), Fragment::WHOLE),
        Err(_) => parse_extended(bytes, place, header[6], end),
    }
}

/// A function of its own, so that packets without extension headers, as nearly all are, do not pay for the walk over them, and
/// so that it takes room on the stack only while it lasts.
#[inline(never)]
fn parse_extended<B: Bytes + ?Sized>(
    bytes: &B,
    place: &mut MaybeUninit<Packet>,
    first: u8,
    end: usize,
) -> Result<(), DropReason> {
    let chain = Chain::walk(bytes, first, ETHERNET_LENGTH + IPV6_LENGTH)?;
    let length = end.checked_sub(chain.offset).ok_or(DropReason::Malformed)?;
    let fragment = match chain.part {
        0 => Fragment::WHOLE,
        part => part_of(chain.id, part & 0xfff8, length, part & 1 != 0)?,
    };
    begin_v6(bytes, place, protocol_of_v6(chain.next)?, (chain.offset, length), fragment)
}

#[inline(always)]
fn begin_v6<B: Bytes + ?Sized>(
    bytes: &B,
    place: &mut MaybeUninit<Packet>,
    protocol: Protocol,
    body: (usize, usize),
    fragment: Fragment,
) -> Result<(), DropReason> {
    let source = Address::from_v6(bytes.load::<16>(ETHERNET_LENGTH + 8).ok_or(DropReason::Malformed)?);
    let destination = Address::from_v6(bytes.load::<16>(ETHERNET_LENGTH + 24).ok_or(DropReason::Malformed)?);
    // An IPv4 address in this form would pass for that of an IPv4 packet.
    if source.is_v4() || destination.is_v4() {
        return Err(DropReason::Malformed);
    }
    begin(place, (source, destination), protocol, body, fragment);
    Ok(())
}

/// ICMP of the other family does not belong here.
#[inline(always)]
pub(super) fn protocol_of_v6(next: u8) -> Result<Protocol, DropReason> {
    const ICMPV6: u8 = 58;
    match next {
        ICMPV6 => Ok(Protocol::Icmp),
        1 => Err(DropReason::UnsupportedProtocol),
        other => Protocol::from_number(other).ok_or(DropReason::UnsupportedProtocol),
    }
}

/// Where a chain of extension headers ends.
pub(super) struct Chain {
    pub(super) next: u8,
    pub(super) offset: usize,
    /// The fragment header's offset and flags; 0 if there is none, or one of a whole packet.
    pub(super) part: u16,
    pub(super) id: u32,
    is_fragment: bool,
}

impl Chain {
    /// More than any sender needs, so that the walk ends.
    const MOST: usize = 8;

    /// Walks from the first header to the transport header, or to where a later fragment's data begins.
    #[inline(always)]
    pub(super) fn walk<B: Bytes + ?Sized>(bytes: &B, first: u8, offset: usize) -> Result<Self, DropReason> {
        const HOP_BY_HOP: u8 = 0;
        const ROUTING: u8 = 43;
        const FRAGMENT: u8 = 44;
        const DESTINATION: u8 = 60;
        let mut chain = Self { next: first, offset, part: 0, id: 0, is_fragment: false };
        for _ in 0..Self::MOST {
            match chain.next {
                HOP_BY_HOP | ROUTING | DESTINATION => {
                    let [next, units] = bytes.load::<2>(chain.offset).ok_or(DropReason::Malformed)?;
                    chain.next = next;
                    chain.offset += 8 + usize::from(units) * 8;
                }
                // A second one would say that the first was no fragment of the whole.
                FRAGMENT if chain.is_fragment => return Err(DropReason::Malformed),
                FRAGMENT => {
                    let [next, _, high, low, a, b, c, d] =
                        bytes.load::<8>(chain.offset).ok_or(DropReason::Malformed)?;
                    chain.next = next;
                    chain.offset += 8;
                    chain.is_fragment = true;
                    chain.part = u16::from_be_bytes([high, low]) & 0xfff9;
                    chain.id = u32::from_be_bytes([a, b, c, d]);
                    // What follows in a later fragment is data, whatever it looks like.
                    if chain.part & 0xfff8 != 0 {
                        return Ok(chain);
                    }
                }
                _ => return Ok(chain),
            }
        }
        Err(DropReason::ExtensionHeaders)
    }
}
