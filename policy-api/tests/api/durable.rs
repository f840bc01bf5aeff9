//! What was answered is on disk, whatever happens to the process.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use policy_api::{
    client::Client,
    model::{ChangeSet, RuleFilter, RuleId},
};

use crate::world::{Prepared, World, rounds, rule};

/// The real binary; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
}

impl Process {
    pub(crate) fn start(prepared: &Prepared) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_netpol-api"))
            .args(["serve", "--listen", "127.0.0.1:0", "--store", &prepared.store().to_string(), "--dir"])
            .arg(prepared.pki())
            .stderr(Stdio::piped())
            .spawn()
            .expect("netpol-api starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let url = loop {
            let line = lines.next().expect("it says where it listens").expect("text");
            if let Some(url) = line.strip_prefix("listening on ") {
                break url.to_owned();
            }
        };
        // Read on, so that it never waits for us to take its log.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { child, url }
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// SIGTERM; returns whether it ended well.
    pub(crate) fn terminate(mut self) -> bool {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        self.child.wait().expect("gone").success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already, unless a test failed.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Writes rules until the server is gone; returns the ids that it answered.
pub(crate) async fn write_until_gone(client: Arc<Client>, app: usize) -> Vec<RuleId> {
    let mut answered = Vec::new();
    for port in 1..60_000 {
        match client.put_rule(&rule(&format!("allow app{app} db {port}")), &Default::default()).await {
            Ok(answer) => answered.push(answer.rule.id),
            Err(_) => break,
        }
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_kill_9() {
    let prepared = Prepared::new();
    let mut answered: Vec<RuleId> = Vec::new();
    for round in 0..rounds(3, 1_000) {
        let server = Process::start(&prepared);
        let client = Arc::new(prepared.client(std::slice::from_ref(&server.url), "operator.token"));
        assert_standing(&client, &answered).await;
        // So that every round finds as much as the first one.
        let delete = std::mem::take(&mut answered);
        client.change(&ChangeSet { create: vec![], delete }, &Default::default()).await.expect("deleted");
        let writers: Vec<_> = (0..8).map(|writer| tokio::spawn(write_until_gone(client.clone(), writer))).collect();
        // Not always at the same moment.
        tokio::time::sleep(Duration::from_millis(100 + u64::try_from(round % 7).expect("few") * 50)).await;
        server.kill();
        for writer in writers {
            answered.extend(writer.await.expect("a writer"));
        }
        assert!(answered.len() > 8, "nothing was written in round {round}");
    }
    let server = Process::start(&prepared);
    let client = prepared.client(std::slice::from_ref(&server.url), "operator.token");
    assert_standing(&client, &answered).await;
    assert!(server.terminate(), "SIGTERM is no failure");
}

/// All of these rules are there.
pub(crate) async fn assert_standing(client: &Client, answered: &[RuleId]) {
    let listed = client.list_rules(&RuleFilter::default()).await.expect("list");
    let standing: BTreeSet<RuleId> = listed.items.iter().map(|view| view.rule.id).collect();
    let lost: Vec<_> = answered.iter().filter(|id| !standing.contains(id)).collect();
    assert!(lost.is_empty(), "answered, but lost: {lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_goes_on_with_the_next_api_when_one_is_gone() {
    let world = World::new().await;
    let gone = "https://127.0.0.1:1".to_owned();
    let client = world.prepared.client(&[gone, world.url()], "operator.token");
    client.put_rule(&rule("allow appA appB 80"), &Default::default()).await.expect("the second answers");
    assert_eq!(client.api_in_use(), world.url());
    world.server.stop().await;
    let error = client.status().await.expect_err("both gone").to_string();
    assert!(error.contains("cannot reach the policy API"), "{error}");
}

#[test]
fn the_binary_says_what_is_wrong_with_its_arguments() {
    let run = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_netpol-api")).args(args).output().expect("it runs");
    for (args, word) in [
        (vec!["init", "--node", "a b"], "a b"),
        (vec!["init", "--store", "etcd://a:2379"], "without client certificates"),
        (vec!["serve", "--heartbeat", "1h"], "100ms to 5s"),
        (vec!["serve", "--keep-owners", "5m"], "1h to 3650d"),
        (vec!["serve", "--overlay-v4", "10.255.0.0/24"], "no room"),
        (vec!["serve", "--overlay-v4", "fd00::/48"], "family"),
    ] {
        let output = run(&args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(word), "{args:?}: {said}");
    }
    let output = run(&["serve", "--dir", "/nonexistent", "--store", "sqlite:///nonexistent/x.db"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("netpol-api init"), "{said}");
}
