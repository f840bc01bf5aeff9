//! The sweep: forgets flows that have been silent for too long, and credits rules with what their flows carried, on a timer
//! in the kernel.
//!
//! It needs no agent: the timer lives in a pinned map and goes on while the agent is killed, restarted or upgraded. And it
//! is the only sweep, so a charge is given back in one place.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT, bpf_timer},
    btf_maps::Array,
    helpers::{bpf_for_each_map_elem, bpf_timer_init, bpf_timer_set_callback, bpf_timer_start},
    macros::btf_map,
    programs::TcContext,
};
use aya_log_ebpf::error;
use common::{
    FlowKey, Node as _, Protocol,
    conntrack::{Conntrack as _, Record, credit, retire},
    datagram::{Datagram, DatagramKey, forget},
    settings::Ticks,
};

use crate::{
    datagram::datagrams,
    kernel::{Kernel, entry_of, flows},
};

/// Often enough that ended flows do not pile up; a walk over a quarter million empty slots takes about a millisecond.
const PERIOD_NANOSECONDS: u64 = 2_000_000_000;

#[repr(C)]
pub struct Sweep {
    timer: bpf_timer,
    /// Walks since the map was made; lets the agent see that the timer lives.
    walks: u64,
}

#[btf_map]
static SWEEP: Array<Sweep, 1> = Array::new();

/// Arms the timer with this program's code, or says what the kernel refused.
#[inline(always)]
pub fn start(context: &TcContext) -> i32 {
    match arm() {
        Ok(()) => TC_ACT_OK,
        Err(refusal) => {
            error!(context, "the sweep's timer: {} refused, {}", refusal.call, refusal.error);
            TC_ACT_SHOT
        }
    }
}

/// A call that the kernel refused.
struct Refusal {
    call: &'static str,
    error: i64,
}

#[inline(always)]
fn arm() -> Result<(), Refusal> {
    const CLOCK_MONOTONIC: u64 = 1;
    const BUSY: i64 = -16;
    let asked = |call, error| if error == 0 { Ok(()) } else { Err(Refusal { call, error }) };
    let Some(sweep) = SWEEP.get_ptr_mut(0) else { return Err(Refusal { call: "look-up", error: 0 }) };
    let map = (&raw const SWEEP).cast_mut().cast();
    // SAFETY: the timer is the first field of a value of `map`, as the helpers ask; `walk` has the callback's signature.
    unsafe {
        let timer = &raw mut (*sweep).timer;
        let made = bpf_timer_init(timer, map, CLOCK_MONOTONIC);
        // Busy: an earlier agent made it. It takes our code with the next call.
        asked("init", if made == BUSY { 0 } else { made })?;
        asked("set_callback", bpf_timer_set_callback(timer, walk as *mut c_void))?;
        asked("start", bpf_timer_start(timer, 0, 0))
    }
}

/// What a walk takes along.
struct Walk {
    kernel: Kernel,
    now: Ticks,
}

unsafe extern "C" fn walk(_map: *mut c_void, _key: *mut u32, sweep: *mut Sweep) -> i32 {
    // SAFETY: the kernel passes a live value of `SWEEP`; `visit` has the callback's signature and `walk` outlives the walk.
    unsafe {
        if let Some(kernel) = Kernel::open() {
            let now = kernel.now();
            let mut walk = Walk { kernel, now };
            bpf_for_each_map_elem(flows(), visit as *mut c_void, (&raw mut walk).cast(), 0);
            bpf_for_each_map_elem(datagrams(), visit_datagram as *mut c_void, (&raw mut walk).cast(), 0);
        }
        (*sweep).walks += 1;
        bpf_timer_start(&raw mut (*sweep).timer, PERIOD_NANOSECONDS, 0);
    }
    0
}

unsafe extern "C" fn visit(_map: *mut c_void, key: *const FlowKey, record: *mut Record, walk: *mut Walk) -> i64 {
    // SAFETY: the kernel passes a live key and value of `FLOWS` and the walk's own state.
    let (key, walk) = unsafe { (ptr::read(key), &*walk) };
    let entry = entry_of(record);
    let protocol = key.protocol().unwrap_or(Protocol::Icmp);
    let found = walk.kernel.read(entry);
    if found.is_expired(protocol, walk.now, &walk.kernel.settings().lifetimes) {
        retire(&walk.kernel, entry, &key);
    } else {
        credit(&walk.kernel, entry, &found);
    }
    0
}

unsafe extern "C" fn visit_datagram(
    _map: *mut c_void,
    key: *const DatagramKey,
    datagram: *mut Datagram,
    walk: *mut Walk,
) -> i64 {
    // SAFETY: the kernel passes a live key and value of `DATAGRAMS` and the walk's own state.
    let (key, seen, walk) = unsafe { (ptr::read(key), (*datagram).seen, &*walk) };
    if walk.now.since(seen) > walk.kernel.settings().lifetimes.fragmented.0 {
        forget(&walk.kernel, &key);
    }
    0
}
