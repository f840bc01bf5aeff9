//! What only a store in etcd promises: several processes at once, and a log that does not grow for ever.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    load::Place,
    tidy::{Limits, Tidying},
    *,
};
use crate::{
    model::{
        Action, At, ChangeSet, Follower as WatchFollower, HistoryQuery, NodeName, Revision, RuleId, RuleSpec,
        RuleUsage, Timestamp, Usage, UsageReport,
    },
    store::{
        Answer, Command, Idempotency, Listing, NodeGrant, OverlayWish, Principal, Refusal, Registration, Sighting,
        State, Store, Token, Write,
        engine::{Engine as _, Heard},
        location::Location,
        retention::Limit,
        tests::{
            BUILT_IN, Kind, Place as Prepared, allow_on, await_revision, follow, node, resume, rule, rules, runtime,
            soon,
        },
    },
};

fn cluster(place: &Prepared) -> Cluster {
    match place.location() {
        Location::Etcd(cluster) => cluster,
        Location::Sqlite(path) => panic!("{} is a file", path.display()),
    }
}

fn of_port(answer: &Result<Answer, Refusal>) -> RuleId {
    match answer {
        Ok(Answer::Rule(answer)) => answer.rule.id,
        other => panic!("no rule: {other:?}"),
    }
}

fn many_rules(count: u32) -> Write {
    let one =
        |number: u32| rule(&format!("app{}", number / 1000), "db", &(number % 1000 + 1).to_string(), Action::Allow);
    let set = ChangeSet::of_rules((0..count).map(one).collect(), vec![]);
    Write::new(Command::Change(set), Principal::Operator)
}

#[test]
fn what_one_answered_the_other_builds_upon_at_once() {
    let (place, runtime) = (Prepared::new(Kind::Etcd), runtime());
    let (one, other) = (place.open(), place.open());
    for port in 1..50 {
        let id = of_port(&runtime.block_on(one.write(allow_on(port))));
        assert!(one.read(|state| state.rule(id).is_some()), "visible where it was answered");
        let delete = Write::new(Command::DeleteRule(id), Principal::Operator);
        runtime.block_on(other.write(delete)).expect("known to the other, however soon it is asked");
    }
    await_revision(&runtime, &one, Revision(99));
    assert_eq!(rules(&one), [BUILT_IN]);
}

#[test]
fn a_revision_that_another_answered_is_waited_for() {
    let (place, runtime) = (Prepared::new(Kind::Etcd), runtime());
    let (one, other) = (place.open(), place.open());
    for port in 1..50 {
        runtime.block_on(one.write(allow_on(port))).expect("written");
        let place = one.read(|state| (state.revision(), state.history().clone()));
        runtime.block_on(other.reach(place.0));
        assert!(other.subscribe(Some(place)).is_ok(), "nobody is told that the store went back");
    }
}

#[test]
fn writes_at_both_have_one_order_that_every_watch_sees_whole() {
    const EACH: u16 = 150;
    let (place, runtime) = (Prepared::new(Kind::Etcd), runtime());
    let stores = [place.open(), place.open()];
    let mut watches: Vec<_> = stores.iter().map(|store| store.subscribe(None).expect("subscribed")).collect();
    let mut followers: Vec<_> = stores.iter().map(|_| WatchFollower::default()).collect();
    let writes = stores.iter().zip([0, 1000]).flat_map(|(store, first)| {
        (1..=EACH).map(move |port| async move {
            // Not all in one transaction.
            tokio::time::sleep(Duration::from_millis(u64::from(port))).await;
            store.write(allow_on(first + port)).await
        })
    });
    let answers = runtime.block_on(futures_util::future::join_all(writes));
    let ids: BTreeSet<RuleId> = answers.iter().map(of_port).collect();
    assert_eq!(ids.len(), usize::from(2 * EACH), "each has an id of its own");
    for ((store, follower), watch) in stores.iter().zip(&mut followers).zip(&mut watches) {
        await_revision(&runtime, store, Revision(u64::from(2 * EACH) + 1));
        follow(store, follower, watch);
        assert_eq!(store.read(|state| state.replica().rules.len()), usize::from(2 * EACH) + 1);
    }
    let digest = |store: &Store| store.read(|state| state.replica().digest());
    assert_eq!(digest(&stores[0]), digest(&stores[1]));
}

#[test]
fn the_same_request_at_both_is_done_once() {
    let (place, runtime) = (Prepared::new(Kind::Etcd), runtime());
    let (one, other) = (place.open(), place.open());
    for port in 1..30 {
        let idempotency = Some(Idempotency { key: format!("k{port}"), request: [1; 32] });
        let write = || Write { idempotency: idempotency.clone(), ..allow_on(port) };
        let (first, second) = runtime.block_on(async { tokio::join!(one.write(write()), other.write(write())) });
        assert_eq!(first, second);
    }
    await_revision(&runtime, &one, Revision(30));
    await_revision(&runtime, &other, Revision(30));
    assert_eq!(rules(&one).len(), 30);
}

#[test]
fn a_change_set_that_is_larger_than_a_transaction_is_still_all_or_nothing() {
    let (place, runtime) = (Prepared::new(Kind::Etcd), runtime());
    let (one, other) = (place.open(), place.open());
    let mut follower = WatchFollower::default();
    let mut watch = other.subscribe(None).expect("subscribed");
    let keyed =
        Write { idempotency: Some(Idempotency { key: "large".to_owned(), request: [7; 32] }), ..many_rules(10_000) };
    let first = runtime.block_on(one.write(keyed.clone()));
    assert!(first.is_ok(), "{first:?}");
    await_revision(&runtime, &other, Revision(2));
    follow(&other, &mut follower, &mut watch);
    assert_eq!(rules(&other).len(), 10_001);
    assert!(runtime.block_on(other.write(keyed)) == first, "the same answer, from the other");
    let again = place.open();
    assert_eq!(rules(&again).len(), 10_001);
}

#[test]
fn what_ends_is_taken_away_once_by_whoever_is_first() {
    let (place, runtime) = (Prepared::new(Kind::Etcd), runtime());
    let stores = [place.open(), place.open(), place.open()];
    let ending = RuleSpec { expires_at: soon(), ..rule("web", "db", "80", Action::Allow) };
    runtime.block_on(stores[0].write(Write::new(Command::PutRule(ending), Principal::Operator))).expect("written");
    stores.iter().for_each(|store| await_revision(&runtime, store, Revision(3)));
    let after = runtime.block_on(stores[1].write(allow_on(81)));
    assert!(after.is_ok());
    stores.iter().for_each(|store| await_revision(&runtime, store, Revision(4)));
    assert!(stores.iter().all(|store| store.read(State::revision) == Revision(4)), "no revision but one for the end");
}

#[test]
fn a_node_may_tell_either_what_it_counted_and_both_know_the_sum() {
    let (place, runtime) = (Prepared::new(Kind::Etcd), runtime());
    let (one, other) = (place.open(), place.open());
    let name: NodeName = "n1".parse().expect("name");
    let join = Command::Join(Registration { underlay: IpAddr::from([192, 168, 1, 1]), key: None });
    runtime.block_on(one.write(Write::new(join, node("n1")))).expect("joined");
    let (first, second) = (Timestamp::now(), Timestamp::now().after(Duration::from_secs(60)).expect("a time"));
    let counted = |since, packets| {
        let usage = Usage { packets, bytes: packets * 60, flows: 1, live: 0, last_hit: Some(since) };
        UsageReport { since, rules: vec![RuleUsage { id: BUILT_IN, usage }] }
    };
    let packets = |store: &Store| store.usage([BUILT_IN], |_| true)[0].packets;
    one.note_usage(&name, &counted(first, 3)).expect("noted");
    await_that(|| packets(&other) == 3);
    other.note_usage(&name, &counted(first, 5)).expect("noted");
    await_that(|| packets(&one) == 5);
    // It begins anew, as after a restart, and says so to the other one.
    one.note_usage(&name, &counted(second, 2)).expect("noted");
    await_that(|| packets(&other) == 7);
    assert_eq!(packets(&place.open()), 7);
    runtime.block_on(other.write(Write::new(Command::DeleteRule(BUILT_IN), Principal::Operator))).expect("deleted");
    await_that(|| packets(&one) == 0);
}

#[test]
fn whom_init_lets_in_is_known_to_whoever_serves_and_whom_it_voids_is_not() {
    let place = Prepared::new(Kind::Etcd);
    let store = place.open();
    let registry = crate::store::prepare(&place.location(), OverlayWish::default()).expect("prepared");
    let name: NodeName = "n1".parse().expect("name");
    let node = |token: &Token, apps: &[&str]| {
        let apps = apps.iter().map(|app| app.parse().expect("pattern")).collect();
        Principal::Joining(NodeGrant { name: name.clone(), apps }, token.id())
    };
    let [old, new] = [(); 2].map(|()| Token::random().expect("random"));
    registry.set_token(&old, &node(&old, &["web-*"])).expect("set");
    assert!(registry.has_token(&old, &node(&old, &["web-*"])).expect("read"));
    await_that(|| store.tokens().principal(old.as_str()).expect("known") == Some(node(&old, &["web-*"])));
    registry.set_token(&new, &node(&new, &["*"])).expect("set");
    await_that(|| store.tokens().principal(new.as_str()).expect("known") == Some(node(&new, &["*"])));
    assert_eq!(store.tokens().principal(old.as_str()).expect("known"), None);
    store.void_token(&name).expect("voided");
    await_that(|| store.tokens().principal(new.as_str()).expect("known").is_none());
    assert_eq!(registry.apps_of(&name).expect("read"), None);
    registry.add_names(&["api.example".to_owned()]).expect("added");
    assert_eq!(place.open().names(), ["api.example"]);
}

fn await_that(condition: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not in time");
}

#[test]
fn an_overlay_that_changes_reaches_whoever_serves_already() {
    let place = Prepared::new(Kind::Etcd);
    let early = place.open();
    let mut watch = early.subscribe(None).expect("subscribed");
    let wish = OverlayWish { v4: "10.128.0.0/16".parse().ok(), v6: None };
    Store::open(&place.location(), wish).expect("no node yet").close();
    await_that(|| early.read(|state| state.overlay().v4.to_string()) == "10.128.0.0/16");
    let ended = runtime().block_on(watch.deltas.recv());
    assert!(ended.is_err(), "no deltas lead there, so that whoever watches begins anew");
}

/// What a process knows that has just read the store.
fn read(etcd: &Etcd) -> (State, Place) {
    let (loaded, place) = load(etcd).expect("read").expect("a store");
    (loaded.state, place)
}

/// A store of thirty commits.
fn written_to(place: &Prepared, runtime: &Runtime) -> Store {
    let store = place.open();
    for port in 1..=30 {
        runtime.block_on(store.write(allow_on(port))).expect("written");
    }
    store
}

/// Makes as much room as can be made.
fn tidy(etcd: &Etcd, place: &mut Place, state: &State) {
    tidy_by(1, etcd, place, state);
}

/// The same, of no fewer commits than these.
fn tidy_by(together: usize, etcd: &Etcd, place: &mut Place, state: &State) {
    let limits = Limits { between: 10, kept: 5, kept_bytes: usize::MAX, together, orphaned: Duration::ZERO };
    let mut tidying = Tidying::within(limits);
    tidying.run(etcd, place, state).expect("a snapshot is begun");
    tidying.settle(place).expect("and written");
    tidying.run(etcd, place, state).expect("what it holds is begun to be cut off");
    tidying.settle(place).expect("and is cut off");
}

#[test]
fn what_is_cut_off_the_log_is_worth_a_segment() {
    let (place, runtime) = (Prepared::new(Kind::Etcd), runtime());
    let _store = written_to(&place, &runtime);
    let (_runtime, etcd) = connect(&cluster(&place)).expect("connected");
    let (state, mut behind) = read(&etcd);
    let before = behind.logged.len();
    tidy_by(before, &etcd, &mut behind, &state);
    assert_eq!((behind.logged.len(), behind.snapshot.sequence), (before, behind.sequence));
    tidy_by(before - 5, &etcd, &mut behind, &state);
    assert_eq!(behind.logged.len(), 5);
    assert_eq!(etcd.all(&etcd.keys.segments(), None).expect("read").len(), 1);
}

#[test]
fn a_log_that_was_cut_behind_a_snapshot_leads_to_the_same_state() {
    let (place, runtime) = (Prepared::new(Kind::Etcd), runtime());
    let store = place.open();
    let mut follower = WatchFollower::default();
    let mut watch = store.subscribe(None).expect("subscribed");
    runtime.block_on(store.write(many_rules(2_000))).expect("written");
    for port in 1..=30 {
        runtime.block_on(store.write(allow_on(port))).expect("written");
    }
    follow(&store, &mut follower, &mut watch);
    let (_runtime, etcd) = connect(&cluster(&place)).expect("connected");
    let (state, mut behind) = read(&etcd);
    let parts = || etcd.all(&etcd.keys.parts(), None).expect("read").len();
    assert!(parts() > 0, "the large one is in parts");
    tidy(&etcd, &mut behind, &state);
    let left = etcd.all(&etcd.keys.logs(), None).expect("read").len();
    assert_eq!((left, behind.logged.len(), behind.snapshot.sequence), (5, 5, behind.sequence));
    assert_eq!(parts(), behind.snapshot.parts.count, "the parts of what was cut off are gone");

    let (again, fresh) = read(&etcd);
    assert_eq!((again.replica(), fresh.snapshot), (state.replica(), behind.snapshot.clone()));
    runtime.block_on(store.write(allow_on(31))).expect("it goes on");
    let other = place.open();
    follow(&store, &mut follower, &mut watch);
    let mut resumed = resume(&other, &follower);
    follow(&other, &mut follower, &mut resumed);
}

#[test]
fn what_is_cut_off_the_log_stays_in_the_history_until_it_is_forgotten() {
    let (place, runtime) = (Prepared::new(Kind::Etcd), runtime());
    let store = place.open();
    runtime.block_on(store.write(many_rules(2_000))).expect("written");
    for port in 1..=60 {
        runtime.block_on(store.write(allow_on(port))).expect("written");
    }
    let (_runtime, etcd) = connect(&cluster(&place)).expect("connected");
    let (state, mut behind) = read(&etcd);
    tidy(&etcd, &mut behind, &state);
    for port in 61..=80 {
        runtime.block_on(store.write(allow_on(port))).expect("written");
    }
    let (state, mut behind) = read(&etcd);
    tidy(&etcd, &mut behind, &state);
    let segments = || etcd.all(&etcd.keys.segments(), None).expect("read").len();
    assert!(segments() >= 2);
    let verified = store.verify_history(None).expect("read");
    assert_eq!((verified.first, verified.number, verified.misfit), (1, 82, None));
    for (revision, rules) in [(1, 1), (2, 2_001), (40, 2_039), (82, 2_081)] {
        let then = store.past(At::Revision(Revision(revision))).expect("known");
        assert_eq!(then.replica().rules.len(), rules, "at revision {revision}");
    }
    let middle = store.history(&HistoryQuery::default(), Listing::NewestFirst(Some(41)), 1).expect("read");
    let at = At::Time(middle.items[0].entry.time);
    assert!(store.past(at).expect("known").revision() >= Revision(40));

    let limit = Limit { before: Timestamp::now(), most_bytes: u64::MAX };
    assert!(archive::forget(&etcd, &limit).expect("forgotten") > 60);
    assert_eq!((segments(), etcd.all(&etcd.keys.segment_parts(1), None).expect("read").len()), (0, 0));
    let verified = store.verify_history(None).expect("read");
    assert_eq!((verified.first, verified.number, verified.misfit), (78, 82, None));
    assert_eq!(store.past(At::Revision(Revision(77))).expect("the oldest").replica().rules.len(), 2_076);
    let refused = store.past(At::Revision(Revision(76))).expect_err("forgotten").to_string();
    assert!(refused.contains("goes back to revision 77"), "{refused}");
}

#[test]
fn a_range_is_read_whole_whatever_its_values_weigh() {
    let place = Prepared::new(Kind::Etcd);
    let (_runtime, etcd) = connect(&cluster(&place)).expect("connected");
    // Pages become larger while values are small; then come the largest that are kept whole, and small ones again.
    let length = |number: usize| if (2_500..2_600).contains(&number) { record::LARGEST_WHOLE } else { number % 64 };
    let written: Vec<_> = (0..4_000).map(|number| (etcd.keys.part("x", number), vec![b'v'; length(number)])).collect();
    for some in written.chunks(10) {
        let puts: Vec<_> = some.iter().map(|(key, value)| TxnOp::put(key.as_str(), value.clone(), None)).collect();
        etcd.txn(&Txn::new().and_then(puts)).expect("written");
    }
    let read = etcd.all(&etcd.keys.parts_of("x"), None).expect("read");
    assert!(
        read.iter()
            .map(|(key, value, _)| (key.as_slice(), value.as_slice()))
            .eq(written.iter().map(|(key, value)| (key.as_bytes(), value.as_slice())))
    );
    assert_eq!((next_page(128, 0), next_page(128, 100 << 20)), (LARGEST_PAGE, FIRST_PAGE));
    assert_eq!(next_page(128, 1 << 20), 512);
}

#[test]
fn what_is_done_to_the_log_or_the_archive_behind_its_back_is_named() {
    let (place, runtime) = (Prepared::new(Kind::Etcd), runtime());
    let store = written_to(&place, &runtime);
    let (_runtime, etcd) = connect(&cluster(&place)).expect("connected");
    let (state, mut behind) = read(&etcd);
    tidy(&etcd, &mut behind, &state);
    let verified = |what: &str| store.verify_history(None).expect(what).misfit.map(|misfit| misfit.number);
    assert_eq!(verified("untouched"), None);
    let swap = |key: &str, from: &str, to: &str| {
        let value = etcd.value(key).expect("read").expect("a value");
        let text = String::from_utf8(value.clone()).expect("text");
        assert!(text.contains(from), "{text}");
        etcd.txn(&Txn::new().and_then([TxnOp::put(key, text.replace(from, to), None)])).expect("tampered");
        value
    };
    let put_back = |key: &str, value: Vec<u8>| {
        etcd.txn(&Txn::new().and_then([TxnOp::put(key, value, None)])).expect("put back");
    };
    let part = etcd.all(&etcd.keys.segment_parts(1), None).expect("read")[0].0.clone();
    let part = String::from_utf8(part).expect("a key");
    let value = swap(&part, r#""number":9,"#, r#""number":8,"#);
    assert_eq!(verified("archived"), Some(9));
    put_back(&part, value);
    assert_eq!(verified("put back"), None);
    let key = etcd.keys.log(30);
    let value = swap(&key, "operator", "somebody");
    assert_eq!(verified("in the log"), Some(30));
    put_back(&key, value);
    etcd.txn(&Txn::new().and_then([TxnOp::delete(etcd.keys.segment(1), None)])).expect("removed");
    assert_eq!(verified("a segment removed"), Some(1));
}

#[test]
fn whoever_fell_behind_the_end_of_the_log_begins_anew() {
    let (place, runtime) = (Prepared::new(Kind::Etcd), runtime());
    let (own, etcd) = connect(&cluster(&place)).expect("connected");
    let (_, old) = read(&etcd);
    let board = Arc::new(board::Shared::new(new_id().expect("random")));
    let (follower, _) = Follower::start(&etcd, Arc::default(), board.clone(), i64::MAX - 1).expect("started");
    let mut engine = Engine::new(own, etcd.clone(), old, follower, board).expect("an engine");
    let store = place.open();
    for port in 1..=30 {
        runtime.block_on(store.write(allow_on(port))).expect("written");
    }
    let heard = engine.heard().expect("heard");
    assert_eq!(heard.len(), 30);
    assert!(heard.iter().all(|heard| matches!(heard, Heard::Commit { .. })), "what is in the log is followed");

    for port in 31..=60 {
        runtime.block_on(store.write(allow_on(port))).expect("written");
    }
    let (state, mut last) = read(&etcd);
    tidy(&etcd, &mut last, &state);
    let stale = crate::store::engine::Batch::new(crate::model::Timestamp::now());
    let outcome = engine.commit(&stale, state.head()).expect("answered");
    assert_eq!(outcome, crate::store::engine::Outcome::Behind);
    let heard = engine.heard().expect("heard");
    let [Heard::Anew(loaded)] = heard.as_slice() else { panic!("not anew") };
    assert_eq!(loaded.state.replica(), state.replica());
}

#[test]
fn who_stops_takes_down_what_he_has_put_up() {
    let place = Prepared::new(Kind::Etcd);
    let (one, other) = (place.open(), place.open());
    let [ours, theirs] = [&one, &other].map(|store| store.board().expect("others may come"));
    let node: NodeName = "n1".parse().expect("name");
    ours.post(&node, Sighting { connected: true, ..Sighting::default() });
    let await_seen = |connected: bool| {
        let asked = Instant::now();
        while theirs.others(&node).iter().any(|sighting| sighting.connected) != connected {
            assert!(asked.elapsed() < Duration::from_secs(5), "a lease ends by itself in ten");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    await_seen(true);
    one.close();
    await_seen(false);
}

#[test]
fn parts_that_nobody_points_to_are_removed_and_those_in_use_are_not() {
    let (place, runtime) = (Prepared::new(Kind::Etcd), runtime());
    let store = place.open();
    runtime.block_on(store.write(many_rules(2_000))).expect("written");
    let (_runtime, etcd) = connect(&cluster(&place)).expect("connected");
    let in_use = etcd.all(&etcd.keys.parts(), None).expect("read").len();
    etcd.stage("0123456789abcdef", vec![b'x'; 2 * PART]).expect("staged by somebody who died then");
    let (state, mut behind) = read(&etcd);
    let mut tidying = Tidying::within(Limits {
        between: u64::MAX,
        kept: usize::MAX,
        kept_bytes: usize::MAX,
        together: 1,
        orphaned: Duration::ZERO,
    });
    tidying.run(&etcd, &mut behind, &state).expect("a first look");
    assert_eq!(etcd.all(&etcd.keys.parts(), None).expect("read").len(), in_use + 2, "its writer may be at work");
    tidying.run(&etcd, &mut behind, &state).expect("a second look");
    assert_eq!(etcd.all(&etcd.keys.parts(), None).expect("read").len(), in_use);
    assert_eq!(rules(&place.open()).len(), 2_001);
}

#[test]
fn a_log_that_lacks_an_entry_is_not_served() {
    let (place, runtime) = (Prepared::new(Kind::Etcd), runtime());
    let store = place.open();
    for port in 1..=3 {
        runtime.block_on(store.write(allow_on(port))).expect("written");
    }
    store.close();
    let (_runtime, etcd) = connect(&cluster(&place)).expect("connected");
    etcd.txn(&Txn::new().and_then([TxnOp::delete(etcd.keys.log(3), None)])).expect("deleted");
    let opened = Store::open(&place.location(), OverlayWish::default());
    assert!(matches!(opened, Err(DatabaseError::Damaged(_))));
}

#[test]
fn a_place_without_a_store_is_named() {
    let location = crate::store::tests::shared_cluster().store("nothing-here");
    let refused = Store::open(&location.parse().expect("a location"), OverlayWish::default()).err().expect("none");
    assert!(refused.to_string().contains("nothing-here holds no store; run `netpol-api init`"), "{refused}");
}

#[test]
fn a_cluster_that_wants_certificates_is_shown_one() {
    let cluster = crate::store::etcd_cluster::EtcdCluster::start_secured();
    let location: Location = cluster.store("secured").parse().expect("a location");
    crate::store::prepare(&location, OverlayWish::default()).expect("prepared");
    let (runtime, store) = (runtime(), Store::open(&location, OverlayWish::default()).expect("open"));
    runtime.block_on(store.write(allow_on(80))).expect("written");
    store.close();
    let again = Store::open(&location, OverlayWish::default()).expect("open");
    assert_eq!(rules(&again).len(), 2);
    let plain = format!("etcd://{}/secured", cluster.members().join(","));
    let refused = Store::open(&plain.parse().expect("a location"), OverlayWish::default()).err();
    assert!(refused.is_some(), "nobody gets in without one");
}
