//! A node's programs and maps without a network: packets go in by `BPF_PROG_TEST_RUN`, verdicts come out of the counters
//! and the event ring. The differential test and the benches work here.

mod scene;
pub mod traffic;
mod yardstick;

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use agent::datapath::{Datapath, EventReader, Hook, Sizes};
use anyhow::{Context as _, Result, bail};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use common::{event::Event, settings::Settings};

pub use scene::{HOST, LOCALS, MTU, NODES, REMOTES, STRANGER, Scene, group, identity, v6_of};
pub use yardstick::{Preparation, Yardstick};

/// Loaded programs, private maps, and the front that prepares packets.
pub struct Lab {
    pub datapath: Datapath,
    pub yardstick: Yardstick,
    events: EventReader,
    directory: PathBuf,
}

/// What the kernel is told about a packet that it did not receive itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrival {
    pub ifindex: u32,
    pub entered_by: u32,
    pub mark: u32,
}

/// A program's answer.
#[derive(Clone, Debug)]
pub struct Run {
    pub action: u32,
    pub events: Vec<Event>,
    /// What the packet became.
    pub frame: Vec<u8>,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Lab {
    /// Loads everything. The calling thread gets a network namespace of its own, because test runs name interfaces.
    pub fn open(sizes: &Sizes, settings: &Settings) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = PathBuf::from(format!("/sys/fs/bpf/lab-{}-{number}", std::process::id()));
        let mut datapath = Datapath::open(directory.clone(), sizes)?;
        datapath.set_settings(settings)?;
        let events = datapath.take_events()?;
        let yardstick = Yardstick::load()?;
        Ok(Self { datapath, yardstick, events, directory })
    }

    /// Runs the program of a hook once over a frame.
    pub fn run(&mut self, hook: Hook, frame: &[u8], arrival: Arrival) -> Result<Run> {
        let name = program_name(hook);
        let (action, became) = test_run_once(classifier(self.datapath.programs(), name)?, frame, arrival)
            .with_context(|| format!("test run of {name} over {} bytes", frame.len()))?;
        Ok(Run { action, events: self.events.drain(64), frame: became })
    }

    /// Runs the program of a hook behind the front.
    pub fn run_prepared(
        &mut self,
        hook: Hook,
        frame: &[u8],
        arrival: Arrival,
        preparation: Preparation,
    ) -> Result<Run> {
        self.aim(hook)?;
        self.yardstick.prepare(preparation)?;
        let (action, became) = test_run_once(self.yardstick.program("front")?, frame, arrival)?;
        Ok(Run { action, events: self.events.drain(64), frame: became })
    }

    /// Makes a hook's program the one that the front jumps to.
    pub fn aim(&mut self, hook: Hook) -> Result<()> {
        let program = classifier(self.datapath.programs(), program_name(hook))?;
        self.yardstick.set_target(program.fd().context("program's descriptor")?)
    }

    /// Who reads events and who runs programs, to be used at the same time.
    pub fn reader_and_runner(&mut self) -> (&mut EventReader, &mut Yardstick) {
        (&mut self.events, &mut self.yardstick)
    }

    pub fn drain_events(&mut self) -> usize {
        self.events.drain(usize::MAX).len()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The sandbox takes what this leaves.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The object's name of a hook's program.
pub fn program_name(hook: Hook) -> &'static str {
    match hook {
        Hook::FromEndpoint => "from_endpoint",
        Hook::ToEndpoint => "to_endpoint",
        Hook::FromOverlay => "from_overlay",
        Hook::FromUnderlay => "from_underlay",
        Hook::ToUnderlay => "to_underlay",
    }
}

fn classifier<'a>(ebpf: &'a mut aya::Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    let program = ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// The members of the kernel's packet context that a test run may set, at their offsets.
fn context_bytes(arrival: Arrival) -> [u8; 192] {
    let mut context = [0; 192];
    for (offset, value) in [(8, arrival.mark), (36, arrival.entered_by), (40, arrival.ifindex)] {
        context[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }
    context
}

fn test_run(program: &mut SchedClassifier, frame: &[u8], arrival: Arrival, repeat: u32) -> Result<u32> {
    let context = context_bytes(arrival);
    let options = TestRunOptions { data_in: Some(frame), ctx_in: Some(&context), repeat, ..TestRunOptions::default() };
    checked(program.test_run(options)?.return_value)
}

/// One run, and what the packet is after it.
fn test_run_once(program: &mut SchedClassifier, frame: &[u8], arrival: Arrival) -> Result<(u32, Vec<u8>)> {
    const ROOM: usize = 256;
    let context = context_bytes(arrival);
    let mut became = vec![0; frame.len() + ROOM];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut became),
        ctx_in: Some(&context),
        repeat: 1,
        ..TestRunOptions::default()
    };
    let result = program.test_run(options)?;
    let (action, length) = (checked(result.return_value)?, result.data_size_out);
    became.truncate(usize::try_from(length)?);
    Ok((action, became))
}

fn checked(action: u32) -> Result<u32> {
    if action == u32::MAX {
        bail!("the front found no program to jump to");
    }
    Ok(action)
}
