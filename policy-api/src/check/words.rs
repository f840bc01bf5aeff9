//! An answer in words, and the rule that comes nearest to another one.

use std::{cmp::Reverse, sync::Arc};

use common::{Answer, Decision, PortRange};

use super::{Case, Fate, word};
use crate::{
    model::{
        Action, Cause, CheckAnswer, CheckQuery, Invalid, InvalidField, Isolation, Mode, Ports, Rule, RuleId,
        VerdictWord, Would,
    },
    store::State,
};

pub(super) fn answer(state: &State, query: &CheckQuery, fate: Fate) -> CheckAnswer {
    let rule_of = |id: common::RuleId| state.rule(RuleId(id.0)).map(|rule| Rule::clone(rule));
    let rule = match fate.cause {
        Cause::AllowRule | Cause::DenyRule => rule_of(fate.rule),
        Cause::NoRule | Cause::Audit | Cause::Isolated => None,
    };
    let nearest = match fate.cause {
        Cause::NoRule => nearest(state, query),
        Cause::AllowRule | Cause::DenyRule | Cause::Audit | Cause::Isolated => None,
    };
    let would = fate.would.map(|decision| Would {
        verdict: word(decision.is_allow()),
        cause: cause(decision),
        rule: rule_of(decision.rule),
    });
    let mut answer = CheckAnswer {
        verdict: word(fate.passes),
        cause: fate.cause,
        rule,
        nearest,
        would,
        isolated_by: fate.isolations,
        text: String::new(),
        revision: state.revision(),
    };
    answer.text = sentence(query, &answer);
    answer
}

fn cause(decision: Decision) -> Cause {
    match decision.answer {
        Answer::Allow => Cause::AllowRule,
        Answer::Deny | Answer::DenySilently => Cause::DenyRule,
        Answer::NoRule => Cause::NoRule,
    }
}

fn sentence(query: &CheckQuery, answer: &CheckAnswer) -> String {
    let flow = format!("{} -> {} {}", query.source, query.destination, what(query));
    let main = match (answer.cause, &answer.rule, &answer.nearest) {
        (Cause::AllowRule, rule, _) => format!("{flow} is allowed{}", by(rule.as_ref())),
        (Cause::DenyRule, rule, _) => format!("{flow} is denied{}", by(rule.as_ref())),
        (Cause::NoRule, _, None) => format!("{flow} is denied: no rule allows it"),
        (Cause::NoRule, _, Some(near)) => format!("{flow} is denied: no rule allows it; the nearest is {}", show(near)),
        (Cause::Audit, _, _) => format!("{flow} is allowed: nothing allows it, but the apps are in audit"),
        (Cause::Isolated, _, _) => format!("{flow} is denied: isolated are {}", names(&answer.isolated_by)),
    };
    let would = answer.would.as_ref().map(|would| {
        let verdict = past(would.verdict);
        match &would.rule {
            Some(rule) => format!("; it would be {verdict} by {}", show(rule)),
            None => format!("; it would be {verdict}: no rule allows it"),
        }
    });
    let partly = !answer.isolated_by.is_empty() && answer.cause != Cause::Isolated;
    let partly = partly.then(|| format!("; but isolated are {}", names(&answer.isolated_by)));
    [Some(main), would, partly].into_iter().flatten().collect()
}

fn names(isolations: &[Isolation]) -> String {
    isolations.iter().map(|isolation| isolation.target().to_string()).collect::<Vec<_>>().join(", ")
}

/// Says that a question has no one answer, with two that differ, and what to name to get one.
pub(super) fn differing(query: &CheckQuery, one: (&Case<'_>, bool), other: (&Case<'_>, bool)) -> InvalidField {
    let whole = format!("{} -> {} {}", query.source, query.destination, what(query));
    let ((a, a_passes), (b, b_passes)) = (one, other);
    let (a_is, b_is) = (past(word(a_passes)), past(word(b_passes)));
    let pair = |case: &Case<'_>| (case.source.to_string(), case.destination.to_string());
    let (problem, field) = if pair(a).0 != pair(b).0 {
        (format!("{} is {a_is}, {} is {b_is}", a.source, b.source), "source")
    } else if pair(a).1 != pair(b).1 {
        (format!("to {} it is {a_is}, to {} it is {b_is}", a.destination, b.destination), "destination")
    } else if a.protocol != b.protocol {
        (format!("{} is {a_is}, {} is {b_is}", a.protocol.name(), b.protocol.name()), "protocol")
    } else {
        (format!("port {} is {a_is}, port {} is {b_is}", a.port, b.port), "port")
    };
    let remedy = match field {
        "port" => "ask for one `port`",
        "protocol" => "ask for one `protocol`",
        _ => "ask for one app",
    };
    Invalid::new(whole, format!("has no one answer: {problem}"), remedy).in_field(field)
}

fn past(verdict: VerdictWord) -> &'static str {
    match verdict {
        VerdictWord::Allow => "allowed",
        VerdictWord::Deny => "denied",
    }
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

/// The rule that comes nearest to allowing it: one that holds for the pair first, with the same protocol and the nearest
/// port; else one that allows the other direction.
fn nearest(state: &State, query: &CheckQuery) -> Option<Rule> {
    let (from, to) = (state.covering(&query.source), state.covering(&query.destination));
    let allows = |rule: &&Arc<Rule>| rule.action == Action::Allow && rule.mode == Mode::Enforce;
    let closeness = |rule: &&Arc<Rule>| {
        let distance = query.port.map_or(0, |port| distance(&rule.ports, port));
        (Reverse(rule.protocol.covers(query.protocol)), distance, rule.id)
    };
    let between = |from: &[crate::model::Selector], to: &[crate::model::Selector]| {
        let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (from, to)));
        pairs
            .filter_map(|(from, to)| state.rules_between(from, to).filter(allows).min_by_key(closeness))
            .min_by_key(closeness)
    };
    between(&from, &to).or_else(|| between(&to, &from)).map(|rule| Rule::clone(rule))
}

fn distance(ports: &Ports, port: u16) -> u16 {
    let to = |range: &PortRange| {
        if range.contains(port) { 0 } else { range.first().abs_diff(port).min(range.last().abs_diff(port)) }
    };
    ports.ranges().iter().map(to).min().unwrap_or(u16::MAX)
}
