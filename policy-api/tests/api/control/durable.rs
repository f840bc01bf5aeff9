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
    store::restore,
};

use crate::world::{Prepared, World, rounds, rule};

/// The real binary; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
}

impl Process {
    pub(crate) fn start(prepared: &Prepared) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netpol-api"));
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--underlay",
            "believed",
            "--store",
            &prepared.store().to_string(),
            "--dir",
        ]);
        command.arg(prepared.pki());
        Self::spawn(command)
    }

    /// A command that becomes the binary.
    fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("netpol-api starts");
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
    let (mut answered, mut all): (Vec<RuleId>, usize) = (Vec::new(), 0);
    let rounds = rounds(3, 1_000);
    for round in 0..rounds {
        let server = Process::start(&prepared);
        let client = Arc::new(prepared.client(std::slice::from_ref(&server.url), "operator.token"));
        if round % 50 == 1 {
            // It grows, and takes the longer each time.
            assert_standing(&client, &answered).await;
        } else {
            assert_listed(&client, &answered).await;
        }
        // So that every round finds as much as the first one.
        let delete = std::mem::take(&mut answered);
        client.change(&ChangeSet::of_rules(vec![], delete), &Default::default()).await.expect("deleted");
        let writers: Vec<_> = (0..8).map(|writer| tokio::spawn(write_until_gone(client.clone(), writer))).collect();
        // Not always at the same moment.
        tokio::time::sleep(Duration::from_millis(100 + u64::try_from(round % 7).expect("few") * 50)).await;
        server.kill();
        for writer in writers {
            answered.extend(writer.await.expect("a writer"));
        }
        all += answered.len();
    }
    println!("{rounds} times killed, {all} writes answered before");
    assert!(all > rounds * 8, "only {all} writes were answered");
    let server = Process::start(&prepared);
    let client = prepared.client(std::slice::from_ref(&server.url), "operator.token");
    assert_standing(&client, &answered).await;
    assert!(server.terminate(), "SIGTERM is no failure");
}

/// All of these rules are there, and the history is whole.
pub(crate) async fn assert_standing(client: &Client, answered: &[RuleId]) {
    let verified = client.verify_history(None).await.expect("verified");
    assert_eq!(verified.misfit, None, "the history fits, whatever happened");
    assert_listed(client, answered).await;
}

async fn assert_listed(client: &Client, answered: &[RuleId]) {
    let listed = client.list_rules(&RuleFilter::default()).await.expect("list");
    let standing: BTreeSet<RuleId> = listed.items.iter().map(|view| view.rule.id).collect();
    let lost: Vec<_> = answered.iter().filter(|id| !standing.contains(id)).collect();
    assert!(lost.is_empty(), "answered, but lost: {lost:?}");
}

/// A server whose store is on a disk of 2 MiB of its own, half of which a file takes that can be removed.
const ON_A_SMALL_DISK: &str = r#"
set -eu
mkdir "$2"
mount -t tmpfs -o size=2m tmpfs "$2"
head -c 1048576 /dev/zero > "$2/filler"
"$0" init --dir "$1" --store "sqlite://$2/policy.db" >&2
exec "$0" serve --listen 127.0.0.1:0 --dir "$1" --store "sqlite://$2/policy.db"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_loses_none_and_takes_them_again_when_there_is_room() {
    let prepared = Prepared::new();
    let disk = prepared.pki().with_file_name("small");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", ON_A_SMALL_DISK, env!("CARGO_BIN_EXE_netpol-api")]);
    let server = Process::spawn({
        command.arg(prepared.pki()).arg(&disk);
        command
    });
    let client = Arc::new(prepared.client(std::slice::from_ref(&server.url), "operator.token"));
    let writers: Vec<_> = (0..4).map(|writer| tokio::spawn(write_until_gone(client.clone(), writer))).collect();
    let mut answered = Vec::new();
    for writer in writers {
        answered.extend(writer.await.expect("a writer"));
    }
    assert!(answered.len() > 20, "only {} fitted", answered.len());
    // Where the writes of all four did not fit, one or two alone may.
    let mut refused = None;
    for port in 1..=16 {
        match client.put_rule(&rule(&format!("allow full db {port}")), &Default::default()).await {
            Ok(answer) => answered.push(answer.rule.id),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let refused = refused.expect("no room");
    assert_eq!((refused.status(), refused.is_refusal()), (Some(503), false), "{refused}");
    assert!(refused.retry_after().is_some(), "nothing says when to come back");
    assert!(!client.status().await.expect("reads go on").store_healthy);
    assert_standing(&client, &answered).await;

    // As its mount namespace has it.
    let filler = format!("/proc/{}/root{}/filler", server.child.id(), disk.display());
    std::fs::remove_file(filler).expect("removed");
    let answer = client.put_rule(&rule("allow again db 1"), &Default::default()).await.expect("there is room");
    answered.push(answer.rule.id);
    assert!(client.status().await.expect("status").store_healthy);

    // What is on disk, not only in memory.
    let copy = prepared.pki().with_file_name("copy.db");
    let copied = Command::new("nsenter")
        .args(["--mount", "--target", &server.child.id().to_string(), env!("CARGO_BIN_EXE_netpol-api"), "backup"])
        .args(["--store", &format!("sqlite://{}", disk.join("policy.db").display())])
        .arg(&copy)
        .status();
    assert!(copied.expect("it runs").success());
    restore(&copy, &prepared.store(), true).expect("restored");
    server.kill();
    let server = Process::start(&prepared);
    assert_standing(&prepared.client(std::slice::from_ref(&server.url), "operator.token"), &answered).await;
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
