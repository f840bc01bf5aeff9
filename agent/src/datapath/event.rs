//! What the programs say: counters read on demand, events drained from the ring.

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, RingBuf},
};
use common::{
    event::{Counter, Event},
    verdict::{Direction, DropReason, counter_index},
};

use super::{DatapathError, Result, object};

/// The counters of packets by outcome, and of lost events.
pub struct Counters {
    outcomes: PerCpuArray<MapData, Counter>,
    lost: PerCpuArray<MapData, Counter>,
}

/// A counter with its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub direction: Direction,
    /// `None` counts what passed.
    pub dropped: Option<DropReason>,
    pub counter: Counter,
}

impl Counters {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        let mut take = |name| {
            PerCpuArray::try_from(object::take_map(ebpf, name)?).map_err(|source| DatapathError::Map { name, source })
        };
        Ok(Self { outcomes: take("COUNTERS")?, lost: take("EVENTS_LOST")? })
    }

    /// Every counter, summed over the CPUs.
    pub fn read(&self) -> Result<Vec<Outcome>> {
        let reasons = || DropReason::ALL.iter().copied().map(Some).chain([None]);
        let labels =
            Direction::ALL.into_iter().flat_map(|direction| reasons().map(move |dropped| (direction, dropped)));
        labels
            .map(|(direction, dropped)| {
                let counter = sum(&self.outcomes, counter_index(direction, dropped), "COUNTERS")?;
                Ok(Outcome { direction, dropped, counter })
            })
            .collect()
    }

    /// Events that found the ring full.
    pub fn events_lost(&self) -> Result<u64> {
        sum(&self.lost, 0, "EVENTS_LOST").map(|counter| counter.packets)
    }
}

fn sum(map: &PerCpuArray<MapData, Counter>, index: u32, name: &'static str) -> Result<Counter> {
    let values = map.get(&index, 0).map_err(|source| DatapathError::Map { name, source })?;
    Ok(values.iter().fold(Counter::default(), |sum, one| Counter {
        packets: sum.packets + one.packets,
        bytes: sum.bytes + one.bytes,
    }))
}

/// The reader's end of the event ring.
pub struct EventReader {
    ring: RingBuf<MapData>,
}

impl EventReader {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        let ring = RingBuf::try_from(object::take_map(ebpf, "EVENTS")?)
            .map_err(|source| DatapathError::Map { name: "EVENTS", source })?;
        Ok(Self { ring })
    }

    /// Takes up to `most` events off the ring.
    pub fn drain(&mut self, most: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.ring.next().map(|item| read(&item))).take(most).flatten().collect()
    }
}

/// An event's bytes as the programs wrote them; nothing for another length.
fn read(bytes: &[u8]) -> Option<Event> {
    if bytes.len() != size_of::<Event>() {
        return None;
    }
    // SAFETY: as many bytes as an event has, and every bit pattern is one; the copy needs no alignment.
    Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
}
