//! What the programs say: counters read on demand, events drained from the rings.

use std::{collections::BTreeMap, os::fd::AsFd as _};

use aya::{
    Ebpf,
    maps::{IterableMap as _, MapData, PerCpuArray, PerCpuValues, RingBuf},
    util::nr_cpus,
};
use common::{
    event::{Counter, CutFlow, Event},
    verdict::{Direction, DropReason, OUTCOMES, counter_index},
};

use super::{DatapathError, Result, batch, object};

/// The counters of packets by endpoint and outcome, and of lost events.
pub struct Counters {
    outcomes: PerCpuArray<MapData, Counter>,
    lost: PerCpuArray<MapData, Counter>,
    cpus: usize,
}

/// A counter with its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The slot of the endpoint that it concerns; 0 for none.
    pub slot: u32,
    pub direction: Direction,
    /// `None` counts what passed.
    pub dropped: Option<DropReason>,
    pub counter: Counter,
}

/// Events that were not told since the maps were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    pub flows: u64,
    /// Drops, by the slot of the endpoint that they concern; those without any are left out.
    pub drops: BTreeMap<u32, u64>,
}

impl Lost {
    pub fn total(&self) -> u64 {
        self.flows + self.drops.values().sum::<u64>()
    }
}

impl Counters {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        let cpus = nr_cpus().map_err(|(path, error)| DatapathError::io(format!("count CPUs in {path}"))(error))?;
        let mut take = |name| {
            PerCpuArray::try_from(object::take_map(ebpf, name)?).map_err(|source| DatapathError::Map { name, source })
        };
        Ok(Self { outcomes: take("COUNTERS")?, lost: take("EVENTS_LOST")?, cpus })
    }

    /// Every counter of these slots, summed over the CPUs.
    pub fn read(&self, slots: impl IntoIterator<Item = u32>) -> Result<Vec<Outcome>> {
        let read = slots.into_iter().map(|slot| self.read_slot(slot));
        Ok(read.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn read_slot(&self, slot: u32) -> Result<Vec<Outcome>> {
        let first = counter_index(slot, Direction::ALL[0], None);
        let counters = self.block(&self.outcomes, first, OUTCOMES as usize * Direction::ALL.len(), "read COUNTERS")?;
        let reasons = || DropReason::ALL.iter().copied().map(Some).chain([None]);
        let labels =
            Direction::ALL.into_iter().flat_map(|direction| reasons().map(move |dropped| (direction, dropped)));
        let outcome = |(direction, dropped)| {
            let index = (counter_index(slot, direction, dropped) - first) as usize;
            Outcome { slot, direction, dropped, counter: counters[index] }
        };
        Ok(labels.map(outcome).collect())
    }

    /// `count` elements from `first` on, each summed over the CPUs.
    fn block(&self, map: &PerCpuArray<MapData, Counter>, first: u32, count: usize, what: &str) -> Result<Vec<Counter>> {
        let mut values = vec![Counter::default(); count * self.cpus];
        batch::read_per_cpu(map.map().fd().as_fd(), first.checked_sub(1), &mut values, self.cpus)
            .map_err(DatapathError::io(what))?;
        Ok(values.chunks(self.cpus).map(sum).collect())
    }

    /// Begins a slot anew, for another endpoint than the one that had it.
    pub fn clear(&mut self, slot: u32) -> Result<()> {
        let failed = |name| move |source| DatapathError::Map { name, source };
        let zeroes =
            || PerCpuValues::try_from(vec![Counter::default(); self.cpus]).map_err(DatapathError::io("count CPUs"));
        for direction in Direction::ALL {
            for dropped in DropReason::ALL.iter().copied().map(Some).chain([None]) {
                let index = counter_index(slot, direction, dropped);
                self.outcomes.set(index, zeroes()?, 0).map_err(failed("COUNTERS"))?;
            }
        }
        self.lost.set(1 + slot, zeroes()?, 0).map_err(failed("EVENTS_LOST"))
    }

    /// Events that found a ring full, or their endpoint's budget used up.
    pub fn lost(&self) -> Result<Lost> {
        let counters = self.block(&self.lost, 0, object::ENDPOINTS as usize + 1, "read EVENTS_LOST")?;
        let drops = counters.iter().skip(1).zip(0_u32..).filter(|(counter, _)| counter.packets > 0);
        Ok(Lost {
            flows: counters.first().map_or(0, |counter| counter.packets),
            drops: drops.map(|(counter, slot)| (slot, counter.packets)).collect(),
        })
    }
}

fn sum(counters: &[Counter]) -> Counter {
    counters.iter().fold(Counter::default(), |sum, one| Counter {
        packets: sum.packets + one.packets,
        bytes: sum.bytes + one.bytes,
    })
}

/// The reader's end of the event rings.
pub struct EventReader {
    flows: RingBuf<MapData>,
    drops: RingBuf<MapData>,
}

impl EventReader {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self { flows: take_ring(ebpf, "FLOW_EVENTS")?, drops: take_ring(ebpf, "DROP_EVENTS")? })
    }

    /// Takes up to `most` events off each ring, in the order of their times.
    pub fn drain(&mut self, most: usize) -> Vec<Event> {
        let mut events: Vec<Event> = drain(&mut self.flows).take(most).collect();
        events.extend(drain::<Event>(&mut self.drops).take(most));
        events.sort_by_key(|event| event.time);
        events
    }
}

/// The reader's end of the ring of cut flows.
pub(super) struct CutReader(RingBuf<MapData>);

impl CutReader {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        take_ring(ebpf, "CUTS").map(Self)
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = CutFlow> {
        drain(&mut self.0)
    }
}

fn take_ring(ebpf: &mut Ebpf, name: &'static str) -> Result<RingBuf<MapData>> {
    RingBuf::try_from(object::take_map(ebpf, name)?).map_err(|source| DatapathError::Map { name, source })
}

/// Items as the programs wrote them; those of another length are nobody's.
fn drain<T: aya::Pod>(ring: &mut RingBuf<MapData>) -> impl Iterator<Item = T> {
    std::iter::from_fn(|| ring.next().map(|item| read(&item))).flatten()
}

fn read<T: aya::Pod>(bytes: &[u8]) -> Option<T> {
    if bytes.len() != size_of::<T>() {
        return None;
    }
    // SAFETY: as many bytes as the type has, and every bit pattern is one; the copy needs no alignment.
    Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
}
