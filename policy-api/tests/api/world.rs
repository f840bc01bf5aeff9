//! A policy API of its own for each test.

use std::{net::IpAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use policy_api::{
    challenge::Underlay,
    client::{Client, ClientConfig, ClientError, Credentials},
    http::Compat,
    init::{Init, init},
    model::{AppName, Claim, Join, NodeName, Report, Revision, RuleSpec, WatchLine},
    oidc::ProviderConfig,
    server::{Server, ServerConfig},
    store::{Location, OverlayWish},
};

use crate::etcd_cluster::EtcdCluster;

/// Long enough for any machine, short enough to be told.
pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(150);

/// More requests in a second than any test makes.
pub(crate) const MANY: NonZeroU32 = NonZeroU32::new(1_000_000).expect("not zero");

/// A prepared directory and store.
pub(crate) struct Prepared {
    directory: tempfile::TempDir,
    store: Location,
    provider: Option<ProviderConfig>,
    signer_lifetime: Duration,
}

/// How often a proof repeats itself: `ci` in every run, `soak` under `cargo xtask soak`.
pub(crate) fn rounds(ci: usize, soak: usize) -> usize {
    if std::env::var_os("NETPOL_SOAK").is_some() { soak } else { ci }
}

impl Prepared {
    /// A store in a file.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let store = Location::Sqlite(directory.path().join("policy.db"));
        Self::at(directory, store)
    }

    /// A store in etcd.
    pub(crate) fn in_etcd(cluster: &EtcdCluster) -> Self {
        Self::in_etcd_at(cluster, "netpol")
    }

    /// The same, one of several in it.
    pub(crate) fn in_etcd_at(cluster: &EtcdCluster, prefix: &str) -> Self {
        let location = cluster.store(prefix).parse().expect("a location");
        Self::at(tempfile::tempdir().expect("directory"), location)
    }

    fn at(directory: tempfile::TempDir, store: Location) -> Self {
        let day = Duration::from_secs(86_400);
        let prepared = Self { directory, store, provider: None, signer_lifetime: day };
        init(&Init {
            directory: prepared.pki(),
            store: prepared.store(),
            nodes: ["n1", "n2=web*"].iter().map(|node| node.parse().expect("node")).collect(),
            teams: Vec::new(),
            tokens: Vec::new(),
            names: Vec::new(),
            overlay: OverlayWish::default(),
        })
        .expect("init");
        prepared
    }

    /// The same, with a provider whose word counts.
    pub(crate) fn believing(self, provider: ProviderConfig) -> Self {
        Self { provider: Some(provider), ..self }
    }

    /// The same, where keys of the signer sign for so long.
    pub(crate) fn rotating(self, signer_lifetime: Duration) -> Self {
        Self { signer_lifetime, ..self }
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.directory.path().join("pki")
    }

    pub(crate) fn store(&self) -> Location {
        self.store.clone()
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.pki().join(file)).expect(file)
    }

    pub(crate) fn client(&self, api: &[String], token: &str) -> Client {
        self.client_by(api, Credentials::Token(self.read(token)))
    }

    pub(crate) fn client_by(&self, api: &[String], credentials: Credentials) -> Client {
        let config = ClientConfig { api: api.to_vec(), credentials, ca_pem: self.read("ca.pem").into() };
        Client::new(config).expect("client")
    }

    /// Joins with a node's token; returns a client that proves itself by the certificate that came of it.
    pub(crate) async fn join(&self, api: &[String], node: &str, underlay: &str) -> Client {
        let joining = self.client(api, &format!("join/{node}.token"));
        let (identity, _) = joining.enrol(&name(node), ip(underlay)).await.expect("join");
        self.client_by(api, Credentials::Identity(identity))
    }

    /// Makes another join token for a node.
    pub(crate) fn new_join_token(&self, node: &str) -> String {
        let file = format!("join/{node}.token");
        std::fs::remove_file(self.pki().join(&file)).expect("a token");
        init(&Init {
            directory: self.pki(),
            store: self.store(),
            nodes: vec![node.parse().expect("node")],
            teams: Vec::new(),
            tokens: Vec::new(),
            names: Vec::new(),
            overlay: OverlayWish::default(),
        })
        .expect("init");
        self.read(&file)
    }

    /// Starts a server on a port of its own, or on this one.
    pub(crate) async fn serve(&self, listen: &str) -> Server {
        self.serve_with(listen, Duration::from_secs(3_600), MANY).await
    }

    async fn serve_with(
        &self,
        listen: &str,
        certificate_lifetime: Duration,
        requests_per_second: NonZeroU32,
    ) -> Server {
        let config = ServerConfig { certificate_lifetime, requests_per_second, ..self.config(listen) };
        Server::start(config).await.expect("server")
    }

    /// The same on a port of its own, with Cloud Foundry's paths.
    pub(crate) async fn serve_cf(&self, origin: &str) -> Server {
        let compat = Compat { origins: vec![origin.to_owned()] };
        let config = ServerConfig { cf_compat: Some(compat), ..self.config("127.0.0.1:0") };
        Server::start(config).await.expect("server")
    }

    fn config(&self, listen: &str) -> ServerConfig {
        ServerConfig {
            listen: listen.parse().expect("address"),
            store: self.store(),
            directory: self.pki(),
            names: Vec::new(),
            overlay: OverlayWish::default(),
            // No machine has the addresses that these nodes say they are at.
            underlay: Underlay::Believed,
            heartbeat: HEARTBEAT,
            retention: policy_api::store::Retention::default(),
            certificate_lifetime: Duration::from_secs(3_600),
            signer_lifetime: self.signer_lifetime,
            requests_per_second: MANY,
            provider: self.provider.clone(),
            cf_compat: None,
        }
    }
}

/// A running API and clients of every kind: nodes by their join tokens until they have joined.
pub(crate) struct World {
    pub(crate) prepared: Prepared,
    pub(crate) server: Server,
    pub(crate) operator: Client,
    pub(crate) n1: Client,
    pub(crate) n2: Client,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Duration::from_secs(3_600), MANY).await
    }

    /// A world that serves Cloud Foundry's paths, too, to browsers from this origin.
    pub(crate) async fn with_cf(prepared: Prepared, origin: &str) -> Self {
        let server = prepared.serve_cf(origin).await;
        Self::around(prepared, server)
    }

    /// A world where nodes' certificates are good for so long, and each caller may ask so often.
    pub(crate) async fn with(lifetime: Duration, requests_per_second: NonZeroU32) -> Self {
        Self::of(Prepared::new(), lifetime, requests_per_second).await
    }

    pub(crate) async fn of(prepared: Prepared, lifetime: Duration, requests_per_second: NonZeroU32) -> Self {
        let server = prepared.serve_with("127.0.0.1:0", lifetime, requests_per_second).await;
        Self::around(prepared, server)
    }

    fn around(prepared: Prepared, server: Server) -> Self {
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
        let mut world = Self::new().await;
        let api = [world.url()];
        world.n1 = world.prepared.join(&api, "n1", "192.168.1.1").await;
        world.n2 = world.prepared.join(&api, "n2", "192.168.1.2").await;
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
            clock: None,
            cuts: Vec::new(),
        };
        self.n1.report(&name("n1"), &report).await
    }

    /// Asks without the client, to say what it would not say.
    pub(crate) fn raw(&self) -> reqwest::Client {
        self.raw_builder().build().expect("client")
    }

    /// The same, by the certificate of a node that joins for it.
    pub(crate) async fn raw_node(&self, node: &str, underlay: &str) -> reqwest::Client {
        let joining = self.prepared.client(&[self.url()], &format!("join/{node}.token"));
        let (identity, joined) = joining.enrol(&name(node), ip(underlay)).await.expect("join");
        let pem = identity.key_pem() + &joined.certified.expect("certificate").certificate;
        let identity = reqwest::Identity::from_pem(pem.as_bytes()).expect("identity");
        self.raw_builder().identity(identity).build().expect("client")
    }

    fn raw_builder(&self) -> reqwest::ClientBuilder {
        let ca = reqwest::Certificate::from_pem(self.prepared.read("ca.pem").as_bytes()).expect("CA");
        let provider = rustls::crypto::ring::default_provider();
        // Another test of this process may have been first.
        let _installed = provider.install_default();
        reqwest::Client::builder().tls_certs_only([ca])
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
        Err(ClientError::Problem(problem) | ClientError::Busy { problem, .. }) => (problem.status, problem.field),
        other => panic!("not refused: {other:?}"),
    }
}

/// Waits until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, deadline: Duration, mut is_so: impl FnMut() -> F) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(deadline, wait).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}

/// The next line that is neither a heartbeat nor the clock.
pub(crate) async fn next_news(watch: &mut policy_api::client::Watch) -> WatchLine {
    let news = async {
        loop {
            let line = watch.next().await.expect("a line");
            if !matches!(line, WatchLine::Heartbeat { .. } | WatchLine::Clock { .. }) {
                return line;
            }
        }
    };
    tokio::time::timeout(SOON, news).await.expect("in time")
}

/// A node's wish to be registered with the key that it has, at this address.
pub(crate) fn at(underlay: &str) -> Join {
    Join::at(ip(underlay))
}
