//! Acts on a verdict: counts it, reports it, and does with the packet what was decided. The only place that does.

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT},
    btf_maps::{PerCpuArray, RingBuf},
    macros::btf_map,
};
use common::{
    Direction, DropReason, Node as _, Pass,
    event::{Counter, Event, REPORT_DROPS, REPORT_NEW_FLOWS},
    packet::Bytes as _,
    path::Trace,
    verdict::{OUTCOMES, counter_index},
};

use crate::{deliver::deliver, kernel::Kernel, skb::Skb};

const DIRECTIONS: usize = Direction::ALL.len();

#[btf_map]
static COUNTERS: PerCpuArray<Counter, { OUTCOMES as usize * DIRECTIONS }> = PerCpuArray::new();
#[btf_map]
static EVENTS: RingBuf<Event, 1_048_576> = RingBuf::new();
/// Events that found the ring full.
#[btf_map]
static EVENTS_LOST: PerCpuArray<Counter, 1> = PerCpuArray::new();

/// Runs a program's stages and acts on what they decide.
#[inline(always)]
pub fn act(skb: Skb, direction: Direction, stages: impl FnOnce(&mut Trace) -> Result<Pass, DropReason>) -> i32 {
    let mut trace = Trace::EMPTY;
    let decided = stages(&mut trace);
    let delivered = decided.and_then(|pass| match deliver(&trace.delivery, skb) {
        Some(action) => Ok((action, pass)),
        None => Err(DropReason::DeliveryFailed),
    });
    match delivered {
        Ok((action, pass)) => {
            count(skb, direction, None);
            if pass == Pass::New {
                report(skb, direction, &mut trace.event, None);
            }
            action
        }
        Err(reason) => {
            count(skb, direction, Some(reason));
            report(skb, direction, &mut trace.event, Some(reason));
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

/// Reports a drop, or a new flow where nothing was dropped.
#[inline(always)]
fn report(skb: Skb, direction: Direction, event: &mut Event, dropped: Option<DropReason>) {
    let (wanted, reason) = match dropped {
        None => (REPORT_NEW_FLOWS, 0),
        Some(reason) => (REPORT_DROPS, reason as u8),
    };
    if Kernel.settings().events & wanted == 0 {
        return;
    }
    event.time = Kernel::nanoseconds();
    event.ifindex = skb.ifindex();
    event.direction = direction as u8;
    event.reason = reason;
    send(event);
}

/// Puts an event into the ring. The reader looks in every few milliseconds and is never woken: that costs more than the
/// packet.
#[inline(never)]
fn send(event: &Event) {
    const NO_WAKEUP: u64 = 1;
    if EVENTS.output(event, NO_WAKEUP).is_err()
        && let Some(lost) = EVENTS_LOST.get_ptr_mut(0)
    {
        // SAFETY: the slot is this CPU's own.
        unsafe { (*lost).packets += 1 }
    }
}
