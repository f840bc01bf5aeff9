//! The signer's keys as others see them: published, rotated, the same at every API; and the seal key that they need.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    sync::Mutex,
    time::Duration,
};

use policy_api::{
    init::reseal,
    model::{JwkSet, SignerKeyId},
    private,
    server::Server,
};
use tokio::task::spawn_blocking;

use super::{own_token, proven};
use crate::{
    etcd_cluster::EtcdCluster,
    keys::refuses_to_serve,
    world::{MANY, Prepared, SOON, World, until},
};

fn kids(keys: &JwkSet) -> BTreeSet<SignerKeyId> {
    keys.keys.iter().map(|key| key.kid.clone()).collect()
}

/// Notes the keys that were seen; returns how many there have been.
fn saw(seen: &Mutex<BTreeSet<SignerKeyId>>, keys: &JwkSet) -> usize {
    let mut seen = seen.lock().expect("nobody panicked");
    seen.extend(kids(keys));
    seen.len()
}

fn api(server: &Server) -> [String; 1] {
    [format!("https://{}", server.address())]
}

#[tokio::test]
async fn anybody_reads_the_public_keys_and_is_told_how_long_to_keep_them() {
    let world = World::new().await;
    let answer = world.raw().get(world.url() + "/v1/jwks").send().await.expect("an answer");
    assert_eq!(answer.headers()["cache-control"].to_str().ok(), Some("public, max-age=300"));
    let text = answer.text().await.expect("a body");
    let keys: serde_json::Value = serde_json::from_str(&text).expect("json");
    let members: BTreeSet<&str> = keys["keys"][0].as_object().expect("a key").keys().map(String::as_str).collect();
    assert_eq!(members, BTreeSet::from(["alg", "crv", "kid", "kty", "use", "x"]), "and nothing else of it");
    let key = &keys["keys"][0];
    assert_eq!((&key["kty"], &key["crv"], &key["alg"]), (&"OKP".into(), &"Ed25519".into(), &"EdDSA".into()));
    world.server.stop().await;
}

#[tokio::test]
async fn keys_rotate_while_tokens_go_on_being_good() {
    let prepared = Prepared::new().rotating(Duration::from_secs(6));
    let world = World::of(prepared, Duration::from_secs(3_600), MANY).await;
    let first = own_token(&world.operator).await;
    let seen = Mutex::new(BTreeSet::new());
    until("three keys have come", SOON, async || {
        let (keys, token) = (world.operator.jwks().await.expect("keys"), own_token(&world.operator).await);
        // By the keys that were read before it was made: whoever checks knew the key by then.
        assert!(proven(&keys, &token.token).is_some(), "a token that nobody could check");
        assert!(proven(&keys, &first.token).is_some(), "the first one is good to its end");
        saw(&seen, &keys) >= 3
    })
    .await;
    world.server.stop().await;
}

#[tokio::test]
async fn a_restart_signs_with_the_same_key() {
    let world = World::new().await;
    let (before, token) = (world.operator.jwks().await.expect("keys"), own_token(&world.operator).await);
    let World { prepared, server, .. } = world;
    server.stop().await;
    let server = prepared.serve("127.0.0.1:0").await;
    let after = prepared.client(&api(&server), "operator.token").jwks().await.expect("keys");
    assert_eq!(before, after);
    assert!(proven(&after, &token.token).is_some());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_seal_key_nobody_serves_and_the_refusal_says_what_to_do() {
    let world = World::new().await;
    let (before, token) = (world.operator.jwks().await.expect("keys"), own_token(&world.operator).await);
    let World { prepared, server, .. } = world;
    server.stop().await;
    let path = prepared.pki().join("seal.key");
    let right = prepared.read("seal.key");
    let wrong = "0".repeat(64);
    for (what, says) in [
        (Some(wrong.as_str()), "was sealed with another one"),
        (None, "is not there"),
        (Some("x"), "holds no seal key"),
    ] {
        match what {
            Some(text) => private::keep(&path, text.as_bytes()).expect("written"),
            None => fs::remove_file(&path).expect("removed"),
        }
        let (pki, store) = (prepared.pki(), prepared.store());
        let said = spawn_blocking(move || refuses_to_serve(&pki, &store)).await.expect("no panic");
        for part in ["seal.key", says, "Copy it from", "netpol-api reseal"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!said.contains(right.trim()) && !said.contains(&wrong), "{said}");
    }
    private::keep(&path, right.as_bytes()).expect("put back");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("opened");
    let (pki, store) = (prepared.pki(), prepared.store());
    let said = spawn_blocking(move || refuses_to_serve(&pki, &store)).await.expect("no panic");
    assert!(said.contains("seal.key") && said.contains("chmod 600"), "{said}");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("closed");

    let (pki, store) = (prepared.pki(), prepared.store());
    spawn_blocking(move || reseal(&pki, &store)).await.expect("no panic").expect("resealed");
    assert_ne!(prepared.read("seal.key"), right);
    let server = prepared.serve("127.0.0.1:0").await;
    let after = prepared.client(&api(&server), "operator.token").jwks().await.expect("keys");
    assert!(kids(&after).is_disjoint(&kids(&before)));
    assert!(proven(&after, &token.token).is_none(), "what was out is void");
    server.stop().await;
}

#[tokio::test]
async fn a_directory_of_an_earlier_version_gets_its_seal_key_when_it_is_first_served() {
    let prepared = Prepared::new();
    let path = prepared.pki().join("seal.key");
    // As an earlier version left it: no seal key, and nothing sealed.
    fs::remove_file(&path).expect("removed");
    let server = prepared.serve("127.0.0.1:0").await;
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    own_token(&prepared.client(&api(&server), "operator.token")).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apis_on_one_etcd_agree_on_keys_though_they_rotate_at_once() {
    let start = || {
        let cluster = EtcdCluster::start();
        (Prepared::in_etcd(&cluster).rotating(Duration::from_secs(3)), cluster)
    };
    let (prepared, _cluster) = spawn_blocking(start).await.expect("started");
    // Both find no key, and both make one.
    let (one, two) = tokio::join!(prepared.serve("127.0.0.1:0"), prepared.serve("127.0.0.1:0"));
    let clients = [&one, &two].map(|server| prepared.client(&api(server), "operator.token"));
    let seen = Mutex::new(BTreeSet::new());
    until("several keys have come", SOON * 2, async || {
        let token = own_token(&clients[0]).await;
        let keys = clients[1].jwks().await.expect("keys");
        assert!(proven(&keys, &token.token).is_some(), "the other API knows the key");
        saw(&seen, &keys) >= 4
    })
    .await;
    let agree = async || {
        let (mine, theirs) = (clients[0].jwks().await.expect("keys"), clients[1].jwks().await.expect("keys"));
        mine == theirs
    };
    until("both publish the same", SOON, agree).await;
    let keys = clients[0].jwks().await.expect("keys");
    let history = clients[0].history(&signer_entries(), true, None, 1_000).await.expect("history").items;
    let made = history.iter().flat_map(|item| &item.what).filter(|what| what.contains("created")).count();
    assert!(made >= kids(&keys).len() && made <= saw(&seen, &keys) + 1, "one key at a time: {made} made");
    tokio::join!(one.stop(), two.stop());
}

fn signer_entries() -> policy_api::model::HistoryQuery {
    let kinds = [policy_api::model::EntryKind::Signer].into();
    policy_api::model::HistoryQuery { kinds, ..Default::default() }
}
