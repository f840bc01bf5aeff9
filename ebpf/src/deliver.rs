//! The ways out: into a local instance, into the overlay, up the host's stack.

use core::mem;

use aya_ebpf::{
    bindings::{BPF_F_ZERO_CSUM_TX, bpf_tunnel_key},
    helpers::{bpf_redirect, bpf_redirect_peer, bpf_skb_change_type, bpf_skb_set_tunnel_key},
};
use common::{
    Address, Identity, Mac, Node as _,
    path::{Delivery, Way},
};

use crate::{act::TO_STACK, arp, kernel::Kernel, skb::Skb};

/// The action that delivers a packet; `None` if the kernel refused.
#[inline(always)]
pub fn deliver(delivery: &Delivery, skb: Skb) -> Option<i32> {
    match delivery.way {
        Way::Stack => Some(TO_STACK),
        Way::Endpoint => {
            skb.store(0, &addresses(delivery.mac)).ok()?;
            redirect_peer(delivery.ifindex)
        }
        Way::Overlay => encapsulate(skb, delivery.node, delivery.identity),
        Way::Arp => {
            const PACKET_HOST: u32 = 0;
            arp::answer(skb, delivery.mac)?;
            // SAFETY: the context is the program's own.
            let typed = unsafe { bpf_skb_change_type(skb.raw(), PACKET_HOST) };
            if typed == 0 { redirect_peer(delivery.ifindex) } else { None }
        }
    }
}

/// The two MAC addresses of a frame from the gateway to an instance.
#[inline(always)]
fn addresses(Mac([a, b, c, d, e, f]): Mac) -> [u8; 12] {
    let Mac([u, v, w, x, y, z]) = Mac::GATEWAY;
    [a, b, c, d, e, f, u, v, w, x, y, z]
}

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

/// Gives the packet its tunnel key and our mark, without which it would not pass the uplink.
#[inline(always)]
fn encapsulate(skb: Skb, node: Address, identity: Identity) -> Option<i32> {
    let settings = Kernel.settings();
    // SAFETY: all fields are integers.
    let mut key: bpf_tunnel_key = unsafe { mem::zeroed() };
    key.tunnel_id = identity.number();
    key.tunnel_ttl = 64;
    // The kernel wants IPv4 addresses in its own byte order here.
    key.__bindgen_anon_1.remote_ipv4 = u32::from_be_bytes(node.v4_octets());
    key.__bindgen_anon_3.local_ipv4 = u32::from_be_bytes(settings.underlay.v4_octets());
    const SIZE: u32 = size_of::<bpf_tunnel_key>() as u32;
    // SAFETY: `key` is `SIZE` bytes of initialised memory.
    let set = unsafe { bpf_skb_set_tunnel_key(skb.raw(), &raw mut key, SIZE, u64::from(BPF_F_ZERO_CSUM_TX)) };
    if set != 0 {
        return None;
    }
    skb.set_mark(settings.mark);
    // SAFETY: the helper has no preconditions.
    redirected(unsafe { bpf_redirect(settings.overlay_ifindex, 0) })
}
