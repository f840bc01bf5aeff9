//! The store, the planner and the watches of nodes, against what was answered: whatever is asked, crashes, lost or repeated on
//! the way, by whatever clock, every answered write stands and no other, and every node comes to hold just what it needs.
//!
//! The real store in a real file, the real planner and feeds; what is made up is the trouble, and the clock.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use policy_api::{
    model::{
        AppName, AppPattern, AppSettings, Claim, Follower, GroupWish, History, IsolationSpec, Mode, NodeName, Replica,
        Revision, RuleId, RuleSpec, Target, Timestamp, WatchLine,
    },
    scope::Scopes,
    store::{
        Answer, Command, Idempotency, Location, NodeGrant, OverlayWish, Principal, Refusal, Registration, Retention,
        Start, Store, Write, prepare,
    },
    watch::{Line, Place, Planner, Planning, Presence, Timing, feed_scope},
};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::world::{SOON, rounds, rule};

const NODES: usize = 6;
/// Steps between looks at everything.
const STRETCH: usize = 250;
/// As the real thing has it, so that readers fall behind.
const LINES: usize = 16;

/// An API on its disk: what serves, and what ends with it.
struct Api {
    directory: tempfile::TempDir,
    store: Arc<Store>,
    planner: Planner,
    stop: watch::Sender<bool>,
    planning: Planning,
}

impl Api {
    fn location(directory: &tempfile::TempDir) -> Location {
        Location::Sqlite(directory.path().join("policy.db"))
    }

    fn open(directory: tempfile::TempDir, clock: &Arc<AtomicI64>) -> Self {
        let now = clock.clone();
        let clock = move || Timestamp::of_unix_milliseconds(now.load(Ordering::SeqCst)).expect("a time");
        let store =
            Store::open_by(&Self::location(&directory), OverlayWish::default(), Retention::default(), Arc::new(clock));
        let store = Arc::new(store.expect("opened"));
        let (stop, stopped) = watch::channel(false);
        let planner = Planner::start(&store, Arc::new(Presence::default()), stopped);
        let (planner, planning) = planner.expect("started");
        Self { directory, store, planner, stop, planning }
    }

    /// The disk as it is now, in another place: what a machine finds that lost its power.
    fn copy_of_the_disk(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().expect("directory");
        for file in fs::read_dir(self.directory.path()).expect("listed") {
            let file = file.expect("a file");
            if !file.file_name().to_string_lossy().ends_with("lock") {
                fs::copy(file.path(), copy.path().join(file.file_name())).expect("copied");
            }
        }
        copy
    }

    /// Stops; its disk is left.
    fn end(self) -> tempfile::TempDir {
        self.stop.send_replace(true);
        self.planning.join().expect("it ended well");
        Arc::into_inner(self.store).expect("nobody else has it").close();
        self.directory
    }
}

/// A node that follows.
struct Node {
    name: NodeName,
    follower: Follower,
    /// What it would find on its disk.
    saved: Option<(History, Replica)>,
    watch: Option<(mpsc::Receiver<Line>, JoinHandle<()>)>,
}

impl Node {
    fn connect(&mut self, api: &Api, runtime: &Runtime) {
        let (sender, lines) = mpsc::channel(LINES);
        let place = self.follower.held().map(|(history, replica)| Place {
            revision: replica.revision(),
            history: history.clone(),
            digest: replica.digest(),
        });
        let timing = Timing { heartbeat: Duration::from_millis(20), stall: Duration::from_millis(200) };
        let feed = feed_scope(
            api.planner.clone(),
            self.name.clone(),
            place,
            api.store.succeeds(),
            sender,
            timing,
            api.stop.subscribe(),
        );
        self.watch = Some((lines, runtime.spawn(feed)));
    }

    fn disconnect(&mut self, runtime: &Runtime) {
        if let Some((lines, feed)) = self.watch.take() {
            drop(lines);
            runtime.block_on(feed).expect("a feed ends well");
        }
    }

    /// Takes a line, as the agent does: what does not fit is forgotten, and all is asked for anew.
    fn take(&mut self, line: &Line) -> bool {
        let before = self.follower.held().map(|(history, replica)| (history.clone(), replica.revision()));
        let line: WatchLine = serde_json::from_slice(line).expect("a line");
        if self.follower.take(line).is_err() {
            self.follower.forget();
            return false;
        }
        let after = self.follower.held();
        if let (Some((history, revision)), Some((now, replica))) = (before, after) {
            assert!(history != *now || replica.revision() >= revision, "{} went back", self.name);
        }
        true
    }

    /// Reads so many lines as are there; ends the watch where one does not fit.
    fn read(&mut self, most: usize, runtime: &Runtime) {
        for _ in 0..most {
            let Some((lines, _)) = &mut self.watch else { return };
            match lines.try_recv() {
                Ok(line) if !self.take(&line) => return self.disconnect(runtime),
                Ok(_) => {}
                Err(mpsc::error::TryRecvError::Empty) => return,
                Err(mpsc::error::TryRecvError::Disconnected) => return self.disconnect(runtime),
            }
        }
    }
}

/// What was answered, and so has to stand.
#[derive(Clone, Debug, Default, PartialEq)]
struct Answered {
    rules: BTreeMap<RuleId, RuleSpec>,
    /// App and instance by address, of those that are live.
    live: BTreeMap<IpAddr, (AppName, u32)>,
    isolations: BTreeMap<String, Option<Timestamp>>,
}

struct Machine {
    rng: Rng,
    runtime: Runtime,
    clock: Arc<AtomicI64>,
    api: Option<Api>,
    nodes: Vec<Node>,
    answered: Answered,
    revision: Revision,
    keys: u64,
}

impl Machine {
    fn new(seed: u64) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        drop(prepare(&Api::location(&directory), OverlayWish::default()).expect("prepared"));
        let clock = Arc::new(AtomicI64::new(Timestamp::now().unix_milliseconds()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let api = Api::open(directory, &clock);
        let built_in = api.store.read(|state| {
            let rules = state.replica().rules.values();
            rules.map(|rule| (rule.id, spec_of(rule))).collect()
        });
        let mut machine = Self {
            rng: Rng::with_seed(seed),
            runtime: runtime.expect("runtime"),
            clock,
            api: Some(api),
            nodes: Vec::new(),
            answered: Answered { rules: built_in, ..Answered::default() },
            revision: Revision::default(),
            keys: 0,
        };
        for number in 0..NODES {
            let name: NodeName = format!("n{number}").parse().expect("name");
            let underlay = IpAddr::from([192, 168, 1, 1 + u8::try_from(number).expect("few")]);
            let join = Command::Join(Registration { underlay, key: None });
            machine.write(join, &name).expect("joined");
            machine.nodes.push(Node { name, follower: Follower::default(), saved: None, watch: None });
        }
        machine
    }

    fn api(&self) -> &Api {
        self.api.as_ref().expect("it runs")
    }

    fn chance(&mut self, of: u32) -> bool {
        self.rng.u32(0..of) == 0
    }

    fn write_as(&mut self, command: Command, by: Principal) -> Result<Answer, Refusal> {
        self.keys += 1;
        let request = self.keys.to_le_bytes().repeat(4).try_into().expect("32 bytes");
        let key = Some(Idempotency { key: format!("k{}", self.keys), request });
        let write = Write { idempotency: key, ..Write::new(command, by) };
        let store = self.api().store.clone();
        let answer = self.runtime.block_on(store.write(write.clone()));
        // The answer was lost on its way, and the asker asks again.
        if answer.is_ok() && self.chance(8) {
            let again = self.runtime.block_on(store.write(write));
            assert_eq!(again, answer, "the same request under the same key");
        }
        answer
    }

    fn write(&mut self, command: Command, node: &NodeName) -> Result<Answer, Refusal> {
        let grant = NodeGrant { name: node.clone(), apps: vec![AppPattern::all()] };
        self.write_as(command, Principal::Node(grant))
    }

    fn now(&self) -> Timestamp {
        Timestamp::of_unix_milliseconds(self.clock.load(Ordering::SeqCst)).expect("a time")
    }

    fn some_end(&mut self) -> Option<Timestamp> {
        let soon = Duration::from_secs(self.rng.u64(1..120));
        if self.chance(4) { self.now().after(soon) } else { None }
    }

    fn app(&mut self) -> AppName {
        format!("app{}", self.rng.u8(0..8)).parse().expect("name")
    }

    fn side(&mut self) -> String {
        match self.rng.u8(0..12) {
            0 => "any".to_owned(),
            1 | 2 => format!("group:g{}", self.rng.u8(0..2)),
            _ => self.app().to_string(),
        }
    }

    fn put_rule(&mut self) {
        let (source, destination) = (self.side(), self.side());
        let action = if self.chance(3) { "deny" } else { "allow" };
        let port = 80 + self.rng.u16(0..4);
        let spec = RuleSpec {
            expires_at: self.some_end(),
            mode: if self.chance(6) { Mode::Audit } else { Mode::Enforce },
            ..rule(&format!("{action} {source} {destination} {port}"))
        };
        let Answer::Rule(answer) = self.write_as(Command::PutRule(spec), Principal::Operator).expect("a rule") else {
            panic!("not a rule")
        };
        self.answered.rules.insert(answer.rule.id, spec_of(&answer.rule));
    }

    fn delete_rule(&mut self) {
        let place = self.rng.usize(0..self.answered.rules.len().max(1));
        let Some(id) = self.answered.rules.keys().nth(place).copied() else { return };
        self.write_as(Command::DeleteRule(id), Principal::Operator).expect("it stands");
        self.answered.rules.remove(&id);
    }

    fn claim_or_release(&mut self) {
        let number = self.rng.usize(0..NODES);
        let node = self.nodes[number].name.clone();
        let address = IpAddr::from([10, 255, 1 + u8::try_from(number).expect("few"), self.rng.u8(1..6)]);
        if self.answered.live.contains_key(&address) {
            self.write(Command::Release(address), &node).expect("released");
            self.answered.live.remove(&address);
            // What an instance was isolated by stays for the next one of that number.
            return;
        }
        let claim = Claim { app: self.app(), instance: None, addresses: vec![address], labels: Default::default() };
        let Answer::Claimed(claimed) = self.write(Command::Claim(claim), &node).expect("claimed") else {
            panic!("not a claim")
        };
        self.answered.live.insert(address, (claimed.app, claimed.instance));
    }

    fn set_app(&mut self) {
        let group = |number: u32| format!("g{number}").parse().expect("name");
        let (add, remove) = (self.rng.u32(0..3), self.rng.u32(0..3));
        if add == remove {
            return;
        }
        let groups = GroupWish::Edit { add_groups: [group(add)].into(), remove_groups: [group(remove)].into() };
        let mode = self.chance(3).then_some(Mode::Audit).or(Some(Mode::Enforce));
        let command = Command::SetApp(self.app(), AppSettings { mode, groups });
        self.write_as(command, Principal::Operator).expect("set");
    }

    fn isolate_or_end(&mut self) {
        let target = Target { app: self.app(), instance: None };
        if self.answered.isolations.contains_key(&target.to_string()) {
            self.write_as(Command::EndIsolation(target.clone()), Principal::Operator).expect("it stands");
            self.answered.isolations.remove(&target.to_string());
            return;
        }
        let spec = IsolationSpec { app: target.app.clone(), instance: None, expires_at: self.some_end(), reason: None };
        match self.write_as(Command::Isolate(spec), Principal::Operator) {
            Ok(Answer::Isolation(answer)) => {
                self.answered.isolations.insert(target.to_string(), answer.isolation.expires_at);
            }
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => assert!(matches!(refusal, Refusal::NotFound(..)), "{refusal}"),
        }
    }

    /// Sets the clock, on or back; what has ended by it goes, and does not come back.
    fn set_clock(&mut self) {
        let jump = if self.chance(3) { -self.rng.i64(1..60_000) } else { self.rng.i64(1..90_000) };
        self.clock.fetch_add(jump, Ordering::SeqCst);
        let now = self.now();
        self.answered.rules.retain(|_, spec| spec.expires_at.is_none_or(|end| end > now));
        self.answered.isolations.retain(|_, end| end.is_none_or(|end| end > now));
        // It looks at the clock with each turn, and so it has looked behind the second of these.
        for _ in 0..2 {
            let nothing =
                Write { dry_run: true, ..Write::new(Command::PutRule(rule("allow a b 1")), Principal::Operator) };
            let store = self.api().store.clone();
            self.runtime.block_on(store.write(nothing)).expect("a dry run");
        }
    }

    /// The API loses its power, or is stopped, and comes back from its disk.
    fn restart(&mut self) {
        let without_power = self.chance(2).then(|| self.api().copy_of_the_disk());
        let api = self.api.take().expect("it runs");
        self.nodes.iter_mut().for_each(|node| node.disconnect(&self.runtime));
        let stopped = api.end();
        self.api = Some(Api::open(without_power.unwrap_or(stopped), &self.clock));
    }

    fn trouble_a_node(&mut self) {
        let number = self.rng.usize(0..NODES);
        let trouble = self.rng.u8(0..8);
        let lines = self.rng.usize(1..30);
        let runtime = &self.runtime;
        let (api, node) = (self.api.as_ref().expect("it runs"), &mut self.nodes[number]);
        match trouble {
            // What is on its way is lost.
            0 => node.disconnect(runtime),
            // A machine that lost its power finds what it saved last.
            1 => {
                node.disconnect(runtime);
                let saved = node.saved.clone();
                node.follower =
                    saved.map_or_else(Follower::default, |(history, replica)| Follower::resuming(history, replica));
            }
            2 => node.saved = node.follower.held().cloned(),
            // A line comes twice. It is not taken for a second one.
            3 => {
                let Some((receiver, _)) = &mut node.watch else { return };
                let Ok(line) = receiver.try_recv() else { return };
                if !node.take(&line) || !node.take(&line) {
                    node.disconnect(runtime);
                }
            }
            _ => {
                if node.watch.is_none() {
                    node.connect(api, runtime);
                }
                node.read(lines, runtime);
            }
        }
    }

    fn step(&mut self) {
        match self.rng.u8(0..100) {
            0..24 => self.put_rule(),
            24..36 => self.delete_rule(),
            36..52 => self.claim_or_release(),
            52..56 => self.set_app(),
            56..60 => self.isolate_or_end(),
            60..62 => self.set_clock(),
            62 => {
                if self.chance(4) {
                    self.restart();
                }
            }
            _ => self.trouble_a_node(),
        }
    }

    /// Every answered write stands and no other, and every node comes to hold what it needs.
    fn look(&mut self) {
        self.set_clock();
        let (standing, revision) = self.api().store.read(|state| (standing(state.replica()), state.revision()));
        assert_eq!(standing, self.answered);
        assert!(revision >= self.revision, "the store went back");
        self.revision = revision;
        let mut scopes = Scopes::default();
        let whole = self.api().store.subscribe(None).expect("who knows nothing is not ahead");
        if let Start::Snapshot(items) = whole.start {
            scopes.apply(&items);
        }
        for node in &mut self.nodes {
            let (_, wanted) = scopes.open(&node.name);
            let holds_it = |node: &Node| {
                let held = node.follower.held().map(|(_, replica)| (replica.digest(), replica.count()));
                held == Some((wanted.digest, wanted.count))
            };
            let start = Instant::now();
            while !holds_it(node) {
                assert!(start.elapsed() < SOON, "{} does not come to hold what it needs", node.name);
                if node.watch.is_none() {
                    node.connect(self.api.as_ref().expect("it runs"), &self.runtime);
                }
                node.read(usize::MAX, &self.runtime);
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }
}

fn spec_of(rule: &policy_api::model::Rule) -> RuleSpec {
    RuleSpec {
        source: rule.source.clone(),
        destination: rule.destination.clone(),
        protocol: rule.protocol,
        ports: rule.ports.clone(),
        action: rule.action,
        mode: rule.mode,
        expires_at: rule.expires_at,
        reason: rule.reason.clone(),
        on_deny: rule.on_deny,
    }
}

fn standing(replica: &Replica) -> Answered {
    let live = replica.bindings.values().filter(|binding| binding.is_live());
    Answered {
        rules: replica.rules.values().map(|rule| (rule.id, spec_of(rule))).collect(),
        live: live.map(|binding| (binding.address, (binding.app.clone(), binding.instance))).collect(),
        isolations: replica.isolations.values().map(|item| (item.target().to_string(), item.expires_at)).collect(),
    }
}

#[test]
fn whatever_happens_what_was_answered_stands_and_every_node_comes_to_hold_what_it_needs() {
    let mut machine = Machine::new(3);
    for step in 0..rounds(20_000, 1_200_000) {
        machine.step();
        if step % STRETCH == 0 {
            machine.look();
        }
    }
    machine.look();
    let Machine { runtime, mut nodes, api, .. } = machine;
    nodes.iter_mut().for_each(|node| node.disconnect(&runtime));
    api.expect("it runs").end();
}
