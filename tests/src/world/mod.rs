//! A world to play scenarios in: control host, nodes and instances as network namespaces, the real binaries in them.

pub mod agent_socket;
pub mod capture;
pub mod control;
pub mod daemon;
pub mod fabric;
pub mod flow;
pub mod http;
pub mod instance;
pub mod namespace;
pub mod netpol;
pub mod node;
pub mod patience;
pub mod pins;
pub mod probe;
pub mod route;
mod scratch;
pub mod sctp;
pub mod stage;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};

use self::control::Control;
use self::fabric::Fabric;
use self::instance::{Family, Instance};
use self::namespace::Namespace;
use self::netpol::Invocation;
use self::node::Node;
use self::patience::{PATIENCE, await_that};
use self::route::Way;
use self::scratch::Scratch;

const CONTROL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);
/// Where a machine is that is no node.
pub const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);

static WORLDS: AtomicU32 = AtomicU32::new(0);

#[derive(Debug)]
pub struct World {
    name: String,
    // Daemons stop before the namespaces they live in go, and those before the fabric.
    pub nodes: Vec<Node>,
    pub control: Control,
    fabric: Fabric,
    /// How two nodes reach each other, if not by the fabric.
    pub way: Option<Way>,
    agent_flags: Vec<String>,
    made: u32,
    _scratch: Scratch,
}

/// What a world shall consist of.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub nodes: Vec<String>,
    /// Flags that every agent gets besides the needful, such as `--rows`.
    pub agent_flags: Vec<String>,
    /// Flags that the API gets besides the needful.
    pub api_flags: Vec<String>,
    /// What the nodes speak to each other.
    pub underlay: Family,
    /// Has two nodes reach each other over routers, by a link of this MTU.
    pub narrow: Option<u32>,
}

impl Plan {
    pub fn nodes(names: &[&str]) -> Self {
        Self { nodes: names.iter().map(|&name| name.to_owned()).collect(), ..Self::default() }
    }
}

impl World {
    /// Makes the machines, starts the API and one agent per node; all are ready on return.
    pub fn start(plan: Plan) -> Result<Self> {
        let mut world = Self::make(plan)?;
        world.control.start()?;
        world.start_agents()?;
        Ok(world)
    }

    pub fn start_agents(&mut self) -> Result<()> {
        (0..self.nodes.len()).try_for_each(|index| self.start_agent(index))
    }

    /// Makes the machines only; nothing runs on them yet.
    pub fn make(plan: Plan) -> Result<Self> {
        ensure!(
            std::env::var_os("NETPOL_SANDBOX").is_some(),
            "this makes networks, pins and daemons, so it runs in a sandbox only: `cargo xtask test [FILTER]`"
        );
        let name = format!("np{}w{}", std::process::id(), WORLDS.fetch_add(1, Ordering::Relaxed));
        let scratch = Scratch::create(&name)?;
        let fabric = Fabric::create(&format!("{name}-fabric"))?;
        let machine = fabric.machine(&format!("{name}-control"), "p-control", CONTROL)?;
        let mut control = Control::init(machine, CONTROL, scratch.path(), &plan.nodes)?;
        control.set_flags(plan.api_flags);
        fabric::add_ipv6(&control.namespace, CONTROL)?;
        if plan.narrow.is_some() {
            // It stands beside the way by which its nodes reach each other.
            control.believe_nodes();
        }
        let mut nodes = Vec::new();
        for (number, node) in (1..).zip(&plan.nodes) {
            let underlay = Ipv4Addr::new(192, 0, 2, number);
            let machine = fabric.machine(&format!("{name}-{node}"), &format!("p-{node}"), underlay)?;
            let mut made = Node::new(&name, node, machine, underlay, &control, scratch.path());
            if plan.underlay == Family::V6 {
                made.tunnel_from(fabric::add_ipv6(&made.namespace, underlay)?.into());
            }
            nodes.push(made);
        }
        let way = plan.narrow.map(|mtu| narrow_way(&mut nodes, plan.underlay, mtu)).transpose()?;
        Ok(Self { name, nodes, control, fabric, way, agent_flags: plan.agent_flags, made: 0, _scratch: scratch })
    }

    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name == name).with_context(|| format!("no node {name} in this world"))
    }

    pub fn node_mut(&mut self, name: &str) -> Result<&mut Node> {
        self.nodes.iter_mut().find(|node| node.name == name).with_context(|| format!("no node {name} in this world"))
    }

    /// Starts the agent of a node again, with the flags it had.
    pub fn restart_agent(&mut self, name: &str) -> Result<()> {
        let index = self.nodes.iter().position(|node| node.name == name);
        self.start_agent(index.with_context(|| format!("no node {name} in this world"))?)
    }

    /// Waits until every agent follows the API: `--wait` waits for those that do.
    pub fn await_connected(&self) -> Result<()> {
        await_that("the agents to follow the API", PATIENCE, || {
            let connected = |node: &Node| Ok(node.status()?["connected"] == true);
            self.nodes.iter().map(connected).try_fold(true, |all, one: Result<bool>| Ok(all && one?))
        })
    }

    /// Has agents that start from now on get these flags instead of the plan's.
    pub fn set_agent_flags(&mut self, flags: &[&str]) {
        self.agent_flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    }

    fn start_agent(&mut self, index: usize) -> Result<()> {
        self.nodes[index].start_agent(&self.agent_flags)
    }

    /// A machine on the underlay that is no node.
    pub fn stranger(&self) -> Result<Namespace> {
        self.fabric.machine(&format!("{}-stranger", self.name), "p-stranger", STRANGER)
    }

    /// Runs the operator's `netpol` on the control host.
    pub fn netpol(&self, arguments: &[&str]) -> Result<Invocation> {
        let mut command = self.control.namespace.command(binary("netpol")?);
        command.args(arguments).env("NETPOL_API", self.control.url());
        command.env("NETPOL_TOKEN_FILE", self.control.operator_token()).env("NETPOL_CA", self.control.ca());
        Invocation::run(&mut command, format!("netpol {}", arguments.join(" ")))
    }

    /// Runs `netpol` on a node, where its agent's socket is.
    pub fn netpol_on(&self, node: &str, arguments: &[&str]) -> Result<Invocation> {
        let node = self.node(node)?;
        let mut command = node.namespace.command(binary("netpol")?);
        command.args(arguments).env("NETPOL_SOCKET", &node.socket);
        Invocation::run(&mut command, format!("netpol {}", arguments.join(" ")))
    }

    /// Starts an instance: a fresh namespace, attached by `netpol attach` on the node.
    pub fn run_instance(&mut self, app: &str, node: &str) -> Result<Instance> {
        let namespace = self.namespace()?;
        self.attach(namespace, app, node)
    }

    /// A namespace that is nobody's yet.
    pub fn namespace(&mut self) -> Result<Namespace> {
        self.made += 1;
        Namespace::create(&format!("{}-i{}", self.name, self.made))
    }

    /// Makes a namespace an instance.
    pub fn attach(&self, namespace: Namespace, app: &str, node: &str) -> Result<Instance> {
        let path = namespace.path().display().to_string();
        let arguments = ["-o", "json", "attach", "--app", app, "--netns", &path];
        let invocation = self.netpol_on(node, &arguments)?.expect_exit(0)?;
        let attached = serde_json::from_value(invocation.json()?).with_context(|| invocation.to_string())?;
        Ok(Instance { app: app.to_owned(), node: node.to_owned(), attached, namespace })
    }

    /// Takes the instance's endpoint away and its namespace with it.
    pub fn stop_instance(&self, instance: Instance) -> Result<()> {
        let path = instance.namespace.path().display().to_string();
        self.netpol_on(&instance.node, &["detach", "--netns", &path])?.expect_exit(0).map(drop)
    }

    /// What every daemon said last.
    pub fn logs(&self) -> String {
        let agents = self.nodes.iter().map(Node::log_tail);
        std::iter::once(self.control.log_tail()).chain(agents).collect()
    }
}

/// Has the nodes tunnel over routers.
fn narrow_way(nodes: &mut [Node], family: Family, mtu: u32) -> Result<Way> {
    let [first, second] = nodes else { bail!("a way has two ends, and {} nodes were asked for", nodes.len()) };
    let way = Way::between([&first.namespace, &second.namespace], mtu)?;
    for (end, node) in (0..).zip([first, second]) {
        node.tunnel_from(route::address(end, family));
    }
    Ok(way)
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

/// Plays a scenario in a world of its own; when it fails, the daemons' last words are printed with the reason.
pub fn scenario(plan: Plan, play: impl FnOnce(&mut World) -> Result<()>) {
    let mut world = World::start(plan).unwrap_or_else(|error| panic!("the world did not come up: {error:?}"));
    if let Err(error) = play(&mut world) {
        panic!("{error:?}");
    }
}

/// A binary of this build: tests lie in `deps/` below it, the demo beside it.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    let found = own.ancestors().skip(1).take(2).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not beside {}; `cargo xtask test` builds it", own.display()))
}
