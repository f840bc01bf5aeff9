//! Acts on a verdict: counts it, reports it, and does with the packet what was decided. The only place that does.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT, TC_ACT_UNSPEC},
    btf_maps::PerCpuArray,
    macros::btf_map,
};
use common::{
    Direction, DropReason, Note, Pass,
    event::{Counter, REPORT_DROPS, REPORT_FLOWS},
    packet::Bytes as _,
    path::{Findings, Trace},
    settings::REFUSE,
    verdict::{OUTCOMES, counter_index},
};

use crate::{
    deliver::deliver,
    event::{report_dropped, report_passed},
    kernel::Kernel,
    refuse::refuse,
    skb::Skb,
    zero::{Zero, zeroed},
};

/// Endpoints that have counters of their own; slot 0 is for what belongs to none.
pub const ENDPOINTS_COUNTED: usize = 1_024;
const DIRECTIONS: usize = Direction::ALL.len();

#[btf_map]
static COUNTERS: PerCpuArray<Counter, { OUTCOMES as usize * DIRECTIONS * ENDPOINTS_COUNTED }> = PerCpuArray::new();

/// What is found out about the packet at hand. Programs do not interrupt each other on a CPU, and the stack has no room for
/// it.
#[btf_map]
static FOUND: PerCpuArray<Findings, 1> = PerCpuArray::new();

// SAFETY: zeroes are `Trace::EMPTY`; seven words.
unsafe impl Zero for Trace {}

/// What is found out about the packet at hand, or the flow that is being looked at.
#[inline(always)]
pub fn at_hand() -> Option<&'static mut Findings> {
    // SAFETY: the slot is this CPU's own until the program ends, and nothing in it is read before it is written.
    FOUND.get_ptr_mut(0).map(|found| unsafe { &mut *found })
}

/// Findings with nothing in them. Only the trace is set: what the packet says is written when it is read.
#[inline(always)]
fn empty() -> Option<&'static mut Findings> {
    let found = at_hand()?;
    // SAFETY: a trace that may be set is one that may be unset before.
    zeroed(unsafe { &mut *(&raw mut found.trace).cast::<MaybeUninit<Trace>>() });
    Some(found)
}

/// Whose packets a program sees: who can be told that one of them is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The instance that the interface leads to.
    Endpoint,
    /// The node's own stack.
    Host,
    /// Somebody beyond this node, or the node's programs, whom nobody tells.
    Other,
}

/// Runs a program's stages and acts on what they decide.
#[inline(always)]
pub fn act(
    skb: Skb,
    sender: Sender,
    direction: Direction,
    stages: impl FnOnce(Skb, &Kernel, &mut Findings) -> Result<Pass, DropReason>,
) -> i32 {
    // Without settings there is no node to judge for; the maps always have their one value.
    let (Some(kernel), Some(found)) = (Kernel::open(), empty()) else { return TC_ACT_SHOT };
    let decided = stages(skb, &kernel, found);
    // Before anything is put around the packet or taken off it.
    let bytes = skb.length();
    let delivered = decided.and_then(|pass| match deliver(skb, &kernel, &found.trace) {
        Some(action) => Ok((action, pass)),
        None => Err(DropReason::DeliveryFailed),
    });
    let reason = match delivered {
        Ok((action, pass)) => {
            count(bytes, found.trace.slot, direction, None);
            if (pass == Pass::New || found.trace.grounds.note != Note::Nothing) && kernel.is_on(REPORT_FLOWS) {
                report_passed(skb, found, direction);
            }
            return action;
        }
        Err(reason) => found.note_drop(reason),
    };
    let trace = &found.trace;
    count(bytes, trace.slot, direction, Some(reason));
    if kernel.is_on(REPORT_DROPS) {
        report_dropped(skb, found, direction, reason);
    }
    let is_told = sender != Sender::Other && reason.is_refused() && !trace.grounds.silent;
    if is_told && kernel.is_on(REFUSE) { refuse(skb, found, sender, reason) } else { TC_ACT_SHOT }
}

/// The stack takes the packet.
pub const TO_STACK: i32 = TC_ACT_OK;
/// Whoever else has a program here may look at it next.
pub const NOT_OURS: i32 = TC_ACT_UNSPEC;

#[inline(always)]
fn count(bytes: usize, slot: u32, direction: Direction, dropped: Option<DropReason>) {
    if let Some(counter) = COUNTERS.get_ptr_mut(counter_index(slot, direction, dropped)) {
        // SAFETY: the slot is this CPU's own and programs do not interrupt each other on it.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += bytes as u64;
        }
    }
}
