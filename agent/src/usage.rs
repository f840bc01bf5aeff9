//! Tells the policy API what each rule let pass here, or kept from passing, and how many flows live by it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use common::event::Usage;
use policy_api::model::{self, RuleUsage, Timestamp, UsageReport};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use crate::{
    clock::boot_id,
    flow::wall_time,
    living::Living,
    node::NodeHandle,
    state::{self, StateError},
    watch::Api,
};

/// Often enough that a person who looks twice sees it move.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// Rules in one request.
const MOST: usize = 1_000;

/// What was counted of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    pub rule: u32,
    /// Since when; nothing if an agent before opened it.
    pub opened: Option<Timestamp>,
    pub usage: Usage,
    /// Flows that live by it, as they were counted last.
    pub live: u64,
}

/// What was counted of all rules. A rule that leaves what this node needs loses its account, and gets a new one, from nothing,
/// when it comes back.
#[derive(Debug, Default)]
pub struct Accounts {
    pub open: Vec<Account>,
    pub closed: Vec<Account>,
}

/// Since when accounts count, remembered from agent to agent.
#[derive(Debug, Serialize, Deserialize)]
struct Counting {
    /// Since when the maps have been there.
    since: Timestamp,
    /// Maps do not survive a boot, nor a change of their layout.
    boot: String,
    schema: u32,
    /// Accounts that were opened later than the maps were made.
    #[serde(default)]
    opened: BTreeMap<u32, Timestamp>,
}

/// What is told of rules, and what was.
pub struct Told {
    path: PathBuf,
    counting: Counting,
    /// By rule and since when it was counted; with the flows that lived by it.
    told: HashMap<(u32, Timestamp), (Usage, u64)>,
    /// Of closed accounts, until it has arrived.
    parting: BTreeMap<(u32, Timestamp), (Usage, u64)>,
}

impl Counting {
    fn new() -> Self {
        Self { since: Timestamp::now(), boot: boot_id(), schema: common::SCHEMA, opened: BTreeMap::new() }
    }

    fn since(&self, account: &Account) -> Timestamp {
        account.opened.or_else(|| self.opened.get(&account.rule).copied()).unwrap_or(self.since)
    }
}

impl Told {
    /// As the agent before left it, if it was on these maps.
    pub fn resume(directory: &Path) -> Result<Self, StateError> {
        let path = directory.join("usage.json");
        let kept: Option<Counting> = state::load(&path)?;
        let kept = kept.filter(|kept| kept.schema == common::SCHEMA && kept.boot == boot_id());
        let counting = kept.unwrap_or_else(Counting::new);
        state::save(&path, &counting)?;
        Ok(Self { path, counting, told: HashMap::new(), parting: BTreeMap::new() })
    }

    /// What was counted on an account, by its rule and since when.
    fn dated(&self, account: &Account) -> ((u32, Timestamp), (Usage, u64)) {
        ((account.rule, self.counting.since(account)), (account.usage, account.live))
    }

    /// What is still to be told, each report of rules that are counted since one time: the earlier ones first.
    fn take(&mut self, accounts: &Accounts) -> Result<Vec<UsageReport>, StateError> {
        // Of one on which nothing was counted there is nothing to tell.
        let counted = accounts.closed.iter().filter(|account| account.usage != Usage::default());
        let parting: Vec<_> = counted.map(|account| self.dated(account)).collect();
        self.parting.extend(parting);
        let open: BTreeMap<(u32, Timestamp), (Usage, u64)> =
            accounts.open.iter().map(|account| self.dated(account)).collect();
        self.told.retain(|account, _| open.contains_key(account));
        let later = open.keys().filter(|(_, since)| *since != self.counting.since).copied().collect();
        if self.counting.opened != later {
            self.counting.opened = later;
            state::save(&self.path, &self.counting)?;
        }
        let news = open
            .iter()
            .chain(&self.parting)
            .filter(|(account, now)| self.told.get(account).copied().unwrap_or_default() != **now);
        let mut by_since: BTreeMap<Timestamp, Vec<RuleUsage>> = BTreeMap::new();
        for ((rule, since), (usage, live)) in news {
            by_since.entry(*since).or_default().push(describe(*rule, usage, *live));
        }
        let parts = |(since, rules): (Timestamp, Vec<RuleUsage>)| {
            let report = |part: &[RuleUsage]| UsageReport { since, rules: part.to_vec() };
            rules.chunks(MOST).map(report).collect::<Vec<_>>()
        };
        Ok(by_since.into_iter().flat_map(parts).collect())
    }

    fn arrived(&mut self, report: &UsageReport, accounts: &Accounts) {
        for rule in &report.rules {
            self.parting.remove(&(rule.id.0, report.since));
        }
        let ids: HashSet<u32> = report.rules.iter().map(|rule| rule.id.0).collect();
        let open = accounts.open.iter().map(|account| self.dated(account));
        let arrived: Vec<_> = open.filter(|((rule, since), _)| *since == report.since && ids.contains(rule)).collect();
        self.told.extend(arrived);
    }
}

/// Tells what changed, for ever. All of it again after a reconnection, because the API may have lost what it was told last.
pub async fn tell_usage(api: Arc<Api>, node: NodeHandle, mut told: Told, mut living: Living) {
    let mut look = interval(TELL_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let Ok(mut accounts) = node.usage().await else { return };
        living.count_now_and_then().await;
        for account in &mut accounts.open {
            account.live = living.by(account.rule);
        }
        let reports = told.take(&accounts).unwrap_or_else(|error| {
            warn!(%error, "the usage of rules is not told, as it would be wrong after a restart");
            Vec::new()
        });
        if !api.is_connected() {
            told.told.clear();
            continue;
        }
        for report in reports {
            match api.report_usage(&report).await {
                Ok(()) => told.arrived(&report, &accounts),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn account(opened: Option<Timestamp>, packets: u64) -> Account {
        Account { rule: 7, opened, usage: Usage { packets, bytes: 60 * packets, flows: 1, last_hit: 0 }, live: 0 }
    }

    fn packets(reports: &[UsageReport]) -> Vec<(Timestamp, u64)> {
        reports.iter().flat_map(|report| report.rules.iter().map(|rule| (report.since, rule.usage.packets))).collect()
    }

    #[test]
    fn an_account_that_was_closed_and_opened_again_adds_to_what_it_held() {
        let directory = tempfile::tempdir().expect("directory");
        let mut told = Told::resume(directory.path()).expect("a file");
        let start = told.counting.since;
        let later = start.after(Duration::from_secs(3)).expect("in range");
        let before = Accounts { open: vec![account(None, 5)], closed: Vec::new() };
        let reports = told.take(&before).expect("kept");
        assert_eq!(packets(&reports), [(start, 5)]);
        told.arrived(&reports[0], &before);
        assert!(told.take(&before).expect("kept").is_empty());

        // As much as before, and nobody looked in between.
        let after = Accounts { open: vec![account(Some(later), 5)], closed: vec![account(None, 6)] };
        let reports = told.take(&after).expect("kept");
        assert_eq!(packets(&reports), [(start, 6), (later, 5)]);
        told.arrived(&reports[1], &after);
        let again = Accounts { open: vec![account(Some(later), 5)], closed: Vec::new() };
        assert_eq!(packets(&told.take(&again).expect("kept")), [(start, 6)], "it did not arrive");

        told.arrived(&reports[0], &again);
        let unused = Accounts {
            open: again.open.clone(),
            closed: vec![Account { usage: Usage::default(), ..account(None, 0) }],
        };
        assert!(told.take(&unused).expect("kept").is_empty() && told.parting.is_empty(), "nothing was counted on it");

        let mut next = Told::resume(directory.path()).expect("a file");
        let adopted = Accounts { open: vec![account(None, 9)], closed: Vec::new() };
        assert_eq!(packets(&next.take(&adopted).expect("kept")), [(later, 9)], "as the agent before opened it");
    }
}
