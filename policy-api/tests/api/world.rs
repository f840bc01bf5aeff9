//! A policy API of its own for each test.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use policy_api::{
    client::{Client, ClientConfig, ClientError},
    init::{Init, init},
    model::{AppName, Claim, NodeName, Report, Revision, RuleSpec, WatchLine},
    server::{Server, ServerConfig},
    store::{Location, OverlayWish},
};

/// Long enough for any machine, short enough to be told.
pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(150);

/// A prepared directory and store.
pub(crate) struct Prepared {
    directory: tempfile::TempDir,
}

impl Prepared {
    pub(crate) fn new() -> Self {
        let prepared = Self { directory: tempfile::tempdir().expect("directory") };
        init(&Init {
            directory: prepared.pki(),
            store: prepared.store(),
            nodes: ["n1", "n2=web*"].iter().map(|node| node.parse().expect("node")).collect(),
            names: Vec::new(),
            overlay: OverlayWish::default(),
        })
        .expect("init");
        prepared
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.directory.path().join("pki")
    }

    pub(crate) fn store(&self) -> Location {
        Location::Sqlite(self.directory.path().join("policy.db"))
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.pki().join(file)).expect(file)
    }

    pub(crate) fn client(&self, api: &[String], token: &str) -> Client {
        let config = ClientConfig { api: api.to_vec(), token: self.read(token), ca_pem: self.read("ca.pem").into() };
        Client::new(config).expect("client")
    }

    /// Starts a server on a port of its own, or on this one.
    pub(crate) async fn serve(&self, listen: &str) -> Server {
        let config = ServerConfig {
            listen: listen.parse().expect("address"),
            store: self.store(),
            directory: self.pki(),
            names: Vec::new(),
            overlay: OverlayWish::default(),
            heartbeat: HEARTBEAT,
            owners_kept: policy_api::store::OWNERS_KEPT,
        };
        Server::start(config).await.expect("server")
    }
}

/// A running API and clients with every kind of token.
pub(crate) struct World {
    pub(crate) prepared: Prepared,
    pub(crate) server: Server,
    pub(crate) operator: Client,
    pub(crate) n1: Client,
    pub(crate) n2: Client,
}

impl World {
    pub(crate) async fn new() -> Self {
        let prepared = Prepared::new();
        let server = prepared.serve("127.0.0.1:0").await;
        let api = [format!("https://{}", server.address())];
        let [operator, n1, n2] =
            ["operator.token", "join/n1.token", "join/n2.token"].map(|token| prepared.client(&api, token));
        Self { prepared, server, operator, n1, n2 }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.server.address())
    }

    /// A world where both nodes have joined.
    pub(crate) async fn with_nodes() -> Self {
        let world = Self::new().await;
        world.n1.join(&name("n1"), ip("192.168.1.1")).await.expect("join");
        world.n2.join(&name("n2"), ip("192.168.1.2")).await.expect("join");
        world
    }

    pub(crate) async fn revision(&self) -> Revision {
        self.operator.status().await.expect("status").revision
    }

    /// Reports this revision for `n1`.
    pub(crate) async fn applied(&self, revision: Revision, rows_capacity: u64) -> Result<(), ClientError> {
        let history = self.operator.status().await?.history;
        let report = Report {
            history,
            applied: revision,
            ready: true,
            rows_used: 0,
            rows_capacity,
            detail: None,
            cuts: Vec::new(),
        };
        self.n1.report(&name("n1"), &report).await
    }

    /// Asks without the client, to say what it would not say.
    pub(crate) fn raw(&self) -> reqwest::Client {
        let ca = reqwest::Certificate::from_pem(self.prepared.read("ca.pem").as_bytes()).expect("CA");
        let provider = rustls::crypto::ring::default_provider();
        // Another test of this process may have been first.
        let _installed = provider.install_default();
        reqwest::Client::builder().tls_certs_only([ca]).build().expect("client")
    }
}

pub(crate) fn name(text: &str) -> NodeName {
    text.parse().expect("name")
}

pub(crate) fn app(text: &str) -> AppName {
    text.parse().expect("name")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

/// `allow web db 80,443`
pub(crate) fn rule(text: &str) -> RuleSpec {
    let words: Vec<&str> = text.split(' ').collect();
    let selector = |word: &str| word.parse().expect("selector");
    let (action, ports) = (words[0].parse().expect("action"), words[3].parse().expect("ports"));
    RuleSpec::new(selector(words[1]), selector(words[2]), Default::default(), ports, action)
}

pub(crate) fn claim(name: &str, addresses: &[&str]) -> Claim {
    let addresses = addresses.iter().map(|address| ip(address)).collect();
    Claim { app: app(name), instance: None, addresses, labels: Default::default() }
}

/// The status and the field of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (u16, Option<String>) {
    match answer {
        Err(ClientError::Problem(problem)) => (problem.status, problem.field),
        other => panic!("not refused: {other:?}"),
    }
}

/// The next line that is neither a heartbeat nor the clock.
pub(crate) async fn next_news(watch: &mut policy_api::client::Watch) -> WatchLine {
    loop {
        let line = tokio::time::timeout(SOON, watch.next()).await.expect("in time").expect("a line");
        if !matches!(line, WatchLine::Heartbeat { .. } | WatchLine::Clock { .. }) {
            return line;
        }
    }
}
