//! The uplink: nothing but our own programs may send to the overlay port, or it could pass for this node.

use common::{
    Address, DropReason, Node as _, Pass,
    packet::{Bytes as _, ETHERNET_LENGTH, Protocol},
};

use crate::{act::Trace, kernel::Kernel, skb::Skb};

/// What leaves the node by its uplink.
#[inline(always)]
pub fn judge_departure(skb: Skb, trace: &mut Trace) -> Result<Pass, DropReason> {
    let settings = Kernel.settings();
    if skb.mark() == settings.mark {
        return Ok(Pass::Established);
    }
    match destination_port(skb) {
        Some(port) if u32::from(port) == settings.overlay_port => {
            trace.event.protocol = Protocol::Udp as u8;
            trace.event.destination_port = port;
            if let Some(source) = skb.load::<4>(ETHERNET_LENGTH + 12) {
                trace.event.source = Address::from_v4(source);
            }
            Err(DropReason::OverlayPort)
        }
        Some(_) | None => Ok(Pass::Established),
    }
}

/// The UDP destination port of a packet that has one. A fragment behind the first has none: without its head, which is
/// dropped here, nobody can put it together.
#[inline(always)]
fn destination_port(skb: Skb) -> Option<u16> {
    const IPV4: [u8; 2] = [8, 0];
    const IPV6: [u8; 2] = [0x86, 0xdd];
    let offset = match skb.load::<2>(12)? {
        IPV4 => {
            let header = skb.load::<10>(ETHERNET_LENGTH)?;
            let is_later_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
            if header[9] != Protocol::Udp as u8 || is_later_fragment {
                return None;
            }
            ETHERNET_LENGTH + usize::from(header[0] & 0x0f) * 4
        }
        IPV6 => ipv6_udp_offset(skb)?,
        _ => return None,
    };
    skb.load::<2>(offset + 2).map(u16::from_be_bytes)
}

/// Where the UDP header is, behind as many extension headers as a sender might hide it.
#[inline(always)]
fn ipv6_udp_offset(skb: Skb) -> Option<usize> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    const EXTENSIONS: usize = 8;
    let [mut next] = skb.load::<1>(ETHERNET_LENGTH + 6)?;
    let mut offset = ETHERNET_LENGTH + 40;
    for _ in 0..EXTENSIONS {
        let length = match next {
            17 => return Some(offset),
            FRAGMENT => 8,
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let [units] = skb.load::<1>(offset + 1)?;
                8 + usize::from(units) * 8
            }
            _ => return None,
        };
        [next] = skb.load::<1>(offset)?;
        offset += length;
    }
    None
}
