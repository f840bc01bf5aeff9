//! The endpoints as the programs know them: an array, because every packet of an instance asks it first.

use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use common::placement::{Endpoint, endpoint_place};

use super::{DatapathError, Result, object};

const NAME: &str = "ENDPOINTS";

/// Endpoints by the number of their host-side veth. Two whose numbers share a place cannot both be in it.
pub struct EndpointTable(Array<MapData, Endpoint>);

impl EndpointTable {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Array::try_from(object::take_map(ebpf, NAME)?).map(Self).map_err(failed)
    }

    pub fn get(&self, ifindex: u32) -> Result<Option<Endpoint>> {
        let found = self.0.get(&endpoint_place(ifindex), 0).map_err(failed)?;
        Ok((found.ifindex() == ifindex).then_some(found))
    }

    pub fn put(&mut self, endpoint: &Endpoint) -> Result<()> {
        self.0.set(endpoint_place(endpoint.ifindex()), endpoint, 0).map_err(failed)
    }

    /// Removes an endpoint; one that is not there is as good as removed.
    pub fn remove(&mut self, ifindex: u32) -> Result<()> {
        match self.get(ifindex)? {
            Some(_) => self.0.set(endpoint_place(ifindex), Endpoint::NONE, 0).map_err(failed),
            None => Ok(()),
        }
    }
}

fn failed(source: aya::maps::MapError) -> DatapathError {
    DatapathError::Map { name: NAME, source }
}
