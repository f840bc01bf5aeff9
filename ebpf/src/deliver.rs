//! The ways out: into a local instance, into the overlay, up the host's stack.

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX, bpf_tunnel_key},
    btf_maps::PerCpuArray,
    helpers::{
        bpf_get_prandom_u32, bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_change_type,
        bpf_skb_set_tunnel_key,
    },
    macros::btf_map,
};
use common::{
    Address, Family, Mac, Node as _,
    outer::{OVER_V4, OVER_V6, Parcel, TYPE_AT, over_v4, over_v6},
    packet::{Bytes as _, ETHERNET_LENGTH},
    path::{Trace, Way},
};

use crate::{
    act::TO_STACK,
    kernel::Kernel,
    neighbor::{answer_arp, answer_solicitation},
    skb::{Skb, size_of_u32},
};

/// The action that delivers a packet; `None` if the kernel refused.
#[inline(always)]
pub fn deliver(skb: Skb, kernel: &Kernel, trace: &Trace) -> Option<i32> {
    match trace.way {
        Way::Stack => Some(TO_STACK),
        Way::Endpoint => {
            let skb = if skb.is_inside() { skb.unwrap()? } else { skb };
            skb.set_macs(from_gateway(trace.mac()))?;
            redirect_peer(trace.ifindex)
        }
        Way::Overlay if kernel.settings().uplink_ifindex != 0 => send(skb, kernel, trace),
        Way::Overlay | Way::OverlayInPieces => send_by_device(skb, kernel, trace),
        Way::Arp => {
            answer_arp(skb, trace.mac())?;
            hand_back(skb, trace.ifindex)
        }
        Way::Neighbor => {
            answer_solicitation(skb, trace.mac())?;
            hand_back(skb, trace.ifindex)
        }
    }
}

/// Gives an instance the answer that its own packet was turned into.
#[inline(always)]
pub fn hand_back(skb: Skb, ifindex: u32) -> Option<i32> {
    const PACKET_HOST: u32 = 0;
    // SAFETY: the context is the program's own.
    let typed = unsafe { bpf_skb_change_type(skb.raw(), PACKET_HOST) };
    if typed == 0 { redirect_peer(ifindex) } else { None }
}

/// Marks what the node's own stack is told of its own packets, on its way there.
const ANSWER_TO_HOST: u32 = 0x6e70_2121;

#[inline(always)]
pub fn is_told_to_host(skb: Skb) -> bool {
    skb.mark() == ANSWER_TO_HOST
}

/// Gives the node's stack the answer that its own packet was turned into, as if the instance had sent it.
#[inline(always)]
pub fn hand_up(skb: Skb, ifindex: u32) -> Option<i32> {
    skb.set_mark(ANSWER_TO_HOST);
    // SAFETY: the helper has no preconditions.
    redirected(unsafe { bpf_redirect(ifindex, u64::from(BPF_F_INGRESS)) })
}

/// The two MAC addresses of a frame from an instance to the gateway, as words.
#[inline(always)]
pub fn to_gateway(Mac([a, b, c, d, e, f]): Mac) -> [u32; 3] {
    [u32::from_ne_bytes([GATEWAY; 4]), u32::from_ne_bytes([GATEWAY, GATEWAY, a, b]), u32::from_ne_bytes([c, d, e, f])]
}

/// The two MAC addresses of a frame from the gateway to an instance, as words: the target sets bytes one by one.
#[inline(always)]
pub fn from_gateway(Mac([a, b, c, d, e, f]): Mac) -> [u32; 3] {
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, GATEWAY, GATEWAY]), u32::from_ne_bytes([GATEWAY; 4])]
}

/// The byte that the gateway's address repeats: the words above are made of it.
const GATEWAY: u8 = {
    let [first, rest @ ..] = Mac::GATEWAY.0;
    let mut i = 0;
    while i < rest.len() {
        assert!(rest[i] == first, "the words above repeat one byte");
        i += 1;
    }
    first
};

const REDIRECTED: i64 = 7;

#[inline(always)]
fn redirect_peer(ifindex: u32) -> Option<i32> {
    // SAFETY: the helper has no preconditions; a wrong ifindex is a drop in the kernel.
    let action = unsafe { bpf_redirect_peer(ifindex, 0) };
    redirected(action)
}

#[inline(always)]
fn redirected(action: i64) -> Option<i32> {
    if action == REDIRECTED { i32::try_from(action).ok() } else { None }
}

/// The key of the packet that leaves on this CPU. What is not set here is zero and stays so: nobody else writes it.
#[btf_map]
static TUNNEL: PerCpuArray<TunnelKey, 1> = PerCpuArray::new();

/// The helper's structure.
#[repr(C, align(8))]
struct TunnelKey(bpf_tunnel_key);

/// Wraps the packet and sends it by the uplink, past the node's stack; by the tunnel device where that cannot be. A function of
/// its own, so that the headers do not lie on the judge's stack.
#[inline(never)]
fn send(skb: Skb, kernel: &Kernel, trace: &Trace) -> Option<i32> {
    let settings = kernel.settings();
    let outer = if settings.underlay.is_v4() { Family::V4 } else { Family::V6 };
    let over = if outer == Family::V4 { OVER_V4 } else { OVER_V6 };
    let Ok(length) = u16::try_from(skb.length() - ETHERNET_LENGTH) else {
        return send_by_device(skb, kernel, trace);
    };
    let frame = skb.load::<16>(0)?;
    let entropy = skb.hash();
    if length > u16::MAX - over || !skb.make_room_for_tunnel(outer, over) {
        return send_by_device(skb, kernel, trace);
    }
    // SAFETY: the helper has no preconditions.
    let random = unsafe { bpf_get_prandom_u32() };
    #[expect(clippy::cast_possible_truncation, reason = "any 16 bits of it")]
    let id = random as u16;
    let parcel = Parcel { node: trace.node, identity: trace.source, frame, length, entropy, id };
    match outer {
        Family::V4 => skb.store(TYPE_AT, &over_v4(&parcel, settings)),
        Family::V6 => skb.store(TYPE_AT, &over_v6(&parcel, settings)),
    }
    .ok()?;
    skb.set_mark(settings.mark);
    // SAFETY: the helper has no preconditions; it asks for the next hop and its MAC address by the outer header.
    redirected(unsafe { bpf_redirect_neigh(settings.uplink_ifindex, core::ptr::null_mut(), 0, 0) })
}

/// Gives the packet its tunnel key and our mark, without which it would not pass the uplink.
#[inline(always)]
fn send_by_device(skb: Skb, kernel: &Kernel, trace: &Trace) -> Option<i32> {
    const SIZE: u32 = size_of_u32::<bpf_tunnel_key>();
    let settings = kernel.settings();
    let key = TUNNEL.get_ptr_mut(0)?;
    // SAFETY: the slot is this CPU's own until the program ends, all of it is integers, and the helper reads `SIZE` bytes.
    let set = unsafe {
        let key = &mut (*key).0;
        key.tunnel_id = trace.source.number();
        key.tunnel_ttl = 64;
        let flags = if trace.node.is_v4() {
            // The kernel wants IPv4 addresses in its own byte order here.
            key.__bindgen_anon_1.remote_ipv4 = u32::from_be_bytes(trace.node.v4_octets());
            key.__bindgen_anon_3.local_ipv4 = u32::from_be_bytes(settings.underlay.v4_octets());
            BPF_F_ZERO_CSUM_TX
        } else {
            key.__bindgen_anon_1.remote_ipv6 = words(trace.node);
            key.__bindgen_anon_3.local_ipv6 = words(settings.underlay);
            BPF_F_ZERO_CSUM_TX | BPF_F_TUNINFO_IPV6
        };
        bpf_skb_set_tunnel_key(skb.raw(), key, SIZE, u64::from(flags))
    };
    if set != 0 {
        return None;
    }
    skb.set_mark(settings.mark);
    // SAFETY: the helper has no preconditions.
    redirected(unsafe { bpf_redirect(settings.overlay_ifindex, 0) })
}

/// An IPv6 address as the kernel's words, each in network order.
#[inline(always)]
fn words(address: Address) -> [u32; 4] {
    let [a, b] = address.words();
    #[expect(clippy::cast_possible_truncation, reason = "halves of words, as they lie in memory")]
    [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32]
}
