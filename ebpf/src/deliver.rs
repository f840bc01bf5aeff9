//! The ways out: into a local instance, into the overlay, up the host's stack.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{BPF_F_ZERO_CSUM_TX, bpf_tunnel_key},
    helpers::{bpf_redirect, bpf_redirect_peer, bpf_skb_change_type, bpf_skb_set_tunnel_key},
};
use common::{
    Mac, Node as _,
    path::{Trace, Way},
};

use crate::{
    act::TO_STACK,
    arp,
    kernel::Kernel,
    skb::{Skb, size_of_u32},
    zero::{Zero, zeroed},
};

/// The action that delivers a packet; `None` if the kernel refused.
#[inline(always)]
pub fn deliver(skb: Skb, kernel: &Kernel, trace: &Trace) -> Option<i32> {
    match trace.way {
        Way::Stack => Some(TO_STACK),
        Way::Endpoint => {
            skb.store(0, &from_gateway(trace.mac())).ok()?;
            redirect_peer(trace.ifindex)
        }
        Way::Overlay => encapsulate(skb, kernel, trace),
        Way::Arp => {
            const PACKET_HOST: u32 = 0;
            arp::answer(skb, trace.mac())?;
            // SAFETY: the context is the program's own.
            let typed = unsafe { bpf_skb_change_type(skb.raw(), PACKET_HOST) };
            if typed == 0 { redirect_peer(trace.ifindex) } else { None }
        }
    }
}

/// The two MAC addresses of a frame from the gateway to an instance, as words: the target sets bytes one by one.
#[inline(always)]
fn from_gateway(Mac([a, b, c, d, e, f]): Mac) -> [u32; 3] {
    const {
        let [first, rest @ ..] = Mac::GATEWAY.0;
        let mut i = 0;
        while i < rest.len() {
            assert!(rest[i] == first, "the words below repeat one byte");
            i += 1;
        }
    }
    const GATEWAY: u8 = Mac::GATEWAY.0[0];
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, GATEWAY, GATEWAY]), u32::from_ne_bytes([GATEWAY; 4])]
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

/// The helper's structure, aligned so that it is set by whole words.
#[repr(C, align(8))]
struct TunnelKey(bpf_tunnel_key);

// SAFETY: all fields are integers; six words.
unsafe impl Zero for TunnelKey {}

/// Gives the packet its tunnel key and our mark, without which it would not pass the uplink.
#[inline(always)]
fn encapsulate(skb: Skb, kernel: &Kernel, trace: &Trace) -> Option<i32> {
    let settings = kernel.settings();
    let mut key = MaybeUninit::uninit();
    let key: &mut TunnelKey = zeroed(&mut key);
    key.0.tunnel_id = trace.source.number();
    key.0.tunnel_ttl = 64;
    // The kernel wants IPv4 addresses in its own byte order here.
    key.0.__bindgen_anon_1.remote_ipv4 = u32::from_be_bytes(trace.node.v4_octets());
    key.0.__bindgen_anon_3.local_ipv4 = u32::from_be_bytes(settings.underlay.v4_octets());
    const SIZE: u32 = size_of_u32::<bpf_tunnel_key>();
    // SAFETY: `key` begins with `SIZE` bytes of initialised memory.
    let set = unsafe { bpf_skb_set_tunnel_key(skb.raw(), &raw mut key.0, SIZE, u64::from(BPF_F_ZERO_CSUM_TX)) };
    if set != 0 {
        return None;
    }
    skb.set_mark(settings.mark);
    // SAFETY: the helper has no preconditions.
    redirected(unsafe { bpf_redirect(settings.overlay_ifindex, 0) })
}
