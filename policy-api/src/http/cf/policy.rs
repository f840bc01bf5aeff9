//! Their policies and our rules: which rules are policies, and which change of rules a change of policies is.

use std::collections::BTreeSet;

use common::PortRange;
use serde_json::{Value, json};

use super::{answer::Refused, wire::Version};
use crate::{
    model::{Action, App, AppName, Mode, Ports, Protocol, Rule, RuleId, RuleSpec, Selector, Tuple},
    store::State,
};

/// A policy: one range of ports from app to app.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Policy {
    pub(super) source: AppName,
    pub(super) destination: AppName,
    pub(super) protocol: Protocol,
    pub(super) start: u16,
    pub(super) end: u16,
}

/// Which policies are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    All,
    /// With one of these on either side.
    Either(BTreeSet<String>),
    Sides {
        sources: Option<BTreeSet<String>>,
        destinations: Option<BTreeSet<String>>,
    },
}

/// All policies that a filter asks for, each once, in order.
pub(super) fn of_state(state: &State, filter: &Filter) -> BTreeSet<Policy> {
    let rules = state.replica().rules.values();
    rules.flat_map(|rule| of_rule(rule)).filter(|policy| filter.takes(policy)).collect()
}

/// The policies that a rule is: one for each range of its ports; none, if theirs have no word for it.
fn of_rule(rule: &Rule) -> Vec<Policy> {
    let (Selector::App(source), Selector::App(destination)) = (&rule.source, &rule.destination) else {
        return Vec::new();
    };
    let has_words = matches!(rule.protocol, Protocol::Tcp | Protocol::Udp)
        && rule.action == Action::Allow
        && rule.mode == Mode::Enforce;
    if !has_words {
        return Vec::new();
    }
    let policy = |range: &PortRange| Policy {
        source: source.clone(),
        destination: destination.clone(),
        protocol: rule.protocol,
        start: range.first().max(1),
        end: range.last(),
    };
    rule.ports.ranges().iter().map(policy).collect()
}

impl Filter {
    fn takes(&self, policy: &Policy) -> bool {
        let (source, destination) = (policy.source.as_str(), policy.destination.as_str());
        match self {
            Self::All => true,
            Self::Either(ids) => ids.contains(source) || ids.contains(destination),
            Self::Sides { sources, destinations } => {
                sources.as_ref().is_none_or(|ids| ids.contains(source))
                    && destinations.as_ref().is_none_or(|ids| ids.contains(destination))
            }
        }
    }
}

impl Policy {
    fn ports(&self) -> Result<Ports, Refused> {
        let range = PortRange::new(self.start, self.end);
        let ports = range.and_then(|range| Ports::list([range]).ok());
        ports.ok_or_else(|| Refused::bad("mapper: validate policies: missing start port"))
    }

    /// The rule that it is.
    pub(super) fn rule(&self) -> Result<RuleSpec, Refused> {
        let (source, destination) = (self.source.clone().into(), self.destination.clone().into());
        Ok(RuleSpec::new(source, destination, self.protocol, self.ports()?, Action::Allow))
    }

    /// The rules that are this policy and nothing else. One that is others besides is not taken apart, and not left
    /// standing unsaid.
    pub(super) fn standing(&self, state: &State) -> Result<Vec<RuleId>, Refused> {
        let (source, destination): (Selector, Selector) = (self.source.clone().into(), self.destination.clone().into());
        let between = || state.rules_between(&source, &destination).filter(|rule| of_rule(rule).contains(self));
        if let Some(wider) = between().find(|rule| of_rule(rule).len() > 1) {
            let Tuple { ports, .. } = wider.tuple();
            let text = format!(
                "invalid policy: it is a part of rule {} for ports {ports}, which was not made here; use `netpol revoke {}`",
                wider.id, wider.id
            );
            return Err(Refused::bad(text));
        }
        Ok(between().map(|rule| rule.id).collect())
    }

    /// As a version shows it; v0 has no word for more than one port.
    pub(super) fn show(&self, version: Version) -> Option<Value> {
        let ports = match version {
            Version::V0 if self.start != self.end => return None,
            Version::V0 => ("port", json!(self.start)),
            Version::V1 => ("ports", json!({"start": self.start, "end": self.end})),
        };
        let mut destination = json!({"id": self.destination, "protocol": self.protocol});
        destination[ports.0] = ports.1;
        Some(json!({"source": {"id": self.source}, "destination": destination}))
    }

    /// As agents are shown it: with tags.
    pub(super) fn show_tagged(&self, state: &State) -> Option<Value> {
        let tag = |name: &AppName| state.app(name).map(|app| tag(app));
        let mut shown = self.show(Version::V1)?;
        shown["source"]["tag"] = tag(&self.source)?.into();
        shown["destination"]["tag"] = tag(&self.destination)?.into();
        Some(shown)
    }
}

/// An app's identity as they write tags: in capital hexadecimal digits, as many as there can be.
pub(super) fn tag(app: &App) -> String {
    format!("{:06X}", app.identity.number())
}

/// The shape of lists.
pub(super) fn listed(shown: &[Value]) -> Value {
    json!({"total_policies": shown.len(), "policies": shown})
}
