//! What a packet costs in our programs: `BPF_PROG_TEST_RUN`, one CPU, CPU time of the thread. The unit is the cost of one
//! hash look-up, measured in the same repetition; copies with few and with many rules take turns.

use std::{net::Ipv4Addr, time::Duration};

use agent::{
    compile::Desired,
    datapath::{Hook, Sizes},
};
use anyhow::{Result, ensure};
use common::{
    Action, Layer, Party, PortRange, Protocol, RuleId, Ruling, Term,
    event::{REPORT_DROPS, REPORT_FLOWS},
    settings::{Quotas, Settings},
};
use fastrand::Rng;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

use super::{Row, median, publish};
use crate::lab::{
    Arrival, LOCALS, Lab, NODES, Preparation, REMOTES, Scene, identity,
    traffic::{ACK, SYN, Speaking, Speech},
};

const BENCH: &str = "datapath";
const RULES: [usize; 3] = [1, 1_000, 100_000];
const REPETITIONS: usize = 15;
const ESTABLISHED: u32 = 100_000;
const FLOORS: u32 = 500_000;
const NEW_FLOWS: u32 = 20_000;
const FIRST_PORT: u16 = 10_000;

/// A way through the datapath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    EgressRemote,
    IngressOverlay,
    SameNode,
    FirstPacket,
    FirstPacketReported,
    Denied,
    DeniedReported,
}

const PATHS: [(Path, &str); 7] = [
    (Path::EgressRemote, "egress to overlay, established"),
    (Path::IngressOverlay, "overlay ingress, established"),
    (Path::SameNode, "same node, established"),
    (Path::FirstPacket, "first packet, egress"),
    (Path::FirstPacketReported, "first packet, egress, with event"),
    (Path::Denied, "denied at egress"),
    (Path::DeniedReported, "denied at egress, with event"),
];

const SOURCE: Ipv4Addr = LOCALS[0].1;
const REMOTE: Ipv4Addr = REMOTES[0].2;
const LOCAL: Ipv4Addr = LOCALS[1].1;
const CLIENT_PORT: u16 = 40_000;
const SERVER_PORT: u16 = 8_080;

impl Path {
    fn hook(self) -> Hook {
        match self {
            Self::IngressOverlay => Hook::FromOverlay,
            _ => Hook::FromEndpoint,
        }
    }

    fn speech(self, kind: Speaking) -> Speech {
        let (source, destination) = match self {
            Self::IngressOverlay => (REMOTE, SOURCE),
            Self::SameNode => (SOURCE, LOCAL),
            _ => (SOURCE, REMOTE),
        };
        let destination_port = if self.is_denied() { SERVER_PORT + 1 } else { SERVER_PORT };
        Speech {
            source: source.into(),
            destination: destination.into(),
            kind,
            source_port: CLIENT_PORT,
            destination_port,
        }
    }

    fn is_denied(self) -> bool {
        matches!(self, Self::Denied | Self::DeniedReported)
    }

    fn is_first(self) -> bool {
        matches!(self, Self::FirstPacket | Self::FirstPacketReported)
    }

    fn is_reported(self) -> bool {
        matches!(self, Self::FirstPacketReported | Self::DeniedReported)
    }

    fn repeat(self) -> u32 {
        match self {
            _ if self.is_reported() => 10_000,
            _ if self.is_first() => NEW_FLOWS,
            _ => ESTABLISHED,
        }
    }

    /// 154 bytes, as the published figures of other datapaths have them.
    fn frame(self) -> Vec<u8> {
        let kind = if self.is_first() || self.is_denied() { SYN } else { ACK };
        self.speech(Speaking::Tcp(kind)).frame(100)
    }

    /// What the front puts back between two packets.
    fn preparation(self) -> Preparation {
        match self {
            Self::IngressOverlay => Preparation::default().tunnel(NODES[0], REMOTES[0].1),
            Self::SameNode => {
                let frame = self.frame();
                let mut macs = [0; 12];
                macs.copy_from_slice(&frame[..12]);
                Preparation::default().macs(macs)
            }
            _ if self.is_first() => Preparation::default().ports_from(FIRST_PORT),
            _ => Preparation::default(),
        }
    }
}

/// A lab with this many rules.
struct Copy {
    lab: Lab,
    scene: Scene,
    rules: usize,
    settings: Settings,
}

pub fn run() -> Result<()> {
    pin_to_one_cpu()?;
    let mut copies = RULES.into_iter().map(Copy::new).collect::<Result<Vec<_>>>()?;
    let mut floors: [Vec<f64>; 2] = Default::default();
    let mut costs = vec![vec![Vec::new(); PATHS.len()]; copies.len()];
    for repetition in 0..REPETITIONS {
        eprint!("\rbench datapath: repetition {} of {REPETITIONS} ", repetition + 1);
        let frame = Path::EgressRemote.frame();
        for (samples, name) in floors.iter_mut().zip(["empty", "one_hash"]) {
            let yardstick = &mut copies[0].lab.yardstick;
            yardstick.add_floor_key(&frame)?;
            samples.push(time_per_packet(FLOORS, |n| run_program(yardstick.program(name)?, &frame, n))?);
        }
        for (copy, costs) in copies.iter_mut().zip(&mut costs) {
            for ((path, _), samples) in PATHS.into_iter().zip(costs) {
                samples.push(copy.cost(path)?);
            }
        }
    }
    eprintln!();
    publish(BENCH, &rows(&floors, &costs))
}

fn rows(floors: &[Vec<f64>; 2], costs: &[Vec<Vec<f64>>]) -> Vec<Row> {
    let floor = |name: &str, samples: &[f64]| Row::of(BENCH, name, 0, "ns", samples);
    let mut rows = vec![floor("empty program", &floors[0]), floor("one hash look-up", &floors[1])];
    // Like against like: minima over minima, what the machine can do when nobody disturbs it; medians over medians.
    let unit = least(&floors[1]) - least(&floors[0]);
    let median_unit = median(&floors[1]) - median(&floors[0]);
    for (i, (_, name)) in PATHS.into_iter().enumerate() {
        let one_rule = least(&costs[0][i]);
        for (copy, rules) in costs.iter().zip(RULES) {
            let nanoseconds = Row::of(BENCH, name, rules, "ns", &copy[i]);
            let units = Row {
                unit: "hash",
                median: nanoseconds.median / median_unit,
                min: nanoseconds.min / unit,
                p99: nanoseconds.p99 / median_unit,
                ..nanoseconds.clone()
            };
            rows.push(units.against("1 rule", one_rule / least(&copy[i])));
            rows.push(nanoseconds);
        }
    }
    rows
}

fn least(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::INFINITY, f64::min)
}

impl Copy {
    fn new(rules: usize) -> Result<Self> {
        let quotas = Quotas { unanswered: u32::MAX, answered: u32::MAX, ..Quotas::default() };
        let settings = Settings { quotas, switches: 0, ..Scene::settings() };
        let mut lab = Lab::open(&Sizes { rows: 262_144, flows: 262_144, placements: 131_072 }, &settings)?;
        let mut scene = Scene::set(&mut lab, settings)?;
        scene.program(&mut lab, &Desired::of_terms(terms(rules)))?;
        fill_neighbourhood(&mut lab)?;
        let mut copy = Self { lab, scene, rules, settings };
        copy.open_flows()?;
        Ok(copy)
    }

    /// Opens the flows whose packets are timed, and checks that each path is what it is called.
    fn open_flows(&mut self) -> Result<()> {
        self.scene.enter()?;
        for path in [Path::EgressRemote, Path::IngressOverlay, Path::SameNode] {
            let opening = path.speech(Speaking::Tcp(SYN)).frame(0);
            let arrival = self.arrival(path);
            let opened = self.lab.run_prepared(path.hook(), &opening, arrival, path.preparation())?.action;
            let followed = self.lab.run_prepared(path.hook(), &path.frame(), arrival, path.preparation())?.action;
            ensure!(
                (opened, followed) == (REDIRECT, REDIRECT),
                "{path:?} with {} rules: {opened}, {followed}",
                self.rules
            );
        }
        let denied = self.lab.run(Hook::FromEndpoint, &Path::Denied.frame(), self.arrival(Path::Denied))?.action;
        ensure!(denied == DROP, "the denied path: {denied}");
        Ok(())
    }

    fn arrival(&self, path: Path) -> Arrival {
        let ifindex = if path.hook() == Hook::FromOverlay { 1 } else { self.scene.ifindexes[0] };
        Arrival { ifindex, ..Arrival::default() }
    }

    /// Nanoseconds per packet, less what an empty program costs behind the same front.
    fn cost(&mut self, path: Path) -> Result<f64> {
        self.scene.enter()?;
        let events = if path.is_reported() { REPORT_FLOWS | REPORT_DROPS } else { 0 };
        self.lab.datapath.set_settings(&Settings { switches: events, ..self.settings })?;
        let (frame, arrival, repeat) = (path.frame(), self.arrival(path), path.repeat());
        self.lab.yardstick.aim_at_empty()?;
        let front = self.time_front(&frame, arrival, path, repeat)?;
        self.lab.aim(path.hook())?;
        let whole = self.time_front(&frame, arrival, path, repeat)?;
        self.lab.drain_events();
        if path.is_first() {
            self.forget_new_flows()?;
        }
        Ok(whole - front)
    }

    fn time_front(&mut self, frame: &[u8], arrival: Arrival, path: Path, repeat: u32) -> Result<f64> {
        let yardstick = &mut self.lab.yardstick;
        time_per_packet(repeat, |n| yardstick.run_front(frame, arrival, path.preparation(), n).map(drop))
    }

    fn forget_new_flows(&mut self) -> Result<()> {
        self.lab.datapath.forget_flows()?;
        self.open_flows()
    }
}

const REDIRECT: u32 = 7;
const DROP: u32 = 2;

/// One rule for each path, and others in between that are somebody else's.
fn terms(count: usize) -> Vec<Term> {
    let mut rng = Rng::with_seed(7);
    let port = |port| PortRange::new(port, port).unwrap_or(PortRange::ALL);
    let allow = |source: u32, destination: u32, ports, rule| Term {
        source: Party::one(identity(source)),
        destination: Party::one(identity(destination)),
        protocol: Protocol::Tcp,
        ports,
        layer: Layer::Enforced,
        ruling: Ruling { action: Action::Allow, rule: RuleId(rule) },
    };
    let needed = [
        allow(LOCALS[0].0, REMOTES[0].1, port(SERVER_PORT), 1),
        allow(REMOTES[0].1, LOCALS[0].0, port(SERVER_PORT), 2),
        allow(LOCALS[0].0, LOCALS[1].0, port(SERVER_PORT), 3),
    ];
    let others = (1..count).map(|i| {
        let rule = u32::try_from(i + 3).unwrap_or(u32::MAX);
        allow(rng.u32(300..65_536), LOCALS[0].0, port(rng.u16(1..)), rule)
    });
    needed.into_iter().chain(others.collect::<Vec<_>>()).collect()
}

/// 5,000 instances on 50 nodes, as a node of some size sees them.
fn fill_neighbourhood(lab: &mut Lab) -> Result<()> {
    for i in 0..5_000_u32 {
        let node = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 51, 100, 1)) + i % 50);
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 254, 0, 0)) + i);
        let placement = common::placement::Placement::remote(node.into(), identity(300 + i % 250));
        lab.datapath.placements.put(&address.into(), &placement)?;
    }
    Ok(())
}

fn run_program(program: &mut aya::programs::SchedClassifier, frame: &[u8], repeat: u32) -> Result<()> {
    use aya::programs::{TestRun as _, TestRunOptions};
    program.test_run(TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() })?;
    Ok(())
}

/// CPU time of this thread over the run, in nanoseconds per packet.
fn time_per_packet(repeat: u32, run: impl FnOnce(u32) -> Result<()>) -> Result<f64> {
    let before = cpu_time()?;
    run(repeat)?;
    let spent = cpu_time()? - before;
    Ok(spent.as_secs_f64() * 1e9 / f64::from(repeat))
}

fn cpu_time() -> Result<Duration> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?))
}

fn pin_to_one_cpu() -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(0)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cpus)?)
}
