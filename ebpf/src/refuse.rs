//! Tells an endpoint, or the node itself, at once that a packet of its own was refused, by turning the packet into the
//! answer.

use aya_ebpf::bindings::TC_ACT_SHOT;
use common::{
    DropReason, Family, Node as _,
    packet::{Bytes as _, ETHERNET_LENGTH, IPV4_LENGTH, IPV6_LENGTH},
    path::{Findings, Site as _},
    refusal::{Form, ICMP_LENGTH, Refusal, Sum, TCP_LENGTH},
};

use crate::{
    act::Sender,
    deliver::{from_gateway, hand_back, hand_up, to_gateway},
    kernel::Kernel,
    skb::Skb,
};

/// The action for a refused packet: it becomes the answer, or is dropped if there is nothing to say or the kernel will not.
#[inline(never)]
pub fn refuse(skb: Skb, found: &Findings, sender: Sender, reason: DropReason) -> i32 {
    answer(skb, found, sender, reason).unwrap_or(TC_ACT_SHOT)
}

#[inline(always)]
fn answer(skb: Skb, found: &Findings, sender: Sender, reason: DropReason) -> Option<i32> {
    let kernel = Kernel::open()?;
    let ifindex = skb.ifindex();
    let mac = kernel.endpoint(ifindex)?.mac();
    let refusal = Refusal::of(found.packet()?, reason)?;
    match refusal.form {
        Form::Reset => become_reset(skb, &refusal),
        Form::Error => become_error(skb, &refusal, reason, kernel.settings().mtu),
    }?;
    write_ip(skb, &refusal, reason)?;
    match sender {
        Sender::Endpoint => {
            skb.store(0, &from_gateway(mac)).ok()?;
            hand_back(skb, ifindex)
        }
        Sender::Host => {
            skb.store(0, &to_gateway(mac)).ok()?;
            hand_up(skb, ifindex)
        }
        Sender::Other => None,
    }
}

// Functions of their own, so that what they write does not lie on the stack side by side.

#[inline(never)]
fn become_reset(skb: Skb, refusal: &Refusal) -> Option<()> {
    let header = refusal.reset(&skb)?;
    let at = ETHERNET_LENGTH + ip_length(refusal);
    skb.set_length(at + TCP_LENGTH)?;
    skb.store(at, &header).ok()
}

/// Cuts the packet down to what is quoted, and makes room for the error's headers ahead of it.
#[inline(never)]
fn become_error(skb: Skb, refusal: &Refusal, reason: DropReason, mtu: u32) -> Option<()> {
    let header = refusal.error(reason, mtu, sum_of_quote(skb, refusal.quoted())?);
    skb.set_length(ETHERNET_LENGTH + refusal.quoted())?;
    match refusal.family {
        Family::V4 => skb.insert_behind_ethernet::<{ IPV4_LENGTH + ICMP_LENGTH }>()?,
        Family::V6 => skb.insert_behind_ethernet::<{ IPV6_LENGTH + ICMP_LENGTH }>()?,
    }
    skb.store(ETHERNET_LENGTH + ip_length(refusal), &header).ok()
}

#[inline(always)]
fn ip_length(refusal: &Refusal) -> usize {
    match refusal.family {
        Family::V4 => IPV4_LENGTH,
        Family::V6 => IPV6_LENGTH,
    }
}

#[inline(never)]
fn write_ip(skb: Skb, refusal: &Refusal, reason: DropReason) -> Option<()> {
    const IP: usize = ETHERNET_LENGTH;
    match refusal.family {
        Family::V4 => skb.store(IP, &refusal.ipv4(reason)).ok(),
        Family::V6 => {
            let (start, source, destination) = refusal.ipv6(reason);
            skb.store(IP, &start).ok()?;
            // An IPv6 address lies in memory as it goes over the wire.
            skb.store(IP + 8, &source.words()).ok()?;
            skb.store(IP + 24, &destination.words()).ok()
        }
    }
}

/// The longest quote, in words: IP headers with all that they may carry, and eight bytes.
const MOST_WORDS: usize = 64;

/// The sum of the words that are quoted; none if there are more than anybody sends.
#[inline(never)]
fn sum_of_quote(skb: Skb, length: usize) -> Option<Sum> {
    let mut sum = Sum::default();
    for i in 0..MOST_WORDS {
        if i * 4 >= length {
            return Some(sum);
        }
        sum.add(skb.load::<4>(ETHERNET_LENGTH + i * 4)?);
    }
    None
}
