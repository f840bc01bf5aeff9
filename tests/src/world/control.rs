//! The control host: the real `netpol-api` on an embedded SQLite file.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::binary;
use super::daemon::Daemon;
use super::namespace::Namespace;
use super::netpol::Invocation;

const PORT: u16 = 7443;
const SECOND_PORT: u16 = 7444;

#[derive(Debug)]
pub struct Control {
    pub namespace: Namespace,
    address: Ipv4Addr,
    directory: PathBuf,
    logs: PathBuf,
    flags: Vec<String>,
    api: Option<Daemon>,
    /// A cluster of one member and a second API on it, where the store is shared.
    shared: Option<Shared>,
}

#[derive(Debug)]
struct Shared {
    // The API stops before what it is kept in.
    second: Option<Daemon>,
    _etcd: Daemon,
}

const ETCD: &str = "etcd://127.0.0.1:2379/netpol";

impl Control {
    /// Writes the CA, the operator's token and one join token per node.
    pub fn init(namespace: Namespace, address: Ipv4Addr, scratch: &Path, nodes: &[String]) -> Result<Self> {
        let (directory, logs) = (scratch.join("api"), scratch.to_owned());
        let control = Self { namespace, address, directory, logs, flags: Vec::new(), api: None, shared: None };
        control.prepare(nodes)?;
        Ok(control)
    }

    fn prepare(&self, nodes: &[String]) -> Result<()> {
        let mut command = self.namespace.command(binary("netpol-api")?);
        command.arg("init").arg("--dir").arg(&self.directory).arg("--store").arg(self.store());
        command.arg("--san").arg(self.address.to_string());
        for node in nodes {
            command.arg("--node").arg(node);
        }
        Invocation::run(&mut command, "netpol-api init".into())?.expect_exit(0).map(drop)
    }

    /// Keeps the store in etcd from now on, for these nodes, so that two APIs can serve it.
    pub fn share(&mut self, nodes: &[String]) -> Result<()> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin/etcd");
        let mut command = self.namespace.command(program);
        command.arg("--data-dir").arg(self.directory.join("etcd"));
        let mut etcd = Daemon::start("etcd", &mut command, &self.logs)?;
        let namespace = &self.namespace;
        etcd.await_ready(|| namespace.inside(|| Ok(std::net::TcpStream::connect(("127.0.0.1", 2379)).is_ok())))?;
        self.shared = Some(Shared { second: None, _etcd: etcd });
        self.prepare(nodes)
    }

    /// Starts the other API on the same store.
    pub fn start_second(&mut self) -> Result<()> {
        let daemon = self.serve("netpol-api-2", SECOND_PORT)?;
        match &mut self.shared {
            Some(shared) => shared.second = Some(daemon),
            None => bail!("the store is served by one API alone"),
        }
        Ok(())
    }

    pub fn kill_second(&mut self) -> Result<()> {
        match self.shared.as_mut().and_then(|shared| shared.second.take()) {
            Some(mut daemon) => daemon.kill(),
            None => bail!("the other API is not running"),
        }
    }

    pub fn second_url(&self) -> String {
        format!("https://{}:{SECOND_PORT}", self.address)
    }

    /// Has an API that starts from now on get these flags besides the needful.
    pub fn set_flags(&mut self, flags: Vec<String>) {
        self.flags = flags;
    }

    /// Has an API that starts from now on ask for no proof of where nodes are.
    pub fn believe_nodes(&mut self) {
        self.flags.extend(["--underlay", "believed"].map(str::to_owned));
    }

    /// Starts the API, for the first time or again.
    pub fn start(&mut self) -> Result<()> {
        self.api = Some(self.serve("netpol-api", PORT)?);
        Ok(())
    }

    fn serve(&self, name: &str, port: u16) -> Result<Daemon> {
        let mut command = self.namespace.command(binary("netpol-api")?);
        command.arg("serve").arg("--listen").arg(format!("{}:{port}", self.address));
        command.arg("--store").arg(self.store()).arg("--dir").arg(&self.directory).args(&self.flags);
        let mut daemon = Daemon::start(name, &mut command, &self.logs)?;
        let (address, namespace) = (self.address, &self.namespace);
        daemon.await_ready(|| namespace.inside(move || Ok(std::net::TcpStream::connect((address, port)).is_ok())))?;
        Ok(daemon)
    }

    pub fn kill(&mut self) -> Result<()> {
        match self.api.take() {
            Some(mut daemon) => daemon.kill(),
            None => bail!("the API is not running"),
        }
    }

    /// Runs another command of `netpol-api` on the store.
    pub fn on_store(&self, command: &str, more: &[&str]) -> Result<Invocation> {
        let mut line = self.namespace.command(binary("netpol-api")?);
        line.arg(command).arg("--store").arg(self.store()).args(more);
        Invocation::run(&mut line, format!("netpol-api {command} {}", more.join(" ")))
    }

    pub fn url(&self) -> String {
        format!("https://{}:{PORT}", self.address)
    }

    pub fn ca(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    pub fn operator_token(&self) -> PathBuf {
        self.directory.join("operator.token")
    }

    pub fn join_token(&self, node: &str) -> PathBuf {
        self.directory.join("join").join(format!("{node}.token"))
    }

    pub fn log_tail(&self) -> String {
        self.api.as_ref().map(Daemon::log_tail).unwrap_or_default()
    }

    fn store(&self) -> String {
        match self.shared {
            Some(_) => ETCD.to_owned(),
            None => format!("sqlite://{}", self.directory.join("policy.db").display()),
        }
    }
}
