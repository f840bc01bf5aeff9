//! Several APIs on one etcd cluster: what was answered is kept, whoever dies, and clients go on.

use std::{
    collections::BTreeSet,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use policy_api::{
    client::{Client, ClientConfig, Credentials, new_secret},
    model::{ChangeSet, Cut, Follower, Grant, InForce, Report, Revision, RuleFilter, RuleId, TokenSpec},
};
use tokio::task::JoinHandle;

use crate::{
    control::durable::{Process, assert_standing},
    etcd_cluster::EtcdCluster,
    world::{Prepared, SOON, claim, ip, name, next_news, refusal, rounds, rule, until},
};

/// Does what waits for others, where waiting is allowed.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("done")
}

/// Two APIs, and clients that know both.
struct Apis {
    prepared: Prepared,
    servers: [Option<Process>; 2],
}

impl Apis {
    /// With the cluster that they are on.
    async fn start() -> (Self, Arc<EtcdCluster>) {
        aside(|| {
            let cluster = EtcdCluster::start();
            let prepared = Prepared::in_etcd(&cluster);
            let servers = [0, 1].map(|_| Some(Process::start(&prepared)));
            (Self { prepared, servers }, Arc::new(cluster))
        })
        .await
    }

    fn url(&self, server: usize) -> String {
        self.servers[server].as_ref().expect("it runs").url.clone()
    }

    /// An operator's client that begins with this one and knows the other.
    fn client(&self, first: usize) -> Client {
        self.prepared.client(&[self.url(first), self.url(1 - first)], "operator.token")
    }

    /// An operator's client of this one alone.
    fn client_of(&self, server: usize) -> Client {
        self.prepared.client(&[self.url(server)], "operator.token")
    }
}

/// Writes from the beginning until it is told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Written>>,
}

#[derive(Default)]
struct Written {
    answered: Vec<RuleId>,
    refused: Vec<String>,
    slowest: Duration,
}

impl Load {
    fn start(clients: Vec<Client>) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let write = |(number, client): (usize, Client)| tokio::spawn(write_until_stopped(client, number, stop.clone()));
        let writers = clients.into_iter().enumerate().map(write).collect();
        Self { stop, writers }
    }

    async fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        for writer in self.writers {
            let written = writer.await.expect("a writer");
            all.answered.extend(written.answered);
            all.refused.extend(written.refused);
            all.slowest = all.slowest.max(written.slowest);
        }
        all
    }
}

async fn write_until_stopped(client: Client, number: usize, stop: Arc<AtomicBool>) -> Written {
    let mut written = Written::default();
    for port in 1..60_000 {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let start = Instant::now();
        match client.put_rule(&rule(&format!("allow app{number} db {port}")), &Default::default()).await {
            Ok(answer) => written.answered.push(answer.rule.id),
            Err(error) => written.refused.push(error.to_string()),
        }
        written.slowest = written.slowest.max(start.elapsed());
    }
    written
}

/// Reads a watch until it is at this revision: the follower refuses whatever does not fit what it holds.
async fn follow(client: &Client, to: Revision) -> Follower {
    let mut watch = client.watch(Revision(0), None).await.expect("watch");
    let mut follower = Follower::default();
    while follower.held().is_none_or(|(_, replica)| replica.revision() < to) {
        follower.take(next_news(&mut watch).await).expect("it fits");
    }
    follower
}

async fn ids(client: &Client) -> BTreeSet<RuleId> {
    let listed = client.list_rules(&RuleFilter::default()).await.expect("list");
    listed.items.iter().map(|view| view.rule.id).collect()
}

/// Both APIs tell the same, with all that was answered in it; then the rules go, so that the next round begins as this one.
async fn assert_kept(apis: &Apis, written: &Written) {
    let [one, other] = [0, 1].map(|server| apis.client_of(server));
    let revision = one.status().await.expect("status").revision.max(other.status().await.expect("status").revision);
    for client in [&one, &other] {
        follow(client, revision).await;
        assert_standing(client, &written.answered).await;
    }
    let delete: Vec<RuleId> = ids(&one).await.into_iter().filter(|id| id.0 > 1).collect();
    assert_eq!(ids(&other).await.len(), delete.len() + 1);
    one.change(&ChangeSet::of_rules(vec![], delete), &Default::default()).await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_answered_is_lost_when_etcds_leader_is_killed_and_clients_only_wait() {
    let (apis, cluster) = Apis::start().await;
    let mut slowest = Duration::ZERO;
    for round in 0..rounds(3, 100) {
        let load = Load::start((0..8).map(|number| apis.client(number % 2)).collect());
        tokio::time::sleep(Duration::from_millis(300)).await;
        let members = cluster.clone();
        let dead = aside(move || {
            let leader = members.await_leader();
            members.kill(leader);
            // The two that are left go on.
            members.await_leader();
            leader
        });
        let dead = dead.await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let written = load.stop().await;
        assert_eq!(written.refused, Vec::<String>::new(), "clients only wait, in round {round}");
        assert!(written.answered.len() > 16, "nothing was written in round {round}");
        slowest = slowest.max(written.slowest);
        assert_kept(&apis, &written).await;
        let members = cluster.clone();
        aside(move || members.revive(dead)).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    println!("slowest write while etcd's leader was killed: {slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_an_api_loses_nothing_and_clients_go_on_with_the_other() {
    let (mut apis, _cluster) = Apis::start().await;
    for round in 0..rounds(3, 100) {
        let victim = round % 2;
        let load = Load::start((0..8).map(|number| apis.client(number % 2)).collect());
        tokio::time::sleep(Duration::from_millis(300)).await;
        apis.servers[victim].take().expect("it runs").kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let written = load.stop().await;
        assert_eq!(written.refused, Vec::<String>::new(), "it does not show, in round {round}");
        assert!(written.answered.len() > 16, "nothing was written in round {round}");
        println!("slowest write while an API was killed: {:?}", written.slowest);
        apis.servers[victim] = Some(Process::start(&apis.prepared));
        assert_kept(&apis, &written).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_at_one_hears_within_moments_what_the_other_answers() {
    let (apis, _cluster) = Apis::start().await;
    let mut watch = apis.client_of(1).watch(Revision(0), None).await.expect("watch");
    let mut follower = Follower::default();
    follower.take(next_news(&mut watch).await).expect("it fits");
    let one = apis.client_of(0);
    let mut times = Vec::new();
    for port in 1..=100 {
        let start = Instant::now();
        let spec = rule(&format!("allow appA appB {port}"));
        let revision = one.put_rule(&spec, &Default::default()).await.expect("written").rule.revision;
        while follower.held().is_none_or(|(_, replica)| replica.revision() < revision) {
            follower.take(next_news(&mut watch).await).expect("it fits");
        }
        times.push(start.elapsed());
    }
    times.sort();
    println!("rule at one API to watch line at the other: median {:?}, worst {:?}", times[50], times[99]);
    assert!(times[50] < Duration::from_millis(100) && times[99] < SOON);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_at_one_hears_of_nodes_at_the_other_and_not_of_those_that_died_with_it() {
    let (mut apis, _cluster) = Apis::start().await;
    let node = apis.prepared.join(&[apis.url(1)], "n1", "192.168.1.1").await;
    node.claim(&claim("appA", &["10.255.1.7"])).await.expect("claimed");
    let _watch = node.watch_scope(None).await.expect("watch");
    let operator = apis.client_of(0);
    let revision =
        operator.put_rule(&rule("allow appA appB 80"), &Default::default()).await.expect("put").rule.revision;
    let missing = await_in_force(&operator, revision, |answer| !answer.missing.is_empty()).await;
    assert_eq!((missing.missing, missing.complete), (vec![name("n1")], false));

    let history = operator.status().await.expect("status").history;
    let cuts = vec![Cut { after: Revision(revision.0 - 1), applied: revision, flows: 3 }];
    let (waited, reported) = tokio::join!(operator.wait_in_force(revision, SOON), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let report = Report {
            history,
            applied: revision,
            ready: true,
            rows_used: 1,
            rows_capacity: 1_000,
            detail: None,
            clock: None,
            cuts,
        };
        node.report(&name("n1"), &report).await
    });
    reported.expect("reported");
    let waited = waited.expect("answered");
    assert_eq!((waited.complete, waited.in_force), (true, vec![name("n1")]));
    let receipt = operator.receipt(revision, Duration::ZERO).await.expect("a receipt");
    assert_eq!((receipt.flows, receipt.missing), (3, vec![]));
    assert_eq!(operator.status().await.expect("status").nodes_connected, 1);

    // What changes nothing for the node asks nothing of it, and that is known here as well.
    let apart = operator.put_rule(&rule("allow appX appY 80"), &Default::default()).await.expect("put").rule.revision;
    let waited = operator.wait_in_force(apart, SOON).await.expect("answered");
    assert_eq!((waited.complete, waited.in_force), (true, vec![name("n1")]));
    let touching =
        operator.put_rule(&rule("allow appA appC 80"), &Default::default()).await.expect("put").rule.revision;
    let waited = operator.wait_in_force(touching, Duration::from_millis(300)).await.expect("answered");
    assert_eq!((waited.complete, waited.missing), (false, vec![name("n1")]));

    apis.servers[1].take().expect("it runs").kill();
    let later = operator.put_rule(&rule("allow appA appB 81"), &Default::default()).await.expect("put").rule.revision;
    let gone = await_in_force(&operator, later, |answer| !answer.disconnected.is_empty()).await;
    assert_eq!((gone.complete, gone.disconnected), (true, vec![name("n1")]), "nobody waits for whom no API sees");
}

/// Asks until the answer is like this.
async fn await_in_force(client: &Client, revision: Revision, fits: impl Fn(&InForce) -> bool) -> InForce {
    let start = Instant::now();
    loop {
        let answer = client.wait_in_force(revision, Duration::ZERO).await.expect("answered");
        if fits(&answer) {
            return answer;
        }
        assert!(start.elapsed() < 2 * SOON, "still {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn run(command: &str, store: &str, more: &[&str], file: &Path) -> String {
    let mut line = Command::new(env!("CARGO_BIN_EXE_netpol-api"));
    let output = line.args([command, "--store", store]).args(more).arg(file).output().expect("it runs");
    let said = [&output.stdout[..], &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned()).concat();
    format!("{}: {said}", output.status.code().unwrap_or(-1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_moves_from_a_file_to_etcd_and_back_under_those_who_serve_it() {
    let prepared = Prepared::new();
    let server = Process::start(&prepared);
    let client = prepared.client(std::slice::from_ref(&server.url), "operator.token");
    let node = prepared.join(std::slice::from_ref(&server.url), "n1", "192.168.1.1").await;
    node.claim(&claim("web", &["10.255.1.7"])).await.expect("claimed");
    node.release(ip("10.255.1.7")).await.expect("released");
    node.claim(&claim("db", &["10.255.1.7"])).await.expect("claimed");
    let first = client.put_rule(&rule("allow web db 80"), &Default::default()).await.expect("put").rule.id;
    let directory = tempfile::tempdir().expect("directory");
    let [file, back] = ["file.db", "back.db"].map(|name| directory.path().join(name));
    let said = run("backup", &prepared.store().to_string(), &[], &file);
    assert!(said.starts_with("0: "), "{said}");

    // The APIs of a store that is given up go on with the one that takes its place.
    let (apis, cluster) = Apis::start().await;
    let store = cluster.store("netpol");
    let before = apis.client_of(0).status().await.expect("status").history;
    let said = run("restore", &store, &[], &file);
    assert!(said.starts_with("1: ") && said.contains("--replace"), "{said}");
    let said = run("restore", &store, &["--replace", "--accept"], &file);
    assert!(said.starts_with("0: ") && said.contains("go over to"), "{said}");
    // Whom the old store let in is let in by the new one, and the other way round nobody is.
    let stranger = apis.client_of(0);
    let url = apis.url(0);
    let operator = Client::new(ClientConfig {
        api: vec![url],
        credentials: Credentials::Token(prepared.read("operator.token")),
        ca_pem: apis.prepared.read("ca.pem").into(),
    })
    .expect("client");
    let start = Instant::now();
    while operator.status().await.map_or(true, |status| status.history == before) {
        assert!(start.elapsed() < SOON, "the API does not go on with what was restored");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(stranger.status().await.is_err());
    assert!(ids(&operator).await.contains(&first));
    let at = |client: Client| async move {
        let answer = client.lookup(ip("10.255.1.7"), None).await.expect("known");
        (answer.binding.app, answer.binding.instance)
    };
    let second = operator.put_rule(&rule("allow web db 81"), &Default::default()).await.expect("it goes on").rule.id;
    assert_eq!(second.0, first.0 + 1, "no number is given out twice");
    assert_eq!(at(operator).await.0.as_str(), "db");

    let said = run("backup", &store, &[], &back);
    assert!(said.starts_with("0: "), "{said}");
    assert!(server.terminate());
    let said = run("restore", &prepared.store().to_string(), &["--replace"], &back);
    assert!(said.starts_with("0: "), "{said}");
    let server = Process::start(&prepared);
    let client = prepared.client(std::slice::from_ref(&server.url), "operator.token");
    assert_standing(&client, &[first, second]).await;
    assert_eq!(at(client).await.0.as_str(), "db");
    assert!(server.terminate());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_shows_its_certificate_to_a_cluster_that_wants_one() {
    let (server, prepared, _cluster) = aside(|| {
        let cluster = EtcdCluster::start_secured();
        let prepared = Prepared::in_etcd(&cluster);
        (Process::start(&prepared), prepared, cluster)
    })
    .await;
    let client = prepared.client(std::slice::from_ref(&server.url), "operator.token");
    client.put_rule(&rule("allow appA appB 80"), &Default::default()).await.expect("written");
    assert!(server.terminate());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_etcd_does_not_reach_ends_its_watches_and_takes_them_again_when_it_does() {
    let (apis, cluster) = Apis::start().await;
    let client = apis.client_of(0);
    let node = apis.prepared.join(&[apis.url(0)], "n1", "192.168.1.1").await;
    let mut of_node = node.watch_scope(None).await.expect("watch");
    let mut watch = client.watch(Revision(0), None).await.expect("watch");
    let members = cluster.clone();
    aside(move || [0, 1].iter().for_each(|member| members.kill(*member))).await;
    let ending = async {
        while watch.next().await.is_ok() {}
        while of_node.next().await.is_ok() {}
    };
    tokio::time::timeout(3 * SOON, ending).await.expect("a watch that hears nothing ends");
    let refused = client.watch(Revision(0), None).await.err().expect("no watch").to_string();
    assert!(refused.contains("ask another one"), "{refused}");
    assert!(!client.status().await.expect("reads go on").store_healthy);
    let members = cluster.clone();
    aside(move || [0, 1].iter().for_each(|member| members.revive(*member))).await;
    let start = Instant::now();
    while client.watch(Revision(0), None).await.is_err() {
        assert!(start.elapsed() < 3 * SOON, "it does not take watches again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut of_node = node.watch_scope(None).await.expect("a node's watch again");
    node.claim(&claim("appA", &["10.255.1.7"])).await.expect("it goes on");
    client.put_rule(&rule("allow appA appB 80"), &Default::default()).await.expect("it goes on");
    let told = async {
        let mut follower = Follower::default();
        while follower.held().is_none_or(|(_, replica)| replica.rules.is_empty()) {
            follower.take(of_node.next().await.expect("a line")).expect("a line that fits");
        }
    };
    tokio::time::timeout(SOON, told).await.expect("the node is told the rule");
    assert!(client.status().await.expect("status").store_healthy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_revoked_at_one_api_lets_nobody_in_at_another_nor_goes_a_watch_on_there() {
    let (apis, _cluster) = Apis::start().await;
    let (here, options) = (apis.client_of(0), Default::default());
    let (secret, hash) = new_secret().expect("random");
    let (token, grants) = ("alice".parse().expect("name"), [Grant::Operator].into());
    here.create_token(&TokenSpec { name: token, grants, hash, expires_at: None }, &options).await.expect("token");
    let there = apis.prepared.client_by(&[apis.url(1)], Credentials::Token(secret));
    until("it is known there", SOON, async || there.who_am_i().await.is_ok()).await;
    let mut watch = there.watch(Revision(0), None).await.expect("watch");
    here.revoke_token(&"alice".parse().expect("name"), &options).await.expect("revoked");
    let ended = tokio::time::timeout(SOON, async { while watch.next().await.is_ok() {} }).await;
    assert!(ended.is_ok(), "its watch is ended");
    assert_eq!(refusal(there.who_am_i().await), (401, Some("Authorization".to_owned())));
}
