//! What a packet costs in our programs: `BPF_PROG_TEST_RUN`, one CPU, CPU time of the thread. The unit is the cost of one
//! hash look-up, measured in the same repetition; copies with few and with many rules take turns.

use agent::datapath::{Hook, Sizes};
use anyhow::{Context as _, Result, ensure};
use common::settings::{Quotas, Settings};

use super::{
    Row, Target,
    clock::{map_bytes, stay_on_one_cpu, time_per_packet},
    median,
    shape::{SHAPES, Shape},
    way::{CIRCLE, WAYS, Way, arrival_of},
};
use crate::lab::{Lab, Preparation, Scene};

const BENCH: &str = "datapath";
const REPETITIONS: usize = 15;
const FLOORS: u32 = 500_000;
const SIZES: Sizes = Sizes { rows: 2_097_152, flows: 262_144, placements: 131_072 };

/// Nanoseconds, repetition by repetition.
type Samples = Vec<f64>;

pub fn run() -> Result<Vec<Row>> {
    // Its CPU and its network namespace are this thread's own, so that other benches of the same run keep theirs.
    match std::thread::spawn(measure).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn measure() -> Result<Vec<Row>> {
    stay_on_one_cpu()?;
    let mut copies = Vec::new();
    for shape in SHAPES {
        eprint!("\rbench {BENCH}: {}                    ", shape.name);
        copies.push(Copy::new(shape).with_context(|| shape.name)?);
    }
    let mut floors: [Samples; 2] = Default::default();
    let mut costs = vec![vec![Samples::new(); WAYS.len()]; copies.len()];
    for repetition in 0..REPETITIONS {
        eprint!("\rbench {BENCH}: repetition {} of {REPETITIONS}          ", repetition + 1);
        let frame = Way::EgressRemote.frame();
        for (samples, name) in floors.iter_mut().zip(["empty", "one_hash"]) {
            let yardstick = &mut copies[0].lab.yardstick;
            yardstick.add_floor_key(&frame)?;
            samples.push(time_per_packet(FLOORS, |n| run_program(yardstick.program(name)?, &frame, n))?);
        }
        for (copy, costs) in copies.iter_mut().zip(&mut costs) {
            for ((way, ..), samples) in WAYS.into_iter().zip(costs) {
                samples.push(copy.cost(way).with_context(|| format!("{way:?} with {}", copy.shape.name))?);
            }
        }
    }
    eprintln!();
    let mut rows = floor_rows(&floors);
    rows.extend((0..WAYS.len()).flat_map(|way| way_rows(way, &floors, &costs)));
    rows.extend(copies.iter().map(|copy| {
        let name = format!("maps of {} rows, {}", SIZES.rows, copy.shape.name);
        Row::of(BENCH, name, copy.shape.rules, "MiB", &[copy.map_bytes / f64::from(1 << 20)])
    }));
    Ok(rows)
}

fn floor_rows(floors: &[Samples; 2]) -> Vec<Row> {
    let floor = |name: &str, samples: &[f64]| Row::of(BENCH, name, 0, "ns", samples);
    vec![floor("empty program", &floors[0]), floor("one hash look-up", &floors[1])]
}

/// A way's cost in every shape, in hash units and in nanoseconds.
fn way_rows(way: usize, floors: &[Samples; 2], costs: &[Vec<Samples>]) -> Vec<Row> {
    // Like against like: minima over minima, what the machine can do when nobody disturbs it; medians over medians.
    let unit = least(&floors[1]) - least(&floors[0]);
    let median_unit = median(&floors[1]) - median(&floors[0]);
    let (_, name, limit) = WAYS[way];
    let one_rule = least(&costs[0][way]);
    let rows = SHAPES.iter().zip(costs).flat_map(|(shape, costs)| {
        let nanoseconds = Row::of(BENCH, format!("{name}; {}", shape.name), shape.rules, "ns", &costs[way]);
        let units = Row {
            unit: "hash",
            median: nanoseconds.median / median_unit,
            min: nanoseconds.min / unit,
            p99: nanoseconds.p99 / median_unit,
            ..nanoseconds.clone()
        };
        let least_units = units.min;
        let units = units.against("1 rule", one_rule / nanoseconds.min);
        let units = match limit {
            Some(limit) => units.wanting(Target::at_most(least_units, limit)),
            None => units,
        };
        // One line in nanoseconds tells the scale.
        let scale = (shape.name == SHAPES[0].name).then_some(nanoseconds);
        std::iter::once(units).chain(scale)
    });
    rows.collect()
}

fn least(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::INFINITY, f64::min)
}

/// A lab of this shape.
struct Copy {
    lab: Lab,
    scene: Scene,
    shape: Shape,
    map_bytes: f64,
}

const REDIRECT: u32 = 7;
const DROP: u32 = 2;

impl Copy {
    fn new(shape: Shape) -> Result<Self> {
        let before: u64 = map_bytes()?.values().sum();
        let settings = settings(0);
        let mut lab = Lab::open(&SIZES, &settings)?;
        let mut scene = Scene::set(&mut lab, settings)?;
        scene.program(&mut lab, &shape.desired())?;
        shape.fill_neighbourhood(&mut lab)?;
        let map_bytes = map_bytes()?.values().sum::<u64>() - before;
        let mut copy = Self { lab, scene, shape, map_bytes: map_bytes as f64 };
        copy.open_flows()?;
        Ok(copy)
    }

    /// Opens the flows whose packets are timed, answered ones, and checks that each way is what it is called.
    fn open_flows(&mut self) -> Result<()> {
        self.scene.enter()?;
        for way in [Way::EgressRemote, Way::IngressOverlay, Way::SameNode] {
            let steps = [(way.hook(), way.opening(), way.preparation())];
            let (hook, answer) = way.answer();
            let steps = steps.into_iter().chain([(hook, answer, way.preparation_of_answer())]);
            for (hook, frame, preparation) in steps.chain([(way.hook(), way.frame(), way.preparation())]) {
                let arrival = arrival_of(&self.scene, hook, &frame);
                let action = self.lab.run_prepared(hook, &frame, arrival, preparation)?.action;
                ensure!(action == REDIRECT, "{way:?} at {hook:?}: {action}");
            }
        }
        self.open_circle()?;
        let denied = Way::Denied;
        let action = self
            .lab
            .run(denied.hook(), &denied.frame(), arrival_of(&self.scene, denied.hook(), &denied.frame()))?
            .action;
        ensure!(action == DROP, "the denied way: {action}");
        Ok(())
    }

    /// Opens and answers the flows that take turns.
    fn open_circle(&mut self) -> Result<()> {
        let way = Way::InTurn;
        self.repeat(way.hook(), &way.opening(), way.preparation(), CIRCLE)?;
        let (hook, answer) = way.answer();
        self.repeat(hook, &answer, way.preparation_of_answer(), CIRCLE)
    }

    fn repeat(&mut self, hook: Hook, frame: &[u8], preparation: Preparation, times: u32) -> Result<()> {
        let arrival = arrival_of(&self.scene, hook, frame);
        self.lab.aim(hook)?;
        let action = self.lab.yardstick.run_front(frame, arrival, preparation, times)?;
        ensure!(action == REDIRECT, "{times} packets at {hook:?}: {action}");
        Ok(())
    }

    /// Nanoseconds per packet, less what an empty program costs behind the same front.
    fn cost(&mut self, way: Way) -> Result<f64> {
        self.scene.enter()?;
        self.lab.datapath.set_settings(&settings(way.reports()))?;
        if way == Way::FirstReply {
            let opening = Way::FirstPacket;
            self.repeat(opening.hook(), &opening.opening(), opening.preparation(), way.repeat())?;
        }
        self.lab.yardstick.aim_at_empty()?;
        let front = self.time_front(way)?;
        self.lab.aim(way.hook())?;
        let whole = self.time_front(way)?;
        self.lab.drain_events();
        if way.is_first() {
            self.lab.datapath.forget_flows()?;
            self.open_flows()?;
        }
        Ok(whole - front)
    }

    fn time_front(&mut self, way: Way) -> Result<f64> {
        let frame = way.frame();
        let arrival = arrival_of(&self.scene, way.hook(), &frame);
        let yardstick = &mut self.lab.yardstick;
        time_per_packet(way.repeat(), |n| yardstick.run_front(&frame, arrival, way.preparation(), n).map(drop))
    }
}

/// Nobody meets a quota here.
fn settings(reports: u32) -> Settings {
    let quotas = Quotas { unanswered: u32::MAX, answered: u32::MAX, ..Quotas::default() };
    Settings { quotas, switches: reports, ..Scene::settings() }
}

fn run_program(program: &mut aya::programs::SchedClassifier, frame: &[u8], repeat: u32) -> Result<()> {
    use aya::programs::{TestRun as _, TestRunOptions};
    program.test_run(TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() })?;
    Ok(())
}
