//! Acts on a verdict: counts it, reports it, and does with the packet what was decided. The only place that does.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT},
    btf_maps::{PerCpuArray, RingBuf},
    macros::btf_map,
    programs::TcContext,
};
use common::{
    Direction, DropReason, Node as _, Pass,
    event::{Counter, Event, REPORT_DROPS, REPORT_NEW_FLOWS},
    packet::Bytes as _,
    path::Trace,
    verdict::{OUTCOMES, counter_index},
};

use crate::{
    deliver::deliver,
    kernel::Kernel,
    skb::Skb,
    zero::{Zero, zeroed},
};

const DIRECTIONS: usize = Direction::ALL.len();

#[btf_map]
static COUNTERS: PerCpuArray<Counter, { OUTCOMES as usize * DIRECTIONS }> = PerCpuArray::new();
#[btf_map]
static EVENTS: RingBuf<Event, 1_048_576> = RingBuf::new();
/// Events that found the ring full.
#[btf_map]
static EVENTS_LOST: PerCpuArray<Counter, 1> = PerCpuArray::new();

// SAFETY: zeroes are `Trace::EMPTY`; five words.
unsafe impl Zero for Trace {}

/// Runs a program's stages and acts on what they decide.
#[inline(always)]
pub fn act(
    context: &TcContext,
    direction: Direction,
    stages: impl FnOnce(Skb, &Kernel, &mut Trace) -> Result<Pass, DropReason>,
) -> i32 {
    // Without settings there is no node to judge for; the map always has its one value.
    let Some(kernel) = Kernel::open() else { return TC_ACT_SHOT };
    let skb = Skb::new(context);
    let mut trace = MaybeUninit::uninit();
    let trace: &mut Trace = zeroed(&mut trace);
    let decided = stages(skb, &kernel, trace);
    let delivered = decided.and_then(|pass| match deliver(skb, &kernel, trace) {
        Some(action) => Ok((action, pass)),
        None => Err(DropReason::DeliveryFailed),
    });
    match delivered {
        Ok((action, pass)) => {
            count(skb, direction, None);
            if pass == Pass::New && kernel.settings().events & REPORT_NEW_FLOWS != 0 {
                report(skb, trace, direction, None);
            }
            action
        }
        Err(reason) => {
            count(skb, direction, Some(reason));
            if kernel.settings().events & REPORT_DROPS != 0 {
                report(skb, trace, direction, Some(reason));
            }
            TC_ACT_SHOT
        }
    }
}

/// The stack takes the packet.
pub const TO_STACK: i32 = TC_ACT_OK;

#[inline(always)]
fn count(skb: Skb, direction: Direction, dropped: Option<DropReason>) {
    if let Some(counter) = COUNTERS.get_ptr_mut(counter_index(direction, dropped)) {
        // SAFETY: the slot is this CPU's own and programs do not interrupt each other on it.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += skb.length() as u64;
        }
    }
}

/// Puts a drop into the ring, or a new flow where nothing was dropped. The reader looks in every few milliseconds and is
/// never woken: that costs more than the packet.
#[inline(never)]
fn report(skb: Skb, trace: &Trace, direction: Direction, dropped: Option<DropReason>) {
    const NO_WAKEUP: u64 = 1;
    let mut event = Event::of(&skb, trace, direction, dropped);
    event.time = Kernel::nanoseconds();
    event.ifindex = skb.ifindex();
    if EVENTS.output(event, NO_WAKEUP).is_err()
        && let Some(lost) = EVENTS_LOST.get_ptr_mut(0)
    {
        // SAFETY: the slot is this CPU's own.
        unsafe { (*lost).packets += 1 }
    }
}
