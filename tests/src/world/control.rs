//! The control host: the real `netpol-api` on an embedded SQLite file.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::binary;
use super::daemon::Daemon;
use super::namespace::Namespace;
use super::netpol::Invocation;

const PORT: u16 = 7443;

#[derive(Debug)]
pub struct Control {
    pub namespace: Namespace,
    address: Ipv4Addr,
    directory: PathBuf,
    logs: PathBuf,
    flags: Vec<String>,
    api: Option<Daemon>,
}

impl Control {
    /// Writes the CA, the operator's token and one join token per node.
    pub fn init(namespace: Namespace, address: Ipv4Addr, scratch: &Path, nodes: &[String]) -> Result<Self> {
        let (directory, logs) = (scratch.join("api"), scratch.to_owned());
        let control = Self { namespace, address, directory, logs, flags: Vec::new(), api: None };
        let mut command = control.namespace.command(binary("netpol-api")?);
        command.arg("init").arg("--dir").arg(&control.directory).arg("--store").arg(control.store());
        command.arg("--san").arg(address.to_string());
        for node in nodes {
            command.arg("--node").arg(node);
        }
        Invocation::run(&mut command, "netpol-api init".into())?.expect_exit(0)?;
        Ok(control)
    }

    /// Has an API that starts from now on get these flags besides the needful.
    pub fn set_flags(&mut self, flags: Vec<String>) {
        self.flags = flags;
    }

    /// Starts the API, for the first time or again.
    pub fn start(&mut self) -> Result<()> {
        let mut command = self.namespace.command(binary("netpol-api")?);
        command.arg("serve").arg("--listen").arg(format!("{}:{PORT}", self.address));
        command.arg("--store").arg(self.store()).arg("--dir").arg(&self.directory).args(&self.flags);
        let mut daemon = Daemon::start("netpol-api", &mut command, &self.logs)?;
        let (address, namespace) = (self.address, &self.namespace);
        daemon.await_ready(|| namespace.inside(move || Ok(std::net::TcpStream::connect((address, PORT)).is_ok())))?;
        self.api = Some(daemon);
        Ok(())
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
        format!("sqlite://{}", self.directory.join("policy.db").display())
    }
}
