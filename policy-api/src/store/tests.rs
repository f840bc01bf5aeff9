//! The store against a model so naive that it is right, through commits, reopenings and watches.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use proptest::{prelude::*, test_runner::TestCaseError};

use super::{etcd_cluster::EtcdCluster, *};
use crate::model::{
    Action, App, AppPattern, AppSettings, Claim, Follower, GroupWish, IsolationSpec, Mode, OnDeny, Ports, Protocol,
    Reason, RuleSpec, Selector, Target, WatchLine,
};

/// What a store is kept in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Sqlite,
    Etcd,
}

/// A prepared store of its own for each test.
pub(super) struct Place {
    location: Location,
    /// Of a store in a file.
    _directory: Option<tempfile::TempDir>,
}

impl Place {
    pub(super) fn new(kind: Kind) -> Self {
        let place = match kind {
            Kind::Sqlite => {
                let directory = tempfile::tempdir().expect("directory");
                Self { location: Location::Sqlite(directory.path().join("policy.db")), _directory: Some(directory) }
            }
            Kind::Etcd => {
                let prefix = token::hex(&birth::random::<8>().expect("random"));
                let location = shared_cluster().store(&prefix).parse().expect("a location");
                Self { location, _directory: None }
            }
        };
        prepare(&place.location, OverlayWish::default()).expect("prepared");
        place
    }

    pub(super) fn location(&self) -> Location {
        self.location.clone()
    }

    pub(super) fn file(&self) -> PathBuf {
        match &self.location {
            Location::Sqlite(path) => path.clone(),
            Location::Etcd(_) => panic!("no file"),
        }
    }

    pub(super) fn open(&self) -> Store {
        Store::open(&self.location(), OverlayWish::default()).expect("open")
    }
}

/// One for all tests of this process, which do not harm it.
pub(super) fn shared_cluster() -> &'static EtcdCluster {
    static SHARED: std::sync::OnceLock<EtcdCluster> = std::sync::OnceLock::new();
    SHARED.get_or_init(EtcdCluster::start)
}

/// The same promises of every kind of store.
macro_rules! of_every_kind {
    ($($promise:ident,)*) => {
        mod in_a_file {
            $(#[test] fn $promise() { super::$promise(super::Kind::Sqlite); })*
        }
        mod in_etcd {
            $(#[test] fn $promise() { super::$promise(super::Kind::Etcd); })*
        }
    };
}
pub(super) use of_every_kind;

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime")
}

pub(super) fn node(name: &str) -> Principal {
    Principal::Node(NodeGrant { name: name.parse().expect("name"), apps: vec![AppPattern::all()] })
}

pub(super) fn rule(source: &str, destination: &str, ports: &str, action: Action) -> RuleSpec {
    let selector = |name: &str| name.parse::<Selector>().expect("selector");
    RuleSpec::new(selector(source), selector(destination), Protocol::Tcp, ports.parse().expect("ports"), action)
}

/// The rule that a store is born with.
pub(super) const BUILT_IN: RuleId = RuleId(1);

pub(super) fn rules(store: &Store) -> Vec<RuleId> {
    store.read(|state| state.replica().rules.keys().copied().collect())
}

/// Waits until the store has moved on to this revision.
pub(super) fn await_revision(runtime: &tokio::runtime::Runtime, store: &Store, revision: Revision) {
    let mut subscription = store.subscribe(None).expect("subscribed");
    let moving = async {
        while store.read(State::revision) < revision {
            subscription.deltas.recv().await.expect("a delta");
        }
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), moving).await }).expect("in time");
}

pub(super) fn soon() -> Option<Timestamp> {
    Timestamp::now().after(Duration::from_millis(200))
}

pub(super) fn allow_on(port: u16) -> Write {
    Write::new(Command::PutRule(rule("web", "db", &port.to_string(), Action::Allow)), Principal::Operator)
}

/// What somebody may do; numbers choose from a few of a kind, so that requests meet.
#[derive(Clone, Debug)]
enum Deed {
    Put { source: u8, destination: u8, port: u8, deny: bool, reason: Option<u8>, audit: bool, silent: bool },
    Delete(u8),
    Set { app: u8, audit: Option<bool>, add: u8, remove: u8 },
    DeleteApp(u8),
    Isolate { app: u8, instance: Option<u32>, reason: Option<u8> },
    EndIsolation { app: u8, instance: Option<u32> },
    Claim { node: u8, app: u8, host: u8 },
    Release { node: u8, host: u8 },
    Reopen,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        5 => (0..7_u8, 0..7_u8, 0..4_u8, any::<[bool; 3]>(), prop::option::of(0..2_u8)).prop_map(
            |(source, destination, port, [deny, audit, silent], reason)| {
                Deed::Put { source, destination, port, deny, reason, audit, silent }
            }
        ),
        2 => (0..4_u8, any::<Option<bool>>(), 0..4_u8, 0..4_u8).prop_map(
            |(app, audit, add, remove)| Deed::Set { app, audit, add, remove }
        ),
        1 => (0..4_u8).prop_map(Deed::DeleteApp),
        2 => (0..4_u8, prop::option::of(0..2_u32), prop::option::of(0..2_u8)).prop_map(
            |(app, instance, reason)| Deed::Isolate { app, instance, reason }
        ),
        1 => (0..4_u8, prop::option::of(0..2_u32)).prop_map(|(app, instance)| Deed::EndIsolation { app, instance }),
        3 => (1..20_u8).prop_map(Deed::Delete),
        3 => (1..3_u8, 0..4_u8, 1..5_u8).prop_map(|(node, app, host)| Deed::Claim { node, app, host }),
        2 => (1..3_u8, 1..5_u8).prop_map(|(node, host)| Deed::Release { node, host }),
        1 => Just(Deed::Reopen),
    ]
}

/// The naive model: lists, searched from the front.
struct Naive {
    rules: Vec<(u32, RuleSpec)>,
    rules_made: u32,
    apps: Vec<NaiveApp>,
    apps_made: u32,
    groups: Vec<String>,
    /// With their reasons.
    isolations: BTreeMap<(String, Option<u32>), Option<Reason>>,
    /// App, instance and whether it is live, by address.
    bindings: BTreeMap<IpAddr, (String, u32, bool)>,
    revision: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct NaiveApp {
    identity: u32,
    name: String,
    is_audited: bool,
    groups: BTreeSet<String>,
}

fn app(number: u8) -> String {
    format!("app{number}")
}

fn group(number: u8) -> String {
    format!("group{number}")
}

/// One side of a rule: an app, a group, or any.
fn side(number: u8) -> String {
    match number {
        0..4 => app(number),
        4..6 => format!("group:{}", group(number - 4)),
        _ => "any".to_owned(),
    }
}

fn reason(number: Option<u8>) -> Option<Reason> {
    number.map(|number| format!("{number}").parse().expect("reason"))
}

fn address(node: u8, host: u8) -> IpAddr {
    IpAddr::from([10, 255, node, host])
}

impl Naive {
    /// As a store is born: with one rule.
    fn new() -> Self {
        let mut built_in = RuleSpec::new(Selector::Host, Selector::Any, Protocol::Any, Ports::All, Action::Allow);
        built_in.reason = plan::built_in(Timestamp::now()).reason;
        Self {
            rules: vec![(1, built_in)],
            rules_made: 1,
            apps: Vec::new(),
            apps_made: 0,
            groups: Vec::new(),
            isolations: BTreeMap::new(),
            bindings: BTreeMap::new(),
            revision: 1,
        }
    }

    fn app(&mut self, name: &str) -> &mut NaiveApp {
        if !self.apps.iter().any(|known| known.name == name) {
            let (identity, is_audited, groups) = (256 + self.apps_made, false, BTreeSet::new());
            self.apps.push(NaiveApp { identity, name: name.to_owned(), is_audited, groups });
            self.apps_made += 1;
        }
        self.apps.iter_mut().find(|known| known.name == name).expect("made")
    }

    fn group(&mut self, name: &str) {
        if !self.groups.iter().any(|known| known == name) {
            self.groups.push(name.to_owned());
        }
    }

    fn set(&mut self, name: &str, audit: Option<bool>, add: &[String], remove: &[String]) {
        let is_new = !self.apps.iter().any(|known| known.name == name);
        let app = self.app(name);
        let before = app.clone();
        app.is_audited = audit.unwrap_or(app.is_audited);
        app.groups.extend(add.iter().cloned());
        app.groups.retain(|group| !remove.contains(group));
        let (after, changed) = (app.groups.clone(), *app != before || is_new);
        after.difference(&before.groups).for_each(|group| self.group(group));
        self.revision += u64::from(changed);
    }

    fn delete_app(&mut self, name: &str) -> bool {
        let names = |selector: &Selector| selector.app().is_some_and(|app| app.as_str() == name);
        let is_named = self.rules.iter().any(|(_, rule)| names(&rule.source) || names(&rule.destination));
        let is_live = self.bindings.values().any(|(app, _, live)| *live && app == name);
        if is_named || is_live || !self.apps.iter().any(|app| app.name == name) {
            return false;
        }
        self.apps.retain(|app| app.name != name);
        self.bindings.retain(|_, (app, _, _)| app != name);
        self.isolations.retain(|(app, _), _| app != name);
        self.revision += 1;
        true
    }

    fn isolate(&mut self, name: &str, instance: Option<u32>, reason: Option<Reason>) -> bool {
        let target = (name.to_owned(), instance);
        let is_live = |number: u32| self.bindings.values().any(|binding| *binding == (name.to_owned(), number, true));
        let exists = self.apps.iter().any(|app| app.name == name) && instance.is_none_or(is_live);
        if !exists && !self.isolations.contains_key(&target) {
            return false;
        }
        let before = self.isolations.insert(target, reason.clone());
        self.revision += u64::from(before != Some(reason));
        true
    }

    fn end_isolation(&mut self, name: &str, instance: Option<u32>) -> bool {
        let ended = self.isolations.remove(&(name.to_owned(), instance)).is_some();
        self.revision += u64::from(ended);
        ended
    }

    /// Does it; says whether a revision came of it.
    fn put(&mut self, spec: &RuleSpec) {
        for side in [&spec.source, &spec.destination] {
            match side {
                Selector::App(app) => drop(self.app(app.as_str()).name.clone()),
                Selector::Group(group) => self.group(group.as_str()),
                Selector::Host | Selector::Any => {}
            }
        }
        match self.rules.iter_mut().find(|(_, standing)| standing.tuple() == spec.tuple()) {
            Some((_, standing)) if standing == spec => return,
            Some((_, standing)) => *standing = spec.clone(),
            None => {
                self.rules_made += 1;
                self.rules.push((self.rules_made, spec.clone()));
            }
        }
        self.revision += 1;
    }

    fn delete(&mut self, id: u32) -> bool {
        let before = self.rules.len();
        self.rules.retain(|(standing, _)| *standing != id);
        let did = self.rules.len() < before;
        self.revision += u64::from(did);
        did
    }

    fn claim(&mut self, address: IpAddr, app: &str) -> Option<u32> {
        match self.bindings.get(&address) {
            Some((holder, number, true)) if holder == app => return Some(*number),
            Some((_, _, true)) => return None,
            Some((_, _, false)) | None => {}
        }
        let taken = |number: u32| self.bindings.values().any(|binding| *binding == (app.to_owned(), number, true));
        let number = (0..).find(|number| !taken(*number)).expect("there are many numbers");
        self.app(app);
        self.bindings.insert(address, (app.to_owned(), number, true));
        self.revision += 1;
        Some(number)
    }

    fn release(&mut self, address: IpAddr) -> bool {
        let Some((_, _, live)) = self.bindings.get_mut(&address) else { return false };
        self.revision += u64::from(*live);
        *live = false;
        true
    }
}

/// Compares everything that can be seen.
fn assert_same(store: &Store, naive: &Naive) {
    store.read(|state| {
        let rules = state.replica().rules.values();
        let rules: Vec<_> =
            rules.map(|rule| (rule.id.0, rule.tuple(), rule.reason.clone(), rule.mode, rule.on_deny)).collect();
        let expected = naive.rules.iter();
        let expected = expected.map(|(id, spec)| (*id, spec.tuple(), spec.reason.clone(), spec.mode, spec.on_deny));
        assert_eq!(rules, expected.collect::<Vec<_>>());
        let mut apps: Vec<_> = state.replica().apps.values().map(|app| seen_app(app)).collect();
        apps.sort_by_key(|app| app.identity);
        let mut expected = naive.apps.clone();
        expected.sort_by_key(|app| app.identity);
        assert_eq!(apps, expected);
        let mut groups: Vec<_> =
            state.replica().groups.values().map(|group| (group.number, group.name.to_string())).collect();
        groups.sort();
        assert_eq!(groups, (1..).zip(naive.groups.clone()).collect::<Vec<_>>());
        let isolations = state.replica().isolations.values();
        let isolations: BTreeMap<_, _> =
            isolations.map(|item| ((item.app.to_string(), item.instance), item.reason.clone())).collect();
        assert_eq!(isolations, naive.isolations);
        let bindings: Vec<_> = state
            .replica()
            .bindings
            .values()
            .map(|binding| (binding.address, (binding.app.to_string(), binding.instance, binding.is_live())))
            .collect();
        assert_eq!(bindings, naive.bindings.clone().into_iter().collect::<Vec<_>>());
        let live = naive.bindings.values().filter(|(_, _, live)| *live).count();
        assert_eq!(state.live_instances(), live);
        let rows = |spec: &RuleSpec| spec.protocol.wire().iter().map(|_| spec.ports.rows()).sum::<u64>();
        assert_eq!(state.rows(), naive.rules.iter().map(|(_, spec)| rows(spec)).sum::<u64>());
        assert_eq!(state.revision().0, naive.revision);
    });
}

fn seen_app(app: &App) -> NaiveApp {
    NaiveApp {
        identity: app.identity.number(),
        name: app.name.to_string(),
        is_audited: app.mode == Mode::Audit,
        groups: app.groups.iter().map(ToString::to_string).collect(),
    }
}

/// Reads what a watch has to say, without waiting.
pub(super) fn follow(store: &Store, follower: &mut Follower, subscription: &mut Subscription) {
    match std::mem::replace(&mut subscription.start, Start::Resume(Vec::new())) {
        Start::Snapshot(changes) => {
            let (history, revision) = (subscription.history.clone(), subscription.revision);
            let count = u64::try_from(changes.len()).expect("few");
            let end = WatchLine::SnapshotEnd { revision, count, digest: subscription.digest };
            for line in
                [WatchLine::Snapshot { history, revision, succeeds: Vec::new() }, WatchLine::Changes { changes }, end]
            {
                follower.take(line).expect("a whole snapshot");
            }
        }
        Start::Resume(deltas) => deltas.iter().for_each(|delta| take(follower, delta)),
    }
    while let Ok(delta) = subscription.deltas.try_recv() {
        take(follower, &delta);
    }
    let (_, replica) = follower.held().expect("a state");
    store.read(|state| assert_eq!(replica, state.replica()));
}

fn take(follower: &mut Follower, delta: &Delta) {
    let line = serde_json::from_slice(&delta.line).expect("a line");
    follower.take(line).expect("it fits");
}

pub(super) fn resume(store: &Store, follower: &Follower) -> Subscription {
    let place = follower.held().map(|(history, replica)| (replica.revision(), history.clone()));
    let subscription = store.subscribe(place.clone()).expect("not ahead");
    let resumed = matches!(subscription.start, Start::Resume(_));
    assert_eq!(resumed, place.is_some_and(|(revision, _)| revision.0 > 0), "a known place is resumed at");
    subscription
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn a_file_does_what_the_naive_model_does_and_a_watch_sees_all_of_it(deeds in prop::collection::vec(deed(), 1..60)) {
        compare_with_the_naive_model(Kind::Sqlite, deeds)?;
    }

    #[test]
    fn etcd_does_what_the_naive_model_does_and_a_watch_sees_all_of_it(deeds in prop::collection::vec(deed(), 1..60)) {
        compare_with_the_naive_model(Kind::Etcd, deeds)?;
    }
}

fn compare_with_the_naive_model(kind: Kind, deeds: Vec<Deed>) -> Result<(), TestCaseError> {
    let (place, runtime) = (Place::new(kind), runtime());
    let mut store = place.open();
    let mut naive = Naive::new();
    for name in [1, 2] {
        let join = Registration { underlay: IpAddr::from([192, 168, 1, name]), key: None };
        runtime.block_on(store.write(Write::new(Command::Join(join), node(&format!("n{name}"))))).expect("join");
        naive.revision += 1;
    }
    let mut follower = Follower::default();
    let mut subscription = store.subscribe(None).expect("subscribed");
    for deed in deeds {
        let ask = |command, by| runtime.block_on(store.write(Write::new(command, by)));
        match deed {
            Deed::Put { source, destination, port, deny, reason: why, audit, silent } => {
                let action = if deny { Action::Deny } else { Action::Allow };
                let mut spec = rule(&side(source), &side(destination), &format!("{}", 80 + u16::from(port)), action);
                if port == 3 {
                    (spec.protocol, spec.ports) = (Protocol::Any, Ports::All);
                }
                spec.reason = reason(why);
                spec.mode = if audit { Mode::Audit } else { Mode::Enforce };
                spec.on_deny = (deny && silent).then_some(OnDeny::Drop);
                prop_assert!(ask(Command::PutRule(spec.clone()), Principal::Operator).is_ok());
                naive.put(&spec);
            }
            Deed::Delete(id) => {
                let done = ask(Command::DeleteRule(RuleId(id.into())), Principal::Operator);
                prop_assert_eq!(done.is_ok(), naive.delete(id.into()));
            }
            Deed::Set { app: name, audit, add, remove } => {
                // Some of the groups that can be added and removed are the same one, which is no request.
                let (add, remove) = (vec![group(add)], if remove == add { vec![] } else { vec![group(remove)] });
                let names = |groups: &[String]| groups.iter().map(|group| group.parse().expect("name")).collect();
                let groups = GroupWish::Edit { add_groups: names(&add), remove_groups: names(&remove) };
                let mode = audit.map(|audit| if audit { Mode::Audit } else { Mode::Enforce });
                let command = Command::SetApp(app(name).parse().expect("name"), AppSettings { mode, groups });
                prop_assert!(ask(command, Principal::Operator).is_ok());
                naive.set(&app(name), audit, &add, &remove);
            }
            Deed::DeleteApp(name) => {
                let done = ask(Command::DeleteApp(app(name).parse().expect("name")), Principal::Operator);
                prop_assert_eq!(done.is_ok(), naive.delete_app(&app(name)));
            }
            Deed::Isolate { app: name, instance, reason: why } => {
                let (name, why) = (app(name), reason(why));
                let spec =
                    IsolationSpec { app: name.parse().expect("name"), instance, expires_at: None, reason: why.clone() };
                let done = ask(Command::Isolate(spec), Principal::Operator);
                prop_assert_eq!(done.is_ok(), naive.isolate(&name, instance, why));
            }
            Deed::EndIsolation { app: name, instance } => {
                let target = Target { app: app(name).parse().expect("name"), instance };
                let done = ask(Command::EndIsolation(target), Principal::Operator);
                prop_assert_eq!(done.is_ok(), naive.end_isolation(&app(name), instance));
            }
            Deed::Claim { node: number, app: name, host } => {
                let address = address(number, host);
                let claim = Claim {
                    app: app(name).parse().expect("name"),
                    instance: None,
                    addresses: vec![address],
                    labels: Default::default(),
                };
                let claimed = ask(Command::Claim(claim), node(&format!("n{number}"))).ok();
                let number = claimed.map(|answer| match answer {
                    Answer::Claimed(claimed) => claimed.instance,
                    other => panic!("{other:?}"),
                });
                prop_assert_eq!(number, naive.claim(address, &app(name)));
            }
            Deed::Release { node: number, host } => {
                let done = ask(Command::Release(address(number, host)), node(&format!("n{number}")));
                prop_assert_eq!(done.is_ok(), naive.release(address(number, host)));
            }
            Deed::Reopen => {
                follow(&store, &mut follower, &mut subscription);
                store.close();
                store = place.open();
                subscription = resume(&store, &follower);
            }
        }
        assert_same(&store, &naive);
        follow(&store, &mut follower, &mut subscription);
    }
    store.close();
    Ok(())
}

fn many_writers_share_a_commit(kind: Kind) {
    let (place, runtime) = (Place::new(kind), runtime());
    let store = place.open();
    let writes = (1..=200).map(|port| store.write(allow_on(port)));
    let answers = runtime.block_on(futures_util::future::join_all(writes));
    assert!(answers.iter().all(Result::is_ok));
    let (commits, revisions) = store.commits();
    assert_eq!(revisions, 200);
    assert!(commits <= 50, "{commits} commits for 200 writes");
    store.close();
    assert_eq!(place.open().read(|state| state.replica().rules.len()), 201);
}

fn a_refused_write_in_a_shared_commit_leaves_the_others_alone(kind: Kind) {
    let (place, runtime) = (Place::new(kind), runtime());
    let store = place.open();
    let missing = Write::new(Command::DeleteRule(RuleId(77)), Principal::Operator);
    let writes = [allow_on(80), missing, allow_on(81)].map(|write| store.write(write));
    let answers = runtime.block_on(futures_util::future::join_all(writes));
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(store.read(State::revision).0, 3);
}

fn a_dry_run_says_what_would_be_and_changes_nothing(kind: Kind) {
    let (place, runtime) = (Place::new(kind), runtime());
    let store = place.open();
    let dry = Write { dry_run: true, ..allow_on(80) };
    let Answer::Rule(answer) = runtime.block_on(store.write(dry)).expect("planned") else { panic!("not a rule") };
    assert!(answer.dry_run && answer.rule.ports == "80".parse::<Ports>().expect("port"));
    assert_eq!(store.read(|state| (state.revision().0, state.replica().count())), (1, 1));
}

fn a_repeated_request_is_done_once_also_across_a_restart(kind: Kind) {
    let (place, runtime) = (Place::new(kind), runtime());
    let keyed = |port, request| Write {
        idempotency: Some(Idempotency { key: "k1".to_owned(), request: [request; 32] }),
        ..allow_on(port)
    };
    let store = place.open();
    let first = runtime.block_on(store.write(keyed(80, 1)));
    runtime.block_on(store.write(Write::new(Command::DeleteRule(RuleId(2)), Principal::Operator))).expect("deleted");
    store.close();
    let store = place.open();
    assert_eq!(runtime.block_on(store.write(keyed(80, 1))), first);
    assert_eq!(runtime.block_on(store.write(keyed(81, 2))), Err(Refusal::KeyReused));
    assert_eq!(rules(&store), [BUILT_IN]);
}

#[test]
fn a_file_is_served_once() {
    let place = Place::new(Kind::Sqlite);
    let store = place.open();
    let again = Store::open(&place.location(), OverlayWish::default());
    assert!(matches!(again, Err(DatabaseError::Served { .. })));
    store.close();
    place.open();
}

fn the_overlay_is_fixed_by_the_first_node(kind: Kind) {
    let (place, runtime) = (Place::new(kind), runtime());
    let wish = OverlayWish { v4: "10.128.0.0/16".parse().ok(), v6: None };
    let store = Store::open(&place.location(), wish).expect("no node yet");
    let join = Command::Join(Registration { underlay: IpAddr::from([192, 168, 1, 1]), key: None });
    runtime.block_on(store.write(Write::new(join, node("n1")))).expect("join");
    store.close();
    let other = OverlayWish { v4: "10.64.0.0/16".parse().ok(), v6: None };
    assert!(matches!(Store::open(&place.location(), other), Err(DatabaseError::Overlay { .. })));
    let store = place.open();
    assert_eq!(store.read(|state| state.overlay().v4.to_string()), "10.128.0.0/16");
}

#[test]
fn a_damaged_store_is_not_served() {
    let (place, runtime) = (Place::new(Kind::Sqlite), runtime());
    let store = place.open();
    runtime.block_on(store.write(allow_on(80))).expect("written");
    store.close();
    let connection = sqlite::database::connect(&place.file()).expect("connection");
    connection.execute("DELETE FROM item WHERE key = 'rule/r1'", []).expect("deleted");
    drop(connection);
    assert!(matches!(Store::open(&place.location(), OverlayWish::default()), Err(DatabaseError::Damaged(_))));
}

fn a_reader_that_knows_more_than_the_store_is_not_led_back(kind: Kind) {
    let (place, runtime) = (Place::new(kind), runtime());
    let store = place.open();
    runtime.block_on(store.write(allow_on(80))).expect("written");
    let history = store.read(|state| state.history().clone());
    let ahead = store.subscribe(Some((Revision(9), history))).err();
    assert_eq!(ahead, Some(AheadOfStore { asked: Revision(9), head: Revision(2) }));
    let elsewhere = store.subscribe(Some((Revision(9), "1111111111111111".parse().expect("history"))));
    assert!(matches!(elsewhere.expect("another history").start, Start::Snapshot(_)));
}

fn a_new_store_lets_nodes_reach_their_instances_until_somebody_says_otherwise(kind: Kind) {
    let (place, runtime) = (Place::new(kind), runtime());
    let store = place.open();
    let rule = store.read(|state| state.rule(BUILT_IN).cloned()).expect("born with it");
    assert_eq!((&rule.source, &rule.destination, rule.protocol), (&Selector::Host, &Selector::Any, Protocol::Any));
    assert_eq!((rule.action, rule.created_by.as_str()), (Action::Allow, "built-in"));
    runtime.block_on(store.write(Write::new(Command::DeleteRule(BUILT_IN), Principal::Operator))).expect("removed");
    store.close();
    prepare(&place.location(), OverlayWish::default()).expect("prepared again");
    assert_eq!(rules(&place.open()), []);
}

fn what_has_an_end_is_taken_away_by_an_ordinary_revision(kind: Kind) {
    let (place, runtime) = (Place::new(kind), runtime());
    let store = place.open();
    let lasting = RuleSpec {
        expires_at: Timestamp::now().after(Duration::from_secs(3600)),
        ..rule("web", "db", "81", Action::Deny)
    };
    let end = soon();
    let ending = RuleSpec { expires_at: end, ..rule("web", "db", "80", Action::Allow) };
    let isolation = IsolationSpec { app: "web".parse().expect("name"), instance: None, expires_at: end, reason: None };
    let mut follower = Follower::default();
    let mut subscription = store.subscribe(None).expect("subscribed");
    for command in [Command::PutRule(lasting), Command::PutRule(ending), Command::Isolate(isolation)] {
        runtime.block_on(store.write(Write::new(command, Principal::Operator))).expect("written");
    }
    await_revision(&runtime, &store, Revision(5));
    assert_eq!(rules(&store), [BUILT_IN, RuleId(2)]);
    assert!(store.read(|state| state.replica().isolations.is_empty()));
    follow(&store, &mut follower, &mut subscription);
    store.close();
    if let Location::Sqlite(path) = place.location() {
        let connection = sqlite::database::connect(&path).expect("connection");
        let who = "SELECT who FROM journal WHERE revision = 5";
        assert_eq!(connection.query_row(who, [], |row| row.get::<_, String>(0)).expect("journal"), "expiry");
    }
    assert_eq!(rules(&place.open()), [BUILT_IN, RuleId(2)]);
}

fn what_ended_while_nobody_served_the_store_is_taken_away_when_somebody_does(kind: Kind) {
    let (place, runtime) = (Place::new(kind), runtime());
    let store = place.open();
    let end = soon().expect("a time");
    let ending = RuleSpec { expires_at: Some(end), ..rule("web", "db", "80", Action::Allow) };
    runtime.block_on(store.write(Write::new(Command::PutRule(ending), Principal::Operator))).expect("written");
    store.close();
    runtime.block_on(async { tokio::time::sleep(Timestamp::now().until(end)).await });
    let store = place.open();
    await_revision(&runtime, &store, Revision(3));
    assert_eq!(rules(&store), [BUILT_IN]);
}

fn an_end_that_is_put_off_is_the_one_that_counts(kind: Kind) {
    let (place, runtime) = (Place::new(kind), runtime());
    let store = place.open();
    let write = |spec: RuleSpec| runtime.block_on(store.write(Write::new(Command::PutRule(spec), Principal::Operator)));
    let spec = rule("web", "db", "80", Action::Allow);
    let end = soon().expect("a time");
    write(RuleSpec { expires_at: Some(end), ..spec.clone() }).expect("written");
    write(RuleSpec { expires_at: end.after(Duration::from_secs(3600)), ..spec.clone() }).expect("put off");
    write(RuleSpec { expires_at: soon(), ..rule("web", "db", "81", Action::Allow) }).expect("written");
    await_revision(&runtime, &store, Revision(5));
    assert_eq!(rules(&store), [BUILT_IN, RuleId(2)]);
    write(RuleSpec { expires_at: None, ..spec }).expect("without end");
    assert_eq!(store.read(State::next_expiry), None);
}

fn counted(since: Timestamp, id: RuleId, packets: u64) -> UsageReport {
    let usage = Usage { packets, bytes: packets * 60, flows: 1, last_hit: Some(since) };
    UsageReport { since, rules: vec![crate::model::RuleUsage { id, usage }] }
}

fn what_rules_are_used_for_survives_a_restart_and_ends_with_the_rule(kind: Kind) {
    let (place, runtime) = (Place::new(kind), runtime());
    let store = place.open();
    let name = |text: &str| text.parse().expect("name");
    for (node_name, host) in [("n1", 1), ("n2", 2)] {
        let join = Command::Join(Registration { underlay: IpAddr::from([192, 168, 1, host]), key: None });
        runtime.block_on(store.write(Write::new(join, node(node_name)))).expect("join");
    }
    let start = Timestamp::now();
    let before = store.read(State::revision);
    store.note_usage(&name("n1"), &counted(start, BUILT_IN, 3)).expect("noted");
    store.note_usage(&name("n2"), &counted(start, BUILT_IN, 4)).expect("noted");
    assert_eq!(store.note_usage(&name("n3"), &counted(start, BUILT_IN, 4)).expect_err("unknown").field(), Some("name"));
    assert_eq!(store.read(State::revision), before, "counts are no change of policy");
    store.close();
    let store = place.open();
    let total = store.usage([BUILT_IN]);
    assert_eq!((total[0].packets, total[0].flows, total[0].last_hit), (7, 2, Some(start)));
    runtime.block_on(store.write(Write::new(Command::DeleteRule(BUILT_IN), Principal::Operator))).expect("removed");
    store.close();
    assert_eq!(place.open().usage([BUILT_IN]), [Usage::default()]);
}

#[test]
fn a_store_of_the_first_schema_is_brought_up_to_date() {
    let (place, runtime) = (Place::new(Kind::Sqlite), runtime());
    let store = place.open();
    runtime.block_on(store.write(allow_on(80))).expect("written");
    store.close();
    let connection = sqlite::database::connect(&place.file()).expect("connection");
    // As the first version wrote it: no tables of usage and ownership, apps without mode and groups, a head without groups.
    let older = "DROP TABLE usage; DROP TABLE ownership; PRAGMA user_version = 1;
        UPDATE item SET change = json_remove(change, '$.app.mode', '$.app.groups') WHERE key LIKE 'app/%';
        UPDATE meta SET value = json_remove(value, '$.next_group') WHERE key = 'head';";
    connection.execute_batch(older).expect("made older");
    drop(connection);
    let store = place.open();
    assert_eq!(rules(&store), [BUILT_IN, RuleId(2)]);
    let web: App =
        store.read(|state| state.app(&"web".parse().expect("name")).map(|app| App::clone(app))).expect("web");
    assert_eq!((web.mode, web.groups.len()), (Mode::Enforce, 0));
    assert_eq!(store.usage([BUILT_IN]), [Usage::default()]);
}

of_every_kind! {
    the_overlay_is_fixed_by_the_first_node,
    what_has_an_end_is_taken_away_by_an_ordinary_revision,
    many_writers_share_a_commit,
    a_refused_write_in_a_shared_commit_leaves_the_others_alone,
    a_dry_run_says_what_would_be_and_changes_nothing,
    a_repeated_request_is_done_once_also_across_a_restart,
    a_reader_that_knows_more_than_the_store_is_not_led_back,
    a_new_store_lets_nodes_reach_their_instances_until_somebody_says_otherwise,
    what_ended_while_nobody_served_the_store_is_taken_away_when_somebody_does,
    an_end_that_is_put_off_is_the_one_that_counts,
    what_rules_are_used_for_survives_a_restart_and_ends_with_the_rule,
}
