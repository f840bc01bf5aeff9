//! What the benches and the differential test measure with: an empty program, one with a single hash look-up, and a front
//! that prepares each run of a program under test and jumps to it. Never loaded by the agent.
#![no_std]
#![no_main]

use core::{mem, ptr};

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, BPF_F_ZERO_CSUM_TX, TC_ACT_OK, TC_ACT_SHOT, bpf_tunnel_key},
    btf_maps::{Array, HashMap, ProgramArray},
    helpers::{bpf_skb_set_tunnel_key, bpf_skb_store_bytes},
    macros::{btf_map, classifier},
    programs::TcContext,
};

/// What the front does before each run.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Preparation {
    /// Bits: 1 tunnel metadata, 2 MAC addresses, 4 the next port, 8 ports in a circle.
    what: u32,
    /// The outer source, in this machine's byte order.
    node: u32,
    vni: u32,
    next_port: u32,
    macs: [u8; 12],
    /// Where the port stands.
    port_at: u32,
}

const TUNNEL: u32 = 1;
const MACS: u32 = 2;
const NEXT_PORT: u32 = 4;
const CIRCLE: u32 = 8;
/// So many ports are a circle.
const PORTS: u32 = 4_096;

#[btf_map]
static PREPARATION: Array<Preparation, 1> = Array::new();
#[btf_map]
static TARGET: ProgramArray<1> = ProgramArray::new();
#[btf_map]
static FLOOR: HashMap<[u64; 2], u64, 2_048> = HashMap::new();

/// The floor: nothing at all.
#[classifier]
pub fn empty(_: TcContext) -> i32 {
    TC_ACT_OK
}

/// The unit: one look-up with a key of 16 bytes, read straight from the packet.
#[classifier]
pub fn one_hash(context: TcContext) -> i32 {
    const KEY: usize = 14;
    let start = context.data() + KEY;
    if start + 16 > context.data_end() {
        return TC_ACT_SHOT;
    }
    // SAFETY: 16 bytes from `start` lie before the packet's end, checked above. Read as if aligned: BPF has no alignment of
    // its own, and where the machine cares the verifier refuses.
    let key = unsafe { ptr::read(start as *const [u64; 2]) };
    match FLOOR.get_ptr(key) {
        // SAFETY: values of a preallocated map stay mapped for the program's run.
        Some(value) if unsafe { *value } == 0 => TC_ACT_SHOT,
        Some(_) => TC_ACT_OK,
        None => TC_ACT_SHOT,
    }
}

/// Puts the packet back into the state that the program under test expects, then becomes that program.
#[classifier]
pub fn front(context: TcContext) -> i32 {
    let Some(preparation) = PREPARATION.get_ptr_mut(0) else { return TC_ACT_SHOT };
    let skb: *mut __sk_buff = context.as_ptr().cast();
    // SAFETY: array values live as long as the map, and one test run at a time writes this one.
    unsafe {
        // The metadata stays with the packet over all runs of one call: given once, then left.
        if (*preparation).what & TUNNEL != 0 && (*skb).priority == 0 {
            give_tunnel_key(skb, (*preparation).node, (*preparation).vni);
            (*skb).priority = 1;
        }
        if (*preparation).what & MACS != 0 {
            bpf_skb_store_bytes(skb.cast(), 0, (&raw const (*preparation).macs).cast(), 12, 0);
        }
        if (*preparation).what & NEXT_PORT != 0 {
            let current = (*preparation).next_port;
            let [_, _, high, low] = current.to_be_bytes();
            let port = [high, low];
            let next = current.wrapping_add(1);
            let circle = (*preparation).what & CIRCLE != 0;
            (*preparation).next_port = if circle { current & !(PORTS - 1) | next & (PORTS - 1) } else { next };
            bpf_skb_store_bytes(skb.cast(), (*preparation).port_at, port.as_ptr().cast(), 2, 0);
        }
        // Comes back only if there is no target.
        TARGET.tail_call(&context, 0);
    }
    TC_ACT_SHOT
}

#[inline(never)]
fn give_tunnel_key(skb: *mut __sk_buff, node: u32, vni: u32) {
    // SAFETY: all fields are integers.
    let mut key: bpf_tunnel_key = unsafe { mem::zeroed() };
    key.tunnel_id = vni;
    key.tunnel_ttl = 64;
    // Read back, the local end of what we give is the remote end of what arrived.
    key.__bindgen_anon_3.local_ipv4 = node;
    #[expect(clippy::cast_possible_truncation, reason = "a few dozen bytes")]
    const SIZE: u32 = size_of::<bpf_tunnel_key>() as u32;
    // SAFETY: `key` is initialised memory of its size.
    unsafe {
        bpf_skb_set_tunnel_key(skb, &raw mut key, SIZE, u64::from(BPF_F_ZERO_CSUM_TX));
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Lets GPL-only helpers be called.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
