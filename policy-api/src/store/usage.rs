//! What rules are used for, as nodes count it. No part of the state that watches see: it has no revision, it is kept in a
//! table of its own, and it reaches the disk some seconds after it was said.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    mem,
};

use serde::{Deserialize, Serialize};

use crate::model::{NodeName, RuleId, Timestamp, Usage, UsageReport};

/// What one node counted of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Count {
    /// What it counted before it began anew.
    earlier: Usage,
    since: Timestamp,
    /// What it counted since then.
    current: Usage,
}

impl Count {
    fn total(&self) -> Usage {
        self.earlier.plus(self.current)
    }

    /// What is known of both: a node says one thing at a time, and nothing less than before.
    fn later(self, other: Self) -> Self {
        match self.since.cmp(&other.since) {
            Ordering::Less => other,
            Ordering::Greater => self,
            Ordering::Equal => {
                let (earlier, current) = (self.earlier.later(other.earlier), self.current.later(other.current));
                Self { earlier, since: self.since, current }
            }
        }
    }

    /// Takes what the node says now.
    fn tell(&mut self, since: Timestamp, current: Usage) {
        match since.cmp(&self.since) {
            Ordering::Equal => self.current = self.current.later(current),
            // What lived then does not any more.
            Ordering::Greater => *self = Self { earlier: Usage { live: 0, ..self.total() }, since, current },
            // It was on its way for longer than what came after it.
            Ordering::Less => {}
        }
    }
}

/// All counts, and which of them the disk does not know.
#[derive(Debug, Default)]
pub(super) struct Counts {
    rules: BTreeMap<RuleId, BTreeMap<NodeName, Count>>,
    told: BTreeSet<(RuleId, NodeName)>,
    forgotten: BTreeSet<RuleId>,
}

/// What is to be written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unwritten {
    pub(super) told: Vec<(NodeName, RuleId, Count)>,
    pub(super) forgotten: BTreeSet<RuleId>,
}

impl Unwritten {
    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty() && self.forgotten.is_empty()
    }
}

impl Counts {
    /// What was on disk, of rules that stand.
    pub(super) fn restored(stored: Vec<(NodeName, RuleId, Count)>, stands: impl Fn(RuleId) -> bool) -> Self {
        let mut counts = Self::default();
        for (node, rule, count) in stored {
            if stands(rule) {
                counts.rules.entry(rule).or_default().insert(node, count);
            } else {
                counts.forgotten.insert(rule);
            }
        }
        counts
    }

    /// What all nodes together counted; what lives, as far as nodes are there to say so.
    pub(super) fn of(&self, rule: RuleId, is_there: impl Fn(&NodeName) -> bool) -> Usage {
        let nodes = self.rules.get(&rule).into_iter().flatten();
        let counted = nodes.map(|(node, count)| match count.total() {
            total if is_there(node) => total,
            total => Usage { live: 0, ..total },
        });
        counted.fold(Usage::default(), Usage::plus)
    }

    /// Takes what a node says; rules that do not stand any more are passed over.
    pub(super) fn tell(&mut self, node: &NodeName, report: &UsageReport, stands: impl Fn(RuleId) -> bool) {
        for rule in report.rules.iter().filter(|rule| stands(rule.id)) {
            let new = Count { earlier: Usage::default(), since: report.since, current: rule.usage };
            let nodes = self.rules.entry(rule.id).or_default();
            nodes.entry(node.clone()).and_modify(|count| count.tell(report.since, rule.usage)).or_insert(new);
            self.told.insert((rule.id, node.clone()));
        }
    }

    /// Takes what a node said to somebody else, who keeps it.
    pub(super) fn hear(&mut self, node: NodeName, rule: RuleId, heard: Count) {
        let nodes = self.rules.entry(rule).or_default();
        nodes.entry(node).and_modify(|count| *count = count.later(heard)).or_insert(heard);
    }

    /// Forgets what was counted of a rule that is gone.
    pub(super) fn forget(&mut self, rule: RuleId) {
        if self.rules.remove(&rule).is_some() {
            self.told.retain(|(told, _)| *told != rule);
            self.forgotten.insert(rule);
        }
    }

    /// What the disk does not know yet; it is taken to know it from now on.
    pub(super) fn take_unwritten(&mut self) -> Unwritten {
        let told = mem::take(&mut self.told).into_iter();
        let told = told.filter_map(|(rule, node)| {
            let count = *self.rules.get(&rule)?.get(&node)?;
            Some((node, rule, count))
        });
        Unwritten { told: told.collect(), forgotten: mem::take(&mut self.forgotten) }
    }

    /// Takes back what could not be written.
    pub(super) fn put_back(&mut self, unwritten: Unwritten) {
        self.told.extend(unwritten.told.into_iter().map(|(node, rule, _)| (rule, node)));
        self.forgotten.extend(unwritten.forgotten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RuleUsage;
    use std::time::Duration;

    const RULE: RuleId = RuleId(7);

    fn node(name: &str) -> NodeName {
        name.parse().expect("name")
    }

    fn counted(since: Timestamp, packets: u64) -> UsageReport {
        let usage = Usage { packets, bytes: packets * 60, flows: 1, live: packets, last_hit: Some(since) };
        UsageReport { since, rules: vec![RuleUsage { id: RULE, usage }] }
    }

    fn tell(counts: &mut Counts, name: &str, report: &UsageReport) {
        counts.tell(&node(name), report, |rule| rule == RULE);
    }

    #[test]
    fn nodes_are_summed_and_a_repeated_total_counts_once() {
        let (mut counts, start) = (Counts::default(), Timestamp::now());
        tell(&mut counts, "n1", &counted(start, 3));
        tell(&mut counts, "n2", &counted(start, 4));
        tell(&mut counts, "n1", &counted(start, 5));
        tell(&mut counts, "n1", &counted(start, 5));
        let usage = counts.of(RULE, |_| true);
        assert_eq!((usage.packets, usage.flows, usage.last_hit), (9, 2, Some(start)));
        assert_eq!(counts.of(RuleId(8), |_| true), Usage::default());
        let without = counts.of(RULE, |name| *name != node("n1"));
        assert_eq!(
            (usage.live, without.live, without.packets),
            (9, 4, 9),
            "what lives is what nodes say that are there"
        );
    }

    #[test]
    fn a_node_that_begins_anew_adds_to_what_it_counted_before() {
        let (mut counts, first) = (Counts::default(), Timestamp::now());
        let second = first.after(Duration::from_secs(60)).expect("a time");
        tell(&mut counts, "n1", &counted(first, 5));
        tell(&mut counts, "n1", &counted(second, 2));
        tell(&mut counts, "n1", &counted(second, 3));
        assert_eq!((counts.of(RULE, |_| true).packets, counts.of(RULE, |_| true).live), (8, 3));
        tell(&mut counts, "n1", &counted(first, 9));
        assert_eq!(counts.of(RULE, |_| true).packets, 8, "what was said before is overtaken");
    }

    #[test]
    fn what_is_gone_is_not_counted_and_not_kept() {
        let (mut counts, start) = (Counts::default(), Timestamp::now());
        counts.tell(&node("n1"), &counted(start, 3), |_| false);
        assert!(counts.take_unwritten().is_empty());
        tell(&mut counts, "n1", &counted(start, 3));
        counts.forget(RULE);
        assert_eq!(counts.of(RULE, |_| true), Usage::default());
        let unwritten = counts.take_unwritten();
        assert_eq!((unwritten.told.len(), unwritten.forgotten), (0, [RULE].into()));
    }

    #[test]
    fn what_was_written_is_the_same_after_a_restart() {
        let (mut counts, start) = (Counts::default(), Timestamp::now());
        tell(&mut counts, "n1", &counted(start, 3));
        tell(&mut counts, "n2", &counted(start, 4));
        let unwritten = counts.take_unwritten();
        assert!(counts.take_unwritten().is_empty());
        let mut again = Counts::restored(unwritten.told, |rule| rule == RULE);
        assert_eq!(again.of(RULE, |_| true), counts.of(RULE, |_| true));
        tell(&mut again, "n1", &counted(start, 5));
        assert_eq!(again.of(RULE, |_| true).packets, 9);
    }
}
