//! Placements as the programs know them: a hash map of all, and an index in which most are found without a hash. Both are
//! written here and nowhere else, so that they agree.

use std::{io, os::fd::AsFd as _};

use aya::{
    Ebpf,
    maps::{Array, IterableMap as _, MapData},
};
use common::{
    Address,
    placement::{Indexed, Placement},
};

use super::{
    DatapathError, Refused, Result, Table, batch,
    index::{Index, Places},
    object, wait_for_programs,
};

const INDEX: &str = "INDEX";

/// Placements by address.
pub struct PlacementTable {
    all: Table<Address, Placement>,
    index: Index<Kernel>,
}

/// The index as the programs read it.
struct Kernel(Array<MapData, Indexed>);

impl Places for Kernel {
    fn set(&mut self, place: u32, indexed: &Indexed) -> Result<()> {
        self.0.set(place, indexed, 0).map_err(failed)
    }
}

impl PlacementTable {
    /// What an earlier agent had indexed is so again from the first [`Self::settle`] on.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        let all = Table::take(ebpf, "PLACEMENTS")?;
        let map = Array::try_from(object::take_map(ebpf, INDEX)?).map_err(failed)?;
        let left = read_places(&map).map_err(DatapathError::io("read what the index holds"))?;
        let mut table = Self { all, index: Index::over(Kernel(map), left)? };
        for (address, placement) in table.read()? {
            table.index.put(&address, &placement)?;
        }
        Ok(table)
    }

    pub fn get(&self, address: &Address) -> Result<Option<Placement>> {
        self.all.get(address)
    }

    pub fn read(&self) -> Result<Vec<(Address, Placement)>> {
        self.all.read()
    }

    pub fn put(&mut self, address: &Address, placement: &Placement) -> Result<()> {
        // Not while the index says something else.
        self.index.leave(address, placement)?;
        self.all.put(address, placement)?;
        self.index.put(address, placement)
    }

    /// Writes many new placements, and all that fit even if some do not.
    pub fn put_all(&mut self, placements: &[(Address, Placement)]) -> std::result::Result<(), Refused> {
        self.all.put_all(placements)?;
        // Whatever is not indexed is found in the table of all.
        let _ = placements.iter().try_for_each(|(address, placement)| self.index.put(address, placement));
        Ok(())
    }

    /// Removes a placement; one that is not there is as good as removed.
    pub fn remove(&mut self, address: &Address) -> Result<()> {
        self.index.remove(address)?;
        self.all.remove(address)
    }

    /// Has programs read what was put into the index since the last time. Takes as long as programs that run now.
    pub fn settle(&mut self) -> Result<()> {
        self.index.settle(wait_for_programs)
    }
}

/// The places that programs read.
fn read_places(map: &Array<MapData, Indexed>) -> io::Result<Vec<u32>> {
    let mut read = Vec::new();
    batch::each(map.map().fd().as_fd(), size_of::<u32>(), size_of::<Indexed>(), |place, indexed| {
        // SAFETY: the slice is as long as a value, which any bytes can be.
        let indexed = unsafe { indexed.as_ptr().cast::<Indexed>().read_unaligned() };
        let place = place.first_chunk().map(|place| u32::from_ne_bytes(*place));
        read.extend(place.filter(|_| indexed.is_read()));
    })?;
    Ok(read)
}

fn failed(source: aya::maps::MapError) -> DatapathError {
    DatapathError::Map { name: INDEX, source }
}
