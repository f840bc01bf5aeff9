//! The way of a packet through a node: parse, identify both ends, judge, say where it goes. One function per program; the
//! programs only fetch the bytes and act on the answer.
//!
//! Nothing in a packet is believed: at an endpoint the interface says who sends, in the overlay the placement does.

use core::mem::MaybeUninit;

use crate::{
    address::{Address, GATEWAY_V4, GATEWAY_V6, Mac},
    datagram::{Datagrams, recall, remember},
    identity::Identity,
    judge::{Ends, Matter, Node, Reviewed, Softening, review, try_matter},
    packet::{
        Bytes, ETHERNET_LENGTH, Ethertype, Family, IPV6_LENGTH, Packet, Protocol, is_neighbor_discovery, parse,
        parse_frame, parse_source,
    },
    placement::{End, Endpoint, Place, Placement, Standing, Tag, prove_tag},
    tuple::FlowKey,
    verdict::{DropReason, Grounds, Outcome, Pass},
};

/// A node's look-ups of who is where.
pub trait Site: Node + Datagrams {
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
    /// The same, in more than one piece.
    OverlayInPieces,
    /// Back into the instance that asked for its gateway by ARP.
    Arp,
    /// Back into the instance that asked for its gateway by neighbour discovery.
    Neighbor,
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
    /// Who sent it, as far as that is proven.
    pub source: Identity,
    /// Whom it is for, as far as that is known.
    pub destination: Identity,
    /// What the verdict rests on.
    pub grounds: Grounds,
    /// Where the endpoint that it concerns is counted.
    pub slot: u32,
    mac_rest: u32,
    mac_first: u16,
    pub way: Way,
    /// Whether the packet could be read.
    parsed: bool,
    padding: [u8; 4],
}

/// All that is found out about a packet: what the stages trace; what it says, once it is read; and how it comes before the
/// judge. What the later stages write is not set before.
#[repr(C)]
pub struct Findings {
    pub trace: Trace,
    packet: MaybeUninit<Packet>,
    matter: MaybeUninit<Matter>,
    reason: MaybeUninit<DropReason>,
}

impl Findings {
    /// Nothing is known yet.
    pub const fn new() -> Self {
        Self {
            trace: Trace::EMPTY,
            packet: MaybeUninit::uninit(),
            matter: MaybeUninit::uninit(),
            reason: MaybeUninit::uninit(),
        }
    }

    /// What the packet says, if it could be read.
    #[inline(always)]
    pub const fn packet(&self) -> Option<&Packet> {
        // SAFETY: `parsed` is set only after all of the packet was written.
        if self.trace.parsed { Some(unsafe { self.packet.assume_init_ref() }) } else { None }
    }

    /// Writes down why the packet is dropped, and reads it back. For the verifier, which would otherwise follow all that comes
    /// after once for each reason that there is: what comes out of a map is any value to it.
    #[inline(always)]
    pub fn note_drop(&mut self, reason: DropReason) -> DropReason {
        let place = self.reason.write(reason);
        // SAFETY: a reference is valid, aligned and initialised.
        unsafe { core::ptr::read_volatile(place) }
    }

    /// Where the matter is, once there is one.
    #[inline(always)]
    pub const fn matter(&mut self) -> &mut MaybeUninit<Matter> {
        &mut self.matter
    }

    /// Reads the packet; what is found goes on being written beside it.
    #[inline(always)]
    fn read<B: Bytes + ?Sized>(&mut self, bytes: &B, family: Family) -> Result<Read<'_>, DropReason> {
        let packet = parse(bytes, family, &mut self.packet)?;
        self.trace.parsed = true;
        Ok(Read { packet, trace: &mut self.trace, matter: &mut self.matter })
    }
}

impl Default for Findings {
    fn default() -> Self {
        Self::new()
    }
}

/// A packet that could be read, and what is found out about it.
struct Read<'a> {
    packet: &'a mut Packet,
    trace: &'a mut Trace,
    matter: &'a mut MaybeUninit<Matter>,
}

impl Trace {
    pub const EMPTY: Self = Self {
        node: Address::NONE,
        ifindex: 0,
        source: Identity::UNKNOWN,
        destination: Identity::UNKNOWN,
        grounds: Grounds::NONE,
        slot: 0,
        mac_rest: 0,
        mac_first: 0,
        way: Way::Stack,
        parsed: false,
        padding: [0; 4],
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
        // By words: as a whole, the compiler calls `memmove`, which on this target goes byte by byte.
        let [first, second] = placement.node().words();
        self.node = Address::from_words([first, second]);
    }

    #[inline(always)]
    const fn return_to(&mut self, way: Way, ifindex: u32, endpoint: &Endpoint) {
        self.way = way;
        self.ifindex = ifindex;
        self.set_mac(endpoint.mac());
    }
}

/// What an instance sends: its source is proven by the interface alone, then both ends of the flow are judged.
#[inline(always)]
pub fn judge_egress<S: Site, B: Bytes + ?Sized>(
    site: &S,
    bytes: &B,
    ifindex: u32,
    found: &mut Findings,
) -> Result<Pass, DropReason> {
    let endpoint = site.endpoint(ifindex).ok_or(DropReason::UnknownEndpoint)?;
    let trace = &mut found.trace;
    trace.slot = endpoint.slot();
    trace.source = endpoint.end().identity;
    let frame = parse_frame(bytes)?;
    if frame.source != endpoint.mac() {
        return Err(DropReason::SpoofedMac);
    }
    match frame.ethertype? {
        Ethertype::Arp => {
            pass_barrier(endpoint.standing())?;
            prove_arp(bytes, endpoint)?;
            trace.return_to(Way::Arp, ifindex, endpoint);
            Ok(Pass::Established)
        }
        Ethertype::Ip(Family::V6) if solicits(bytes)? => {
            pass_barrier(endpoint.standing())?;
            prove_solicitation(bytes, endpoint)?;
            trace.return_to(Way::Neighbor, ifindex, endpoint);
            Ok(Pass::Established)
        }
        Ethertype::Ip(family) => judge_ip_egress(site, bytes, family, Departure { endpoint, ifindex }, found),
    }
}

/// The endpoint that a packet comes out of.
struct Departure<'a> {
    endpoint: &'a Endpoint,
    ifindex: u32,
}

#[inline(always)]
fn judge_ip_egress<S: Site, B: Bytes + ?Sized>(
    site: &S,
    bytes: &B,
    family: Family,
    from: Departure,
    found: &mut Findings,
) -> Result<Pass, DropReason> {
    let endpoint = from.endpoint;
    let source = parse_source(bytes, family)?;
    if source != endpoint.address(family) || source.is_none() {
        return Err(if source.is_provisional() { DropReason::LinkLocal } else { DropReason::SpoofedSource });
    }
    let read = found.read(bytes, family)?;
    let (packet, trace) = (&*read.packet, &mut *read.trace);
    let for_overlay_port =
        packet.protocol == Protocol::Udp && u32::from(packet.destination_port) == site.settings().overlay_port;
    let Some(destination) = site.placement(&packet.destination) else {
        pass_barrier(endpoint.standing())?;
        return Err(nowhere(packet, for_overlay_port));
    };
    trace.destination = destination.end().identity;
    let here = (Some(Place::Local), endpoint.standing());
    let place = destination.place();
    match place {
        Some(Place::Remote) => trace.tunnel(destination),
        Some(Place::Local) => trace.enter(destination),
        Some(Place::Host) if for_overlay_port => return Err(DropReason::OverlayPort),
        Some(Place::Host) => {}
        None => return Err(nowhere(packet, for_overlay_port)),
    }
    pass_barrier(endpoint.standing().and(destination.standing()))?;
    if place == Some(Place::Remote) && !fits(site, bytes, packet) {
        if !may_be_cut(site, bytes, family) {
            return Err(DropReason::TooBig);
        }
        trace.way = Way::OverlayInPieces;
    }
    let ends = Ends {
        source: endpoint.end(),
        destination: destination.end(),
        softening: softening(here, (place, destination.standing())),
    };
    settle(site, bytes, read, from.ifindex, ends)
}

/// Why a packet is dropped that is for an address of nobody that an instance here could speak with.
#[inline(always)]
fn nowhere(packet: &Packet, for_overlay_port: bool) -> DropReason {
    if for_overlay_port {
        DropReason::OverlayPort
    } else if packet.destination.is_for_many() {
        DropReason::Multicast
    } else {
        DropReason::UnknownDestination
    }
}

#[inline(always)]
fn pass_barrier(standing: Standing) -> Result<(), DropReason> {
    match standing.barrier() {
        None => Ok(()),
        Some(reason) => Err(reason),
    }
}

/// Whether the overlay takes the packet, or each of those it is to be segmented into, as it is.
#[inline(always)]
fn fits<S: Site, B: Bytes + ?Sized>(site: &S, bytes: &B, packet: &Packet) -> bool {
    let most = ETHERNET_LENGTH + site.settings().mtu as usize;
    if bytes.length() <= most {
        return true;
    }
    let segment = bytes.segment();
    segment != 0 && usize::from(packet.transport) + usize::from(packet.header) + segment <= most
}

/// Whether what does not fit may go in pieces. Over an IPv6 underlay nobody cuts what carries it, whatever it says itself;
/// its sender has to be told.
#[inline(always)]
fn may_be_cut<S: Site, B: Bytes + ?Sized>(site: &S, bytes: &B, family: Family) -> bool {
    const DONT_FRAGMENT: u8 = 0x40;
    match family {
        Family::V4 if site.settings().underlay.is_v4() => {
            bytes.load::<1>(ETHERNET_LENGTH + 6).is_some_and(|[flags]| flags & DONT_FRAGMENT == 0)
        }
        Family::V4 | Family::V6 => false,
    }
}

/// Which flows between two places are softened here: those whose ends of this node are all in audit. With no app at its
/// other end a flow is softened outwards only.
#[inline(always)]
fn softening(source: (Option<Place>, Standing), destination: (Option<Place>, Standing)) -> Softening {
    let (from, to) = (source.1.is_audited(), destination.1.is_audited());
    match (source.0, destination.0) {
        (Some(Place::Local), Some(Place::Local)) => Softening::both(from && to),
        (Some(Place::Local), Some(Place::Remote)) => Softening::both(from),
        (Some(Place::Remote), Some(Place::Local)) => Softening::both(to),
        (Some(Place::Local), Some(Place::Host)) => Softening { from_source: from, from_destination: false },
        (Some(Place::Host), Some(Place::Local)) => Softening { from_source: false, from_destination: to },
        (_, _) => Softening::both(false),
    }
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
    let own = sender == endpoint.address(Family::V4) || sender == Address::from_v4([0; 4]);
    let honest = u64::from_ne_bytes([h0, h1, h2, h3, h4, h5, h6, h7]) == u64::from_ne_bytes(REQUEST)
        && Mac([m0, m1, m2, m3, m4, m5]) == endpoint.mac()
        && own
        && Address::from_v4([t0, t1, t2, t3]) == Address::from_v4(GATEWAY_V4.octets());
    if honest { Ok(()) } else { Err(DropReason::SpoofedArp) }
}

const ICMPV6: usize = ETHERNET_LENGTH + IPV6_LENGTH;

/// Whether an IPv6 packet is one of neighbour discovery.
#[inline(always)]
fn solicits<B: Bytes + ?Sized>(bytes: &B) -> Result<bool, DropReason> {
    const NEXT: u8 = 58;
    let [next] = load::<1, B>(bytes, ETHERNET_LENGTH + 6)?;
    if next != NEXT {
        return Ok(false);
    }
    load::<1, B>(bytes, ICMPV6).map(|[kind]| is_neighbor_discovery(kind))
}

/// A question for the one gateway there is, from the endpoint itself, is answered; all else is dropped.
#[inline(always)]
fn prove_solicitation<B: Bytes + ?Sized>(bytes: &B, endpoint: &Endpoint) -> Result<(), DropReason> {
    /// Neighbour solicitation.
    const QUESTION: u8 = 135;
    // Nobody forwards with this hop limit.
    const HOPS: u8 = 255;
    let source = parse_source(bytes, Family::V6)?;
    let [hops] = load::<1, B>(bytes, ETHERNET_LENGTH + 7)?;
    let [kind, code] = load::<2, B>(bytes, ICMPV6)?;
    let target = load::<16, B>(bytes, ICMPV6 + 8)?;
    let own = source == endpoint.address(Family::V6) && !source.is_none() || source.is_link_local();
    let honest = kind == QUESTION
        && code == 0
        && hops == HOPS
        && own
        && Address::from_v6(target) == Address::from_v6(GATEWAY_V6.octets());
    if honest { Ok(()) } else { Err(DropReason::NeighborDiscovery) }
}

/// What the node's stack sends to an instance: only what was made here (`entered_by` 0), from an address of this node, is
/// the host's. An overlay address that arrives this way proves nothing and is refused.
#[inline(always)]
pub fn judge_from_host<S: Site, B: Bytes + ?Sized>(
    site: &S,
    bytes: &B,
    ifindex: u32,
    entered_by: u32,
    found: &mut Findings,
) -> Result<Pass, DropReason> {
    let endpoint = site.endpoint(ifindex).ok_or(DropReason::UnknownEndpoint)?;
    let trace = &mut found.trace;
    trace.slot = endpoint.slot();
    trace.destination = endpoint.end().identity;
    let Ethertype::Ip(family) = parse_frame(bytes)?.ethertype? else {
        return Err(DropReason::SpoofedArp);
    };
    let source = parse_source(bytes, family)?;
    match site.placement(&source).and_then(Placement::place) {
        Some(Place::Host) if entered_by == 0 => {}
        Some(Place::Local | Place::Remote) => return Err(DropReason::OverlaySourceFromHost),
        Some(Place::Host) | None => return Err(DropReason::NotFromHost),
    }
    pass_barrier(endpoint.standing())?;
    let read = found.read(bytes, family)?;
    read.trace.source = Identity::HOST;
    if read.packet.destination != endpoint.address(family) {
        return Err(DropReason::NotLocal);
    }
    let here = (Some(Place::Local), endpoint.standing());
    let ends = Ends {
        source: End::HOST,
        destination: endpoint.end(),
        softening: softening((Some(Place::Host), Standing::ORDINARY), here),
    };
    settle(site, bytes, read, ifindex, ends)
}

/// What other nodes send: the tag is proven by placement before anything else is believed.
#[inline(always)]
pub fn judge_ingress<S: Site, B: Bytes + ?Sized>(
    site: &S,
    bytes: &B,
    tag: &Tag,
    found: &mut Findings,
) -> Result<Pass, DropReason> {
    let Ethertype::Ip(family) = parse_frame(bytes)?.ethertype? else {
        return Err(DropReason::UnsupportedEthertype);
    };
    let inner = parse_source(bytes, family)?;
    prove_tag(tag, site.placement(&inner), |node| site.is_node(node))?;
    found.trace.source = tag.identity;
    let read = found.read(bytes, family)?;
    let destination = site.placement(&read.packet.destination).ok_or(DropReason::NotLocal)?;
    let trace = &mut *read.trace;
    match destination.place() {
        Some(Place::Local) => trace.enter(destination),
        Some(Place::Remote | Place::Host) | None => return Err(DropReason::NotLocal),
    }
    trace.slot = destination.slot();
    trace.destination = destination.end().identity;
    // What is isolated elsewhere is held back there.
    pass_barrier(destination.standing())?;
    let ends = Ends {
        source: End { identity: tag.identity, generation: 0 },
        destination: destination.end(),
        softening: softening((Some(Place::Remote), Standing::ORDINARY), (Some(Place::Local), destination.standing())),
    };
    settle(site, bytes, read, FROM_OVERLAY, ends)
}

/// The entrance of what comes from other nodes; what comes from an endpoint has its host-side veth's number.
const FROM_OVERLAY: u32 = 0;

/// Asks the engine; fragments through the memory of their datagram.
#[inline(always)]
fn settle<S: Site, B: Bytes + ?Sized>(
    site: &S,
    bytes: &B,
    read: Read,
    entrance: u32,
    ends: Ends,
) -> Result<Pass, DropReason> {
    let Read { packet, trace, matter } = read;
    let whole = packet.fragment.is_whole();
    if !whole {
        recall(site, packet, entrance)?;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the kernel counts a packet's bytes in 32 bits")]
    let matter = matter.write(Matter::new(packet, ends, bytes.length() as u32, site.settings().seed));
    match try_matter(site, matter, &mut trace.grounds) {
        Outcome::Pass(pass) if whole => Ok(pass),
        Outcome::Pass(pass) => {
            let limit = site.settings().quotas.fragmented;
            remember(site, packet, entrance, site.now(), limit).map_or(Ok(pass), Err)
        }
        Outcome::Drop(reason) => Err(reason),
    }
}

/// Looks at a flow without a packet, in a place of the caller's: whether it may go on, and if not, whether that was known
/// before.
#[inline(always)]
pub fn review_flow<S: Site>(site: &S, handle: S::Handle, key: &FlowKey, place: &mut MaybeUninit<Matter>) -> Reviewed {
    let (tuple, initiator) = (site.tuple(handle, key), site.read(handle).initiator());
    // Of an instance that is gone nothing is cut; its flows bind nobody any more.
    let Some(from) = site.placement(&tuple.address(initiator)) else { return Reviewed::Stands };
    let Some(to) = site.placement(&tuple.address(initiator.other())) else { return Reviewed::Stands };
    let isolated = from.standing().and(to.standing()).barrier().is_some();
    let ends = Ends {
        source: from.end(),
        destination: to.end(),
        softening: softening((from.place(), from.standing()), (to.place(), to.standing())),
    };
    let Some(matter) = Matter::of_flow(key, &tuple, initiator, ends) else { return Reviewed::Stands };
    review(site, handle, place.write(matter), isolated)
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
