//! The real `netpol-api` as a process of its own, on the store that the bench is about.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use policy_api::client::{Client, ClientConfig, Credentials};

use super::{cluster::Cluster, stage};
use crate::world::binary;

/// What the store is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    File,
    Etcd,
}

pub(super) struct Service {
    directory: PathBuf,
    store: String,
    address: SocketAddr,
    process: Option<Child>,
    // Behind the API, which stops before what it is kept in.
    _cluster: Option<Cluster>,
    pub(super) started_in_ms: f64,
    pub(super) peak_before_restart: Option<f64>,
}

/// Connections of all agents are open at once, at both ends.
pub(super) fn raise_limits() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raise the limit of open files")
}

impl Service {
    /// A store for so many nodes; not served yet.
    pub(super) fn prepare(nodes: usize, engine: Engine) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("netpol-bench-control-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let cluster = match engine {
            Engine::File => None,
            Engine::Etcd => Some(Cluster::start(&directory)?),
        };
        let file = || format!("sqlite://{}", directory.join("policy.db").display());
        let store = cluster.as_ref().map_or_else(file, Cluster::store);
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = free.local_addr()?;
        let mut command = Command::new(binary("netpol-api")?);
        command.arg("init").arg("--dir").arg(&directory).args(["--store", &store, "--overlay-v4", "10.128.0.0/12"]);
        for number in 0..nodes {
            command.arg("--node").arg(stage::node(number).to_string());
        }
        let status = command.stdout(Stdio::null()).status().context("run netpol-api init")?;
        ensure!(status.success(), "netpol-api init: {status}");
        Ok(Self {
            directory,
            store,
            address,
            process: None,
            _cluster: cluster,
            started_in_ms: 0.0,
            peak_before_restart: None,
        })
    }

    pub(super) async fn start(&mut self) -> Result<()> {
        let started = Instant::now();
        let mut command = Command::new(binary("netpol-api")?);
        command.arg("serve").arg("--dir").arg(&self.directory).args(["--store", &self.store]);
        // The limit of requests is not what is measured: all operators are one caller.
        // Simulated nodes are at no address.
        command.args(["--underlay", "believed"]);
        command.args(["--listen", &self.address.to_string(), "--requests-per-second", "1000000"]);
        let log = fs::File::create(self.directory.join("api.log"))?;
        self.process = Some(command.stderr(log).spawn().context("start netpol-api")?);
        let operator = self.operator()?;
        while operator.status().await.is_err() {
            ensure!(started.elapsed() < Duration::from_secs(60), "netpol-api does not answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.started_in_ms = started.elapsed().as_secs_f64() * 1e3;
        Ok(())
    }

    pub(super) async fn restart(&mut self) -> Result<()> {
        self.peak_before_restart = Some(self.peak_mib()?);
        self.stop()?;
        self.start().await
    }

    pub(super) fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        kill(Pid::from_raw(i32::try_from(process.id())?), Signal::SIGTERM)?;
        process.wait()?;
        Ok(())
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Where a file of the API's directory is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn read(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.directory.join(name)).with_context(|| name.to_owned())
    }

    pub(super) fn ca(&self) -> Result<Vec<u8>> {
        Ok(self.read("ca.pem")?.into_bytes())
    }

    pub(super) fn node_token(&self, number: usize) -> Result<String> {
        Ok(self.read(&format!("join/{}.token", stage::node(number)))?.trim().to_owned())
    }

    pub(super) fn operator(&self) -> Result<Client> {
        self.client(Credentials::Token(self.read("operator.token")?))
    }

    /// A client with connections of its own.
    pub(super) fn client(&self, credentials: Credentials) -> Result<Client> {
        let ca_pem = self.ca()?;
        Ok(Client::new(ClientConfig { api: vec![self.url()], credentials, ca_pem })?)
    }

    /// The same without the client's words, for whoever counts bytes; by a key and a certificate (PEM), or nobody.
    pub(super) fn https(&self, proof: Option<&str>) -> Result<reqwest::Client> {
        let ca = reqwest::Certificate::from_pem(self.read("ca.pem")?.as_bytes())?;
        // Whoever was first has installed the same one.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder().tls_certs_only([ca]).http1_only().tcp_nodelay(true);
        if let Some(pem) = proof {
            builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes())?);
        }
        Ok(builder.build()?)
    }

    /// Transactions of the store so far.
    pub(super) async fn commits(&self) -> Result<u64> {
        let text = self.metrics().await?;
        let line = text.lines().find_map(|line| line.strip_prefix("netpol_store_commits_total "));
        Ok(line.context("the number of commits")?.parse()?)
    }

    /// Requests that were answered so far.
    pub(super) async fn answers(&self) -> Result<u64> {
        let text = self.metrics().await?;
        let counts = text.lines().filter(|line| line.starts_with("netpol_api_answers_total{"));
        counts.map(|line| line.rsplit(' ').next().context("a count")?.parse::<u64>().context("a count")).sum()
    }

    async fn metrics(&self) -> Result<String> {
        let token = self.read("operator.token")?;
        let request = self.https(None)?.get(format!("{}/metrics", self.url())).bearer_auth(token.trim());
        Ok(request.send().await?.error_for_status()?.text().await?)
    }

    fn process(&self, file: &str) -> Result<String> {
        let process = self.process.as_ref().context("netpol-api runs")?;
        Ok(fs::read_to_string(format!("/proc/{}/{file}", process.id()))?)
    }

    /// The most memory that the process had.
    pub(super) fn peak_mib(&self) -> Result<f64> {
        let status = self.process("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        const TICKS_A_SECOND: f64 = 100.0;
        let stat = self.process("stat")?;
        let fields: Vec<&str> = stat.rsplit(") ").next().context("stat")?.split(' ').collect();
        let ticks = |place: usize| -> Result<f64> { Ok(fields.get(place).context("a field")?.parse()?) };
        Ok((ticks(11)? + ticks(12)?) / TICKS_A_SECOND)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // What is left is the sandbox's, which goes too.
        let _stopped = self.stop();
        let _removed = fs::remove_dir_all(&self.directory);
    }
}
