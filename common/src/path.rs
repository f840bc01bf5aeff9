//! The way of a packet through a node: parse, identify both ends, judge, say where it goes. One function per program; the
//! programs only fetch the bytes and act on the answer.
//!
//! Nothing in a packet is believed: at an endpoint the interface says who sends, in the overlay the placement does.

use crate::{
    address::{Address, Mac},
    identity::Identity,
    judge::{Ends, Node, judge},
    packet::{Bytes, ETHERNET_LENGTH, Ethertype, Packet, Protocol, parse_frame, parse_ipv4, parse_ipv4_source},
    placement::{End, Endpoint, Place, Placement, Tag, prove_tag},
    rule::RuleId,
    verdict::{DropReason, Outcome, Pass},
};

/// A node's look-ups of who is where.
pub trait Site: Node {
    /// The endpoint whose host-side veth this is.
    fn endpoint(&self, ifindex: u32) -> Option<&Endpoint>;
    /// Where an address is placed.
    fn placement(&self, address: &Address) -> Option<&Placement>;
    /// Whether a node with this underlay address is registered.
    fn is_node(&self, underlay: &Address) -> bool;
}

/// The way that a packet goes.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// On its way: up the host's stack, or out of the interface it was on.
    Stack = 0,
    /// Into the instance behind a host-side veth.
    Endpoint,
    /// To another node, tagged with its source app's identity.
    Overlay,
    /// Back into the instance that asked for its gateway.
    Arp,
}

/// What the stages find out about a packet, filled in as they go: where it will go if it may, and who its ends are. One
/// struct whose fields are all set, like [`crate::Verdict`] and for the same reason, and in an order in which the compiler
/// can set them by a few whole words: the target's `memset` goes byte by byte.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The underlay address to send to.
    pub node: Address,
    /// The host-side veth to deliver behind.
    pub ifindex: u32,
    /// The rule that decided, or [`RuleId::NONE`].
    pub rule: RuleId,
    /// Who sent it, as far as that is proven.
    pub source: Identity,
    /// Whom it is for, as far as that is known.
    pub destination: Identity,
    mac_rest: u32,
    mac_first: u16,
    pub way: Way,
    padding: u8,
}

impl Trace {
    pub const EMPTY: Self = Self {
        node: Address::NONE,
        ifindex: 0,
        rule: RuleId::NONE,
        source: Identity::UNKNOWN,
        destination: Identity::UNKNOWN,
        mac_rest: 0,
        mac_first: 0,
        way: Way::Stack,
        padding: 0,
    };

    /// The MAC address to deliver to.
    #[inline(always)]
    pub const fn mac(&self) -> Mac {
        Mac::from_words(self.mac_first, self.mac_rest)
    }

    #[inline(always)]
    const fn set_mac(&mut self, mac: Mac) {
        (self.mac_first, self.mac_rest) = mac.words();
    }

    #[inline(always)]
    const fn enter(&mut self, placement: &Placement) {
        self.way = Way::Endpoint;
        self.ifindex = placement.ifindex();
        self.set_mac(placement.mac());
    }

    #[inline(always)]
    const fn tunnel(&mut self, placement: &Placement) {
        self.way = Way::Overlay;
        self.node = placement.node();
    }
}

/// What an instance sends: its source is proven by the interface alone, then both ends of the flow are judged.
#[inline(always)]
pub fn judge_egress<S: Site, B: Bytes + ?Sized>(
    site: &S,
    bytes: &B,
    ifindex: u32,
    trace: &mut Trace,
) -> Result<Pass, DropReason> {
    let endpoint = open_endpoint(site, ifindex)?;
    trace.source = endpoint.end().identity;
    let frame = parse_frame(bytes)?;
    if frame.source != endpoint.mac() {
        return Err(DropReason::SpoofedMac);
    }
    match frame.ethertype? {
        Ethertype::Arp => {
            prove_arp(bytes, endpoint)?;
            trace.way = Way::Arp;
            trace.ifindex = ifindex;
            trace.set_mac(endpoint.mac());
            Ok(Pass::Established)
        }
        Ethertype::Ipv4 => judge_ipv4_egress(site, bytes, endpoint, trace),
    }
}

#[inline(always)]
fn judge_ipv4_egress<S: Site, B: Bytes + ?Sized>(
    site: &S,
    bytes: &B,
    endpoint: &Endpoint,
    trace: &mut Trace,
) -> Result<Pass, DropReason> {
    let source = parse_ipv4_source(bytes)?;
    if source != endpoint.address_v4() {
        return Err(DropReason::SpoofedSource);
    }
    let packet = parse_ipv4(bytes)?;
    let for_overlay_port =
        packet.protocol == Protocol::Udp && u32::from(packet.destination_port) == site.settings().overlay_port;
    let nowhere = if for_overlay_port { DropReason::OverlayPort } else { DropReason::UnknownDestination };
    let destination = site.placement(&packet.destination).ok_or(nowhere)?;
    trace.destination = destination.end().identity;
    match destination.place().ok_or(nowhere)? {
        Place::Remote => trace.tunnel(destination),
        Place::Local => trace.enter(destination),
        Place::Closed => return Err(DropReason::EndpointClosed),
        Place::Host if for_overlay_port => return Err(DropReason::OverlayPort),
        Place::Host => {}
    }
    settle(site, &packet, endpoint.end(), destination.end(), trace)
}

/// ARP is answered for one fixed gateway only, and only to the endpoint itself.
#[inline(always)]
fn prove_arp<B: Bytes + ?Sized>(bytes: &B, endpoint: &Endpoint) -> Result<(), DropReason> {
    /// Ethernet, IPv4, address lengths 6 and 4, request.
    const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
    let [h0, h1, h2, h3, h4, h5, h6, h7, m0, m1, m2, m3, m4, m5, s0, s1, s2, s3, _, _, _, _, _, _, t0, t1, t2, t3] =
        bytes.load::<28>(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
    let sender = Address::from_v4([s0, s1, s2, s3]);
    // A probe asks before the instance has an address.
    let own = sender == endpoint.address_v4() || sender == Address::from_v4([0; 4]);
    let honest = u64::from_ne_bytes([h0, h1, h2, h3, h4, h5, h6, h7]) == u64::from_ne_bytes(REQUEST)
        && Mac([m0, m1, m2, m3, m4, m5]) == endpoint.mac()
        && own
        && Address::from_v4([t0, t1, t2, t3]) == Address::from_v4(crate::address::GATEWAY_V4.octets());
    if honest { Ok(()) } else { Err(DropReason::SpoofedArp) }
}

/// What the node's stack sends to an instance: only what was made here (`entered_by` 0), from an address of this node, is
/// the host's. An overlay address that arrives this way proves nothing and is refused.
#[inline(always)]
pub fn judge_from_host<S: Site, B: Bytes + ?Sized>(
    site: &S,
    bytes: &B,
    ifindex: u32,
    entered_by: u32,
    trace: &mut Trace,
) -> Result<Pass, DropReason> {
    let endpoint = open_endpoint(site, ifindex)?;
    trace.destination = endpoint.end().identity;
    let Ethertype::Ipv4 = parse_frame(bytes)?.ethertype? else {
        return Err(DropReason::SpoofedArp);
    };
    let source = parse_ipv4_source(bytes)?;
    match site.placement(&source).and_then(Placement::place) {
        Some(Place::Host) if entered_by == 0 => {}
        Some(Place::Local | Place::Closed | Place::Remote) => return Err(DropReason::OverlaySourceFromHost),
        Some(Place::Host) | None => return Err(DropReason::NotFromHost),
    }
    let packet = parse_ipv4(bytes)?;
    trace.source = Identity::HOST;
    if packet.destination != endpoint.address_v4() {
        return Err(DropReason::NotLocal);
    }
    settle(site, &packet, End::HOST, endpoint.end(), trace)
}

/// What other nodes send: the tag is proven by placement before anything else is believed.
#[inline(always)]
pub fn judge_ingress<S: Site, B: Bytes + ?Sized>(
    site: &S,
    bytes: &B,
    tag: &Tag,
    trace: &mut Trace,
) -> Result<Pass, DropReason> {
    let Ethertype::Ipv4 = parse_frame(bytes)?.ethertype? else {
        return Err(DropReason::UnsupportedEthertype);
    };
    let inner = parse_ipv4_source(bytes)?;
    prove_tag(tag, site.placement(&inner), |node| site.is_node(node))?;
    trace.source = tag.identity;
    let packet = parse_ipv4(bytes)?;
    let destination = site.placement(&packet.destination).ok_or(DropReason::NotLocal)?;
    match destination.place() {
        Some(Place::Local) => trace.enter(destination),
        Some(Place::Closed) => return Err(DropReason::EndpointClosed),
        Some(Place::Remote | Place::Host) | None => return Err(DropReason::NotLocal),
    }
    trace.destination = destination.end().identity;
    settle(site, &packet, End { identity: tag.identity, generation: 0 }, destination.end(), trace)
}

/// Asks the engine.
#[inline(always)]
fn settle<S: Site>(
    site: &S,
    packet: &Packet,
    source: End,
    destination: End,
    trace: &mut Trace,
) -> Result<Pass, DropReason> {
    let verdict = judge(site, packet, &Ends { source, destination });
    trace.rule = verdict.rule();
    match verdict.outcome() {
        Outcome::Pass(pass) => Ok(pass),
        Outcome::Drop(reason) => Err(reason),
    }
}

/// The endpoint on whose veth the packet is, if anything may pass there.
#[inline(always)]
fn open_endpoint<S: Site>(site: &S, ifindex: u32) -> Result<&Endpoint, DropReason> {
    let endpoint = site.endpoint(ifindex).ok_or(DropReason::UnknownEndpoint)?;
    if endpoint.is_closed() { Err(DropReason::EndpointClosed) } else { Ok(endpoint) }
}

/// What leaves the node by its uplink: nothing but our own programs may send to the overlay port, or it could pass for
/// this node.
#[inline(always)]
pub fn judge_departure<S: Site, B: Bytes + ?Sized>(site: &S, bytes: &B, mark: u32) -> Result<Pass, DropReason> {
    let settings = site.settings();
    if mark == settings.mark {
        return Ok(Pass::Established);
    }
    match udp_destination_port(bytes)? {
        Some(port) if u32::from(port) == settings.overlay_port => Err(DropReason::OverlayPort),
        Some(_) | None => Ok(Pass::Established),
    }
}

/// The UDP destination port of a packet that has one. A fragment behind the first has none: without its head, which is
/// dropped here, nobody can put it together.
#[inline(always)]
fn udp_destination_port<B: Bytes + ?Sized>(bytes: &B) -> Result<Option<u16>, DropReason> {
    const IPV4: [u8; 2] = [8, 0];
    const IPV6: [u8; 2] = [0x86, 0xdd];
    let offset = match load::<2, B>(bytes, 12)? {
        IPV4 => ipv4_udp_offset(bytes)?,
        IPV6 => ipv6_udp_offset(bytes)?,
        _ => None,
    };
    let Some(offset) = offset else { return Ok(None) };
    load::<2, B>(bytes, offset + 2).map(|port| Some(u16::from_be_bytes(port)))
}

/// Bytes that must be there, or nobody knows what else is.
#[inline(always)]
fn load<const N: usize, B: Bytes + ?Sized>(bytes: &B, offset: usize) -> Result<[u8; N], DropReason> {
    bytes.load::<N>(offset).ok_or(DropReason::Malformed)
}

#[inline(always)]
fn ipv4_udp_offset<B: Bytes + ?Sized>(bytes: &B) -> Result<Option<usize>, DropReason> {
    let header = load::<10, B>(bytes, ETHERNET_LENGTH)?;
    let is_later_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    let is_udp = header[9] == Protocol::Udp as u8 && !is_later_fragment;
    Ok(is_udp.then_some(ETHERNET_LENGTH + usize::from(header[0] & 0x0f) * 4))
}

/// Where the UDP header is, behind extension headers. More of them than any sender needs are refused, or the header could
/// hide behind one more.
#[inline(always)]
fn ipv6_udp_offset<B: Bytes + ?Sized>(bytes: &B) -> Result<Option<usize>, DropReason> {
    const HOP_BY_HOP: u8 = 0;
    const UDP: u8 = Protocol::Udp as u8;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    const EXTENSIONS: usize = 8;
    let [mut next] = load::<1, B>(bytes, ETHERNET_LENGTH + 6)?;
    let mut offset = ETHERNET_LENGTH + 40;
    for _ in 0..EXTENSIONS {
        let [following, units] = match next {
            UDP => return Ok(Some(offset)),
            HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION => load::<2, B>(bytes, offset)?,
            _ => return Ok(None),
        };
        offset += if next == FRAGMENT { 8 } else { 8 + usize::from(units) * 8 };
        next = following;
    }
    Err(DropReason::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::ModelNode, settings::Settings};
    use std::{vec, vec::Vec};

    const OVERLAY_PORT: u16 = 4789;

    fn depart(frame: &[u8]) -> Result<Pass, DropReason> {
        let settings = Settings { overlay_port: u32::from(OVERLAY_PORT), mark: 1, ..Settings::NONE };
        judge_departure(&ModelNode::new(settings, 0), frame, 0)
    }

    /// UDP to the overlay port behind this many destination options.
    fn ipv6(extensions: usize) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET_LENGTH + 40];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[ETHERNET_LENGTH + 6] = if extensions == 0 { 17 } else { 60 };
        for i in 1..=extensions {
            frame.extend([if i == extensions { 17 } else { 60 }, 0, 0, 0, 0, 0, 0, 0]);
        }
        frame.extend([0, 0]);
        frame.extend(OVERLAY_PORT.to_be_bytes());
        frame
    }

    #[test]
    fn no_number_of_extension_headers_hides_the_overlay_port() {
        for extensions in 0..8 {
            assert_eq!(depart(&ipv6(extensions)), Err(DropReason::OverlayPort), "{extensions}");
        }
        for cut in 1..10 {
            let frame = ipv6(1);
            assert_eq!(depart(&frame[..frame.len() - cut]), Err(DropReason::Malformed), "{cut} bytes cut");
        }
        for extensions in 8..20 {
            assert_eq!(depart(&ipv6(extensions)), Err(DropReason::Malformed), "{extensions}");
        }
    }
}
