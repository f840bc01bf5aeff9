//! The two programs on an endpoint's veth: what the instance sends, and what the node's own stack sends to it.

use common::{
    DropReason, Ends, Node as _, Outcome, Packet, Pass, Protocol, judge,
    packet::{Ethertype, parse_frame, parse_ipv4, parse_ipv4_source},
    placement::{End, Endpoint, Place, Placement},
};

use crate::{
    act::Trace,
    arp,
    deliver::Delivery,
    kernel::{Kernel, find_endpoint, find_placement},
    skb::Skb,
};

/// What an instance sends: its source is proven by the interface alone, then both ends of the flow are judged.
#[inline(always)]
pub fn judge_egress(skb: Skb, trace: &mut Trace) -> Result<Pass, DropReason> {
    let endpoint = open_endpoint(skb)?;
    trace.event.source_identity = endpoint.end().identity.number();
    let frame = parse_frame(&skb)?;
    if frame.source != endpoint.mac() {
        return Err(DropReason::SpoofedMac);
    }
    match frame.ethertype? {
        Ethertype::Arp => {
            arp::answer(skb, endpoint)?;
            trace.delivery = Delivery::answer(skb.ifindex());
            Ok(Pass::Established)
        }
        Ethertype::Ipv4 => judge_ipv4_egress(skb, endpoint, trace),
    }
}

#[inline(always)]
fn judge_ipv4_egress(skb: Skb, endpoint: &Endpoint, trace: &mut Trace) -> Result<Pass, DropReason> {
    let source = parse_ipv4_source(&skb)?;
    trace.event.source = source;
    if source != endpoint.address_v4() {
        return Err(DropReason::SpoofedSource);
    }
    let packet = parse_ipv4(&skb)?;
    trace.event.describe(&packet);
    let destination = find_placement(&packet.destination).ok_or_else(|| nowhere(&packet))?;
    trace.event.destination_identity = destination.end().identity.number();
    trace.delivery = match destination.place().ok_or(DropReason::UnknownDestination)? {
        Place::Remote => Delivery::overlay(destination.node(), endpoint.end().identity),
        Place::Local => Delivery::endpoint(destination.ifindex(), destination.mac()),
        Place::Closed => return Err(DropReason::EndpointClosed),
        Place::Host if is_for_overlay_port(&packet) => return Err(DropReason::OverlayPort),
        Place::Host => Delivery::STACK,
    };
    settle(&packet, endpoint.end(), destination.end(), trace)
}

/// Why a packet to an address that nobody holds is dropped.
#[inline(always)]
fn nowhere(packet: &Packet) -> DropReason {
    if is_for_overlay_port(packet) { DropReason::OverlayPort } else { DropReason::UnknownDestination }
}

#[inline(always)]
fn is_for_overlay_port(packet: &Packet) -> bool {
    packet.protocol == Protocol::Udp && u32::from(packet.destination_port) == Kernel.settings().overlay_port
}

/// What the node's stack sends to an instance: only what was made here, from an address of this node, is the host's.
/// An overlay address that arrives this way proves nothing and is refused.
#[inline(always)]
pub fn judge_from_host(skb: Skb, trace: &mut Trace) -> Result<Pass, DropReason> {
    let endpoint = open_endpoint(skb)?;
    trace.event.destination_identity = endpoint.end().identity.number();
    let Ethertype::Ipv4 = parse_frame(&skb)?.ethertype? else {
        return Err(DropReason::SpoofedArp);
    };
    let source = parse_ipv4_source(&skb)?;
    trace.event.source = source;
    match find_placement(&source).and_then(Placement::place) {
        Some(Place::Host) if skb.ingress_ifindex() == 0 => {}
        Some(Place::Local | Place::Closed | Place::Remote) => return Err(DropReason::OverlaySourceFromHost),
        Some(Place::Host) | None => return Err(DropReason::NotFromHost),
    }
    let packet = parse_ipv4(&skb)?;
    trace.event.describe(&packet);
    trace.event.source_identity = End::HOST.identity.number();
    if packet.destination != endpoint.address_v4() {
        return Err(DropReason::NotLocal);
    }
    settle(&packet, End::HOST, endpoint.end(), trace)
}

/// Asks the engine.
#[inline(always)]
pub fn settle(packet: &Packet, source: End, destination: End, trace: &mut Trace) -> Result<Pass, DropReason> {
    let verdict = judge(&Kernel, packet, &Ends { source, destination });
    trace.event.rule = verdict.rule().0;
    match verdict.outcome() {
        Outcome::Pass(pass) => Ok(pass),
        Outcome::Drop(reason) => Err(reason),
    }
}

/// The endpoint on whose veth the packet is, if anything may pass there.
#[inline(always)]
fn open_endpoint(skb: Skb) -> Result<&'static Endpoint, DropReason> {
    let endpoint = find_endpoint(skb.ifindex()).ok_or(DropReason::UnknownEndpoint)?;
    if endpoint.is_closed() { Err(DropReason::EndpointClosed) } else { Ok(endpoint) }
}
