//! The real policy API, started as an operator starts it, and nodes that speak to it as agents do.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use policy_api::client::{Client, ClientConfig, Credentials, Identity};
use policy_api::model::{Claim, Cut, Join, NodeName, Report, Revision, WatchLine};
use tokio::sync::oneshot;

use super::{NETPOL, Shell, eventually};

/// A running `netpol-api` with two nodes known to it, and an operator's shell.
pub(crate) struct Api {
    pub(crate) shell: Shell,
    pub(crate) url: String,
    process: Child,
}

/// A node with an open watch.
pub(crate) struct Node {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How a node behaves.
#[derive(Clone, Copy)]
pub(crate) enum Conduct {
    /// Reports every revision as in force at once, and runs an instance of this app.
    Prompt { runs: Option<&'static str> },
    /// As prompt, and says that each revision cut so many live flows.
    Cutting { flows: u64, runs: &'static str },
    /// Reports the first revision it sees and no other.
    Stuck { runs: &'static str },
}

impl Conduct {
    fn runs(self) -> Option<&'static str> {
        match self {
            Self::Prompt { runs } => runs,
            Self::Cutting { runs, .. } | Self::Stuck { runs } => Some(runs),
        }
    }
}

impl Api {
    /// Without the rule that a store is born with: the first rule of a test is r2, and the only one.
    pub(crate) fn start() -> Self {
        let api = Self::as_born();
        api.shell.netpol("revoke r1").exits(0);
        api
    }

    pub(crate) fn as_born() -> Self {
        let mut shell = Shell::new();
        let binary = binary();
        let dir = shell.path("api");
        let store = format!("sqlite://{}", shell.path("policy.db").display());
        let init = Command::new(&binary)
            .args(["init", "--store", &store, "--node", "n1", "--node", "n2", "--dir"])
            .arg(&dir)
            .output()
            .expect("netpol-api starts");
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let (process, url) = serve(&dir, &store);
        shell.set("NETPOL_API", &url);
        shell.set("NETPOL_CA", &dir.join("ca.pem").to_string_lossy());
        shell.set("NETPOL_TOKEN_FILE", &dir.join("operator.token").to_string_lossy());
        Self { shell, url, process }
    }

    /// Kills the API as a machine that loses its power does, and starts another one over the same store.
    pub(crate) fn kill_and_start_again(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
        let store = format!("sqlite://{}", self.shell.path("policy.db").display());
        (self.process, self.url) = serve(&self.dir(), &store);
        self.shell.set("NETPOL_API", &self.url);
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.shell.path("api")
    }

    /// The revision that the API is at.
    pub(crate) fn revision(&self) -> u64 {
        self.shell.netpol("status -o json").exits(0).json()["revision"].as_u64().expect("a number")
    }

    /// Connects a node.
    pub(crate) fn node(&self, name: &str, number: u8, conduct: Conduct) -> Node {
        let token =
            std::fs::read_to_string(self.dir().join("join").join(format!("{name}.token"))).expect("a join token");
        let ca_pem = std::fs::read(self.dir().join("ca.pem")).expect("a CA");
        let config = ClientConfig { api: vec![self.url.clone()], credentials: Credentials::Token(token), ca_pem };
        let key = self.dir().join(format!("{name}.key"));
        let name: NodeName = name.parse().expect("a name");
        let (stop, stopped) = oneshot::channel();
        let waited_for = name.to_string();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = live(&config, &key, name, number, conduct) => {}
                    _ = stopped => {}
                }
            });
        });
        eventually("the node is connected and ready", || {
            let nodes = self.shell.netpol("nodes -o json").exits(0).json();
            let items = nodes["items"].as_array().expect("items");
            items
                .iter()
                .any(|node| node["name"] == waited_for.as_str() && node["connected"] == true && node["ready"] == true)
        });
        Node { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        // It may have ended by itself already, which the test has then seen.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn binary() -> PathBuf {
    let path = Path::new(NETPOL).with_file_name("netpol-api");
    assert!(path.exists(), "{} is missing: run `cargo build -p policy-api` first", path.display());
    path
}

fn serve(dir: &Path, store: &str) -> (Child, String) {
    let mut process = Command::new(binary())
        .args(["serve", "--listen", "127.0.0.1:0", "--heartbeat", "1s", "--underlay", "believed"])
        .args(["--store", store, "--dir"])
        .arg(dir)
        .stderr(Stdio::piped())
        .spawn()
        .expect("netpol-api starts");
    let url = listening(&mut process);
    (process, url)
}

/// Reads the line that says where it listens, and goes on reading so that it never blocks on a full pipe.
fn listening(process: &mut Child) -> String {
    let mut lines = BufReader::new(process.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let mut before = Vec::new();
    for line in lines.by_ref() {
        if let Some(at) = line.find("https://").filter(|_| line.contains("listening on")) {
            let url = line[at..].split_whitespace().next().expect("a URL").to_owned();
            thread::spawn(move || lines.for_each(drop));
            return url;
        }
        before.push(line);
    }
    panic!("netpol-api ended without listening:\n{}", before.join("\n"));
}

async fn live(config: &ClientConfig, key: &Path, name: NodeName, number: u8, conduct: Conduct) {
    let underlay: IpAddr = format!("192.0.2.{number}").parse().expect("an address");
    let identity = prove(config, key, &name, underlay).await;
    let client = Client::new(ClientConfig { credentials: Credentials::Identity(identity), ..config.clone() });
    let client = client.expect("a client");
    let joined = client.join(&name, &Join::at(underlay)).await.expect("the node may join");
    if let Some(app) = conduct.runs() {
        let first = joined.node.slices.slice_v4.address().to_string();
        let address = first.strip_suffix(".0").map(|net| format!("{net}.2")).expect("a /24");
        let claim = Claim {
            app: app.parse().expect("a name"),
            instance: None,
            addresses: vec![address.parse().expect("an address")],
            labels: Default::default(),
        };
        client.claim(&claim).await.expect("the address is the node's");
    }
    // What its instance needs is all that it is told.
    let mut watch = client.watch(Revision(0), None).await.expect("a watch");
    let mut history = joined.history;
    let (mut before, mut cuts) = (Revision(0), Vec::new());
    loop {
        let revision = match watch.next().await.expect("the watch goes on") {
            WatchLine::Snapshot { history: new, .. } => {
                history = new;
                continue;
            }
            WatchLine::Clock { .. } | WatchLine::Changes { .. } => continue,
            WatchLine::SnapshotEnd { revision, .. }
            | WatchLine::Delta { revision, .. }
            | WatchLine::Heartbeat { revision, .. } => revision,
        };
        if let (Conduct::Cutting { flows, .. }, true) = (conduct, before < revision) {
            cuts = vec![Cut { after: before, applied: revision, flows }];
            before = revision;
        }
        let report = Report {
            history: history.clone(),
            applied: revision,
            ready: true,
            rows_used: 1,
            rows_capacity: 100_000,
            detail: None,
            clock: None,
            cuts: cuts.clone(),
        };
        client.report(&name, &report).await.expect("the report is taken");
        if let Conduct::Stuck { .. } = conduct {
            while watch.next().await.is_ok() {}
            return;
        }
    }
}

/// What the node proves itself by: its join token the first time, the key that it registered then from there on.
async fn prove(config: &ClientConfig, key: &Path, name: &NodeName, underlay: IpAddr) -> Arc<Identity> {
    let client = Client::new(config.clone()).expect("a client");
    if let Ok(pem) = std::fs::read_to_string(key) {
        let identity = Identity::of_key(&pem).expect("a key");
        let request = identity.request().expect("a request");
        let certified = client.certify(name, &request).await.expect("the key is known");
        identity.certify(&certified.certificate).expect("a certificate");
        return Arc::new(identity);
    }
    let (identity, _) = client.enrol(name, underlay).await.expect("the node may join");
    std::fs::write(key, identity.key_pem()).expect("written");
    identity
}
