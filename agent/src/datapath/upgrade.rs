//! Taking over from an agent whose maps have another layout, while packets go on.
//!
//! Its programs and maps stay as they are until ours hold everything that a verdict needs. Then the flows are copied, every
//! hook is given our code by one atomic replacement each, and the flows that were opened meanwhile are copied, too. Killed
//! at any point, the next agent does it again from the start.

use std::{
    collections::{HashMap, HashSet},
    os::fd::AsFd as _,
};

use aya::maps::MapData;
use common::{
    Address, FlowKey, Side, Tuple,
    conntrack::{Class, flag},
    event::Charge,
    older::{self, Flow},
    placement::{End, Place},
};

use super::{Attachment, Datapath, DatapathError, Result, batch, pin::Layout};

/// What was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// Flows that were copied before the hooks changed over.
    pub flows: usize,
    /// Flows that were opened meanwhile.
    pub late: usize,
}

impl Datapath {
    /// Whether an agent of another layout has left programs and maps that still are in force.
    pub fn has_predecessor(&self) -> bool {
        !self.pins.others().is_empty()
    }

    /// The seed of a predecessor's verdict words: with it, they are ours as well.
    pub fn inherited_seed(&self) -> Result<Option<u64>> {
        for layout in self.pins.others() {
            if let Some(bytes) = read(layout, "SETTINGS")?.first()
                && let Some(seed) = older::seed(layout.schema, &bytes.1)
            {
                return Ok(Some(seed));
            }
        }
        Ok(None)
    }

    /// Takes over from predecessors, once our maps hold everything but flows. The attachments are all there are.
    pub fn take_over(&mut self, attachments: &[Attachment]) -> Result<TakenOver> {
        // With flows here already, an earlier attempt got so far that our programs may count, too.
        let untouched = self.flows.read()?.is_empty();
        let first = self.predecessors_flows()?;
        self.put_flows(&first, untouched)?;
        self.give_code_to_all(attachments)?;
        for attachment in attachments {
            self.attach(attachment)?;
        }
        let known: HashSet<Tuple> = first.iter().map(|flow| flow.tuple).collect();
        let late: Vec<Flow> =
            self.predecessors_flows()?.into_iter().filter(|flow| !known.contains(&flow.tuple)).collect();
        self.put_flows(&late, false)?;
        self.pins.remove_others()?;
        Ok(TakenOver { flows: known.len(), late: late.len() })
    }

    fn predecessors_flows(&self) -> Result<Vec<Flow>> {
        let mut flows = Vec::new();
        for layout in self.pins.others() {
            let elements = read(layout, "FLOWS")?;
            flows.extend(elements.iter().filter_map(|(key, value)| older::flow(layout.schema, key, value)));
        }
        Ok(flows)
    }

    /// Puts flows where none are. Where programs of ours may count at the same time, they are charged to nobody, and nobody
    /// is given back a charge for them.
    fn put_flows(&mut self, flows: &[Flow], alone: bool) -> Result<()> {
        if alone {
            self.charge_for(flows)?;
        }
        let seed = self.settings()?.seed;
        for flow in flows {
            let (low, high) = (self.end(&flow.tuple, Side::Low)?, self.end(&flow.tuple, Side::High)?);
            let charged = if alone { 0 } else { flag::RETIRED };
            let ours = if self.is_here(&flow.tuple.address(flow.entry.initiator()))? { flag::OURS } else { 0 };
            let mut record = flow.bind(seed, low, high);
            record.entry.flags |= charged | ours;
            match self.flows.put_new(&FlowKey::of(&flow.tuple, seed), &record) {
                // Less room than the predecessor had: those flows have to be opened again.
                Err(DatapathError::Full(_)) => return Ok(()),
                result => result?,
            }
        }
        Ok(())
    }

    /// Who is at this end now.
    fn end(&self, tuple: &Tuple, side: Side) -> Result<End> {
        let placement = self.placements.get(&tuple.address(side))?;
        Ok(placement.map_or(End::NOBODY, |placement| placement.end()))
    }

    /// Whether an address is this node's or one of its instances'.
    fn is_here(&self, address: &Address) -> Result<bool> {
        let place = self.placements.get(address)?.and_then(|placement| placement.place());
        Ok(place.is_some_and(|place| place != Place::Remote))
    }

    fn charge_for(&mut self, flows: &[Flow]) -> Result<()> {
        let mut charges: HashMap<Address, Charge> = HashMap::new();
        for Flow { tuple, entry, .. } in flows.iter().filter(|flow| !flow.entry.is_retired()) {
            let charge = charges.entry(tuple.address(entry.initiator())).or_default();
            match entry.class() {
                Class::Unanswered => charge.unanswered += 1,
                Class::Answered => charge.answered += 1,
                Class::Fragmented => charge.fragmented += 1,
            }
        }
        for (initiator, added) in charges {
            // Whoever has no account any more opens nothing new either.
            let Some(standing) = self.charges.get(&initiator)? else { continue };
            let charge = Charge {
                unanswered: standing.unanswered + added.unanswered,
                answered: standing.answered + added.answered,
                ..standing
            };
            self.charges.put(&initiator, &charge)?;
        }
        Ok(())
    }
}

/// The elements of a predecessor's map, raw; none where it has no such map.
fn read(layout: &Layout, name: &'static str) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = layout.map(name);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let failed = |source| DatapathError::Map { name, source };
    let map = MapData::from_pin(&path).map_err(failed)?;
    let info = map.info().map_err(failed)?;
    let size = |size: u32| usize::try_from(size).unwrap_or(usize::MAX);
    batch::read(map.fd().as_fd(), size(info.key_size()), size(info.value_size()))
        .map_err(DatapathError::io(format!("read {}", path.display())))
}
