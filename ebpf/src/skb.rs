//! The packet in the kernel's buffer: reads and the few writes we make. All `unsafe` on packet bytes is here.

use core::{mem::MaybeUninit, ptr};

use aya_ebpf::{
    EbpfContext as _,
    bindings::__sk_buff,
    bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    bindings::{
        BPF_ADJ_ROOM_ENCAP_L2_SHIFT, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
        BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
        BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO,
    },
    helpers::{bpf_get_hash_recalc, bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_pull_data, bpf_skb_store_bytes},
    programs::TcContext,
};
use common::packet::{Bytes, ETHERNET_LENGTH, Family};

/// A type's size, as helpers take it.
pub const fn size_of_u32<T>() -> u32 {
    const STACK: usize = 512;
    const { assert!(size_of::<T>() <= STACK) }
    #[expect(clippy::cast_possible_truncation, reason = "at most a program's stack, checked above")]
    {
        size_of::<T>() as u32
    }
}

/// The kernel's buffer of the packet at hand, from the frame on that is looked at.
#[derive(Clone, Copy)]
pub struct Skb {
    context: *mut __sk_buff,
    /// Where that frame begins, if it is inside another.
    start: usize,
}

impl Skb {
    #[inline(always)]
    pub fn new(context: &TcContext) -> Self {
        Self { context: context.as_ptr().cast(), start: 0 }
    }

    /// The frame that begins this many bytes into the packet.
    #[inline(always)]
    pub fn inside(self, start: u16) -> Self {
        Self { start: usize::from(start), ..self }
    }

    #[inline(always)]
    pub fn is_inside(self) -> bool {
        self.start != 0
    }

    #[inline(always)]
    pub fn raw(self) -> *mut __sk_buff {
        self.context
    }

    #[inline(always)]
    pub fn ifindex(self) -> u32 {
        // SAFETY: the context pointer is valid for the program's run.
        unsafe { (*self.context).ifindex }
    }

    /// Where the packet entered the node; 0 if it was made here.
    #[inline(always)]
    pub fn ingress_ifindex(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.context).ingress_ifindex }
    }

    #[inline(always)]
    pub fn mark(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.context).mark }
    }

    #[inline(always)]
    pub fn set_mark(self, mark: u32) {
        // SAFETY: as above; programs run one at a time on a packet.
        unsafe { (*self.context).mark = mark }
    }

    /// Writes a value's bytes over the packet at `offset`; a value without padding, such as an array of integers.
    #[inline(always)]
    pub fn store<T: Copy>(self, offset: usize, value: &T) -> Result<(), ()> {
        let offset = u32::try_from(offset).map_err(|_| ())?;
        let from = ptr::from_ref(value).cast();
        // SAFETY: the helper checks `offset` against the packet and reads the value's own bytes.
        let done = unsafe { bpf_skb_store_bytes(self.context.cast(), offset, from, size_of_u32::<T>(), 0) };
        if done == 0 { Ok(()) } else { Err(()) }
    }

    /// Writes the two MAC addresses, as words, without the call that `store` is. For a program that writes so, the kernel first
    /// makes the head of a cloned packet its own.
    #[inline(always)]
    pub fn set_macs(self, [a, b, c]: [u32; 3]) -> Option<()> {
        let (data, end) = self.linear();
        if data + size_of::<[u32; 3]>() > end {
            return None;
        }
        let to = data as *mut u32;
        // SAFETY: three words from `data` on lie before `data_end`, checked above and again by the verifier. They are written as
        // if aligned: BPF has no alignment of its own, and where the machine cares the verifier refuses.
        unsafe {
            ptr::write(to, a);
            ptr::write(to.add(1), b);
            ptr::write(to.add(2), c);
        }
        Some(())
    }

    /// Cuts the packet, or fills it up with zeroes, to this length.
    #[inline(always)]
    pub fn set_length(self, length: usize) -> Option<()> {
        let length = u32::try_from(length).ok()?;
        // SAFETY: the helper checks the length against what the packet and its device allow.
        let done = unsafe { bpf_skb_change_tail(self.context, length, 0) };
        if done == 0 { Some(()) } else { None }
    }

    /// Whether it was sent to this node, and not to another one or to all.
    #[inline(always)]
    pub fn is_for_us(self) -> bool {
        const TO_US: u32 = 0;
        // SAFETY: as above.
        unsafe { (*self.context).pkt_type == TO_US }
    }

    #[inline(always)]
    pub fn has_vlan_tag(self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.context).vlan_present != 0 }
    }

    /// The same for all packets of a flow.
    #[inline(always)]
    pub fn hash(self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { bpf_get_hash_recalc(self.context) }
    }

    /// Makes room for a tunnel's headers between the Ethernet and the IP header. False, and nothing is changed, where the
    /// kernel cannot: of a packet that is in a tunnel already, say.
    #[inline(always)]
    pub fn make_room_for_tunnel(self, outer: Family, bytes: u16) -> bool {
        let network = match outer {
            Family::V4 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
            Family::V6 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
        };
        const INNER_ETHERNET: u64 = (ETHERNET_LENGTH as u64) << BPF_ADJ_ROOM_ENCAP_L2_SHIFT;
        let flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2_ETH | network;
        // SAFETY: the helper checks that the packet is IP and may grow.
        unsafe {
            bpf_skb_adjust_room(self.context, i32::from(bytes), BPF_ADJ_ROOM_MAC, u64::from(flags) | INNER_ETHERNET)
                == 0
        }
    }

    /// Takes away what is around the frame inside, but for an Ethernet header, which gets the inner one's type.
    #[inline(always)]
    pub fn unwrap(self) -> Option<Self> {
        const TYPE_AT: usize = ETHERNET_LENGTH - 2;
        const TYPE_V4: [u8; 2] = [8, 0];
        let inner = self.load::<2>(TYPE_AT)?;
        let network = if inner == TYPE_V4 { BPF_F_ADJ_ROOM_DECAP_L3_IPV4 } else { BPF_F_ADJ_ROOM_DECAP_L3_IPV6 };
        let flags = BPF_F_ADJ_ROOM_FIXED_GSO | network;
        let bytes = i32::try_from(self.start).ok()?;
        // SAFETY: the helper checks that the packet is IP and as long.
        let done = unsafe { bpf_skb_adjust_room(self.context, -bytes, BPF_ADJ_ROOM_MAC, u64::from(flags)) };
        if done != 0 {
            return None;
        }
        let whole = Self { start: 0, ..self };
        whole.store(TYPE_AT, &u16::from_ne_bytes(inner)).ok()?;
        Some(whole)
    }

    /// Makes room for this many bytes between the Ethernet and the IP header.
    #[inline(always)]
    pub fn insert_behind_ethernet<const BYTES: usize>(self) -> Option<()> {
        const MOST: usize = 0xfff;
        const { assert!(BYTES <= MOST) }
        #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "checked above")]
        let bytes = BYTES as i32;
        // SAFETY: the helper checks that the packet is IP and may grow.
        let done = unsafe { bpf_skb_adjust_room(self.context, bytes, BPF_ADJ_ROOM_MAC, 0) };
        if done == 0 { Some(()) } else { None }
    }

    /// Where the linear part of the buffer begins and ends.
    #[inline(always)]
    fn linear(self) -> (usize, usize) {
        // SAFETY: the context pointer is valid for the program's run; the verifier turns the two fields into packet
        // pointers. Volatile, so that they are read again after a pull, which moves the packet.
        unsafe {
            let data = ptr::read_volatile(&raw const (*self.context).data);
            let end = ptr::read_volatile(&raw const (*self.context).data_end);
            (data as usize, end as usize)
        }
    }

    /// Makes the first `length` bytes linear, if the packet has as many.
    #[inline(always)]
    fn pull(self, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        // SAFETY: the helper checks the length against the packet. If it fails, the bytes are still not there.
        unsafe { bpf_skb_pull_data(self.context, length) };
    }
}

impl Bytes for Skb {
    /// One way to read for bytes that are linear already, as they mostly are, and those that had to be pulled: with a
    /// second way the compiler takes every header apart into bytes to join the two.
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // Farther than any header is; the verifier (6.18) follows packet pointers for 64 KiB and wants to see the bound.
        // No power of two: the compiler would test a sign instead.
        const FARTHEST: usize = 20_000;
        let offset = self.start + offset;
        if offset > FARTHEST {
            return None;
        }
        let (mut data, mut end) = self.linear();
        if data + offset + N > end {
            self.pull(offset + N);
            (data, end) = self.linear();
        }
        let start = data + offset;
        if start + N > end {
            return None;
        }
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        let (from, to) = (start as *const u8, bytes.as_mut_ptr().cast::<u8>());
        let mut done = 0;
        // SAFETY: `N` bytes from `start` lie before `data_end`, checked above and again by the verifier; `to` is `N` long.
        // Words are read as if aligned: BPF has no alignment of its own, and where the machine cares the verifier refuses.
        unsafe {
            while done + 4 <= N {
                ptr::write_unaligned(to.add(done).cast::<u32>(), ptr::read(from.add(done).cast::<u32>()));
                done += 4;
            }
            while done + 2 <= N {
                ptr::write_unaligned(to.add(done).cast::<u16>(), ptr::read(from.add(done).cast::<u16>()));
                done += 2;
            }
            if done < N {
                ptr::write(to.add(done), ptr::read(from.add(done)));
            }
            Some(bytes.assume_init())
        }
    }

    #[inline(always)]
    fn length(&self) -> usize {
        // SAFETY: the context pointer is valid for the program's run.
        let whole = unsafe { (*self.context).len as usize };
        whole - self.start
    }

    #[inline(always)]
    fn segment(&self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.context).gso_size as usize }
    }
}
