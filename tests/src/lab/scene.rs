//! A small neighbourhood, in the kernel and in the model alike: endpoints of this node, instances on two others, the node
//! itself, and a stranger.

use std::{
    collections::HashSet,
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::Command,
};

use agent::{compile::Desired, reconcile::Programmed};
use anyhow::{Context as _, Result, bail};
use common::{
    Address, Identity, Mac, Party, RuleId, Term,
    event::{Charge, REPORT_DROPS, REPORT_FLOWS, Usage},
    model::ModelNode,
    placement::{Endpoint, Placement, Standing},
    settings::{DEFAULT_MARK, Lifetimes, Quotas, REFUSE, Settings},
};

use super::Lab;

/// Endpoints of this node: app number and IPv4 address; each has an IPv6 address too ([`v6_of`]).
pub const LOCALS: [(u32, Ipv4Addr); 3] =
    [(256, Ipv4Addr::new(10, 255, 1, 1)), (257, Ipv4Addr::new(10, 255, 1, 2)), (258, Ipv4Addr::new(10, 255, 1, 3))];
/// Other nodes.
pub const NODES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(192, 0, 2, 3)];
/// Instances on other nodes: node, app number and IPv4 address.
pub const REMOTES: [(usize, u32, Ipv4Addr); 3] = [
    (0, 257, Ipv4Addr::new(10, 255, 2, 1)),
    (0, 258, Ipv4Addr::new(10, 255, 2, 2)),
    (1, 259, Ipv4Addr::new(10, 255, 3, 1)),
];
/// Who is in which group: app number and group number.
const MEMBERS: [(u32, u32); 4] = [(256, 1), (257, 1), (257, 2), (259, 2)];
/// Nobody's underlay address.
pub const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 66);
pub const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// What the overlay takes in one packet.
pub const MTU: u32 = 1_450;

/// The identity with this number.
pub fn identity(number: u32) -> Identity {
    Identity::new(number).unwrap_or(Identity::UNKNOWN)
}

/// The group with this number.
pub fn group(number: u32) -> Party {
    Party::group(number).unwrap_or(Party::ANY)
}

/// The IPv6 address of whoever has this IPv4 address.
pub fn v6_of(v4: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = v4.octets();
    Ipv6Addr::from([0xfd, 0x6e, 0, 0, 0, 0, 0, c, 0, 0, 0, 0, 0, a, b, d])
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
            switches: REPORT_FLOWS | REPORT_DROPS | REFUSE,
            mtu: MTU,
            // A test tells a packet's fate by its event.
            drop_reports: u32::MAX,
            uplink_ifindex: 1,
            lifetimes: Lifetimes::default(),
            quotas: Quotas { unanswered: 5, answered: 5, fragmented: 4, ..Quotas::default() },
        }
    }

    /// Sets the neighbourhood up on both sides.
    pub fn set(lab: &mut Lab, settings: Settings) -> Result<Self> {
        let mut model = ModelNode::new(settings, usize::MAX);
        let ifindexes = make_interfaces()?;
        model.placements.insert(HOST.into(), Placement::HOST);
        model.placements.insert(v6_of(HOST).into(), Placement::HOST);
        model.nodes.extend(NODES.map(Address::from));
        *model.members.borrow_mut() = members().collect();
        for node in &model.nodes {
            lab.datapath.nodes.put(node, &1)?;
        }
        let netns = File::open("/proc/thread-self/ns/net")?;
        let mut scene = Self { model, ifindexes, programmed: Programmed::default(), netns };
        for i in 0..LOCALS.len() {
            scene.stand(lab, i, Standing::ORDINARY)?;
        }
        for i in 0..REMOTES.len() {
            scene.stand_remotely(lab, i, Standing::ORDINARY)?;
        }
        for (address, placement) in &scene.model.placements {
            scene.model.charges.borrow_mut().insert(*address, Charge::default());
            lab.datapath.charges.put(address, &Charge::default())?;
            lab.datapath.placements.put(address, placement)?;
        }
        lab.datapath.placements.settle()?;
        Ok(scene)
    }

    /// Puts one of the endpoints into this standing, on both sides.
    pub fn stand(&mut self, lab: &mut Lab, i: usize, standing: Standing) -> Result<()> {
        let (app, address) = LOCALS[i];
        let slot = u32::try_from(i + 1)?;
        let endpoint = Endpoint::new(address.into(), v6_of(address).into(), identity(app), app * 7, Self::mac(address));
        let endpoint = endpoint.behind(self.ifindexes[i]).counted_in(slot).standing_as(standing);
        self.model.endpoints.insert(self.ifindexes[i], endpoint);
        lab.datapath.endpoints.put(&endpoint)?;
        self.place(lab, address, *endpoint.placement())
    }

    /// The same for an instance on another node.
    pub fn stand_remotely(&mut self, lab: &mut Lab, i: usize, standing: Standing) -> Result<()> {
        let (node, app, address) = REMOTES[i];
        self.place(lab, address, Placement::remote(NODES[node].into(), identity(app)).standing_as(standing))
    }

    fn place(&mut self, lab: &mut Lab, address: Ipv4Addr, placement: Placement) -> Result<()> {
        for address in [Address::from(address), v6_of(address).into()] {
            self.model.placements.insert(address, placement);
            lab.datapath.placements.put(&address, &placement)?;
        }
        Ok(())
    }

    /// Brings the calling thread to where the scene's interfaces are, which test runs name.
    pub fn enter(&self) -> Result<()> {
        Ok(nix::sched::setns(&self.netns, nix::sched::CloneFlags::CLONE_NEWNET)?)
    }

    /// The MAC address of an instance.
    pub fn mac(address: impl Into<IpAddr>) -> Mac {
        match address.into() {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Mac([2, 0, a, b, c, d])
            }
            IpAddr::V6(v6) => {
                let [_, _, _, _, _, _, _, c, _, _, _, _, _, a, b, d] = v6.octets();
                Mac([2, 0, a, b, c, d])
            }
        }
    }

    /// Puts rules in force on both sides, in the kernel through the agent's own reconciliation.
    pub fn set_terms(&mut self, lab: &mut Lab, terms: Vec<Term>) -> Result<()> {
        let desired = Desired::of_terms(terms.iter().copied()).with_members(members());
        self.program(lab, &desired)?;
        // A rule that is new, or comes back, begins with nothing to its credit.
        let ids = |terms: &[Term]| terms.iter().map(|term| term.ruling.rule).collect::<HashSet<_>>();
        let (before, now) = (ids(&self.model.terms.borrow()), ids(&terms));
        self.model.usage.borrow_mut().retain(|rule, _| before.contains(rule) && now.contains(rule));
        self.model.set_terms(terms);
        self.model.epoch.set(lab.datapath.epoch.read());
        Ok(())
    }

    /// What each rule was credited with: by the programs, and by the model.
    pub fn usage(&self, lab: &Lab) -> Result<Vec<(RuleId, Usage, Usage)>> {
        let credited = lab.datapath.usage.read()?.into_iter().map(|(rule, usage)| {
            let rule = RuleId(rule);
            (rule, usage, self.model.usage.borrow().get(&rule).copied().unwrap_or_default())
        });
        Ok(credited.collect())
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
        self.model.datagrams.borrow_mut().clear();
        for (address, charge) in self.model.charges.borrow_mut().iter_mut() {
            *charge = Charge::default();
            lab.datapath.charges.put(address, charge)?;
        }
        Ok(())
    }
}

fn members() -> impl Iterator<Item = (Identity, Party)> {
    MEMBERS.into_iter().map(|(app, number)| (identity(app), group(number)))
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
