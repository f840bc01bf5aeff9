//! A machine that runs the real `netpol-agent`.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::agent_socket::{self, DropCount};
use super::binary;
use super::control::Control;
use super::daemon::Daemon;
use super::http::Proof;
use super::namespace::Namespace;

#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub namespace: Namespace,
    pub underlay: Ipv4Addr,
    tunnel: IpAddr,
    program: &'static str,
    pub socket: PathBuf,
    /// Where this node's programs, links and maps are pinned.
    pub pins: PathBuf,
    arguments: Vec<String>,
    /// Where the agent keeps what survives it.
    state: PathBuf,
    logs: PathBuf,
    agent: Option<Daemon>,
}

/// Drop counts by reason, directions added up.
pub type Drops = BTreeMap<String, u64>;

impl Node {
    /// `world` keeps the paths of worlds apart that run at the same time.
    pub fn new(
        world: &str,
        name: &str,
        namespace: Namespace,
        underlay: Ipv4Addr,
        control: &Control,
        scratch: &Path,
    ) -> Self {
        let socket = PathBuf::from(format!("/run/netpol/{world}-{name}.sock"));
        let pins = PathBuf::from(format!("/sys/fs/bpf/{world}-{name}"));
        let state = scratch.join(name);
        let pairs = [
            ("--api", control.url()),
            ("--node", name.to_owned()),
            ("--token-file", control.join_token(name).display().to_string()),
            ("--ca", control.ca().display().to_string()),
            ("--state-dir", state.display().to_string()),
            ("--socket", socket.display().to_string()),
            ("--bpffs", pins.display().to_string()),
        ];
        let arguments = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        let logs = scratch.to_owned();
        Self {
            name: name.to_owned(),
            namespace,
            underlay,
            tunnel: underlay.into(),
            program: "netpol-agent",
            socket,
            pins,
            arguments,
            state,
            logs,
            agent: None,
        }
    }

    /// Where the agent keeps what survives it.
    pub fn state_directory(&self) -> PathBuf {
        self.logs.join(&self.name)
    }

    /// Has agents that start from now on be of another build, called so.
    pub fn upgrade_to(&mut self, program: &'static str) {
        self.program = program;
    }

    /// Has the overlay's packets come from another address than the machine's first.
    pub fn tunnel_from(&mut self, address: IpAddr) {
        self.tunnel = address;
    }

    /// Starts the agent, for the first time or again, and waits until it enforces.
    pub fn start_agent(&mut self, more: &[String]) -> Result<()> {
        let mut daemon = self.launch_agent(more)?;
        let socket = &self.socket;
        daemon.await_ready(|| Ok(agent_socket::get(socket, "/v1/status")?["ready"] == true))?;
        self.agent = Some(daemon);
        Ok(())
    }

    /// Starts the agent without waiting for anything; who gets it may do with it what he likes.
    pub fn launch_agent(&self, more: &[String]) -> Result<Daemon> {
        let mut command = self.namespace.command(binary(self.program)?);
        command.arg("run").args(&self.arguments).arg("--underlay").arg(self.tunnel.to_string()).args(more);
        Daemon::start(&format!("netpol-agent-{}", self.name), &mut command, &self.logs)
    }

    /// What its agent proves itself by.
    pub fn proof(&self) -> Result<Proof> {
        let read = |file: &str| fs::read_to_string(self.state.join(file)).with_context(|| format!("read the {file}"));
        Ok(Proof(read("key.pem")? + &read("certificate.pem")?))
    }

    /// Stops the agent's process where it is, as a machine that sleeps does.
    pub fn freeze_agent(&self) -> Result<()> {
        self.signal_agent(Signal::SIGSTOP)
    }

    pub fn thaw_agent(&self) -> Result<()> {
        self.signal_agent(Signal::SIGCONT)
    }

    fn signal_agent(&self, signal: Signal) -> Result<()> {
        let Some(agent) = &self.agent else { bail!("the agent of {} is not running", self.name) };
        let pid = i32::try_from(agent.process()).context("a process id fits")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("send {signal} to the agent of {}", self.name))
    }

    /// Kill -9 of the agent.
    pub fn kill_agent(&mut self) -> Result<()> {
        match self.agent.take() {
            Some(mut daemon) => daemon.kill(),
            None => bail!("the agent of {} is not running", self.name),
        }
    }

    /// How many descriptors the agent has open.
    pub fn agent_descriptors(&self) -> Result<usize> {
        let Some(agent) = &self.agent else { bail!("the agent of {} is not running", self.name) };
        Ok(fs::read_dir(format!("/proc/{}/fd", agent.process()))?.count())
    }

    pub fn status(&self) -> Result<serde_json::Value> {
        agent_socket::get(&self.socket, "/v1/status")
    }

    pub fn drops(&self) -> Result<Drops> {
        let mut drops = Drops::new();
        for DropCount { reason, packets, .. } in agent_socket::drops(&self.socket)? {
            *drops.entry(reason).or_default() += packets;
        }
        Ok(drops)
    }

    pub fn log_tail(&self) -> String {
        self.agent.as_ref().map(Daemon::log_tail).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The agent stops first, or it would pin again what goes.
        self.agent = None;
        // What is pinned outlives every process, and holds a node's maps: a suite of worlds would fill the machine. What
        // cannot be removed goes with the sandbox.
        fs::remove_dir_all(&self.pins).unwrap_or_default();
    }
}
