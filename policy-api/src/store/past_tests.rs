//! What stood when: random questions at random times of a random history, answered as a list of all that ever stood does.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use proptest::{
    strategy::{Strategy, ValueTree as _},
    test_runner::TestRunner,
};

use super::{
    tests::{Kind, Place, allow_on, node, of_every_kind, rule, runtime},
    *,
};
use crate::{
    check::check,
    model::{Action, CheckQuery, Claim, Mode, Protocol, RuleFilter, Selector, VerdictWord},
};

const APPS: [&str; 5] = ["web", "db", "cache", "queue", "mail"];
const PORTS: std::ops::Range<u16> = 80..84;

/// All that stood at one time, as plain lists.
#[derive(Clone, Debug, Default)]
struct World {
    /// Deny, source, destination, port.
    rules: BTreeMap<u32, (bool, usize, usize, u16)>,
    instances: BTreeMap<IpAddr, usize>,
}

/// What stood from a time and a revision on, until the next one.
#[derive(Clone, Debug)]
struct Step {
    time: Timestamp,
    revision: Revision,
    world: World,
}

/// A history made at random, by a clock that is set by hand, and what stood after each of its steps.
struct Story {
    place: Place,
    store: Store,
    steps: Vec<Step>,
    now: Arc<AtomicI64>,
    random: TestRunner,
}

impl Story {
    fn begin(kind: Kind) -> Self {
        let now = Arc::new(AtomicI64::new(Timestamp::now().unix_milliseconds() + 1_000));
        let place = Place::new(kind);
        let store = open(&place, &now);
        let join = Command::Join(Registration { underlay: IpAddr::from([192, 168, 1, 1]), key: None });
        runtime().block_on(store.write(Write::new(join, node("n1")))).expect("join");
        let steps = vec![Step { time: time(&now), revision: store.read(State::revision), world: World::default() }];
        Self { place, store, steps, now, random: TestRunner::deterministic() }
    }

    fn any<T: std::fmt::Debug>(&mut self, of: impl Strategy<Value = T>) -> T {
        of.new_tree(&mut self.random).expect("a value").current()
    }

    fn run(&mut self, steps: usize) {
        let runtime = runtime();
        for _ in 0..steps {
            // Several may happen in the same millisecond.
            let pause = self.any(0..1_000_i64);
            self.now.fetch_add(pause, Ordering::Relaxed);
            let mut world = self.steps.last().expect("a first one").world.clone();
            let (command, by) = self.step(&mut world);
            let answer = runtime.block_on(self.store.write(Write::new(command, by))).expect("done");
            if let Answer::Rule(answer) = answer {
                let app = |side: &Selector| APPS.iter().position(|app| **app == side.to_string()).expect("an app");
                let rule = answer.rule;
                let port = rule.ports.to_string().parse().expect("one port");
                let deny = rule.action == Action::Deny;
                world.rules.insert(rule.id.0, (deny, app(&rule.source), app(&rule.destination), port));
            }
            let revision = self.store.read(State::revision);
            self.steps.push(Step { time: time(&self.now), revision, world });
        }
    }

    fn step(&mut self, world: &mut World) -> (Command, Principal) {
        let [source, destination] = [(); 2].map(|()| self.any(0..APPS.len()));
        let host = self.any(1..9_u8);
        let address = IpAddr::from([10, 255, 1, host]);
        match self.any(0..10) {
            0..3 if !world.rules.is_empty() => {
                let some = self.any(0..world.rules.len());
                let id = *world.rules.keys().nth(some).expect("that many");
                world.rules.remove(&id);
                (Command::DeleteRule(RuleId(id)), Principal::Operator)
            }
            3..5 if world.instances.remove(&address).is_some() => (Command::Release(address), node("n1")),
            3..5 => {
                world.instances.insert(address, source);
                let app = APPS[source].parse().expect("name");
                let labels = BTreeMap::new();
                (Command::Claim(Claim { app, instance: None, addresses: vec![address], labels }), node("n1"))
            }
            _ => {
                let action = if self.any(0..4) == 0 { Action::Deny } else { Action::Allow };
                let port = self.any(PORTS).to_string();
                let spec = rule(APPS[source], APPS[destination], &port, action);
                (Command::PutRule(spec), Principal::Operator)
            }
        }
    }

    /// What stood then, by the list.
    fn world_at(&self, at: At) -> &World {
        let had_begun = |step: &&Step| match at {
            At::Time(time) => step.time <= time,
            At::Revision(revision) => step.revision <= revision,
        };
        &self.steps.iter().rev().find(had_begun).expect("it had begun").world
    }

    /// A time as often as a revision.
    fn random_moment(&mut self) -> At {
        if self.any(0..2) == 0 {
            return At::Time(self.random_time());
        }
        let (first, last) = (self.steps[0].revision.0, self.store.read(State::revision).0);
        At::Revision(Revision(self.any(first..=last)))
    }

    fn random_time(&mut self) -> Timestamp {
        let (first, last) = (self.steps[0].time.unix_milliseconds(), self.now.load(Ordering::Relaxed));
        Timestamp::of_unix_milliseconds(self.any(first..=last)).expect("a time")
    }

    /// Asks one thing about that moment, of the store and of the list.
    fn ask(&mut self, state: &State, at: At) {
        let [source, destination] = [(); 2].map(|()| self.any(0..APPS.len()));
        let (port, host) = (self.any(PORTS), self.any(1..9_u8));
        let kind = self.any(0..5);
        let world = self.world_at(at);
        match kind {
            0 => {
                let filter = RuleFilter { app: Some(APPS[source].parse().expect("name")), ..RuleFilter::default() };
                let found: Vec<u32> =
                    state.rules_matching(&filter, None, usize::MAX).iter().map(|rule| rule.id.0).collect();
                let touches = |(_, from, to, _): &(bool, usize, usize, u16)| *from == source || *to == source;
                let expected = world.rules.iter().filter(|(_, rule)| touches(rule)).map(|(id, _)| *id);
                assert_eq!(found, expected.collect::<Vec<_>>(), "rules of {} at {at}", APPS[source]);
            }
            1 => {
                let address = IpAddr::from([10, 255, 1, host]);
                let live = state.binding(address).filter(|binding| binding.is_live());
                let expected = world.instances.get(&address).map(|app| APPS[*app].to_owned());
                assert_eq!(live.map(|binding| binding.app.to_string()), expected, "{address} at {at}");
            }
            2 if matches!(at, At::Time(_)) => {
                let (At::Time(time), address) = (at, IpAddr::from([10, 255, 1, host])) else { return };
                let owner = self.store.owners(address, time).expect("read").at;
                let expected = world.instances.get(&address).map(|app| APPS[*app].to_owned());
                assert_eq!(owner.map(|owned| owned.binding.app.to_string()), expected, "owner of {address} at {at}");
            }
            2 | 3 => {
                let app = APPS[source].parse().expect("name");
                let live = state.instances_of(&app).count();
                assert_eq!(live, world.instances.values().filter(|app| **app == source).count(), "{app} at {at}");
            }
            _ if state.app(&APPS[source].parse().expect("name")).is_none() => {}
            _ if state.app(&APPS[destination].parse().expect("name")).is_none() => {}
            _ => {
                let selector = |app: usize| APPS[app].parse::<Selector>().expect("a selector");
                let (from, to, protocol) = (selector(source), selector(destination), Protocol::Tcp);
                let query = CheckQuery { source: from, destination: to, protocol, port: Some(port) };
                let verdict = check(state, &query).expect("an answer").verdict;
                let mut matching =
                    world.rules.values().filter(|(_, a, b, p)| (*a, *b, *p) == (source, destination, port));
                let denies: Vec<bool> = matching.by_ref().map(|(deny, ..)| *deny).collect();
                let passes = !denies.is_empty() && !denies.contains(&true);
                let expected = if passes { VerdictWord::Allow } else { VerdictWord::Deny };
                assert_eq!(verdict, expected, "{} -> {} {port} at {at}", APPS[source], APPS[destination]);
            }
        }
    }
}

fn time(now: &AtomicI64) -> Timestamp {
    Timestamp::of_unix_milliseconds(now.load(Ordering::Relaxed)).expect("a time")
}

fn open(place: &Place, now: &Arc<AtomicI64>) -> Store {
    open_keeping(place, now, Retention::default())
}

fn open_keeping(place: &Place, now: &Arc<AtomicI64>, retention: Retention) -> Store {
    let now = now.clone();
    let clock: Clock = Arc::new(move || time(&now));
    Store::open_by(&place.location(), OverlayWish::default(), retention, clock).expect("open")
}

fn ten_thousand_random_questions_about_random_moments_are_answered_as_a_list_of_all_that_stood_does(kind: Kind) {
    let mut story = Story::begin(kind);
    story.run(300);
    // Some are asked of whoever serves it next.
    for _ in 0..2 {
        for _ in 0..250 {
            let at = story.random_moment();
            let state = story.store.past(at).expect("known");
            for _ in 0..20 {
                story.ask(&state, at);
            }
        }
        let next = open_after(&mut story);
        story.store = next;
    }
}

/// Closes the store, and opens it again.
fn open_after(story: &mut Story) -> Store {
    let elsewhere = Place::new(Kind::Sqlite);
    std::mem::replace(&mut story.store, elsewhere.open()).close();
    open(&story.place, &story.now)
}

fn a_revision_or_a_time_that_was_not_is_refused_naming_what_is_known(kind: Kind) {
    let mut story = Story::begin(kind);
    story.run(10);
    let born = story.store.past(At::Revision(Revision(1))).expect("born");
    assert_eq!(born.replica().count(), 1);
    let before = story.steps[0].time.before(Duration::from_secs(3_600)).expect("a time");
    for at in [At::Revision(Revision(0)), At::Time(before)] {
        let refused = story.store.past(at).expect_err("before its birth").to_string();
        assert!(refused.contains("the history goes back to revision 1 of"), "{refused}");
    }
    let later = story.store.past(At::Revision(Revision(99))).expect_err("not yet");
    assert!(matches!(later, Refusal::NotFound(..)), "{later}");
}

fn what_an_app_was_set_to_is_known_of_every_time(kind: Kind) {
    let (place, runtime) = (Place::new(kind), runtime());
    let store = place.open();
    runtime.block_on(store.write(allow_on(80))).expect("written");
    let settings = |mode: Mode, groups: &[&str]| {
        let groups: BTreeSet<_> = groups.iter().map(|group| group.parse().expect("name")).collect();
        let groups = crate::model::GroupWish::These { groups };
        Command::SetApp("web".parse().expect("name"), crate::model::AppSettings { mode: Some(mode), groups })
    };
    for command in [settings(Mode::Audit, &["a"]), settings(Mode::Enforce, &[]), settings(Mode::Audit, &["a", "b"])] {
        runtime.block_on(store.write(Write::new(command, Principal::Operator))).expect("set");
    }
    let seen = |revision| {
        let state = store.past(At::Revision(Revision(revision))).expect("known");
        let app = state.app(&"web".parse().expect("name")).expect("web").clone();
        (app.mode, app.groups.len(), state.replica().groups.len())
    };
    assert_eq!(
        [2, 3, 4, 5].map(seen),
        [(Mode::Enforce, 0, 0), (Mode::Audit, 1, 1), (Mode::Enforce, 0, 1), (Mode::Audit, 2, 2)]
    );
    // The other way round, from a state that was asked for before.
    assert_eq!([5, 2, 4, 3].map(seen)[1..], [(Mode::Enforce, 0, 0), (Mode::Enforce, 0, 1), (Mode::Audit, 1, 1)]);
}

of_every_kind! {
    ten_thousand_random_questions_about_random_moments_are_answered_as_a_list_of_all_that_stood_does,
    a_revision_or_a_time_that_was_not_is_refused_naming_what_is_known,
    what_an_app_was_set_to_is_known_of_every_time,
}
