//! Two nodes under load: what is allowed runs all the time, and what is not tries all the time.

use anyhow::{Result, ensure};

use super::World;
use super::flow::Flow;
use super::instance::Instance;
use super::probe::Transport;

/// Of the first allowed port.
pub const PORT: u16 = 8080;
/// The nodes that a stage needs.
pub const NODES: [&str; 2] = ["n1", "n2"];

/// Messages that have to arrive before the next thing is broken: about a fifth of a second of traffic.
const A_WHILE: u64 = 200;

/// Instances of three apps on two nodes.
#[derive(Debug)]
pub struct Stage {
    pub a: Instance,
    pub b: Instance,
    pub near_b: Instance,
    pub c: Instance,
}

impl Stage {
    /// `appA` may reach ports 8080 to 8089 of `appB`, by TCP and UDP; `appC` may not.
    pub fn set(world: &mut World) -> Result<Self> {
        let stage = Self {
            a: world.run_instance("appA", "n1")?,
            b: world.run_instance("appB", "n2")?,
            near_b: world.run_instance("appB", "n1")?,
            c: world.run_instance("appC", "n1")?,
        };
        for protocol in ["tcp", "udp"] {
            let line = ["allow", "appA", "appB", "--port", "8080-8089", "--protocol", protocol, "--wait"];
            world.netpol(&line)?.expect_exit(0)?;
        }
        Ok(stage)
    }

    /// Allowed flows of every kind, and one that is not.
    pub fn open_traffic(&self) -> Result<Traffic> {
        let allowed = vec![
            Flow::open(Transport::Udp, &self.a, &self.b, PORT)?,
            Flow::open(Transport::Udp, &self.a, &self.near_b, PORT)?,
            Flow::open(Transport::Tcp, &self.a, &self.b, PORT)?,
        ];
        let denied = vec![
            Flow::start(Transport::Udp, &self.c, &self.b, PORT + 1)?,
            Flow::start(Transport::Udp, &self.c, &self.near_b, PORT + 1)?,
        ];
        Ok(Traffic { allowed, denied })
    }
}

/// Live flows that have to go on, and such that must never arrive.
#[derive(Debug)]
pub struct Traffic {
    allowed: Vec<Flow>,
    denied: Vec<Flow>,
}

impl Traffic {
    /// Waits until every allowed flow has delivered for a while longer.
    pub fn await_a_while(&self) -> Result<()> {
        self.allowed.iter().try_for_each(|flow| flow.await_deliveries(A_WHILE))
    }

    /// Every allowed message arrived, no denied one did.
    pub fn finish(self) -> Result<()> {
        self.finish_but(0)
    }

    /// No denied message arrived, and of each allowed flow's each way all but at most so many.
    pub fn finish_but(self, most_lost: u64) -> Result<()> {
        for flow in self.allowed {
            let totals = flow.finish();
            for way in [totals.forth, totals.back] {
                ensure!(way.delivered + most_lost >= way.sent, "allowed messages were lost: {totals:?}");
            }
        }
        for flow in self.denied {
            let totals = flow.finish();
            ensure!(totals.forth.sent > 0, "the denied flow never tried: {totals:?}");
            ensure!(totals.forth.delivered == 0, "denied messages passed: {totals:?}");
        }
        Ok(())
    }
}
