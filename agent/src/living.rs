//! How many flows live by each rule.

use std::{collections::HashMap, sync::Arc};

use common::conntrack::{Record, Word};
use tracing::warn;

use crate::datapath::Values;

/// Flows are counted each so many times that somebody asks: all of them have to be read.
const ASKED_PER_COUNT: u32 = 5;

/// The flows that began on this node, each so at one node only: not what has ended or was cut.
pub struct Living {
    flows: Arc<Values<Record>>,
    by_rule: HashMap<u32, u64>,
    asked: u32,
}

impl Living {
    pub fn new(flows: Values<Record>) -> Self {
        Self { flows: Arc::new(flows), by_rule: HashMap::new(), asked: 0 }
    }

    /// Counts again, if it is time.
    pub async fn count_now_and_then(&mut self) {
        let is_time = self.asked.is_multiple_of(ASKED_PER_COUNT);
        self.asked = self.asked.wrapping_add(1);
        if !is_time {
            return;
        }
        let flows = self.flows.clone();
        match tokio::task::spawn_blocking(move || count(&flows)).await {
            Ok(Ok(counted)) => self.by_rule = counted,
            Ok(Err(error)) => warn!(%error, "live flows are not counted"),
            Err(error) => warn!(%error, "live flows are not counted"),
        }
    }

    /// Those that lived by this rule when they were counted last.
    pub fn by(&self, rule: u32) -> u64 {
        self.by_rule.get(&rule).copied().unwrap_or(0)
    }
}

fn count(flows: &Values<Record>) -> std::io::Result<HashMap<u32, u64>> {
    let mut by_rule = HashMap::new();
    flows.each(|Record { entry, .. }| {
        if entry.is_ours() && !entry.is_cut() && !entry.is_ended() && entry.word() != Word::DEAD {
            *by_rule.entry(entry.rule).or_default() += 1;
        }
    })?;
    Ok(by_rule)
}
