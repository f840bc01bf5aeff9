//! The programs that `netpol-agent` loads, and their entry points.
//!
//! Each program hands its packet to its function in `common::path`, over the maps of [`kernel`]; what comes out is acted on
//! once, in [`act`].
//! Programs are named by the neighbour they face; ingress and egress are as the endpoint sees them. No program knows the
//! name of an app or a rule as users write it.
#![no_std]
#![no_main]
#![allow(internal_features, reason = "atomics on shared map values: the BPF target has no std atomics that return")]
#![feature(core_intrinsics)]

mod act;
mod datagram;
mod deliver;
mod event;
mod kernel;
mod neighbor;
mod overlay;
mod policy;
mod refuse;
mod review;
mod skb;
mod sweep;
mod zero;

use core::mem::MaybeUninit;

use aya_ebpf::{macros::classifier, programs::TcContext};
use common::{
    Direction, DropReason,
    path::{judge_departure, judge_egress, judge_from_host, judge_ingress},
};

use crate::{
    act::{NOT_OURS, Sender, TO_STACK, act},
    deliver::is_told_to_host,
    overlay::{read_tag, unwrap_by_us},
    skb::Skb,
};

/// tc ingress of the host-side veth: what an instance sends.
#[classifier]
pub fn from_endpoint(context: TcContext) -> i32 {
    // On its way to the node's stack an answer of ours comes by here. No instance can send one: a mark ends where the
    // namespace does.
    if is_told_to_host(Skb::new(&context)) {
        return TO_STACK;
    }
    act(Skb::new(&context), Sender::Endpoint, Direction::Egress, |skb, kernel, found| {
        judge_egress(kernel, &skb, skb.ifindex(), found)
    })
}

/// tc egress of the host-side veth: what the node's own stack sends to an instance.
#[classifier]
pub fn to_endpoint(context: TcContext) -> i32 {
    act(Skb::new(&context), Sender::Host, Direction::Ingress, |skb, kernel, found| {
        judge_from_host(kernel, &skb, skb.ifindex(), skb.ingress_ifindex(), found)
    })
}

/// tc ingress of the VXLAN device: what other nodes send.
#[classifier]
pub fn from_overlay(context: TcContext) -> i32 {
    act(Skb::new(&context), Sender::Other, Direction::Ingress, |skb, kernel, found| {
        let mut tag = MaybeUninit::uninit();
        if !read_tag(skb, &mut tag) {
            return Err(DropReason::NoTunnelKey);
        }
        // SAFETY: `read_tag` has written all of it.
        judge_ingress(kernel, &skb, unsafe { tag.assume_init_ref() }, found)
    })
}

/// tc ingress of the uplink: the overlay's packets, as far as they are plain. The others, and whatever else comes, go up the
/// stack.
#[classifier]
pub fn from_underlay(context: TcContext) -> i32 {
    let skb = Skb::new(&context);
    let mut tag = MaybeUninit::uninit();
    let Some(start) = unwrap_by_us(skb, &mut tag) else { return NOT_OURS };
    act(skb.inside(start), Sender::Other, Direction::Ingress, |skb, kernel, found| {
        // SAFETY: `unwrap_by_us` has written all of it.
        judge_ingress(kernel, &skb, unsafe { tag.assume_init_ref() }, found)
    })
}

/// tc egress of the uplink: nothing but ours speaks to the overlay port.
#[classifier]
pub fn to_underlay(context: TcContext) -> i32 {
    let action = act(Skb::new(&context), Sender::Other, Direction::Underlay, |skb, kernel, _| {
        judge_departure(kernel, &skb, skb.mark())
    });
    if action == TO_STACK { NOT_OURS } else { action }
}

/// Run once by the agent after loading: starts the sweep of silent flows, or moves it to this program's code.
#[classifier]
pub fn start_sweep(context: TcContext) -> i32 {
    sweep::start(&context)
}

/// Run once by the agent after each change of policy: marks and reports live flows that may not go on.
#[classifier]
pub fn review_flows(context: TcContext) -> i32 {
    review::walk(&context)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Lets GPL-only helpers be called.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
