//! Policy as files: what they say, what differs from what stands, and the one change set that makes them stand.
//!
//! [`read`] takes files apart and refuses by file, line and field; [`Difference`] compares with what stands; [`write`] is
//! what reads back as the same policy. Pure: who reads files or asks an API is elsewhere. Isolations are no part of it: they
//! are measures of an hour, and a file that is applied a day later must not end or begin one. Layers, roles and resources are
//! ([`access`]), in the same change set.

mod access;
mod difference;
mod read;
mod touched;
mod write;
mod yaml;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

pub use self::{
    access::{AccessDifference, AccessPolicy, Replaced, StandingAccess},
    difference::{AppDifference, Difference, Prune, Standing, Updated},
    read::{BadFile, File, read},
    write::write,
};
use crate::model::{App, AppName, GroupName, Mode, Rule, RuleSpec, Timestamp, Tuple};

/// What files say: the settings of apps, groups, rules, no two of which are the same, and who may do what on resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub groups: BTreeSet<GroupName>,
    pub apps: BTreeMap<AppName, Settings>,
    pub rules: HashMap<Tuple, WantedRule>,
    pub access: AccessPolicy,
}

/// What is said of an app; what is not said stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub mode: Option<Mode>,
    pub groups: Option<BTreeSet<GroupName>>,
}

/// A rule as a file has it. What is not said of it is as it is by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedRule {
    /// Without its end.
    pub spec: RuleSpec,
    pub end: End,
}

/// When a rule ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Never,
    At(Timestamp),
    /// So long after it was made; one that stands and ends by then is as asked.
    After(Duration),
}

impl Policy {
    /// What stood at some time: its rules, and the settings of its apps.
    pub fn of_past<'a>(rules: impl IntoIterator<Item = &'a Rule>, apps: &[App]) -> Self {
        let settings = |app: &App| Settings { mode: Some(app.mode), groups: Some(app.groups.clone()) };
        let apps = apps.iter().map(|app| (app.name.clone(), settings(app))).collect();
        Self { apps, ..Self::of_rules(rules) }
    }

    /// A policy of these rules alone.
    pub fn of_rules<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Self {
        let rules = rules.into_iter().map(|rule| (rule.tuple(), WantedRule::from(rule))).collect();
        Self { rules, ..Self::default() }
    }

    /// The rules in the order in which they are written and spoken of.
    pub fn ordered(&self) -> Vec<&WantedRule> {
        let mut rules: Vec<&WantedRule> = self.rules.values().collect();
        rules.sort_by_cached_key(|wanted| place(&wanted.spec.tuple()));
        rules
    }
}

/// What rules are ordered by.
fn place(tuple: &Tuple) -> impl Ord + use<> {
    let Tuple { source, destination, protocol, ports, action } = tuple;
    (source.clone(), destination.clone(), *protocol, ports.clone(), *action)
}

impl WantedRule {
    /// As it is asked for, where its end is a time; one that lasts so long has none before it is made.
    pub fn whole(&self) -> RuleSpec {
        let expires_at = match self.end {
            End::At(time) => Some(time),
            End::Never | End::After(_) => None,
        };
        RuleSpec { expires_at, ..self.spec.clone() }
    }
}

impl From<&Rule> for WantedRule {
    fn from(rule: &Rule) -> Self {
        let Tuple { source, destination, protocol, ports, action } = rule.tuple();
        let mut spec = RuleSpec::new(source, destination, protocol, ports, action);
        spec.mode = rule.mode;
        spec.on_deny = rule.on_deny;
        spec.reason.clone_from(&rule.reason);
        Self { spec, end: rule.expires_at.map_or(End::Never, End::At) }
    }
}

#[cfg(test)]
mod tests;
