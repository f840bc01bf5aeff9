//! A small neighbourhood, in the kernel and in the model alike: endpoints of this node, instances on two others, the node
//! itself, and a stranger.

use std::{fs::File, net::Ipv4Addr, process::Command};

use agent::{compile::Desired, reconcile::Programmed};
use anyhow::{Context as _, Result, bail};
use common::{
    Address, Identity, Mac, Term,
    conntrack::Epoch,
    event::Charge,
    model::ModelNode,
    placement::{Endpoint, Placement},
    settings::{DEFAULT_MARK, Lifetimes, Quotas, Settings},
};

use super::Lab;

/// Endpoints of this node: app number and address.
pub const LOCALS: [(u32, Ipv4Addr); 3] =
    [(256, Ipv4Addr::new(10, 255, 1, 1)), (257, Ipv4Addr::new(10, 255, 1, 2)), (258, Ipv4Addr::new(10, 255, 1, 3))];
/// Other nodes.
pub const NODES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(192, 0, 2, 3)];
/// Instances on other nodes: node, app number and address.
pub const REMOTES: [(usize, u32, Ipv4Addr); 3] = [
    (0, 257, Ipv4Addr::new(10, 255, 2, 1)),
    (0, 258, Ipv4Addr::new(10, 255, 2, 2)),
    (1, 259, Ipv4Addr::new(10, 255, 3, 1)),
];
/// Nobody's underlay address.
pub const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 66);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The identity with this number.
pub fn identity(number: u32) -> Identity {
    Identity::new(number).unwrap_or(Identity::UNKNOWN)
}

/// The neighbourhood in a lab.
pub struct Scene {
    pub model: ModelNode,
    pub ifindexes: [u32; 3],
    programmed: Programmed,
    /// The network namespace of its interfaces.
    netns: File,
}

impl Scene {
    /// Settings with quotas so small that a test meets them.
    pub fn settings() -> Settings {
        Settings {
            underlay: HOST.into(),
            seed: 0x5eed,
            overlay_ifindex: 1,
            mark: DEFAULT_MARK,
            overlay_port: 4789,
            events: 3,
            lifetimes: Lifetimes::default(),
            quotas: Quotas { unanswered: 5, answered: 5 },
        }
    }

    /// Sets the neighbourhood up on both sides.
    pub fn set(lab: &mut Lab, settings: Settings) -> Result<Self> {
        let mut model = ModelNode::new(settings, usize::MAX);
        let ifindexes = make_interfaces()?;
        for (i, (app, address)) in LOCALS.into_iter().enumerate() {
            let endpoint = Self::endpoint(app, address);
            model.endpoints.insert(ifindexes[i], endpoint);
            model.placements.insert(address.into(), Placement::local(ifindexes[i], &endpoint));
        }
        for (node, app, address) in REMOTES {
            model.placements.insert(address.into(), Placement::remote(NODES[node].into(), identity(app)));
        }
        model.placements.insert(HOST.into(), Placement::HOST);
        model.nodes.extend(NODES.map(Address::from));
        for (ifindex, endpoint) in &model.endpoints {
            lab.datapath.endpoints.put(ifindex, endpoint)?;
        }
        for node in &model.nodes {
            lab.datapath.nodes.put(node, &1)?;
        }
        for (address, placement) in &model.placements {
            model.charges.borrow_mut().insert(*address, Charge::default());
            lab.datapath.charges.put(address, &Charge::default())?;
            lab.datapath.placements.put(address, placement)?;
        }
        let netns = File::open("/proc/thread-self/ns/net")?;
        Ok(Self { model, ifindexes, programmed: Programmed::default(), netns })
    }

    /// Brings the calling thread to where the scene's interfaces are, which test runs name.
    pub fn enter(&self) -> Result<()> {
        Ok(nix::sched::setns(&self.netns, nix::sched::CloneFlags::CLONE_NEWNET)?)
    }

    fn endpoint(app: u32, address: Ipv4Addr) -> Endpoint {
        Endpoint::new(address.into(), Address::NONE, identity(app), app * 7, Self::mac(address))
    }

    /// The MAC address of an instance.
    pub fn mac(address: Ipv4Addr) -> Mac {
        let [a, b, c, d] = address.octets();
        Mac([2, 0, a, b, c, d])
    }

    /// Puts rules in force on both sides, in the kernel through the agent's own reconciliation.
    pub fn set_terms(&mut self, lab: &mut Lab, terms: Vec<Term>) -> Result<()> {
        let desired = Desired::of_terms(terms.iter().copied());
        self.program(lab, &desired)?;
        self.model.set_terms(terms);
        self.model.epoch.set(Epoch(lab.datapath.epoch.read().0));
        Ok(())
    }

    /// Puts compiled rows in force in the kernel alone.
    pub fn program(&mut self, lab: &mut Lab, desired: &Desired) -> Result<()> {
        let rows = Desired { placements: Default::default(), nodes: Default::default(), ..desired.clone() };
        let outcome = self.programmed.reconcile(&mut lab.datapath, &rows, true);
        if !outcome.is_complete() {
            bail!("rows do not fit: {:?}", outcome.failures);
        }
        Ok(())
    }

    /// Forgets all flows on both sides.
    pub fn forget_flows(&self, lab: &mut Lab) -> Result<()> {
        lab.datapath.forget_flows()?;
        self.model.flows.borrow_mut().clear();
        for (address, charge) in self.model.charges.borrow_mut().iter_mut() {
            *charge = Charge::default();
            lab.datapath.charges.put(address, charge)?;
        }
        Ok(())
    }
}

/// Interfaces for the endpoints, in a network namespace of this thread's own.
fn make_interfaces() -> Result<[u32; 3]> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).context("a network namespace of its own")?;
    let mut indexes = [0; 3];
    for (i, index) in indexes.iter_mut().enumerate() {
        let name = format!("lab{i}");
        let made = Command::new("ip")
            .args(["link", "add", &name, "type", "veth", "peer", "name", &format!("peer{i}")])
            .status()?;
        if !made.success() {
            bail!("ip link add {name}");
        }
        *index = nix::net::if_::if_nametoindex(name.as_str())?;
    }
    Ok(indexes)
}
