//! Who plays: three apps on two nodes.

use anyhow::Result;

use crate::world::instance::Instance;
use crate::world::{Plan, World};

const NODES: [&str; 2] = ["n1", "n2"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Of `appA`, on the first node.
    A,
    /// Of `appB`, across the underlay on the second node.
    B,
    /// Of `appB` as well, on one node with `A`.
    NearB,
    /// Of `appC`, on the first node.
    C,
}

#[derive(Debug)]
pub struct Cast {
    a: Instance,
    b: Instance,
    near_b: Instance,
    c: Instance,
}

impl Cast {
    pub fn plan() -> Plan {
        Plan::nodes(&NODES)
    }

    pub fn attach(world: &mut World) -> Result<Self> {
        let [first, second] = NODES;
        Ok(Self {
            a: world.run_instance("appA", first)?,
            b: world.run_instance("appB", second)?,
            near_b: world.run_instance("appB", first)?,
            c: world.run_instance("appC", first)?,
        })
    }

    pub fn all(&self) -> [&Instance; 4] {
        [&self.a, &self.b, &self.near_b, &self.c]
    }

    pub fn instance(&self, who: Who) -> &Instance {
        match who {
            Who::A => &self.a,
            Who::B => &self.b,
            Who::NearB => &self.near_b,
            Who::C => &self.c,
        }
    }
}
