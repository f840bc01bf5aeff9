//! Tunnel metadata: what the outer headers of an overlay packet claim.

use core::mem::MaybeUninit;

use aya_ebpf::{bindings::bpf_tunnel_key, helpers::bpf_skb_get_tunnel_key};
use common::{Address, Identity, placement::Tag};

use crate::skb::{Skb, size_of_u32};

/// The tag of a packet that came out of the VXLAN device.
#[inline(always)]
pub fn read_tag(skb: Skb) -> Option<Tag> {
    const SIZE: u32 = size_of_u32::<bpf_tunnel_key>();
    let mut key = MaybeUninit::<bpf_tunnel_key>::uninit();
    // SAFETY: the helper fills all of `key`, or says that it did not; without the IPv6 flag it fills the IPv4 member, in
    // this machine's byte order.
    let (node, vni) = unsafe {
        if bpf_skb_get_tunnel_key(skb.raw(), key.as_mut_ptr(), SIZE, 0) != 0 {
            return None;
        }
        let key = key.assume_init_ref();
        (key.__bindgen_anon_1.remote_ipv4, key.tunnel_id)
    };
    Some(Tag { node: Address::from_v4(node.to_be_bytes()), identity: Identity::from_vni(vni) })
}
