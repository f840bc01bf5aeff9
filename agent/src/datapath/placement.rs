//! Placements as the programs know them: a hash map of all, and an array that finds those of this node's endpoints without
//! a hash. Both are written here and nowhere else, so that they agree.

use std::collections::HashMap;

use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use common::{
    Address,
    placement::{Place, Placement, resident_place},
};

use super::{DatapathError, Refused, Result, Table, object};

const RESIDENTS: &str = "RESIDENTS";
const NOBODY: u32 = 0;

/// Placements by address.
pub struct PlacementTable {
    all: Table<Address, Placement>,
    residents: Array<MapData, u32>,
    /// Whose each place is. Of two addresses that share one, the later one has it; the other is found by its hash.
    indexed: HashMap<u32, Address>,
}

impl PlacementTable {
    /// Whoever was indexed by an earlier agent is so again when it is put.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        let residents = Array::try_from(object::take_map(ebpf, RESIDENTS)?).map_err(failed)?;
        let mut table = Self { all: Table::take(ebpf, "PLACEMENTS")?, residents, indexed: HashMap::new() };
        let left: Vec<u32> = (0..)
            .zip(table.residents.iter())
            .filter_map(|(place, ifindex)| match ifindex {
                Ok(NOBODY) => None,
                Ok(_) | Err(_) => Some(place),
            })
            .collect();
        left.into_iter().try_for_each(|place| table.set(place, NOBODY))?;
        Ok(table)
    }

    pub fn get(&self, address: &Address) -> Result<Option<Placement>> {
        self.all.get(address)
    }

    pub fn read(&self) -> Result<Vec<(Address, Placement)>> {
        self.all.read()
    }

    pub fn put(&mut self, address: &Address, placement: &Placement) -> Result<()> {
        if placement.place() != Some(Place::Local) {
            self.unindex(address)?;
            return self.all.put(address, placement);
        }
        self.all.put(address, placement)?;
        let place = resident_place(address);
        self.set(place, placement.ifindex())?;
        self.indexed.insert(place, *address);
        Ok(())
    }

    /// Writes many placements of instances elsewhere, and all that fit even if some do not.
    pub fn put_remote(&mut self, placements: &[(Address, Placement)]) -> std::result::Result<(), Refused> {
        self.all.put_all(placements)
    }

    /// Removes a placement; one that is not there is as good as removed.
    pub fn remove(&mut self, address: &Address) -> Result<()> {
        self.unindex(address)?;
        self.all.remove(address)
    }

    fn unindex(&mut self, address: &Address) -> Result<()> {
        let place = resident_place(address);
        if self.indexed.get(&place) == Some(address) {
            self.set(place, NOBODY)?;
            self.indexed.remove(&place);
        }
        Ok(())
    }

    fn set(&mut self, place: u32, ifindex: u32) -> Result<()> {
        self.residents.set(place, ifindex, 0).map_err(failed)
    }
}

fn failed(source: aya::maps::MapError) -> DatapathError {
    DatapathError::Map { name: RESIDENTS, source }
}
