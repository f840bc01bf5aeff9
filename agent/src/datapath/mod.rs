//! The kernel's side of the agent: programs loaded, pinned and adopted, maps as typed tables, attachments, counters and
//! events. The only module that imports aya; it knows nothing of rules, apps or the policy API.

mod attach;
mod batch;
mod endpoint;
mod event;
mod filter;
mod index;
mod object;
mod pin;
mod placement;
mod table;
mod tc;
mod tcx;
mod upgrade;

use std::path::PathBuf;

use aya::{Ebpf, maps::MapData, programs::TestRunOptions};
use common::{
    Address, FlowKey,
    conntrack::{Epoch, Record},
    datagram::{Datagram, DatagramKey},
    event::{Charge, CutFlow, Usage},
    port_set::PortSet,
    rule::{Lengths, Memberships, PairKey, Row, RowKey, Scope, SetPlace},
    settings::Settings,
};

pub use attach::{Attachment, Hook, WantedWay, Way};
pub use endpoint::EndpointTable;
pub use event::{Counters, EventReader, Lost, Outcome};
pub use object::{ENDPOINTS, Sizes};
pub use placement::PlacementTable;
pub use table::{EpochCell, Refused, Table, Values};
pub use upgrade::TakenOver;

/// Why the kernel's side does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    #[error("{what}: {path}")]
    Pin { what: String, path: PathBuf },
    #[error("pinned map {name} at {path} has {found}, but this agent needs {wanted}; {remedy}")]
    Layout { name: &'static str, path: PathBuf, found: String, wanted: String, remedy: &'static str },
    #[error("load the programs: {0}")]
    Load(#[from] aya::EbpfError),
    #[error("{what}: {source}")]
    Program { what: String, source: aya::programs::ProgramError },
    #[error("map {name}: {source}")]
    Map { name: &'static str, source: aya::maps::MapError },
    #[error("map {0} is full; the agent's flags set how much it holds")]
    Full(&'static str),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("the object has no {0}")]
    Missing(String),
    #[error(
        "tcx programs {programs:?} of somebody else's stand ahead of every filter on {interface}; remove them, or start the agent with --attach tcx"
    )]
    Overtaken { interface: String, programs: Vec<u32> },
    #[error("the kernel refused the sweep's timer")]
    Sweep,
}

impl DatapathError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }
}

pub type Result<T> = std::result::Result<T, DatapathError>;

/// Returns when every program that runs now has ended: none that begins later knows what was in the maps before.
pub fn wait_for_programs() -> Result<()> {
    const ALL_OF_THE_SYSTEM: libc::c_int = 1;
    // SAFETY: takes numbers only. The kernel waits for all readers under RCU, of which programs are some.
    match unsafe { libc::syscall(libc::SYS_membarrier, ALL_OF_THE_SYSTEM, 0, 0) } {
        0 => Ok(()),
        _ => Err(DatapathError::io("wait for programs to end")(std::io::Error::last_os_error())),
    }
}

/// The loaded programs and their maps. Dropping it leaves everything in force: the pins hold it.
pub struct Datapath {
    ebpf: Ebpf,
    pins: pin::Pins,
    way: Way,
    pub rows: Table<RowKey, Row>,
    pub lengths: Table<PairKey, Lengths>,
    pub memberships: Table<u32, Memberships>,
    pub usage: Table<u32, Usage>,
    pub placements: PlacementTable,
    pub nodes: Table<Address, u32>,
    pub endpoints: EndpointTable,
    pub flows: Table<FlowKey, Record>,
    pub datagrams: Table<DatagramKey, Datagram>,
    pub charges: Table<Address, Charge>,
    port_sets: aya::maps::Array<MapData, PortSet>,
    settings: aya::maps::Array<MapData, Settings>,
    pub epoch: EpochCell,
    pub counters: Counters,
    cuts: event::CutReader,
}

impl Datapath {
    /// Loads the programs, adopting what an earlier agent pinned under `directory`.
    pub fn open(directory: PathBuf, sizes: &Sizes) -> Result<Self> {
        let pins = pin::Pins::prepare(directory)?;
        let mut ebpf = object::load(&pins, sizes)?;
        object::load_programs(&mut ebpf)?;
        let settings = aya::maps::Array::try_from(object::take_map(&mut ebpf, "SETTINGS")?)
            .map_err(|source| DatapathError::Map { name: "SETTINGS", source })?;
        let port_sets = aya::maps::Array::try_from(object::take_map(&mut ebpf, "PORT_SETS")?)
            .map_err(|source| DatapathError::Map { name: "PORT_SETS", source })?;
        Ok(Self {
            rows: Table::take(&mut ebpf, "ROWS")?,
            lengths: Table::take(&mut ebpf, "LENGTHS")?,
            memberships: Table::take(&mut ebpf, "MEMBERSHIPS")?,
            usage: Table::take(&mut ebpf, "USAGE")?,
            placements: PlacementTable::take(&mut ebpf)?,
            nodes: Table::take(&mut ebpf, "NODES")?,
            endpoints: EndpointTable::take(&mut ebpf)?,
            flows: Table::take(&mut ebpf, "FLOWS")?,
            datagrams: Table::take(&mut ebpf, "DATAGRAMS")?,
            charges: Table::take(&mut ebpf, "CHARGES")?,
            epoch: EpochCell::map(&mut ebpf)?,
            counters: Counters::take(&mut ebpf)?,
            cuts: event::CutReader::take(&mut ebpf)?,
            port_sets,
            settings,
            ebpf,
            pins,
            way: WantedWay::Auto.resolve()?,
        })
    }

    /// Says how programs are to be attached from now on; what stands in another way changes over as it is adopted.
    pub fn attach_by(&mut self, wanted: WantedWay) -> Result<Way> {
        self.way = wanted.resolve()?;
        Ok(self.way)
    }

    /// What the programs were told; all zeroes on a fresh start.
    pub fn settings(&self) -> Result<Settings> {
        self.settings.get(&0, 0).map_err(|source| DatapathError::Map { name: "SETTINGS", source })
    }

    pub fn set_settings(&mut self, settings: &Settings) -> Result<()> {
        self.settings.set(0, settings, 0).map_err(|source| DatapathError::Map { name: "SETTINGS", source })
    }

    pub fn port_set(&self, place: SetPlace) -> Result<PortSet> {
        self.port_sets.get(&place.index(), 0).map_err(|source| DatapathError::Map { name: "PORT_SETS", source })
    }

    pub fn put_port_set(&mut self, place: SetPlace, set: &PortSet) -> Result<()> {
        self.port_sets.set(place.index(), set, 0).map_err(|source| DatapathError::Map { name: "PORT_SETS", source })
    }

    /// Raises the epoch: every flow is judged again on its next packet, by rows of these kinds.
    pub fn raise_epoch(&self, scope: Scope) -> Epoch {
        self.epoch.raise(scope)
    }

    /// Looks at every flow as its next packet would be, and returns the live ones that may not go on and were not returned
    /// before.
    pub fn review_flows(&mut self) -> Result<Vec<CutFlow>> {
        let mut cut = Vec::new();
        loop {
            let whole = self.run_once("review_flows")?;
            cut.extend(self.cuts.drain());
            if whole {
                return Ok(cut);
            }
        }
    }

    /// Runs one of the programs that no packet comes to; whether it says that all is done.
    fn run_once(&mut self, name: &str) -> Result<bool> {
        const OK: u32 = 0;
        let frame = [0; 64];
        let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::default() };
        let result = aya::programs::TestRun::test_run(object::program(&mut self.ebpf, name)?, options)
            .map_err(|source| DatapathError::Program { what: format!("run {name}"), source })?;
        Ok(result.return_value == OK)
    }

    /// The reader of the event rings; there is one.
    pub fn take_events(&mut self) -> Result<EventReader> {
        EventReader::take(&mut self.ebpf)
    }

    /// The loaded programs, for test runs of single packets.
    pub fn programs(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Forgets every flow and datagram: each is judged as a new one, or dropped if its next packet cannot open one.
    pub fn forget_flows(&mut self) -> Result<()> {
        let flows: Vec<FlowKey> = self.flows.read()?.into_iter().map(|(key, _)| key).collect();
        flows.iter().try_for_each(|key| self.flows.remove(key))?;
        let datagrams: Vec<DatagramKey> = self.datagrams.read()?.into_iter().map(|(key, _)| key).collect();
        datagrams.iter().try_for_each(|key| self.datagrams.remove(key))
    }

    /// Starts the sweep of silent flows, or moves a running one to these programs' code.
    pub fn start_sweep(&mut self) -> Result<()> {
        // Programs have a voice where nothing else can say why: here, and nowhere on a packet's way.
        let mut logger =
            aya_log::EbpfLogger::init(&mut self.ebpf).map_err(|error| DatapathError::Missing(error.to_string()))?;
        let started = self.run_once("start_sweep")?;
        logger.flush();
        if started { Ok(()) } else { Err(DatapathError::Sweep) }
    }
}
