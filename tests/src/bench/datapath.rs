//! What a packet costs in our programs: `BPF_PROG_TEST_RUN`, one CPU, CPU time of the thread. The unit is the cost of one
//! hash look-up, measured in the same repetition; copies with few and with many rules take turns.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use agent::datapath::{ENDPOINTS, Hook, Sizes};
use anyhow::{Context as _, Result, ensure};
use common::{
    Family,
    settings::{Quotas, Settings},
};

use super::{
    Row, Target,
    clock::{map_bytes, stay_on_cpu, stay_on_one_cpu, time_per_packet},
    end_progress, median, progress,
    shape::{SHAPES, Shape},
    way::{CIRCLE, Course, Way, arrival_of, courses},
};
use crate::lab::{Lab, Preparation, Scene, Yardstick};

const BENCH: &str = "datapath";
const REPETITIONS: usize = 15;
const FLOORS: u32 = 500_000;
/// How many times a first packet may cost as much while somebody reads of it.
const READER_MAY_COST: f64 = 1.3;
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
        progress(format_args!("bench {BENCH}: {}", shape.name));
        copies.push(Copy::new(shape).with_context(|| shape.name)?);
    }
    let mut floors: [Samples; 2] = Default::default();
    let courses: Vec<Course> = courses().collect();
    let mut costs = vec![vec![Samples::new(); courses.len()]; copies.len()];
    for repetition in 0..REPETITIONS {
        progress(format_args!("bench {BENCH}: repetition {} of {REPETITIONS}", repetition + 1));
        let frame = Course { way: Way::EgressRemote, family: Family::V4 }.frame();
        for (samples, name) in floors.iter_mut().zip(["empty", "one_hash"]) {
            let yardstick = &mut copies[0].lab.yardstick;
            yardstick.add_floor_key(&frame)?;
            samples.push(time_per_packet(FLOORS, |n| run_program(yardstick.program(name)?, &frame, n))?);
        }
        for (copy, costs) in copies.iter_mut().zip(&mut costs) {
            for (course, samples) in courses.iter().zip(costs) {
                samples.push(copy.cost(*course).with_context(|| format!("{course:?} with {}", copy.shape.name))?);
            }
        }
    }
    end_progress();
    let mut rows = floor_rows(&floors);
    rows.extend(courses.iter().enumerate().flat_map(|(i, course)| course_rows(*course, i, &floors, &costs)));
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

/// A course's cost in every shape, in hash units and in nanoseconds.
fn course_rows(course: Course, column: usize, floors: &[Samples; 2], costs: &[Vec<Samples>]) -> Vec<Row> {
    // Like against like: minima over minima, what the machine can do when nobody disturbs it; medians over medians.
    let unit = least(&floors[1]) - least(&floors[0]);
    let median_unit = median(&floors[1]) - median(&floors[0]);
    let name = course.name();
    let one_rule = least(&costs[0][column]);
    let first = courses().position(|other| other == Course { way: Way::FirstPacket, ..course }).unwrap_or(column);
    let rows = SHAPES.iter().zip(costs).flat_map(|(shape, costs)| {
        let nanoseconds = Row::of(BENCH, format!("{name}; {}", shape.name), shape.rules, "ns", &costs[column]);
        let units = Row {
            unit: "hash",
            median: nanoseconds.median / median_unit,
            min: nanoseconds.min / unit,
            p99: nanoseconds.p99 / median_unit,
            ..nanoseconds.clone()
        };
        let least_units = units.min;
        let units = units.against("1 rule", one_rule / nanoseconds.min);
        let units = match course.limit() {
            Some(limit) => units.wanting(Target::at_most(least_units, limit)),
            None if course.way == Way::FirstPacketRead => {
                let unread = least(&costs[first]) / unit;
                let units = units.against("first packet", unread / least_units);
                units.wanting(Target::at_most(least_units / unread, READER_MAY_COST))
            }
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
        for family in [Family::V4, Family::V6] {
            for way in [Way::EgressRemote, Way::IngressOverlay, Way::SameNode] {
                self.open_flow(Course { way, family })?;
            }
            self.open_circle(Course { way: Way::InTurn, family })?;
            let (hook, denied) = (Way::Denied.hook(), Course { way: Way::Denied, family }.frame());
            let action = self.lab.run(hook, &denied, arrival_of(&self.scene, hook, &denied))?.action;
            ensure!(action == DROP, "the denied way: {action}");
        }
        Ok(())
    }

    fn open_flow(&mut self, course: Course) -> Result<()> {
        let (hook, answer) = course.answer();
        let steps = [
            (course.way.hook(), course.opening(), course.preparation()),
            (hook, answer, course.preparation_of_answer()),
            (course.way.hook(), course.frame(), course.preparation()),
        ];
        let mut steps = steps.into_iter();
        steps.try_for_each(|(hook, frame, preparation)| self.repeat(hook, &frame, preparation, 1))
    }

    /// Opens and answers the flows that take turns.
    fn open_circle(&mut self, course: Course) -> Result<()> {
        self.repeat(course.way.hook(), &course.opening(), course.preparation(), CIRCLE)?;
        let (hook, answer) = course.answer();
        self.repeat(hook, &answer, course.preparation_of_answer(), CIRCLE)
    }

    fn repeat(&mut self, hook: Hook, frame: &[u8], preparation: Preparation, times: u32) -> Result<()> {
        let arrival = arrival_of(&self.scene, hook, frame);
        self.lab.aim(hook)?;
        let action = self.lab.yardstick.run_front(frame, arrival, preparation, times)?;
        ensure!(action == REDIRECT, "{times} packets at {hook:?}: {action}; dropped so far: {}", self.dropped()?);
        Ok(())
    }

    /// What the lab's programs have dropped, by reason.
    fn dropped(&self) -> Result<String> {
        let outcomes = self.lab.datapath.counters.read(0..ENDPOINTS)?;
        let drops = outcomes.iter().filter(|outcome| outcome.counter.packets > 0).filter_map(|outcome| {
            outcome.dropped.map(|reason| format!("{} {}", outcome.counter.packets, reason.name()))
        });
        Ok(drops.collect::<Vec<_>>().join(", "))
    }

    /// Nanoseconds per packet, less what an empty program costs behind the same front.
    fn cost(&mut self, course: Course) -> Result<f64> {
        let way = course.way;
        self.scene.enter()?;
        self.lab.datapath.set_settings(&settings(0))?;
        if way.is_first() {
            // Once for nothing, so that all of these find the table's memory in the same state.
            self.open_new_flows(course.family)?;
            self.forget_flows()?;
        }
        if way == Way::FirstReply {
            self.open_new_flows(course.family)?;
        }
        self.lab.datapath.set_settings(&settings(way.reports()))?;
        self.lab.yardstick.aim_at_empty()?;
        let front = time_front(&mut self.lab.yardstick, &self.scene, course)?;
        self.lab.aim(way.hook())?;
        let whole = if way == Way::FirstPacketRead {
            time_while_read(&mut self.lab, &self.scene, course)?
        } else {
            time_front(&mut self.lab.yardstick, &self.scene, course)?
        };
        self.lab.drain_events();
        if way.is_first() {
            self.forget_flows()?;
        }
        Ok(whole - front)
    }

    fn open_new_flows(&mut self, family: Family) -> Result<()> {
        let course = Course { way: Way::FirstPacket, family };
        self.repeat(course.way.hook(), &course.opening(), course.preparation(), course.way.repeat())
    }

    fn forget_flows(&mut self) -> Result<()> {
        self.lab.datapath.forget_flows()?;
        self.open_flows()
    }
}

fn time_front(yardstick: &mut Yardstick, scene: &Scene, course: Course) -> Result<f64> {
    let frame = course.frame();
    let arrival = arrival_of(scene, course.way.hook(), &frame);
    let preparation = course.preparation();
    time_per_packet(course.way.repeat(), |n| yardstick.run_front(&frame, arrival, preparation, n).map(drop))
}

/// The same while a thread on the other CPU reads the events, as an agent does: now and then all that there are.
fn time_while_read(lab: &mut Lab, scene: &Scene, course: Course) -> Result<f64> {
    const LOOK_EVERY: Duration = Duration::from_millis(1);
    let done = AtomicBool::new(false);
    let (reader, yardstick) = lab.reader_and_runner();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // On the same one, where there is no other, the reader still takes none of the thread's own time.
            stay_on_cpu(1).unwrap_or_default();
            while !done.load(Ordering::Relaxed) {
                reader.drain(usize::MAX);
                std::thread::sleep(LOOK_EVERY);
            }
        });
        let cost = time_front(yardstick, scene, course);
        done.store(true, Ordering::Relaxed);
        cost
    })
}

/// Nobody meets a quota here.
fn settings(reports: u32) -> Settings {
    let quotas = Quotas { unanswered: u32::MAX, answered: u32::MAX, ..Quotas::default() };
    // To the device: a test run keeps its packet, and one that is wrapped cannot be wrapped again.
    Settings { quotas, switches: reports, uplink_ifindex: 0, ..Scene::settings() }
}

fn run_program(program: &mut aya::programs::SchedClassifier, frame: &[u8], repeat: u32) -> Result<()> {
    use aya::programs::{TestRun as _, TestRunOptions};
    program.test_run(TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() })?;
    Ok(())
}
