//! Tunnel metadata: what the outer headers of an overlay packet claim.

use core::mem;

use aya_ebpf::{bindings::bpf_tunnel_key, helpers::bpf_skb_get_tunnel_key};
use common::{Address, Identity, placement::Tag};

use crate::skb::Skb;

/// The tag of a packet that came out of the VXLAN device.
#[inline(always)]
pub fn read_tag(skb: Skb) -> Option<Tag> {
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
