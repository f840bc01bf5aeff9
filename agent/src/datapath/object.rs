//! The embedded object: loading it over pinned maps, after proving that they fit.

use std::path::Path;

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData, MapInfo, MapType},
    programs::{ProgramError, SchedClassifier},
};
use common::{
    Address, Entry, Tuple,
    event::{Charge, Counter},
    placement::{Endpoint, Placement},
    rule::{Lengths, PairKey, Row, RowKey},
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

const ENDPOINTS: u32 = 4_096;
const NODES: u32 = 4_096;
const EVENT_RING_BYTES: u32 = 1 << 20;

/// What a map must look like to be adopted.
struct Layout {
    name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
}

fn layouts(sizes: &Sizes) -> [Layout; 13] {
    let layout = |name, kind, key, value, entries| Layout { name, kind, key, value, entries };
    let hash = MapType::Hash;
    let counters = OUTCOMES * u32::try_from(Direction::ALL.len()).unwrap_or(u32::MAX);
    [
        layout("ROWS", hash, size_of::<RowKey>(), size_of::<Row>(), sizes.rows),
        layout("LENGTHS", hash, size_of::<PairKey>(), size_of::<Lengths>(), sizes.rows),
        layout("FLOWS", hash, size_of::<Tuple>(), size_of::<Entry>(), sizes.flows),
        layout("CHARGES", hash, size_of::<Address>(), size_of::<Charge>(), sizes.placements),
        layout("PLACEMENTS", hash, size_of::<Address>(), size_of::<Placement>(), sizes.placements),
        layout("NODES", hash, size_of::<Address>(), size_of::<u32>(), NODES),
        layout("ENDPOINTS", hash, size_of::<u32>(), size_of::<Endpoint>(), ENDPOINTS),
        layout("SETTINGS", MapType::Array, size_of::<u32>(), size_of::<Settings>(), 1),
        layout("EPOCH", MapType::Array, size_of::<u32>(), size_of::<u64>(), 1),
        layout("COUNTERS", MapType::PerCpuArray, size_of::<u32>(), size_of::<Counter>(), counters),
        layout("EVENTS", MapType::RingBuf, 0, 0, EVENT_RING_BYTES),
        layout("EVENTS_LOST", MapType::PerCpuArray, size_of::<u32>(), size_of::<Counter>(), 1),
        layout("SWEEP", MapType::Array, size_of::<u32>(), 24, 1),
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

const PROGRAMS: [&str; 5] = ["from_endpoint", "to_endpoint", "from_overlay", "to_underlay", "start_sweep"];

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
