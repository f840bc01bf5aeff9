//! The second object: floor programs to measure against, and the front that prepares each run.

use std::path::Path;

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, ProgramArray},
    programs::{ProgramFd, SchedClassifier},
};

use super::{Arrival, classifier, test_run};

/// The loaded object.
pub struct Yardstick {
    ebpf: Ebpf,
}

/// What the front does before each run; laid out as the program reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Preparation {
    what: u32,
    node: u32,
    vni: u32,
    next_port: u32,
    macs: [u8; 12],
    port_at: u32,
}

// SAFETY: `repr(C)` integers without padding between them.
unsafe impl aya::Pod for Preparation {}

impl Preparation {
    /// Gives the packet the metadata of one that came out of the tunnel.
    #[must_use]
    pub fn tunnel(self, node: std::net::Ipv4Addr, vni: u32) -> Self {
        Self { what: self.what | 1, node: node.into(), vni, ..self }
    }

    /// Puts these MAC addresses back, which delivery overwrites.
    #[must_use]
    pub fn macs(self, macs: [u8; 12]) -> Self {
        Self { what: self.what | 2, macs, ..self }
    }

    /// Takes another port each time, beginning with this one, at this place of the frame.
    #[must_use]
    pub fn ports_from(self, first: u16, at: u32) -> Self {
        Self { what: self.what | 4, next_port: u32::from(first), port_at: at, ..self }
    }

    /// Takes 4,096 ports in turn, again and again. The first is a multiple of that.
    #[must_use]
    pub fn ports_in_turn(self, first: u16, at: u32) -> Self {
        Self { what: self.what | 8, ..self.ports_from(first, at) }
    }
}

impl Yardstick {
    /// Loads the object that building the agent leaves beside the agent's own.
    pub fn load() -> Result<Self> {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf/bpfel-unknown-none/release/netpol-yardstick");
        let object = std::fs::read(&path).with_context(|| format!("{}: build the agent first", path.display()))?;
        let mut ebpf = EbpfLoader::new().load(&object)?;
        for name in ["empty", "one_hash", "front"] {
            classifier(&mut ebpf, name)?.load()?;
        }
        let mut floor: HashMap<_, [u8; 16], u64> = ebpf.map_mut("FLOOR").context("map FLOOR")?.try_into()?;
        for i in 0..1_000_u64 {
            let mut key = [0xa5; 16];
            key[..8].copy_from_slice(&i.to_ne_bytes());
            floor.insert(key, i + 1, 0)?;
        }
        Ok(Self { ebpf })
    }

    /// Makes the key that `one_hash` reads from this frame one of the table's.
    pub fn add_floor_key(&mut self, frame: &[u8]) -> Result<()> {
        let mut floor: HashMap<_, [u8; 16], u64> = self.ebpf.map_mut("FLOOR").context("map FLOOR")?.try_into()?;
        let key: [u8; 16] = frame.get(14..30).and_then(|key| key.try_into().ok()).context("a frame of 30 bytes")?;
        Ok(floor.insert(key, 1, 0)?)
    }

    pub fn program(&mut self, name: &str) -> Result<&mut SchedClassifier> {
        classifier(&mut self.ebpf, name)
    }

    pub fn set_target(&mut self, program: &ProgramFd) -> Result<()> {
        let mut target: ProgramArray<_> = self.ebpf.map_mut("TARGET").context("map TARGET")?.try_into()?;
        Ok(target.set(0, program, 0)?)
    }

    /// Aims the front at the empty program: what it costs by itself.
    pub fn aim_at_empty(&mut self) -> Result<()> {
        let empty = self.program("empty")?.fd()?.try_clone()?;
        self.set_target(&empty)
    }

    pub fn prepare(&mut self, preparation: Preparation) -> Result<()> {
        let mut array: Array<_, Preparation> =
            self.ebpf.map_mut("PREPARATION").context("map PREPARATION")?.try_into()?;
        Ok(array.set(0, preparation, 0)?)
    }

    pub fn run_front(&mut self, frame: &[u8], arrival: Arrival, preparation: Preparation, repeat: u32) -> Result<u32> {
        self.prepare(preparation)?;
        test_run(self.program("front")?, frame, arrival, repeat)
    }
}
