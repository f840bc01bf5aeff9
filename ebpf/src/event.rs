//! What is told to the agent: rings of events, and how much of each was lost.
//!
//! Drops have a ring of their own, and each endpoint a budget for it, so that no flood of refused packets hides what others
//! do. The reader looks in every few milliseconds and is never woken: that costs more than the packet.

use aya_ebpf::{
    btf_maps::{Array, PerCpuArray, RingBuf},
    macros::btf_map,
};
use common::{
    Address, Direction, DropReason, Entry, FlowKey, Node as _,
    conntrack::Conntrack as _,
    event::{Counter, Event, EventKind, REPORT_FLOWS},
    path::{Findings, Site as _},
};

use crate::{
    act::ENDPOINTS_COUNTED,
    kernel::Kernel,
    skb::Skb,
    zero::{Zero, zeroed},
};

#[btf_map]
static FLOW_EVENTS: RingBuf<Event, 1_048_576> = RingBuf::new();
#[btf_map]
static DROP_EVENTS: RingBuf<Event, 1_048_576> = RingBuf::new();
/// Events that were not told: flows, and drops by the slot of the endpoint that they concern.
#[btf_map]
static EVENTS_LOST: PerCpuArray<Counter, { ENDPOINTS_COUNTED + 1 }> = PerCpuArray::new();
/// What each endpoint may still say about drops.
#[btf_map]
static BUDGETS: Array<Budget, ENDPOINTS_COUNTED> = Array::new();

/// Where lost flow events are counted, ahead of the slots of drops.
const FLOWS_LOST: u32 = 0;

// SAFETY: zeroes are `Event::EMPTY`; eleven words.
unsafe impl Zero for Event {}

/// Told drops of one endpoint: so many at once, and so many a second.
#[repr(C)]
pub struct Budget {
    /// The second that `told` belongs to, in units of 2^30 ns.
    second: u32,
    told: u32,
}

impl Budget {
    /// Takes one out of the endpoint's budget. CPUs that race may let a few more through, which hurts nobody.
    #[inline(always)]
    fn allows(slot: u32, limit: u32, nanoseconds: u64) -> bool {
        let Some(budget) = BUDGETS.get_ptr_mut(slot) else { return false };
        #[expect(clippy::cast_possible_truncation, reason = "compared for equality only")]
        let second = (nanoseconds >> 30) as u32;
        // SAFETY: array values live as long as the map.
        unsafe {
            if (*budget).second != second {
                (*budget).second = second;
                (*budget).told = 0;
            }
            (*budget).told = (*budget).told.saturating_add(1);
            (*budget).told <= limit
        }
    }
}

const NO_WAKEUP: u64 = 1;

/// Reports a packet that passed in a way worth telling.
#[inline(never)]
pub fn report_passed(skb: Skb, found: &Findings, direction: Direction) {
    let Some(mut entry) = FLOW_EVENTS.reserve(0) else { return count_lost(FLOWS_LOST) };
    let event: &mut Event = zeroed(&mut entry);
    event.describe(&skb, found, direction, None);
    event.time = Kernel::nanoseconds();
    event.ifindex = skb.ifindex();
    entry.submit(NO_WAKEUP);
}

/// Reports a packet that was dropped, within its endpoint's budget.
#[inline(never)]
pub fn report_dropped(skb: Skb, found: &Findings, direction: Direction, reason: DropReason) {
    // Functions take five words, so the settings are looked up again.
    let Some(kernel) = Kernel::open() else { return count_lost(1 + found.trace.slot) };
    let now = Kernel::nanoseconds();
    if !Budget::allows(found.trace.slot, kernel.settings().drop_reports, now) {
        return count_lost(1 + found.trace.slot);
    }
    let Some(mut entry) = DROP_EVENTS.reserve(0) else { return count_lost(1 + found.trace.slot) };
    let event: &mut Event = zeroed(&mut entry);
    event.describe(&skb, found, direction, Some(reason));
    event.time = now;
    event.ifindex = skb.ifindex();
    entry.submit(NO_WAKEUP);
}

/// Reports what became of a flow; false if there was no room.
#[inline(never)]
pub fn report_flow(kernel: &Kernel, kind: EventKind, key: &FlowKey, flow: *mut Entry) -> bool {
    if !kernel.is_on(REPORT_FLOWS) {
        return true;
    }
    let Some(mut entry) = FLOW_EVENTS.reserve(0) else {
        count_lost(FLOWS_LOST);
        return false;
    };
    let event: &mut Event = zeroed(&mut entry);
    event.describe_flow(kind, &kernel.tuple(flow, key), &kernel.read(flow));
    event.time = Kernel::nanoseconds();
    event.source_identity = identity(kernel, &event.source);
    event.destination_identity = identity(kernel, &event.destination);
    entry.submit(NO_WAKEUP);
    true
}

#[inline(always)]
fn identity(kernel: &Kernel, address: &Address) -> u32 {
    kernel.placement(address).map_or(0, |placement| placement.end().identity.number())
}

#[inline(always)]
fn count_lost(index: u32) {
    if let Some(lost) = EVENTS_LOST.get_ptr_mut(index) {
        // SAFETY: the slot is this CPU's own.
        unsafe { (*lost).packets += 1 }
    }
}
