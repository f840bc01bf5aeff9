//! A large change whose server is killed on its way stands wholly or not at all, whatever had been written of it by then.
//!
//! The moments are not left to the clock: a file's log is watched as it grows, and etcd as it is written to.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use policy_api::{
    client::{Client, ClientError},
    model::{self, ChangeSet, ChangesAnswer, RuleFilter},
    store::Location,
};
use tokio::task::JoinHandle;

use super::durable::Process;
use crate::{
    etcd_cluster::EtcdCluster,
    world::{Prepared, SOON, rounds, rule},
};

/// More than the file's engine keeps in memory until the end.
const RULES_IN_A_FILE: usize = 3_000;
/// More than a transaction of etcd takes, several times over.
const RULES_IN_ETCD: usize = 5_000;
const APPS: usize = 200;
/// Rules that a store is born with.
const BORN: usize = 1;

/// What `netpol apply` sends for a file of so many rules.
fn large(rules: usize) -> ChangeSet {
    let rule = |number: usize| {
        let (source, destination) = (number % APPS, (number / APPS + number) % APPS);
        rule(&format!("allow app{source} app{destination} {}", 1 + number / APPS))
    };
    ChangeSet::of_rules((0..rules).map(rule).collect(), Vec::new())
}

type Request = JoinHandle<Result<ChangesAnswer, ClientError>>;

fn apply(prepared: &Prepared, server: &Process, rules: usize) -> Request {
    let client = prepared.client(std::slice::from_ref(&server.url), "operator.token");
    tokio::spawn(async move { client.change(&large(rules), &Default::default()).await })
}

/// What became of a change that was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Nothing,
    All,
}

/// Kills the server, serves the store again, and looks: a part of the change is a failure, as is a history that does not fit.
async fn outcome_after_kill(prepared: &Prepared, server: Process, request: Request, rules: usize) -> Outcome {
    server.kill();
    let was_answered = request.await.expect("no panic").is_ok();
    let server = Process::start(prepared);
    let client = prepared.client(std::slice::from_ref(&server.url), "operator.token");
    let outcome = look(&client, rules).await;
    assert!(!was_answered || outcome == Outcome::All, "answered, but lost");
    // What was begun is in nobody's way.
    let again = client.change(&large(rules), &Default::default()).await.expect("again");
    let created = again.created.iter().filter(|answer| answer.outcome == model::Outcome::Created).count();
    assert_eq!(created, if outcome == Outcome::All { 0 } else { rules });
    assert_eq!(look(&client, rules).await, Outcome::All);
    server.kill();
    outcome
}

async fn look(client: &Client, rules: usize) -> Outcome {
    assert_eq!(client.verify_history(None).await.expect("verified").misfit, None, "the history fits");
    let standing = client.list_rules(&RuleFilter::default()).await.expect("list").items.len() - BORN;
    let apps = client.apps().await.expect("list").items.len();
    match (standing, apps) {
        (0, 0) => Outcome::Nothing,
        (standing, APPS) if standing == rules => Outcome::All,
        part => panic!("a part stands: {part:?} rules and apps"),
    }
}

/// The log that a file's engine writes ahead.
fn log_of(prepared: &Prepared) -> PathBuf {
    let Location::Sqlite(path) = prepared.store() else { panic!("the store is a file") };
    let mut name = path.into_os_string();
    name.push("-wal");
    name.into()
}

fn length(log: &Path) -> u64 {
    fs::metadata(log).map_or(0, |metadata| metadata.len())
}

/// Returns when the log is so long, or the change is answered.
async fn grown(log: PathBuf, until: u64, request: &Request) {
    while length(&log) < until && !request.is_finished() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_change_that_is_killed_on_its_way_into_a_file_stands_wholly_or_not_at_all() {
    let whole = {
        let prepared = Prepared::new();
        let server = Process::start(&prepared);
        let before = length(&log_of(&prepared));
        apply(&prepared, &server, RULES_IN_A_FILE).await.expect("no panic").expect("undisturbed");
        length(&log_of(&prepared)) - before
    };
    let moments = u64::try_from(rounds(8, 200)).expect("few");
    let (mut seen, mut written_in_vain) = (Vec::new(), 0);
    for moment in 0..=moments {
        let prepared = Prepared::new();
        let server = Process::start(&prepared);
        let (log, request) = (log_of(&prepared), apply(&prepared, &server, RULES_IN_A_FILE));
        let before = length(&log);
        // From before its first byte until behind its last one.
        grown(log.clone(), before + whole * moment / (moments - 1), &request).await;
        let written = length(&log) > before;
        let outcome = outcome_after_kill(&prepared, server, request, RULES_IN_A_FILE).await;
        written_in_vain += usize::from(written && outcome == Outcome::Nothing);
        seen.push(outcome);
    }
    println!("{whole} bytes; {written_in_vain} times killed in the middle of them; {seen:?}");
    assert!(seen.contains(&Outcome::Nothing) && seen.contains(&Outcome::All), "{seen:?}");
    assert!(written_in_vain > 0, "never in the middle: {seen:?}");
}

/// Returns when so many keys of a store in etcd were written, or the change is answered.
async fn written(cluster: &EtcdCluster, prefix: &str, keys: usize, request: impl FnOnce() -> Request) -> Request {
    let mut etcd = etcd_client::Client::connect(cluster.members(), None).await.expect("etcd");
    let options = etcd_client::WatchOptions::new().with_prefix();
    let mut watch = etcd.watch(format!("/{prefix}/"), Some(options)).await.expect("a watch");
    let request = request();
    let mut seen = 0;
    while seen < keys && !request.is_finished() {
        // Where nothing more comes the change is over soon.
        let news = tokio::time::timeout(Duration::from_millis(20), watch.message()).await;
        let Ok(news) = news else { continue };
        let news = news.expect("etcd").expect("the watch goes on");
        seen += news.events().iter().filter(|event| is_of_a_change(event)).count();
    }
    request
}

/// Between the first part and the last lie milliseconds, of which a kill has to hit one.
const TRIES: usize = 20;

fn in_vain(seen: &[Outcome]) -> usize {
    seen.iter().filter(|outcome| **outcome == Outcome::Nothing).count()
}

/// Whether it is a part of a large change, or what makes it visible: what nodes' presence is kept by comes at any time.
fn is_of_a_change(event: &etcd_client::Event) -> bool {
    let key = event.kv().and_then(|kv| kv.key_str().ok()).unwrap_or_default();
    key.contains("/part/") || key.ends_with("/head")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_change_that_is_killed_on_its_way_into_etcd_stands_wholly_or_not_at_all() {
    let cluster = tokio::task::spawn_blocking(EtcdCluster::start).await.expect("started");
    let mut seen = Vec::new();
    // Before its first part; behind that, as often as it takes to be ahead of its last one; and when it is answered.
    let behind_the_first = std::iter::repeat_n(1, TRIES);
    for keys in std::iter::once(0).chain(behind_the_first).chain([usize::MAX]) {
        let is_enough = in_vain(&seen) > rounds(1, 10);
        if keys == 1 && is_enough {
            continue;
        }
        let prefix = format!("netpol-{}", seen.len());
        let prepared = tokio::task::block_in_place(|| Prepared::in_etcd_at(&cluster, &prefix));
        let server = Process::start(&prepared);
        let request = written(&cluster, &prefix, keys, || apply(&prepared, &server, RULES_IN_ETCD)).await;
        let outcome = outcome_after_kill(&prepared, server, request, RULES_IN_ETCD);
        seen.push(tokio::time::timeout(SOON * 6, outcome).await.expect("soon"));
    }
    println!("{seen:?}");
    assert!(in_vain(&seen) > 1, "never between two of its parts: {seen:?}");
    assert!(seen.contains(&Outcome::All), "{seen:?}");
}
