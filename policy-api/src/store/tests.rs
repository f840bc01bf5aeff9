//! The store against a model so naive that it is right, through commits, reopenings and watches.

use std::{collections::BTreeMap, net::IpAddr};

use proptest::prelude::*;

use super::*;
use crate::model::{Action, Claim, Follower, Join, Ports, Protocol, Reason, RuleSpec, Selector, WatchLine};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("directory"));
        prepare(&place.location(), OverlayWish::default()).expect("prepared");
        place
    }

    fn location(&self) -> Location {
        Location::Sqlite(self.0.path().join("policy.db"))
    }

    fn open(&self) -> Store {
        Store::open(&self.location(), OverlayWish::default()).expect("open")
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime")
}

fn node(name: &str) -> Principal {
    Principal::Node(NodeGrant { name: name.parse().expect("name"), apps: vec![AppPattern::all()] })
}

fn rule(source: &str, destination: &str, ports: &str, action: Action) -> RuleSpec {
    let selector = |name: &str| name.parse::<Selector>().expect("selector");
    RuleSpec::new(selector(source), selector(destination), Protocol::Tcp, ports.parse().expect("ports"), action)
}

fn allow_on(port: u16) -> Write {
    Write::new(Command::PutRule(rule("web", "db", &port.to_string(), Action::Allow)), Principal::Operator)
}

/// What somebody may do; numbers choose from a few of a kind, so that requests meet.
#[derive(Clone, Debug)]
enum Deed {
    Put { source: u8, destination: u8, port: u8, deny: bool, reason: Option<u8> },
    Delete(u8),
    Claim { node: u8, app: u8, host: u8 },
    Release { node: u8, host: u8 },
    Reopen,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        5 => (0..4_u8, 0..4_u8, 0..3_u8, any::<bool>(), prop::option::of(0..2_u8)).prop_map(
            |(source, destination, port, deny, reason)| Deed::Put { source, destination, port, deny, reason }
        ),
        3 => (1..20_u8).prop_map(Deed::Delete),
        3 => (1..3_u8, 0..4_u8, 1..5_u8).prop_map(|(node, app, host)| Deed::Claim { node, app, host }),
        2 => (1..3_u8, 1..5_u8).prop_map(|(node, host)| Deed::Release { node, host }),
        1 => Just(Deed::Reopen),
    ]
}

/// The naive model: lists, searched from the front.
#[derive(Default)]
struct Naive {
    rules: Vec<(u32, RuleSpec)>,
    rules_made: u32,
    apps: Vec<String>,
    /// App, instance and whether it is live, by address.
    bindings: BTreeMap<IpAddr, (String, u32, bool)>,
    revision: u64,
}

fn app(number: u8) -> String {
    format!("app{number}")
}

fn address(node: u8, host: u8) -> IpAddr {
    IpAddr::from([10, 255, node, host])
}

impl Naive {
    fn name(&mut self, name: &str) {
        if !self.apps.iter().any(|known| known == name) {
            self.apps.push(name.to_owned());
        }
    }

    /// Does it; says whether a revision came of it.
    fn put(&mut self, spec: &RuleSpec) {
        for side in [&spec.source, &spec.destination] {
            if let Selector::App(app) = side {
                self.name(app.as_str());
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
        self.name(app);
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
        let rules: Vec<_> =
            state.replica().rules.values().map(|rule| (rule.id.0, rule.tuple(), rule.reason.clone())).collect();
        let expected: Vec<_> = naive.rules.iter().map(|(id, spec)| (*id, spec.tuple(), spec.reason.clone())).collect();
        assert_eq!(rules, expected);
        let mut apps: Vec<_> =
            state.replica().apps.values().map(|app| (app.identity.number(), app.name.to_string())).collect();
        apps.sort();
        assert_eq!(apps, (256..).zip(naive.apps.clone()).collect::<Vec<_>>());
        let bindings: Vec<_> = state
            .replica()
            .bindings
            .values()
            .map(|binding| (binding.address, (binding.app.to_string(), binding.instance, binding.is_live())))
            .collect();
        assert_eq!(bindings, naive.bindings.clone().into_iter().collect::<Vec<_>>());
        let live = naive.bindings.values().filter(|(_, _, live)| *live).count();
        assert_eq!(state.live_instances(), live);
        assert_eq!(state.rows(), naive.rules.iter().map(|(_, spec)| spec.ports.rows()).sum::<u64>());
        assert_eq!(state.revision().0, naive.revision);
    });
}

/// Reads what a watch has to say, without waiting.
fn follow(store: &Store, follower: &mut Follower, subscription: &mut Subscription) {
    match std::mem::replace(&mut subscription.start, Start::Resume(Vec::new())) {
        Start::Snapshot(changes) => {
            let (history, revision) = (subscription.history.clone(), subscription.revision);
            let count = u64::try_from(changes.len()).expect("few");
            let end = WatchLine::SnapshotEnd { revision, count, digest: subscription.digest };
            for line in [WatchLine::Snapshot { history, revision }, WatchLine::Changes { changes }, end] {
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

fn resume(store: &Store, follower: &Follower) -> Subscription {
    let place = follower.held().map(|(history, replica)| (replica.revision(), history.clone()));
    let subscription = store.subscribe(place.clone()).expect("not ahead");
    let resumed = matches!(subscription.start, Start::Resume(_));
    assert_eq!(resumed, place.is_some_and(|(revision, _)| revision.0 > 0), "a known place is resumed at");
    subscription
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn it_does_what_the_naive_model_does_and_a_watch_sees_all_of_it(deeds in prop::collection::vec(deed(), 1..60)) {
        let (place, runtime) = (Place::new(), runtime());
        let mut store = place.open();
        let mut naive = Naive::default();
        for name in [1, 2] {
            let join = Join { underlay: IpAddr::from([192, 168, 1, name]) };
            runtime.block_on(store.write(Write::new(Command::Join(join), node(&format!("n{name}"))))).expect("join");
            naive.revision += 1;
        }
        let mut follower = Follower::default();
        let mut subscription = store.subscribe(None).expect("subscribed");
        for deed in deeds {
            let ask = |command, by| runtime.block_on(store.write(Write::new(command, by)));
            match deed {
                Deed::Put { source, destination, port, deny, reason } => {
                    let action = if deny { Action::Deny } else { Action::Allow };
                    let mut spec = rule(&app(source), &app(destination), &format!("{}", 80 + u16::from(port)), action);
                    spec.reason = reason.map(|number| format!("{number}").parse::<Reason>().expect("reason"));
                    prop_assert!(ask(Command::PutRule(spec.clone()), Principal::Operator).is_ok());
                    naive.put(&spec);
                }
                Deed::Delete(id) => {
                    let done = ask(Command::DeleteRule(crate::model::RuleId(id.into())), Principal::Operator);
                    prop_assert_eq!(done.is_ok(), naive.delete(id.into()));
                }
                Deed::Claim { node: number, app: name, host } => {
                    let address = address(number, host);
                    let claim = Claim { app: app(name).parse().expect("name"), instance: None, addresses: vec![address], labels: Default::default() };
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
    }
}

#[test]
fn many_writers_share_a_commit() {
    let (place, runtime) = (Place::new(), runtime());
    let store = place.open();
    let writes = (1..=200).map(|port| store.write(allow_on(port)));
    let answers = runtime.block_on(futures_util::future::join_all(writes));
    assert!(answers.iter().all(Result::is_ok));
    let (commits, revisions) = store.commits();
    assert_eq!(revisions, 200);
    assert!(commits <= 50, "{commits} commits for 200 writes");
    store.close();
    assert_eq!(place.open().read(|state| state.replica().rules.len()), 200);
}

#[test]
fn a_refused_write_in_a_shared_commit_leaves_the_others_alone() {
    let (place, runtime) = (Place::new(), runtime());
    let store = place.open();
    let missing = Write::new(Command::DeleteRule(crate::model::RuleId(77)), Principal::Operator);
    let writes = [allow_on(80), missing, allow_on(81)].map(|write| store.write(write));
    let answers = runtime.block_on(futures_util::future::join_all(writes));
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(store.read(State::revision).0, 2);
}

#[test]
fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let (place, runtime) = (Place::new(), runtime());
    let store = place.open();
    let dry = Write { dry_run: true, ..allow_on(80) };
    let Answer::Rule(answer) = runtime.block_on(store.write(dry)).expect("planned") else { panic!("not a rule") };
    assert!(answer.dry_run && answer.rule.ports == "80".parse::<Ports>().expect("port"));
    assert_eq!(store.read(|state| (state.revision().0, state.replica().count())), (0, 0));
}

#[test]
fn a_repeated_request_is_done_once_also_across_a_restart() {
    let (place, runtime) = (Place::new(), runtime());
    let keyed = |port, request| Write {
        idempotency: Some(Idempotency { key: "k1".to_owned(), request: [request; 32] }),
        ..allow_on(port)
    };
    let store = place.open();
    let first = runtime.block_on(store.write(keyed(80, 1)));
    runtime
        .block_on(store.write(Write::new(Command::DeleteRule(crate::model::RuleId(1)), Principal::Operator)))
        .expect("deleted");
    store.close();
    let store = place.open();
    assert_eq!(runtime.block_on(store.write(keyed(80, 1))), first);
    assert_eq!(runtime.block_on(store.write(keyed(81, 2))), Err(Refusal::KeyReused));
    assert!(store.read(|state| state.replica().rules.is_empty()));
}

#[test]
fn a_store_is_served_once_and_its_overlay_is_fixed_by_the_first_node() {
    let (place, runtime) = (Place::new(), runtime());
    let wish = OverlayWish { v4: "10.128.0.0/16".parse().ok(), v6: None };
    let store = Store::open(&place.location(), wish).expect("no node yet");
    assert!(matches!(Store::open(&place.location(), wish), Err(DatabaseError::Served { .. })));
    let join = Command::Join(Join { underlay: IpAddr::from([192, 168, 1, 1]) });
    runtime.block_on(store.write(Write::new(join, node("n1")))).expect("join");
    store.close();
    let other = OverlayWish { v4: "10.64.0.0/16".parse().ok(), v6: None };
    assert!(matches!(Store::open(&place.location(), other), Err(DatabaseError::Overlay { .. })));
    let store = place.open();
    assert_eq!(store.read(|state| state.overlay().v4.to_string()), "10.128.0.0/16");
}

#[test]
fn a_damaged_store_is_not_served() {
    let (place, runtime) = (Place::new(), runtime());
    let store = place.open();
    runtime.block_on(store.write(allow_on(80))).expect("written");
    store.close();
    let connection = database::connect(place.location().path()).expect("connection");
    connection.execute("DELETE FROM item WHERE key = 'rule/r1'", []).expect("deleted");
    drop(connection);
    assert!(matches!(Store::open(&place.location(), OverlayWish::default()), Err(DatabaseError::Damaged(_))));
}

#[test]
fn a_reader_that_knows_more_than_the_store_is_not_led_back() {
    let (place, runtime) = (Place::new(), runtime());
    let store = place.open();
    runtime.block_on(store.write(allow_on(80))).expect("written");
    let history = store.read(|state| state.history().clone());
    let ahead = store.subscribe(Some((Revision(9), history))).err();
    assert_eq!(ahead, Some(AheadOfStore { asked: Revision(9), head: Revision(1) }));
    let elsewhere = store.subscribe(Some((Revision(9), "1111111111111111".parse().expect("history"))));
    assert!(matches!(elsewhere.expect("another history").start, Start::Snapshot(_)));
}
