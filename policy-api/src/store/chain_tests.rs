//! The history of a real store: what is done to it behind its back is named, and what is done by the book keeps it proven.

use std::{sync::Arc, time::Duration};

use super::{
    tests::{Kind, Place, allow_on, make_of_schema_3, of_every_kind, runtime},
    *,
};
use crate::model::{EntryKind, Misfit};

/// A store with so many rules, each with an entry: the first entry is the store's birth.
fn store_with(place: &Place, rules: u16) -> Store {
    let (store, runtime) = (place.open(), runtime());
    for port in 1..=rules {
        runtime.block_on(store.write(allow_on(port))).expect("written");
    }
    store
}

fn misfit(verified: Verified) -> (u64, u64) {
    let Misfit { number, revision, .. } = verified.misfit.expect("a misfit");
    (number, revision.0)
}

fn assert_proven(store: &Store) -> Verified {
    let verified = store.verify_history(None).expect("read");
    assert_eq!(verified.misfit, None);
    assert_eq!(verified.number, store.read(|state| state.tip().number));
    verified
}

/// What somebody does to the file whom nobody sees.
const TAMPERINGS: [(&str, &str, (u64, u64)); 6] = [
    ("a changed row", "UPDATE journal SET line = replace(line, 'operator', 'somebody') WHERE number = 5", (5, 5)),
    ("a removed row", "DELETE FROM journal WHERE number = 5", (5, 5)),
    (
        "two rows swapped",
        "UPDATE journal SET number = 99 WHERE number = 5; UPDATE journal SET number = 5 WHERE number = 6;
         UPDATE journal SET number = 6 WHERE number = 99",
        (5, 5),
    ),
    ("an end cut off", "DELETE FROM journal WHERE number > 7", (8, 8)),
    ("a beginning cut off", "DELETE FROM journal WHERE number < 3", (1, 1)),
    ("a seal changed", "UPDATE journal SET seal = zeroblob(32) WHERE number = 5", (5, 5)),
];

#[test]
fn what_is_done_to_a_file_behind_its_back_is_named_served_or_not() {
    for (what, sql, expected) in TAMPERINGS {
        let place = Place::new(Kind::Sqlite);
        let store = store_with(&place, 9);
        assert_proven(&store);
        let connection = sqlite::database::connect(&place.file()).expect("connection");
        connection.execute_batch(sql).expect(what);
        drop(connection);
        assert_eq!(misfit(store.verify_history(None).expect(what)), expected, "{what}, served");
        store.close();
        assert_eq!(misfit(verify_store(&place.location(), None).expect(what)), expected, "{what}, not served");
    }
}

#[test]
fn a_chain_that_is_made_anew_from_end_to_end_does_not_have_the_seal_that_somebody_kept() {
    let place = Place::new(Kind::Sqlite);
    let store = store_with(&place, 9);
    let verified = assert_proven(&store);
    let known = KnownSeal { number: verified.number, seal: verified.seal };
    store.close();
    let connection = sqlite::database::connect(&place.file()).expect("connection");
    let lines = |connection: &rusqlite::Connection| {
        let mut statement = connection.prepare("SELECT line FROM journal ORDER BY number").expect("prepared");
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).expect("rows");
        rows.collect::<Result<Vec<_>, _>>().expect("read")
    };
    let (mut tip, mut forged) = (chain::Tip::default(), Vec::new());
    for line in lines(&connection) {
        let line = line.replace("operator", "somebody");
        forged.push(tip.append(serde_json::from_str(&line).expect("an entry")).expect("sealed"));
    }
    for line in &forged {
        let sql = "UPDATE journal SET line = ?1, seal = ?2 WHERE number = ?3";
        let number = i64::try_from(line.number).expect("small");
        connection.execute(sql, rusqlite::params![line.text, line.seal.bytes(), number]).expect("forged");
    }
    let sql = "UPDATE meta SET value = json_set(value, '$.tip', json(?1)) WHERE key = 'head'";
    connection.execute(sql, [serde_json::to_string(&tip).expect("json")]).expect("forged");
    drop(connection);
    assert_eq!(verify_store(&place.location(), None).expect("read").misfit, None, "a whole forgery fits itself");
    assert_eq!(misfit(verify_store(&place.location(), Some(known)).expect("read")).0, known.number);
}

#[test]
fn a_past_that_was_tampered_with_is_not_told() {
    let place = Place::new(Kind::Sqlite);
    let store = store_with(&place, 9);
    let connection = sqlite::database::connect(&place.file()).expect("connection");
    // The line that undoing revision 8 reads says that it changed another rule than it did.
    let sql = "UPDATE journal SET line = replace(line, '\"r8\"', '\"r3\"') WHERE number = 8";
    connection.execute_batch(sql).expect("tampered");
    let told = store.past(At::Revision(Revision(6)));
    assert!(matches!(told, Err(Refusal::Store(_))), "{told:?}");
}

#[test]
fn what_was_written_before_there_was_a_chain_is_sealed_as_the_file_is_opened() {
    let place = Place::new(Kind::Sqlite);
    let store = store_with(&place, 9);
    runtime().block_on(store.write(Write::new(Command::DeleteRule(RuleId(4)), Principal::Operator))).expect("deleted");
    store.close();
    let connection = sqlite::database::connect(&place.file()).expect("connection");
    make_of_schema_3(&connection);
    drop(connection);
    let elsewhere = Place::new(Kind::Etcd);
    restore(&place.file(), &elsewhere.location(), true).expect("restored");
    assert_eq!(assert_proven(&elsewhere.open()).number, 12, "and one entry that says so");
    let store = place.open();
    assert_eq!(assert_proven(&store).number, 11);
    let then = store.past(At::Revision(Revision(10))).expect("known");
    assert!(then.rule(RuleId(4)).is_some() && store.read(|state| state.rule(RuleId(4)).is_none()));
}

fn a_store_that_is_closed_and_opened_again_goes_on_with_its_chain(kind: Kind) {
    let place = Place::new(kind);
    let first = {
        let store = store_with(&place, 5);
        let verified = assert_proven(&store);
        store.close();
        KnownSeal { number: verified.number, seal: verified.seal }
    };
    let store = store_with(&place, 9);
    assert_eq!(assert_proven(&store).number, 10);
    assert_eq!(store.verify_history(Some(first)).expect("read").misfit, None);
    assert_eq!(verify_store(&place.location(), Some(first)).expect("read").misfit, None);
}

fn refusals_and_revisions_are_in_one_chain(kind: Kind) {
    let (place, runtime) = (Place::new(kind), runtime());
    let store = store_with(&place, 2);
    let attempt = Attempt { method: "POST".into(), path: "/v1/rules".into(), detail: "no".into(), count: 1 };
    runtime.block_on(store.note_refusal("node/n1", Origin::default(), attempt));
    runtime.block_on(store.write(allow_on(3))).expect("written");
    store.note_in_force(Spread { revision: Revision(4), nodes: 1, taken: Vec::new() });
    let query = HistoryQuery { kinds: EntryKind::ALL.into(), ..HistoryQuery::default() };
    for _ in 0..1_000 {
        let page = store.history(&query, Listing::OldestFirst(None), 10).expect("read");
        if page.items.len() == 6 {
            let kinds: Vec<EntryKind> = page.items.iter().map(|item| item.entry.kind).collect();
            let (intent, last) = (EntryKind::Intent, [EntryKind::Refused, EntryKind::Intent, EntryKind::InForce]);
            assert_eq!(kinds, [vec![intent; 3], last.to_vec()].concat());
            assert!(page.items[4].in_force_at.is_some());
            assert_eq!(assert_proven(&store).number, 6);
            store.close();
            assert_proven(&place.open());
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not in time");
}

fn a_copy_carries_its_history_and_says_that_it_was_put_back(kind: Kind) {
    let place = Place::new(kind);
    let store = store_with(&place, 9);
    let verified = assert_proven(&store);
    let known = KnownSeal { number: verified.number, seal: verified.seal };
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("copy.db");
    back_up(&place.location(), &file).expect("copied");
    store.close();
    assert_eq!(verify_store(&Location::Sqlite(file.clone()), Some(known)).expect("read").misfit, None);
    for into in [Kind::Sqlite, Kind::Etcd] {
        let elsewhere = Place::new(into);
        restore(&file, &elsewhere.location(), true).expect("restored");
        let store = elsewhere.open();
        assert_eq!(assert_proven(&store).number, known.number + 1, "{into:?}");
        assert_eq!(store.verify_history(Some(known)).expect("read").misfit, None);
        let last =
            store.history(&HistoryQuery::default(), Listing::NewestFirst(None), 1).expect("read").items.remove(0);
        assert_eq!(last.entry.kind, EntryKind::Restored);
        let then = store.past(At::Revision(Revision(5))).expect("known");
        assert_eq!(then.replica().rules.len(), 5);
        runtime().block_on(store.write(allow_on(99))).expect("it goes on");
        assert_proven(&store);
    }
}

fn writers_at_once_make_one_chain(kind: Kind) {
    let place = Place::new(kind);
    let stores: Vec<Arc<Store>> = match kind {
        Kind::Sqlite => vec![Arc::new(place.open())],
        Kind::Etcd => (0..3).map(|_| Arc::new(place.open())).collect(),
    };
    let runtime = runtime();
    let writes = (1..=60_u16).map(|port| stores[usize::from(port) % stores.len()].write(allow_on(port)));
    let answers = runtime.block_on(futures_util::future::join_all(writes));
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(stores[0].verify_history(None).expect("read").misfit, None);
    let verified = verify_store(&place.location(), None).expect("read");
    assert_eq!((verified.number, verified.misfit), (61, None));
}

of_every_kind! {
    a_store_that_is_closed_and_opened_again_goes_on_with_its_chain,
    refusals_and_revisions_are_in_one_chain,
    a_copy_carries_its_history_and_says_that_it_was_put_back,
    writers_at_once_make_one_chain,
}

#[test]
fn a_file_forgets_what_is_old_or_too_much_and_what_is_left_is_proven() {
    let place = Place::new(Kind::Sqlite);
    store_with(&place, 50).close();
    let kept = place.open();
    let all = assert_proven(&kept);
    kept.close();
    let half = Retention { history_bytes: all.bytes / 2, ..Retention::default() };
    let store = Store::open_keeping(&place.location(), OverlayWish::default(), half).expect("open");
    await_forgotten(&store);
    let verified = assert_proven(&store);
    assert!(verified.bytes <= all.bytes / 2 && verified.first > 20, "{verified:?}");
    let oldest = Revision(verified.first - 1);
    assert_eq!(
        store.past(At::Revision(oldest)).expect("the oldest that is known").replica().rules.len(),
        oldest_rules(oldest)
    );
    let refused = store.past(At::Revision(Revision(oldest.0 - 1))).expect_err("forgotten").to_string();
    assert!(refused.contains(&format!("goes back to revision {oldest}")), "{refused}");
    let known = KnownSeal { number: 2, seal: verified.seal };
    let problem = store.verify_history(Some(known)).expect("read").misfit.expect("a misfit").problem;
    assert!(problem.contains("forgotten"), "{problem}");
    store.close();

    let none = Retention { history: Duration::ZERO, ..Retention::default() };
    let store = Store::open_keeping(&place.location(), OverlayWish::default(), none).expect("open");
    await_that(|| store.verify_history(None).expect("read").first == 52);
    runtime().block_on(store.write(allow_on(99))).expect("it goes on");
    assert_eq!(assert_proven(&store).number, 52);
}

/// One rule a revision, the first of which is the store's birth.
fn oldest_rules(revision: Revision) -> usize {
    usize::try_from(revision.0).expect("small")
}

fn await_forgotten(store: &Store) {
    await_that(|| store.verify_history(None).expect("read").first > 1);
}

fn await_that(condition: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not in time");
}
