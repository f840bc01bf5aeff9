//! Would this flow pass? Asks the engine that runs in the kernel, over the rules of the model.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use common::{
    Answer, Decision, Identity, Layer, Party, PortPrefix, PortRange, Question, Rules, Ruling, decide,
    rule::{Lengths, Membership, PairKey, Row, RowKey, Scope},
};

use crate::{
    model::{Cause, CheckAnswer, CheckQuery, Invalid, Ports, Rule, Selector, VerdictWord},
    store::{Refusal, State},
};

/// Answers a question about policy, as the nodes would.
pub fn check(state: &State, query: &CheckQuery) -> Result<CheckAnswer, Refusal> {
    let source = identity(state, &query.source, "source")?;
    let destination = identity(state, &query.destination, "destination")?;
    let Some(protocol) = query.protocol.wire().first().copied() else {
        return Ok(describe(state, query, Decision::NO_RULE));
    };
    let pair = PairKey::new(Party::one(source), Party::one(destination), protocol, Layer::Enforced);
    let standing: Vec<&Arc<Rule>> = state.rules_between(&query.source, &query.destination).collect();
    let rules: Vec<&Arc<Rule>> = standing.iter().filter(|rule| rule.protocol.covers(query.protocol)).copied().collect();
    let rows = PairRows::new(pair, &rules);
    let judge = |port| decide(&rows, &Question { source, destination, protocol, port });
    let decision = match query.port {
        Some(port) => judge(port),
        None if !query.protocol.has_ports() => judge(0),
        None => on_all_ports(&rules, query, judge)?,
    };
    Ok(describe(state, query, decision))
}

fn identity(state: &State, selector: &Selector, field: &'static str) -> Result<Identity, Refusal> {
    let Selector::App(name) = selector else { return Ok(Identity::HOST) };
    let known = || state.replica().apps.keys().map(crate::model::AppName::as_str);
    let app = state.app(name).ok_or_else(|| Refusal::not_found(field, "an app", name.as_str(), known()))?;
    Ok(app.identity)
}

/// The rows of one pair, as an agent would compile them: each holds the verdict over all prefixes that cover it.
struct PairRows {
    pair: PairKey,
    prefixes: BTreeMap<PortPrefix, Ruling>,
}

impl PairRows {
    fn new(pair: PairKey, rules: &[&Arc<Rule>]) -> Self {
        let mut prefixes = BTreeMap::new();
        for rule in rules {
            let ruling = Ruling { action: rule.action.into(), rule: rule.id.into() };
            for prefix in rule.ports.ranges().iter().flat_map(|range| range.prefixes()) {
                prefixes
                    .entry(prefix)
                    .and_modify(|standing: &mut Ruling| *standing = standing.stronger(ruling))
                    .or_insert(ruling);
            }
        }
        Self { pair, prefixes }
    }
}

impl Rules for PairRows {
    fn scope(&self) -> Scope {
        Scope::NARROW
    }

    fn membership(&self, _: Identity, _: usize) -> Membership {
        Membership::NONE
    }

    fn lengths(&self, key: &PairKey) -> Option<Lengths> {
        let is_ours = *key == self.pair && !self.prefixes.is_empty();
        is_ours.then(|| Lengths::new(*key, self.prefixes.keys().copied()))
    }

    fn row(&self, key: &RowKey) -> Option<Row> {
        let prefix = (key.pair() == self.pair).then_some(key.prefix())?;
        self.prefixes.get(&prefix)?;
        let covering = prefix.ancestors().filter_map(|ancestor| self.prefixes.get(&ancestor));
        covering.copied().reduce(Ruling::stronger).map(|ruling| Row::new(*key, ruling))
    }
}

/// The decision for every port, if it is one: a port on each side of every range's end speaks for all between them.
fn on_all_ports(
    rules: &[&Arc<Rule>],
    query: &CheckQuery,
    judge: impl Fn(u16) -> Decision,
) -> Result<Decision, Refusal> {
    let ends = rules.iter().flat_map(|rule| rule.ports.ranges()).flat_map(|range| {
        let behind = range.last().checked_add(1);
        [Some(range.first().max(1)), behind].into_iter().flatten()
    });
    let first = judge(1);
    let differs = ends.map(|port| (port, judge(port))).find(|(_, decision)| verdict(*decision) != verdict(first));
    match differs {
        None => Ok(first),
        Some((port, decision)) => {
            let problem = format!(
                "has no one answer: port 1 is {}, port {port} is {}",
                past(verdict(first)),
                past(verdict(decision))
            );
            let whole = format!("{} -> {}, {} on all ports", query.source, query.destination, query.protocol);
            Err(Invalid::new(whole, problem, "ask for one `port`").in_field("port").into())
        }
    }
}

fn verdict(decision: Decision) -> VerdictWord {
    if decision.is_allow() { VerdictWord::Allow } else { VerdictWord::Deny }
}

fn past(verdict: VerdictWord) -> &'static str {
    match verdict {
        VerdictWord::Allow => "allowed",
        VerdictWord::Deny => "denied",
    }
}

fn describe(state: &State, query: &CheckQuery, decision: Decision) -> CheckAnswer {
    let rule = |id: common::RuleId| state.rule(crate::model::RuleId(id.0)).map(|rule| Rule::clone(rule));
    let (cause, rule, nearest) = match decision.answer {
        Answer::Allow => (Cause::AllowRule, rule(decision.rule), None),
        Answer::Deny | Answer::DenySilently => (Cause::DenyRule, rule(decision.rule), None),
        Answer::NoRule => (Cause::NoRule, None, nearest(state, query)),
    };
    let flow = format!("{} -> {} {}", query.source, query.destination, what(query));
    let text = match (cause, &rule, &nearest) {
        (Cause::AllowRule, rule, _) => format!("{flow} is allowed{}", by(rule.as_ref())),
        (Cause::DenyRule, rule, _) => format!("{flow} is denied{}", by(rule.as_ref())),
        (Cause::NoRule, _, None) => format!("{flow} is denied: no rule allows it"),
        (Cause::NoRule, _, Some(near)) => format!("{flow} is denied: no rule allows it; the nearest is {}", show(near)),
    };
    CheckAnswer { verdict: verdict(decision), cause, rule, nearest, text, revision: state.revision() }
}

fn what(query: &CheckQuery) -> String {
    match (query.port, query.protocol.has_ports()) {
        (Some(port), _) => format!("{}/{port}", query.protocol),
        (None, true) => format!("{} on all ports", query.protocol),
        (None, false) => query.protocol.to_string(),
    }
}

fn by(rule: Option<&Rule>) -> String {
    rule.map(|rule| format!(" by {}", show(rule))).unwrap_or_default()
}

fn show(rule: &Rule) -> String {
    let ports = match &rule.ports {
        Ports::All => String::new(),
        Ports::List(_) => format!("/{}", rule.ports),
    };
    format!("{} ({} {} -> {} {}{ports})", rule.id, rule.action, rule.source, rule.destination, rule.protocol)
}

/// The rule that comes nearest to allowing it: the same pair first, with the same protocol and the nearest port; else one
/// that allows the other direction.
fn nearest(state: &State, query: &CheckQuery) -> Option<Rule> {
    let allows = |rule: &&Arc<Rule>| rule.action == crate::model::Action::Allow;
    let same_pair = state.rules_between(&query.source, &query.destination).filter(allows);
    let closeness = |rule: &&Arc<Rule>| {
        let distance = query.port.map_or(0, |port| distance(&rule.ports, port));
        (Reverse(rule.protocol == query.protocol), distance, rule.id)
    };
    let reversed = || state.rules_between(&query.destination, &query.source).filter(allows).min_by_key(closeness);
    same_pair.min_by_key(closeness).or_else(reversed).map(|rule| Rule::clone(rule))
}

fn distance(ports: &Ports, port: u16) -> u16 {
    let to = |range: &PortRange| {
        if range.contains(port) { 0 } else { range.first().abs_diff(port).min(range.last().abs_diff(port)) }
    };
    ports.ranges().iter().map(to).min().unwrap_or(u16::MAX)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
