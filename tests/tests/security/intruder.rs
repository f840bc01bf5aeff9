//! A program that somebody else put ahead of ours: it lets everything pass, and what comes behind it is never asked.

use anyhow::{Context, Result};
use aya::programs::links::LinkOrder;
use aya::programs::tc::{TcAttachOptions, TcAttachType};
use tests::lab::Yardstick;
use tests::world::namespace::Namespace;

/// Stays attached as long as this value lives.
pub(super) struct Intruder {
    _program: Yardstick,
}

impl Intruder {
    pub(super) fn ahead_of_ours(namespace: &Namespace, interface: &str, side: TcAttachType) -> Result<Self> {
        let mut yardstick = Yardstick::load()?;
        namespace.inside(|| {
            let options = TcAttachOptions::TcxOrder(LinkOrder::first());
            let attached = yardstick.program("empty")?.attach_with_options(interface, side, options);
            attached.map(drop).with_context(|| format!("attach to {interface}"))
        })?;
        Ok(Self { _program: yardstick })
    }
}
