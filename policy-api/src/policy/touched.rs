//! Which live flows a change would touch: those that live by rules that go or change, or that new denies may hit.
//!
//! Touched is looked at again: a flow that another rule allows goes on. So the sum is what could be cut at most, as nodes
//! counted it in the last ten seconds. Flows that pass without a rule, between apps in audit, live by none and are not in it.

use std::collections::BTreeSet;

use super::{Difference, Standing};
use crate::model::{Action, Mode, Protocol, Rule, RuleSpec, Selector};

/// Live flows that the change would touch.
pub(super) fn flows(difference: &Difference, standing: &Standing) -> u64 {
    let denies: Vec<&RuleSpec> = difference.created.iter().filter(|spec| is_enforced_deny(spec)).collect();
    let changed = difference.updated.iter().map(|updated| updated.before.rule.id);
    let gone = difference.deleted.iter().map(|view| view.rule.id);
    let named: BTreeSet<_> = changed.chain(gone).collect();
    let is_touched = |rule: &Rule| named.contains(&rule.id) || denies.iter().any(|deny| may_hit(deny, rule));
    let touched = standing.rules.iter().filter(|view| view.usage.live > 0 && is_touched(&view.rule));
    touched.map(|view| view.usage.live).sum()
}

fn is_enforced_deny(spec: &RuleSpec) -> bool {
    spec.action == Action::Deny && spec.mode == Mode::Enforce
}

/// Whether some flow may match both.
fn may_hit(deny: &RuleSpec, rule: &Rule) -> bool {
    may_meet(&deny.source, &rule.source)
        && may_meet(&deny.destination, &rule.destination)
        && (deny.protocol == rule.protocol || [deny.protocol, rule.protocol].contains(&Protocol::Any))
        && deny
            .ports
            .ranges()
            .iter()
            .any(|a| rule.ports.ranges().iter().any(|b| a.first() <= b.last() && b.first() <= a.last()))
}

/// Whether two selectors may stand for the same app: of a group, anybody may be a member.
fn may_meet(one: &Selector, other: &Selector) -> bool {
    match (one, other) {
        (Selector::App(one), Selector::App(other)) => one == other,
        (Selector::Host, other) | (other, Selector::Host) => *other == Selector::Host,
        (Selector::Any | Selector::Group(_), _) | (_, Selector::Any | Selector::Group(_)) => true,
    }
}
