//! Shapes of policy and neighbourhood: the same few rules that the measured packets need, and others around them.

use std::net::Ipv4Addr;

use agent::compile::Desired;
use anyhow::Result;
use common::{Action, Layer, Party, PortRange, Protocol, RuleId, Ruling, Term, placement::Placement};
use fastrand::Rng;

use super::way::SERVER_PORT;
use crate::lab::{LOCALS, Lab, REMOTES, identity};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) rules: usize,
    form: Form,
    endpoints: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Ten single ports for each pair of apps.
    Ports,
    /// Ranges of one pair: that of the measured packets.
    Ranges,
}

const FEW: u32 = 5_000;
const MANY: u32 = 100_000;

pub(super) const SHAPES: [Shape; 5] = [
    Shape { name: "1 rule", rules: 1, form: Form::Ports, endpoints: FEW },
    Shape { name: "1 rule, 100,000 endpoints", rules: 1, form: Form::Ports, endpoints: MANY },
    Shape { name: "ports of 1,000 pairs", rules: 10_000, form: Form::Ports, endpoints: FEW },
    Shape { name: "ports of 100,000 pairs", rules: 1_000_000, form: Form::Ports, endpoints: MANY },
    Shape { name: "ranges of one pair", rules: 10_000, form: Form::Ranges, endpoints: FEW },
];

impl Shape {
    pub(super) fn desired(self) -> Desired {
        let mut rng = Rng::with_seed(7);
        let others = (1..self.rules).map(|i| {
            let rule = u32::try_from(i + 3).unwrap_or(u32::MAX);
            match self.form {
                Form::Ports => {
                    allow(300 + rule / 10, LOCALS[0].0, only(10_000 + u16::try_from(i % 10).unwrap_or(0)), rule)
                }
                Form::Ranges => allow(LOCALS[0].0, REMOTES[0].1, range(&mut rng), rule),
            }
        });
        Desired::of_terms(needed().into_iter().chain(others))
    }

    /// Instances on 50 other nodes.
    pub(super) fn fill_neighbourhood(self, lab: &mut Lab) -> Result<()> {
        let placements: Vec<_> = (0..self.endpoints)
            .map(|i| {
                let node = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 51, 100, 1)) + i % 50);
                let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 250, 0, 0)) + i);
                (address.into(), Placement::remote(node.into(), identity(300 + i % 250)))
            })
            .collect();
        lab.datapath.placements.put_all(&placements)?;
        Ok(lab.datapath.placements.settle()?)
    }
}

/// One rule for each way of a packet.
fn needed() -> [Term; 3] {
    let [local, neighbour, remote] = [LOCALS[0].0, LOCALS[1].0, REMOTES[0].1];
    [(local, remote), (remote, local), (local, neighbour)].map(|(from, to)| allow(from, to, only(SERVER_PORT), 1))
}

fn allow(source: u32, destination: u32, ports: PortRange, rule: u32) -> Term {
    Term {
        source: Party::one(identity(source)),
        destination: Party::one(identity(destination)),
        protocol: Protocol::Tcp,
        ports,
        layer: Layer::Enforced,
        ruling: Ruling { action: Action::Allow, rule: RuleId(rule) },
    }
}

fn only(port: u16) -> PortRange {
    PortRange::new(port, port).unwrap_or(PortRange::ALL)
}

/// Any range that leaves the denied port out.
fn range(rng: &mut Rng) -> PortRange {
    loop {
        let (first, length) = (rng.u16(1_024..60_000), rng.u16(1..1_024));
        let is_clear = first > SERVER_PORT + 1 || first + length <= SERVER_PORT;
        if let Some(range) = PortRange::new(first, first + length).filter(|_| is_clear) {
            return range;
        }
    }
}
