//! Their cases about what runs out or goes away: quotas, tags, the database; and what our history says of their refusals.

use std::process::{Child, Command};

use policy_api::{
    client::new_secret,
    model::{EntryKind, HistoryItem, HistoryQuery, TeamSettings, TokenSpec},
    store::Location,
};
use serde_json::json;

use super::{Cf, V0, V1, policy, refused, said};
use crate::{
    etcd_cluster::EtcdCluster,
    right::{grants, owning, plain},
    world::{Prepared, SOON, name, until},
};

/// Does what waits for others, where waiting is allowed.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("done")
}

impl Cf {
    /// The same face, asked by a token with these roles.
    async fn by(&self, bearer: &str, roles: &str) -> String {
        let (secret, hash) = new_secret().expect("random");
        let spec = TokenSpec { name: bearer.parse().expect("name"), grants: grants(roles), hash, expires_at: None };
        self.world.operator.create_token(&spec, &plain()).await.expect("token");
        secret
    }

    async fn team(&self, name: &str, most_rules: Option<u32>) {
        let settings = TeamSettings { most_rules, ..owning(&format!("{name}-*"), "") };
        self.world.operator.set_team(&name.parse().expect("name"), &settings, &plain()).await.expect("team");
    }

    async fn create_by(&self, token: &str, source: &str, destination: &str, port: i64) -> (u16, serde_json::Value) {
        let body = json!({ "policies": [policy(source, destination, port, port)] }).to_string();
        said(self.request(reqwest::Method::POST, V1).bearer_auth(token).body(body).send().await.expect("an answer"))
            .await
    }

    async fn refusals(&self) -> Vec<HistoryItem> {
        let query = HistoryQuery { kinds: [EntryKind::Refused].into(), ..HistoryQuery::default() };
        self.world.operator.history(&query, true, None, 1_000).await.expect("history").items
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_the_third_policy_of_a_team_that_may_have_two_is_refused_and_an_admins_is_not() {
    let cf = Cf::new().await;
    cf.team("shop", Some(2)).await;
    let writer = cf.by("wri", "writer:shop").await;
    for port in [1, 2] {
        assert_eq!(cf.create_by(&writer, "shop-web", "shop-db", port).await, (200, json!({})));
    }
    let over = refused(403, "policy quota exceeded");
    assert_eq!(cf.create_by(&writer, "shop-web", "shop-db", 3).await, over);
    assert_eq!(cf.create_by(&writer, "shop-web", "shop-db", 2).await, (200, json!({})), "it stands");
    assert_eq!(cf.total("").await, 2);
    assert_eq!(cf.create(json!([policy("shop-web", "shop-db", 3, 3)])).await, (200, json!({})));
    assert_eq!(cf.total("").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_by_their_face_is_in_our_history_with_what_we_know_of_it() {
    let cf = Cf::new().await;
    cf.team("shop", Some(1)).await;
    let (writer, auditor) = (cf.by("wri", "writer:shop").await, cf.by("aud", "auditor").await);
    assert_eq!(cf.create_by(&writer, "shop-web", "shop-db", 1).await.0, 200);
    assert_eq!(cf.create_by(&writer, "shop-web", "shop-db", 2).await.0, 403);
    let foreign = refused(403, "one or more applications cannot be found or accessed");
    assert_eq!(cf.create_by(&writer, "shop-web", "pay-db", 1).await, foreign);
    assert_eq!(cf.create_by(&auditor, "shop-web", "shop-db", 1).await.0, 403);
    let join = cf.world.prepared.read("join/n1.token");
    assert_eq!(cf.create_by(join.trim(), "shop-web", "shop-db", 1).await.0, 403);
    let tags = cf.request(reqwest::Method::GET, "/networking/v1/external/tags").bearer_auth(&writer);
    assert_eq!(tags.send().await.expect("an answer").status(), 403);
    let told: Vec<(String, String, String)> = cf.refusals().await.into_iter().map(seen).collect();
    let expected = [
        ("token/wri", V1, "has 1 rules, and may have no more"),
        ("token/wri", V1, "ask for this one by itself; it takes role `operator`"),
        ("token/aud", V1, "provided scopes [] do not include allowed scopes [network.admin network.write]"),
        ("node/n1", V1, "provided scopes [] do not include"),
        ("token/wri", "/networking/v1/external/tags", "do not include allowed scopes [network.admin]"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((who, path, detail), expected) in told.iter().zip(expected) {
        assert!((who.as_str(), path.as_str()) == (expected.0, expected.1) && detail.contains(expected.2), "{told:?}");
    }
}

/// Who asked for which path, and what our history says of it.
fn seen(item: HistoryItem) -> (String, String, String) {
    assert!(item.entry.from.is_some_and(|from| from.is_loopback()) && item.entry.request.is_some());
    let attempt = item.entry.refused.expect("what was refused");
    (item.entry.who, attempt.path, attempt.detail)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p14_with_the_database_gone_writes_fail_in_their_words_and_what_needs_none_is_answered() {
    let cluster = aside(EtcdCluster::start).await;
    let (prepared, cluster) = aside(|| (Prepared::in_etcd(&cluster), cluster)).await;
    let cf = Cf::on(prepared).await;
    let body = json!({"policies": [policy("a", "b", 80, 80)]});
    assert_eq!(cf.create(body["policies"].clone()).await, (200, json!({})));
    [0, 1].iter().for_each(|member| cluster.kill(*member));

    let other = json!({"policies": [policy("a", "b", 81, 81)]}).to_string();
    let older =
        json!({"policies": [{"source": {"id": "a"}, "destination": {"id": "b", "protocol": "tcp", "port": 82}}]});
    let writes = futures_util::future::join_all([
        cf.post(V1, other),
        cf.post(V0, older.to_string()),
        cf.post("/networking/v1/external/policies/delete", body.to_string()),
    ]);
    let answers = tokio::time::timeout(SOON * 2, writes).await.expect("no hang");
    let failed = |text: &str| refused(500, text);
    let expected = ["database create failed", "database create failed", "database delete failed"].map(failed);
    assert_eq!(answers, expected);
    until("health says so", SOON, async || cf.get("/health").await == failed("check database failed")).await;
    // Reads are of memory.
    assert_eq!(cf.total("").await, 1);
    assert_eq!(cf.post(&format!("{V1}/cleanup"), "").await, (200, json!({"total_policies": 0, "policies": []})));
    assert_eq!(cf.get("/").await.0, 200);

    [0, 1].iter().for_each(|member| cluster.revive(*member));
    until("it is back", SOON, async || cf.create(json!([policy("a", "b", 83, 83)])).await.0 == 200).await;
    until("health says so", SOON, async || cf.get("/health").await.0 == 200).await;
    cf.world.server.stop().await;
}

/// `netpol-api init`, as their pre-start binary prepares the database.
fn prepare(directory: &std::path::Path, store: &Location) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netpol-api"));
    command.arg("init").arg("--dir").arg(directory).args(["--store", &store.to_string()]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("it runs")
}

fn ended(mut child: Child) -> Option<i32> {
    child.wait().expect("it ended").code()
}

#[test]
fn p18_a_database_is_prepared_once_also_when_it_comes_late_and_given_up_when_it_never_does() {
    let cluster = EtcdCluster::start();
    let directory = tempfile::tempdir().expect("directory");
    let place = |name: &str| -> (std::path::PathBuf, Location) {
        (directory.path().join(name), cluster.store(name).parse().expect("a location"))
    };
    let (pki, store) = place("fresh");
    assert_eq!(ended(prepare(&pki, &store)), Some(0));
    let token = std::fs::read(pki.join("operator.token")).expect("a token");
    assert_eq!(ended(prepare(&pki, &store)), Some(0), "what is prepared already stays as it is");
    assert_eq!(std::fs::read(pki.join("operator.token")).expect("a token"), token);

    (0..3).for_each(|member| cluster.kill(member));
    let (pki, store) = place("late");
    let mut late = prepare(&pki, &store);
    (0..3).for_each(|member| cluster.revive(member));
    assert_eq!(late.try_wait().expect("it runs"), None, "it waits");
    assert_eq!(ended(late), Some(0));

    (0..3).for_each(|member| cluster.kill(member));
    let (pki, store) = place("never");
    assert_eq!(ended(prepare(&pki, &store)), Some(1));
}

/// Has a store believe that it gave out all identities but so many.
fn exhaust_but(prepared: &Prepared, left: u32) {
    let Location::Sqlite(path) = prepared.store() else { panic!("the store is a file") };
    let file = rusqlite::Connection::open(path).expect("open");
    let read = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    let head = file.query_row("SELECT value FROM meta WHERE key = 'head'", [], read).expect("a head");
    let mut head: serde_json::Value = serde_json::from_str(&head).expect("JSON");
    head["next_identity"] = json!((1_u32 << 24) - left);
    file.execute("UPDATE meta SET value = ?1 WHERE key = 'head'", [head.to_string()]).expect("updated");
}

#[tokio::test]
async fn p19_when_all_tags_are_given_out_the_next_app_is_refused_and_what_stands_goes_on() {
    let prepared = Prepared::new();
    exhaust_but(&prepared, 2);
    let cf = Cf::on(prepared).await;
    // A node that has said nothing may remember whatever was given out once.
    let _node = cf.world.raw_node("n1", "192.168.1.1").await;
    assert_eq!(cf.create(json!([policy("a", "b", 80, 80)])).await, (200, json!({})));
    let exhausted = refused(500, "database create failed");
    assert_eq!(cf.create(json!([policy("a", "b", 81, 81), policy("a", "c", 80, 80)])).await, exhausted);
    assert_eq!(cf.get(V1).await.1, json!({"total_policies": 1, "policies": [policy("a", "b", 80, 80)]}));
    assert_eq!(cf.create(json!([policy("b", "a", 80, 80)])).await, (200, json!({})), "these have theirs");
    assert_eq!(cf.total("").await, 2);
    cf.world.operator.remove_node(&name("n1"), &plain()).await.expect("removed");
    assert_eq!(cf.create(json!([policy("a", "c", 80, 80)])).await, (200, json!({})), "nobody remembers any more");
}
