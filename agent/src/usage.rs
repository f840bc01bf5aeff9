//! Tells the policy API what each rule let pass here, or kept from passing, and how many flows live by it.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use common::{
    conntrack::{Record, Word},
    event::Usage,
};
use policy_api::model::{self, RuleUsage, Timestamp, UsageReport};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use crate::{
    clock::boot_id,
    datapath::Values,
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

/// Flows that live by each rule.
type Living = HashMap<u32, u64>;

/// How often flows are looked at, in looks at rules: all of them have to be read.
const LOOKS_PER_COUNT: u32 = 5;

/// Counts the living flows that began on this node, each at one node only: not what has ended or was cut.
fn count_living(flows: &Values<Record>) -> std::io::Result<Living> {
    let mut living = Living::new();
    flows.each(|Record { entry: flow, .. }| {
        if flow.is_ours() && !flow.is_cut() && !flow.is_ended() && flow.word() != Word::DEAD {
            *living.entry(flow.rule).or_default() += 1;
        }
    })?;
    Ok(living)
}

/// Tells what changed, for ever. All of it again after a reconnection, because the API may have lost what it was told last.
pub async fn tell_usage(api: Arc<Api>, node: NodeHandle, flows: Values<Record>, since: Timestamp) {
    let flows = Arc::new(flows);
    let mut told: HashMap<u32, (Usage, u64)> = HashMap::new();
    let (mut living, mut looks) = (Living::new(), 0_u32);
    let mut look = interval(TELL_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if !api.is_connected() {
            told.clear();
            continue;
        }
        let Ok(usage) = node.usage().await else { return };
        if looks.is_multiple_of(LOOKS_PER_COUNT) {
            let flows = flows.clone();
            match tokio::task::spawn_blocking(move || count_living(&flows)).await {
                Ok(Ok(counted)) => living = counted,
                Ok(Err(error)) => warn!(%error, "live flows are not counted"),
                Err(_) => return,
            }
        }
        looks = looks.wrapping_add(1);
        let all = usage.into_iter().map(|(rule, usage)| (rule, (usage, living.get(&rule).copied().unwrap_or(0))));
        let changed = |(rule, now): &(u32, (Usage, u64))| now.0 != Usage::default() && told.get(rule) != Some(now);
        let changed: Vec<(u32, (Usage, u64))> = all.filter(changed).collect();
        for part in changed.chunks(MOST) {
            let rules = part.iter().map(|(rule, (usage, live))| describe(*rule, usage, *live)).collect();
            match api.report_usage(&UsageReport { since, rules }).await {
                Ok(()) => told.extend(part.iter().copied()),
                Err(error) => debug!(%error, "the usage of rules did not arrive"),
            }
        }
    }
}

fn describe(rule: u32, usage: &Usage, live: u64) -> RuleUsage {
    let last_hit = (usage.last_hit != 0).then(|| wall_time(usage.last_hit).into());
    let Usage { packets, bytes, flows, .. } = *usage;
    RuleUsage { id: model::RuleId(rule), usage: model::Usage { packets, bytes, flows, live, last_hit } }
}
