//! What other nodes send: the tag is proven by placement before anything else is believed.

use core::mem;

use aya_ebpf::{bindings::bpf_tunnel_key, helpers::bpf_skb_get_tunnel_key};
use common::{
    Address, DropReason, Identity, Pass,
    packet::{Ethertype, parse_frame, parse_ipv4, parse_ipv4_source},
    placement::{End, Place, Tag, prove_tag},
};

use crate::{
    act::Trace,
    deliver::Delivery,
    endpoint::settle,
    kernel::{find_placement, is_node},
    skb::Skb,
};

/// What arrives through the overlay: proven tag, local destination, then policy.
#[inline(always)]
pub fn judge_ingress(skb: Skb, trace: &mut Trace) -> Result<Pass, DropReason> {
    let tag = read_tag(skb).ok_or(DropReason::NoTunnelKey)?;
    let Ethertype::Ipv4 = parse_frame(&skb)?.ethertype? else {
        return Err(DropReason::UnsupportedEthertype);
    };
    let inner = parse_ipv4_source(&skb)?;
    trace.event.source = inner;
    let source = find_placement(&inner);
    prove_tag(&tag, source, is_node)?;
    trace.event.source_identity = tag.identity.number();
    let packet = parse_ipv4(&skb)?;
    trace.event.describe(&packet);
    let destination = find_placement(&packet.destination).ok_or(DropReason::NotLocal)?;
    match destination.place() {
        Some(Place::Local) => trace.delivery = Delivery::endpoint(destination.ifindex(), destination.mac()),
        Some(Place::Closed) => return Err(DropReason::EndpointClosed),
        Some(Place::Remote | Place::Host) | None => return Err(DropReason::NotLocal),
    }
    trace.event.destination_identity = destination.end().identity.number();
    settle(&packet, End { identity: tag.identity, generation: 0 }, destination.end(), trace)
}

/// What the outer headers claim.
#[inline(always)]
fn read_tag(skb: Skb) -> Option<Tag> {
    const SIZE: u32 = size_of::<bpf_tunnel_key>() as u32;
    // SAFETY: all fields are integers.
    let mut key: bpf_tunnel_key = unsafe { mem::zeroed() };
    // SAFETY: `key` is `SIZE` bytes that the helper may write.
    let got = unsafe { bpf_skb_get_tunnel_key(skb.raw(), &raw mut key, SIZE, 0) };
    if got != 0 {
        return None;
    }
    // SAFETY: without the IPv6 flag the helper fills the IPv4 member, in this machine's byte order.
    let node = unsafe { key.__bindgen_anon_1.remote_ipv4 };
    Some(Tag { node: Address::from_v4(node.to_be_bytes()), identity: Identity::from_vni(key.tunnel_id) })
}
