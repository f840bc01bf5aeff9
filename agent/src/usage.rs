//! Tells the policy API what each rule let pass here, or kept from passing.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use common::event::Usage;
use policy_api::model::{self, RuleUsage, Timestamp, UsageReport};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use crate::{
    clock::boot_id,
    flow::wall_time,
    node::NodeHandle,
    state::{self, StateError},
    watch::Api,
};

/// Often enough that a person who looks twice sees it move.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// Rules in one request.
const MOST: usize = 1_000;

/// Since when the maps have been counting.
#[derive(Debug, Serialize, Deserialize)]
struct Counting {
    since: Timestamp,
    /// Maps do not survive a boot, nor a change of their layout.
    boot: String,
    schema: u32,
}

/// Since when this node has been counting, remembered from the agent that began.
pub fn counting_since(directory: &Path) -> Result<Timestamp, StateError> {
    let path = directory.join("usage.json");
    let (boot, schema) = (boot_id(), common::SCHEMA);
    if let Some(counting) = state::load::<Counting>(&path)?
        && (counting.boot.as_str(), counting.schema) == (boot.as_str(), schema)
    {
        return Ok(counting.since);
    }
    let counting = Counting { since: Timestamp::now(), boot, schema };
    state::save(&path, &counting)?;
    Ok(counting.since)
}

/// Tells what changed, for ever. All of it again after a reconnection, because the API may have lost what it was told last.
pub async fn tell_usage(api: Arc<Api>, node: NodeHandle, since: Timestamp) {
    let mut told: HashMap<u32, Usage> = HashMap::new();
    let mut look = interval(TELL_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if !api.is_connected() {
            told.clear();
            continue;
        }
        let Ok(usage) = node.usage().await else { return };
        let changed = |(rule, usage): &(u32, Usage)| *usage != Usage::default() && told.get(rule) != Some(usage);
        let changed: Vec<(u32, Usage)> = usage.into_iter().filter(changed).collect();
        for part in changed.chunks(MOST) {
            let rules = part.iter().map(|(rule, usage)| describe(*rule, usage)).collect();
            match api.report_usage(&UsageReport { since, rules }).await {
                Ok(()) => told.extend(part.iter().copied()),
                Err(error) => debug!(%error, "the usage of rules did not arrive"),
            }
        }
    }
}

fn describe(rule: u32, usage: &Usage) -> RuleUsage {
    let last_hit = (usage.last_hit != 0).then(|| wall_time(usage.last_hit).into());
    let Usage { packets, bytes, flows, .. } = *usage;
    RuleUsage { id: model::RuleId(rule), usage: model::Usage { packets, bytes, flows, last_hit } }
}
