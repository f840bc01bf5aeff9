//! What every kind of store promises, and what one in a file does besides.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use super::{etcd_cluster::EtcdCluster, *};
use crate::model::{
    Action, App, AppPattern, Follower, IsolationSpec, Mode, Ports, Protocol, RuleSpec, Selector, TeamSettings,
    TokenHash, TokenName, TokenSpec, WatchLine, hex::hex,
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
                let prefix = hex(&birth::random::<8>().expect("random"));
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

/// Makes a file what the third version wrote, which sealed nothing.
pub(super) fn make_of_schema_3(connection: &rusqlite::Connection) {
    let batch = "
        ALTER TABLE journal RENAME TO sealed;
        CREATE TABLE journal (
            revision INTEGER PRIMARY KEY, time TEXT NOT NULL, who TEXT NOT NULL, changes TEXT NOT NULL
        );
        INSERT INTO journal SELECT line ->> 'revision', line ->> 'time', line ->> 'who', line -> 'changes' FROM sealed
            WHERE line -> 'changes' IS NOT NULL;
        DROP TABLE sealed;
        UPDATE meta SET value = json_remove(value, '$.tip') WHERE key = 'head';
        PRAGMA user_version = 3;
    ";
    connection.execute_batch(batch).expect("made older");
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
        let who = "SELECT line ->> 'who' FROM journal WHERE line ->> 'revision' = 5";
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
    let usage = Usage { packets, bytes: packets * 60, flows: 1, live: 0, last_hit: Some(since) };
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
    let total = store.usage([BUILT_IN], |_| true);
    assert_eq!((total[0].packets, total[0].flows, total[0].last_hit), (7, 2, Some(start)));
    runtime.block_on(store.write(Write::new(Command::DeleteRule(BUILT_IN), Principal::Operator))).expect("removed");
    store.close();
    assert_eq!(place.open().usage([BUILT_IN], |_| true), [Usage::default()]);
}

fn who_may_survives_a_restart_and_is_told_without_hashes(kind: Kind) {
    let (place, runtime) = (Place::new(kind), runtime());
    let (team, alice) = ("shop".parse().expect("name"), "alice".parse::<TokenName>().expect("name"));
    let hash = TokenHash::of("secret");
    let by_alice = Principal::User(User::Token(alice.clone(), hash));
    let store = place.open();
    let write = |store: &Store, command, by: &Principal| runtime.block_on(store.write(Write::new(command, by.clone())));
    let settings = TeamSettings { apps: ["shop-*".parse().expect("pattern")].into(), ..TeamSettings::default() };
    write(&store, Command::SetTeam(team, settings), &Principal::Operator).expect("team");
    let grants = ["writer:shop".parse().expect("role")].into();
    let spec = TokenSpec { name: alice.clone(), grants, hash, expires_at: None };
    write(&store, Command::CreateToken(spec), &Principal::Operator).expect("token");
    let ours = rule("shop-web", "shop-db", "80", Action::Allow);
    write(&store, Command::PutRule(ours), &by_alice).expect("written");
    let theirs = rule("shop-web", "lone", "80", Action::Allow);
    let asked = write(&store, Command::PutRule(theirs), &by_alice).expect("asked");
    assert!(matches!(asked, Answer::Asked(_)), "{asked:?}");
    let told = serde_json::to_string(&super::told(&store.read(State::clone))).expect("json");
    assert!(told.contains("alice") && !told.contains(&hash.to_string()), "{told}");
    let before = store.read(|state| state.replica().clone());
    store.close();

    let store = place.open();
    assert_eq!(store.read(|state| state.replica().clone()), before);
    assert_eq!(store.read(|state| state.rules_of(&"shop".parse().expect("name"))), 1);
    // Also what a watch resumes from, which was read back.
    let since = store.read(|state| (Revision(1), state.history().clone()));
    let Start::Resume(deltas) = store.subscribe(Some(since)).expect("subscribed").start else { panic!("a snapshot") };
    let lines: String = deltas.iter().map(|delta| String::from_utf8_lossy(&delta.line).into_owned()).collect();
    assert!(lines.contains("alice") && !lines.contains(&hash.to_string()), "{lines}");
    write(&store, Command::RevokeToken(alice), &Principal::Operator).expect("revoked");
    let late = write(&store, Command::PutRule(rule("shop-web", "shop-db", "81", Action::Allow)), &by_alice);
    assert!(matches!(late, Err(Refusal::Forbidden(_))), "{late:?}");
    assert!(store.read(|state| state.replica().requests.is_empty()), "nor is asked what was asked for by it");
    store.close();
}

#[test]
fn a_store_of_the_first_schema_is_brought_up_to_date() {
    let (place, runtime) = (Place::new(Kind::Sqlite), runtime());
    let store = place.open();
    runtime.block_on(store.write(allow_on(80))).expect("written");
    store.close();
    let connection = sqlite::database::connect(&place.file()).expect("connection");
    // As the first version wrote it: no tables of usage and ownership, apps without mode and groups, a head without groups.
    make_of_schema_3(&connection);
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
    assert_eq!(store.usage([BUILT_IN], |_| true), [Usage::default()]);
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
    who_may_survives_a_restart_and_is_told_without_hashes,
}
