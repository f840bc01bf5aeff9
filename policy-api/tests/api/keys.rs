//! The keys that certificates and proofs are made with lie beside the store and never in it, and nobody else may read them.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
};

use policy_api::{
    client::{Client, ClientConfig, Credentials, Identity},
    directory::Directory,
    init::{Init, init},
    store::{Location, OverlayWish, back_up, restore},
    tls::ProvenKey,
};
use tokio::task::spawn_blocking;

use crate::{
    etcd_cluster::EtcdCluster,
    world::{Prepared, ip, name, refusal},
};

/// What the API says that is asked to serve what is in this directory, and has to refuse.
pub(crate) fn refuses_to_serve(directory: &Path, store: &Location) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netpol-api"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--store", &store.to_string(), "--dir"]).arg(directory);
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What whoever has it is somebody by: keys without what every PEM file has, and tokens.
fn secrets(prepared: &Prepared, node: &Identity) -> Vec<String> {
    let keys = [prepared.read("ca.key"), prepared.read("seal.key"), node.key_pem()];
    let lines = keys.iter().flat_map(|pem| pem.lines()).filter(|line| !line.starts_with("-----")).map(str::to_owned);
    let tokens =
        ["operator.token", "join/n1.token", "join/n2.token"].map(|token| prepared.read(token).trim().to_owned());
    lines.chain(tokens).filter(|secret| secret.len() > 16).collect()
}

async fn assert_mints_nothing(prepared: &Prepared) {
    let server = prepared.serve("127.0.0.1:0").await;
    let api = [format!("https://{}", server.address())];
    let joining = prepared.client(&api, "join/n1.token");
    let (n1, _) = joining.enrol(&name("n1"), ip("192.168.1.1")).await.expect("joined");
    let thief = tempfile::tempdir().expect("directory");
    let copy = thief.path().join("backup.db");
    let (from, to) = (prepared.store(), copy.clone());
    spawn_blocking(move || back_up(&from, &to)).await.expect("no panic").expect("backed up");

    let bytes = fs::read(&copy).expect("a backup");
    for secret in secrets(prepared, &n1) {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "the backup has a secret of {} characters in it", secret.len());
    }

    let (store, own) = (Location::Sqlite(thief.path().join("policy.db")), thief.path().join("pki"));
    restore(&copy, &store, false).expect("restored");
    let said = refuses_to_serve(&own, &store);
    assert!(said.contains("holds no CA"), "{said}");
    // With a CA of his own, whoever has the backup makes certificates that the true API takes for nobody's.
    let (directory, names, nodes) = (own.clone(), Vec::new(), vec!["n1".parse().expect("node")]);
    let (teams, tokens) = (Vec::new(), Vec::new());
    init(&Init { directory, store, nodes, teams, tokens, names, overlay: OverlayWish::default() }).expect("init");
    let (authority, key) = (Directory::at(&own).authority().expect("CA"), n1.request().expect("request"));
    let key = ProvenKey::of_request(&key).expect("signed");
    let (now, hour) = (time::OffsetDateTime::now_utc(), std::time::Duration::from_secs(3_600));
    let certificate = authority.node(&name("n1"), &key, now, hour).expect("certificate");
    let forged = Identity::of_key(&n1.key_pem()).expect("key");
    forged.certify(&certificate).expect("usable");
    let as_n1 = prepared.client_by(&api, Credentials::Identity(forged.into()));
    let refused = as_n1.status().await.expect_err("a certificate of another CA");
    assert!(refused.status().is_none_or(|status| status == 401), "{refused}");
    // Nor does his operator's token open anything.
    let token = fs::read_to_string(own.join("operator.token")).expect("token");
    let config = ClientConfig {
        api: api.into(),
        credentials: Credentials::Token(token),
        ca_pem: prepared.read("ca.pem").into(),
    };
    let status = Client::new(config).expect("client").status().await;
    assert_eq!(refusal(status), (401, Some("Authorization".to_owned())));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_file_mints_nothing() {
    assert_mints_nothing(&Prepared::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_etcd_mints_nothing() {
    let start = || {
        let cluster = EtcdCluster::start();
        (Prepared::in_etcd(&cluster), cluster)
    };
    let (prepared, _cluster) = spawn_blocking(start).await.expect("started");
    assert_mints_nothing(&prepared).await;
}

#[test]
fn a_ca_whose_key_others_may_read_is_served_by_nobody() {
    let prepared = Prepared::new();
    let key = prepared.pki().join("ca.key");
    for mode in [0o640, 0o604] {
        fs::set_permissions(&key, Permissions::from_mode(mode)).expect("opened");
        let said = refuses_to_serve(&prepared.pki(), &prepared.store());
        assert!(said.contains("ca.key") && said.contains("chmod 600"), "{said}");
    }
}

#[test]
fn a_key_to_etcd_that_others_may_read_is_not_used() {
    let prepared = Prepared::new();
    let files = ["ca.pem", "etcd.pem", "etcd.key"].map(|file| prepared.pki().join(file));
    for file in &files[1..] {
        fs::write(file, prepared.read("ca.pem")).expect("written");
        fs::set_permissions(file, Permissions::from_mode(0o644)).expect("opened");
    }
    let [ca, certificate, key] = files.map(|file| file.display().to_string());
    let store = format!("etcd://127.0.0.1:1/netpol?ca={ca}&cert={certificate}&key={key}").parse().expect("a location");
    let said = refuses_to_serve(&prepared.pki(), &store);
    assert!(said.contains("etcd.key") && said.contains("chmod 600"), "{said}");
}
