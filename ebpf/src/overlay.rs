//! Tunnel metadata: what the outer headers of an overlay packet claim.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{BPF_F_TUNINFO_IPV6, bpf_tunnel_key},
    helpers::bpf_skb_get_tunnel_key,
};
use common::{Address, Identity, Node as _, outer, placement::Tag};

use crate::{
    kernel::Kernel,
    skb::{Skb, size_of_u32},
};

/// Reads the tag of a packet that came by the uplink, and where the frame inside begins, if it is plainly the overlay's. What
/// was merged on its way in is unwrapped as one, like the packets before and after it: on two ways, they would overtake each
/// other.
#[inline(always)]
pub fn unwrap_by_us(skb: Skb, tag: &mut MaybeUninit<Tag>) -> Option<u16> {
    let kernel = Kernel::open()?;
    if !skb.is_for_us() || skb.has_vlan_tag() {
        return None;
    }
    outer::read(&skb, kernel.settings(), tag)
}

/// Reads the tag of a packet that came out of the VXLAN device into a place of the caller's; false, and nothing written, if it
/// has none. The place is not set before: the compiler would call `memset`, which goes byte by byte.
#[inline(never)]
pub fn read_tag(skb: Skb, tag: &mut MaybeUninit<Tag>) -> bool {
    const SIZE: u32 = size_of_u32::<bpf_tunnel_key>();
    let mut key = MaybeUninit::<bpf_tunnel_key>::uninit();
    // SAFETY: the helper fills all of `key`, or says that it did not, as with the wrong family. Without the IPv6 flag it
    // fills the IPv4 member, in this machine's byte order; with it the IPv6 one, in network order.
    unsafe {
        if bpf_skb_get_tunnel_key(skb.raw(), key.as_mut_ptr(), SIZE, 0) == 0 {
            let key = key.assume_init_ref();
            tag.write(Tag {
                node: Address::from_v4(key.__bindgen_anon_1.remote_ipv4.to_be_bytes()),
                identity: Identity::from_vni(key.tunnel_id),
            });
            return true;
        }
        if bpf_skb_get_tunnel_key(skb.raw(), key.as_mut_ptr(), SIZE, u64::from(BPF_F_TUNINFO_IPV6)) != 0 {
            return false;
        }
        let key = key.assume_init_ref();
        let [a, b, c, d] = key.__bindgen_anon_1.remote_ipv6;
        tag.write(Tag {
            node: Address::from_words([u64::from(b) << 32 | u64::from(a), u64::from(d) << 32 | u64::from(c)]),
            identity: Identity::from_vni(key.tunnel_id),
        });
        true
    }
}
