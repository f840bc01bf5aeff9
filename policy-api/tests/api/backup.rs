//! Backups of a store that is being written to, and putting one back.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use policy_api::{
    client::Client,
    model::{RuleFilter, RuleId},
};

use crate::{
    control::durable::{Process, write_until_gone},
    world::{Prepared, rule},
};

fn run(prepared: &Prepared, command: &str, more: &[&str], file: &Path) -> Output {
    let mut line = Command::new(env!("CARGO_BIN_EXE_netpol-api"));
    line.args([command, "--store", &prepared.store().to_string()]).args(more).arg(file);
    line.output().expect("it runs")
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned()).concat()
}

fn client(prepared: &Prepared, server: &Process) -> Arc<Client> {
    Arc::new(prepared.client(std::slice::from_ref(&server.url), "operator.token"))
}

async fn rules(client: &Client) -> Vec<RuleId> {
    let listed = client.list_rules(&RuleFilter::default()).await.expect("list");
    listed.items.iter().map(|view| view.rule.id).collect()
}

async fn history(client: &Client) -> String {
    client.status().await.expect("status").history.as_str().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_holds_all_that_was_answered_before_it_and_is_put_back_whole() {
    let prepared = Prepared::new();
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("backup.db");
    let server = Process::start(&prepared);
    let client_before = client(&prepared, &server);
    let mut before = Vec::new();
    for port in 1..50 {
        let answer = client_before.put_rule(&rule(&format!("allow web db {port}")), &Default::default()).await;
        before.push(answer.expect("answered").rule.id);
    }
    let writers: Vec<_> = (0..4).map(|app| tokio::spawn(write_until_gone(client_before.clone(), app))).collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let done = run(&prepared, "backup", &[], &file);
    assert!(done.status.success() && said(&done).contains("revision"), "{}", said(&done));
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    let again = run(&prepared, "backup", &[], &file);
    assert!(!again.status.success() && said(&again).contains("exists"), "{}", said(&again));

    let old_history = history(&client_before).await;
    let served = run(&prepared, "restore", &["--replace"], &file);
    assert!(!served.status.success() && said(&served).contains("served by another process"), "{}", said(&served));
    server.kill();
    for writer in writers {
        assert!(writer.await.expect("a writer").len() > 4, "nothing was written beside the backup");
    }

    let occupied = run(&prepared, "restore", &[], &file);
    assert!(!occupied.status.success() && said(&occupied).contains("--replace"), "{}", said(&occupied));
    let restored = run(&prepared, "restore", &["--replace"], &file);
    assert!(restored.status.success(), "{}", said(&restored));
    let server = Process::start(&prepared);
    let client_after = client(&prepared, &server);
    let after = rules(&client_after).await;
    let lost: Vec<_> = before.iter().filter(|id| !after.contains(id)).collect();
    assert!(lost.is_empty(), "answered before the backup, but not in it: {lost:?}");
    assert_ne!(history(&client_after).await, old_history, "a restored store has a history of its own");
    client_after.put_rule(&rule("allow web db 60000"), &Default::default()).await.expect("it goes on");
    assert!(server.terminate());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_whole_backup_is_refused_and_the_store_stays_as_it_is() {
    let prepared = Prepared::new();
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("backup.db");
    let server = Process::start(&prepared);
    let id =
        client(&prepared, &server).put_rule(&rule("allow web db 80"), &Default::default()).await.expect("put").rule.id;
    assert!(run(&prepared, "backup", &[], &file).status.success());
    assert!(server.terminate());

    let whole = fs::read(&file).expect("a backup");
    let mut torn = whole.clone();
    let middle = torn.len() / 2;
    torn[middle..].fill(0xa5);
    for (what, bytes) in [("cut", &whole[..whole.len() / 2]), ("torn", &torn), ("empty", &[]), ("text", b"no store")] {
        let bad = directory.path().join(what);
        fs::write(&bad, bytes).expect("written");
        let refused = run(&prepared, "restore", &["--replace"], &bad);
        assert!(!refused.status.success() && said(&refused).contains("is no backup"), "{what}: {}", said(&refused));
    }
    let missing = run(&prepared, "restore", &["--replace"], &directory.path().join("missing"));
    assert!(!missing.status.success(), "{}", said(&missing));
    let server = Process::start(&prepared);
    assert!(rules(&client(&prepared, &server)).await.contains(&id), "the store is what it was");
    assert!(server.terminate());
}
