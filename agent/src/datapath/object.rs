//! The embedded object: loading it over pinned maps, after proving that they fit.

use std::path::Path;

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData, MapInfo, MapType},
    programs::{ProgramError, SchedClassifier},
};
use common::{
    Address, FlowKey,
    conntrack::Record,
    datagram::{Datagram, DatagramKey},
    event::{Charge, Counter, Usage},
    placement::{ENDPOINT_PLACES, Endpoint, INDEX_PLACES, Indexed, Placement},
    port_set::PortSet,
    rule::{Lengths, Memberships, PairKey, Row, RowKey, SetPlace},
    settings::Settings,
    verdict::{Direction, OUTCOMES},
};

use super::{DatapathError, Result, pin::Pins};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/netpol-ebpf"));

/// How many elements the maps hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub rows: u32,
    pub flows: u32,
    /// Addresses in the overlay, on all nodes.
    pub placements: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { rows: 262_144, flows: 262_144, placements: 131_072 }
    }
}

/// Endpoints that one node can have; the first slot of their counters is for what belongs to none.
pub const ENDPOINTS: u32 = 1_024;
const NODES: u32 = 4_096;
/// Apps that are in groups.
const MEMBERS: u32 = 65_536;
/// Datagrams whose fragments are still coming.
const DATAGRAMS: u32 = 16_384;
const EVENT_RING_BYTES: u32 = 1 << 20;

/// What a map must look like to be adopted.
struct Layout {
    name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
}

fn layouts(sizes: &Sizes) -> [Layout; 21] {
    let layout = |name, kind, key, value, entries| Layout { name, kind, key, value, entries };
    let hash = |name, key, value, entries| layout(name, MapType::Hash, key, value, entries);
    let array = |name, kind, value, entries| layout(name, kind, size_of::<u32>(), value, entries);
    let ring = |name| layout(name, MapType::RingBuf, 0, 0, EVENT_RING_BYTES);
    let counters = OUTCOMES * u32::try_from(Direction::ALL.len()).unwrap_or(u32::MAX) * ENDPOINTS;
    [
        hash("ROWS", size_of::<RowKey>(), size_of::<Row>(), sizes.rows),
        hash("LENGTHS", size_of::<PairKey>(), size_of::<Lengths>(), sizes.rows),
        array("PORT_SETS", MapType::Array, size_of::<PortSet>(), SetPlace::COUNT),
        hash("MEMBERSHIPS", size_of::<u32>(), size_of::<Memberships>(), MEMBERS),
        hash("FLOWS", size_of::<FlowKey>(), size_of::<Record>(), sizes.flows),
        hash("DATAGRAMS", size_of::<DatagramKey>(), size_of::<Datagram>(), DATAGRAMS),
        hash("CHARGES", size_of::<Address>(), size_of::<Charge>(), sizes.placements),
        hash("USAGE", size_of::<u32>(), size_of::<Usage>(), sizes.rows),
        hash("PLACEMENTS", size_of::<Address>(), size_of::<Placement>(), sizes.placements),
        hash("NODES", size_of::<Address>(), size_of::<u32>(), NODES),
        array("ENDPOINTS", MapType::Array, size_of::<Endpoint>(), ENDPOINT_PLACES),
        array("INDEX", MapType::Array, size_of::<Indexed>(), INDEX_PLACES),
        array("SETTINGS", MapType::Array, size_of::<Settings>(), 1),
        array("EPOCH", MapType::Array, size_of::<u64>(), 1),
        array("COUNTERS", MapType::PerCpuArray, size_of::<Counter>(), counters),
        ring("FLOW_EVENTS"),
        ring("DROP_EVENTS"),
        ring("CUTS"),
        array("EVENTS_LOST", MapType::PerCpuArray, size_of::<Counter>(), ENDPOINTS + 1),
        array("BUDGETS", MapType::Array, 8, ENDPOINTS),
        array("SWEEP", MapType::Array, 24, 1),
    ]
}

/// Creates the maps, or adopts those that an earlier agent pinned.
pub(super) fn load(pins: &Pins, sizes: &Sizes) -> Result<Ebpf> {
    let layouts = layouts(sizes);
    let mut loader = EbpfLoader::new();
    for layout in &layouts {
        let path = pins.map(layout.name);
        if path.exists() {
            layout.prove(&path)?;
        }
        loader.map_max_entries(layout.name, layout.entries).map_pin_path(layout.name, path);
    }
    Ok(loader.load(OBJECT)?)
}

impl Layout {
    /// Compares a pinned map with what the programs were compiled for; the loader itself does not.
    fn prove(&self, path: &Path) -> Result<()> {
        let info = MapInfo::from_pin(path).map_err(|source| DatapathError::Map { name: self.name, source })?;
        let number = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let found = (info.map_type().ok(), info.key_size(), info.value_size(), info.max_entries());
        let wanted = (Some(self.kind), number(self.key), number(self.value), self.entries);
        if found == wanted {
            return Ok(());
        }
        let words = |(kind, key, value, entries): (Option<MapType>, u32, u32, u32)| {
            format!("type {kind:?}, keys of {key} bytes, values of {value} bytes, {entries} entries")
        };
        Err(DatapathError::Layout {
            name: self.name,
            path: path.into(),
            found: words(found),
            wanted: words(wanted),
            remedy: "start with the sizes it was made with, or stop the agent and remove the pin directory",
        })
    }
}

const PROGRAMS: [&str; 7] =
    ["from_endpoint", "to_endpoint", "from_overlay", "from_underlay", "to_underlay", "start_sweep", "review_flows"];

/// Loads every program, before any map is taken: taken maps close their descriptors, which the code refers to.
pub(super) fn load_programs(ebpf: &mut Ebpf) -> Result<()> {
    for name in PROGRAMS {
        program(ebpf, name)?
            .load()
            .map_err(|source| DatapathError::Program { what: format!("load program {name}"), source })?;
    }
    Ok(())
}

pub(super) fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    let program = ebpf.program_mut(name).ok_or_else(|| DatapathError::Missing(format!("program {name}")))?;
    let classifier: std::result::Result<&mut SchedClassifier, ProgramError> = program.try_into();
    classifier.map_err(|source| DatapathError::Program { what: format!("program {name}"), source })
}

pub(super) fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).ok_or_else(|| DatapathError::Missing(format!("map {name}")))
}

pub(super) fn take_map_data(ebpf: &mut Ebpf, name: &str) -> Result<MapData> {
    match take_map(ebpf, name)? {
        Map::HashMap(data) | Map::Array(data) => Ok(data),
        _ => Err(DatapathError::Missing(format!("hash or array map {name}"))),
    }
}
