//! Datagrams in fragments: what the first part said, kept for those behind it.
//!
//! The first part holds the whole transport header and is judged like any packet; a later one goes the way of that flow as it
//! is judged by then. Parts that would rewrite the header, and a second first part, are refused.

use crate::{
    address::Address,
    conntrack::{Class, Conntrack, charge},
    packet::{Kind, Packet},
    settings::Ticks,
    verdict::DropReason,
};

/// Whose datagram it is: where it came in, its ends, protocol and identification.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DatagramKey {
    source: Address,
    destination: Address,
    id: u32,
    /// The host-side veth, or 0 for the overlay, where placement has proven which node the source is on.
    entrance: u32,
    protocol: u32,
    reserved: u32,
}

impl DatagramKey {
    #[inline(always)]
    fn new(packet: &Packet, entrance: u32) -> Self {
        Self {
            source: packet.source,
            destination: packet.destination,
            id: packet.fragment.id(),
            entrance,
            protocol: packet.protocol as u32,
            reserved: 0,
        }
    }

    /// Who is charged for it.
    pub const fn sender(&self) -> Address {
        self.source
    }
}

/// What the first part said, and how much has come.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Ports or echo, transport header, as in the first part.
    said: u64,
    /// Bytes that have come, and the whole length once it is known; equal when nothing is missing.
    pub come: u32,
    pub whole: u32,
    pub seen: Ticks,
    /// 1 once parts have contradicted each other.
    pub poisoned: u32,
}

crate::border!(DatagramKey = 48, Datagram = 24);

impl Datagram {
    #[inline(always)]
    fn said_by(packet: &Packet) -> u64 {
        u64::from(packet.source_port) << 48
            | u64::from(packet.destination_port) << 32
            | u64::from(packet.echo_id) << 16
            | u64::from(packet.header)
    }

    #[inline(always)]
    const fn header(&self) -> u16 {
        (self.said & 0xffff) as u16
    }

    #[inline(always)]
    const fn give_ports(&self, packet: &mut Packet) {
        packet.source_port = (self.said >> 48) as u16;
        packet.destination_port = (self.said >> 32 & 0xffff) as u16;
        packet.echo_id = (self.said >> 16 & 0xffff) as u16;
    }
}

/// The table of datagrams that are still coming: a BPF map in the kernel, a hash map in tests.
pub trait Datagrams: Conntrack {
    fn find_datagram(&self, key: &DatagramKey) -> Option<Datagram>;
    /// False if one is there already, or there is no room.
    fn insert_datagram(&self, key: &DatagramKey, datagram: &Datagram) -> bool;
    /// Adds what came, and the whole length if it is known now; returns both as they stand.
    fn advance_datagram(&self, key: &DatagramKey, come: u32, whole: u32) -> Option<(u32, u32)>;
    fn poison_datagram(&self, key: &DatagramKey);
    /// True for whoever removed it.
    fn remove_datagram(&self, key: &DatagramKey) -> bool;
}

/// Before a fragment is judged: gives a later part the ports of the first, and refuses what contradicts it.
#[inline(never)]
pub fn recall<D: Datagrams>(table: &D, packet: &mut Packet, entrance: u32) -> Result<(), DropReason> {
    let key = DatagramKey::new(packet, entrance);
    let Some(datagram) = table.find_datagram(&key) else {
        return if packet.kind == Kind::Tail { Err(DropReason::Fragment) } else { Ok(()) };
    };
    if datagram.poisoned != 0 {
        return Err(DropReason::FragmentConflict);
    }
    if packet.kind != Kind::Tail {
        if datagram.said == Datagram::said_by(packet) {
            return Ok(());
        }
        table.poison_datagram(&key);
        return Err(DropReason::FragmentConflict);
    }
    if packet.fragment.offset() < datagram.header() {
        return Err(DropReason::FragmentOverlap);
    }
    datagram.give_ports(packet);
    Ok(())
}

/// After a fragment has passed: remembers a first part, and forgets a datagram that is whole. `None` means that all is well.
#[inline(never)]
pub fn remember<D: Datagrams>(table: &D, packet: &Packet, entrance: u32, now: Ticks, limit: u32) -> Option<DropReason> {
    let key = DatagramKey::new(packet, entrance);
    let fragment = packet.fragment;
    let (offset, length) = (u32::from(fragment.offset()), u32::from(fragment.length()));
    let whole = if fragment.is_last() { offset + length } else { 0 };
    if let Some((come, whole)) = table.advance_datagram(&key, length, whole) {
        if whole != 0 && come >= whole {
            forget(table, &key);
        }
        return None;
    }
    if packet.kind == Kind::Tail {
        // Forgotten between the two looks: it was whole, or too old.
        return None;
    }
    let Some(account) = table.account(&packet.source) else { return Some(DropReason::QuotaFragmented) };
    if !charge(table, account, Class::Fragmented, limit) {
        return Some(DropReason::QuotaFragmented);
    }
    let datagram = Datagram { said: Datagram::said_by(packet), come: length, whole, seen: now, poisoned: 0 };
    if !table.insert_datagram(&key, &datagram) {
        table.discharge(account, Class::Fragmented);
    }
    None
}

/// Removes a datagram and its charge, once.
#[inline(always)]
pub fn forget<D: Datagrams>(table: &D, key: &DatagramKey) {
    if table.remove_datagram(key)
        && let Some(account) = table.account(&key.sender())
    {
        table.discharge(account, Class::Fragmented);
    }
}
