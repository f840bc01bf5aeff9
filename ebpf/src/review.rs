//! The review: looks at every flow after a change of policy, and says which live ones may not go on.
//!
//! Enforcement does not need it, because each packet is judged under the current epoch anyway; whoever revoked something
//! wants to know what it cut, and idle connections are to end too. A flow is marked only if it could be reported, so that the
//! next walk reports what did not fit.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT},
    btf_maps::RingBuf,
    helpers::bpf_for_each_map_elem,
    macros::btf_map,
    programs::TcContext,
};
use common::{
    Entry, FlowKey,
    conntrack::{Conntrack as _, Record, credit, flag},
    event::{CutFlow, EventKind},
    judge::Reviewed,
    path::review_flow,
};

use crate::{
    act::at_hand,
    event::report_flow,
    kernel::{Kernel, entry_of, flows},
};

/// Flows that were found cut by this walk.
#[btf_map]
static CUTS: RingBuf<CutFlow, 1_048_576> = RingBuf::new();

/// What a walk takes along.
struct Walk {
    kernel: Kernel,
    /// Whether a cut flow could not be reported, so that the walk has to be made again.
    overflowed: bool,
}

/// Walks over all flows. Not OK means: drain the ring and come again.
#[inline(always)]
pub fn walk(_: &TcContext) -> i32 {
    let Some(kernel) = Kernel::open() else { return TC_ACT_SHOT };
    let mut walk = Walk { kernel, overflowed: false };
    // SAFETY: `visit` has the callback's signature, and `walk` outlives the walk.
    unsafe { bpf_for_each_map_elem(flows(), visit as *mut c_void, (&raw mut walk).cast(), 0) };
    if walk.overflowed { TC_ACT_SHOT } else { TC_ACT_OK }
}

unsafe extern "C" fn visit(_map: *mut c_void, key: *const FlowKey, record: *mut Record, walk: *mut Walk) -> i64 {
    const GO_ON: i64 = 0;
    const STOP: i64 = 1;
    // SAFETY: the kernel passes a live key and value of `FLOWS` and the walk's own state.
    let (key, walk) = unsafe { (&*key, &mut *walk) };
    let entry = entry_of(record);
    let Some(found) = at_hand() else { return STOP };
    if review_flow(&walk.kernel, entry, key, found.matter()) != Reviewed::Cut {
        return GO_ON;
    }
    if !report(&walk.kernel, entry, key) {
        walk.overflowed = true;
        return STOP;
    }
    GO_ON
}

/// Marks a flow as cut if that could be reported.
#[inline(never)]
fn report(kernel: &Kernel, entry: *mut Entry, key: &FlowKey) -> bool {
    credit(kernel, entry, &kernel.read(entry));
    let flow = kernel.read(entry);
    let Some(mut cut) = CUTS.reserve(0) else { return false };
    cut.write(CutFlow::new(&kernel.tuple(entry, key), &flow));
    cut.submit(0);
    kernel.set_flags(entry, flag::CUT);
    report_flow(kernel, EventKind::Cut, key, entry);
    true
}
