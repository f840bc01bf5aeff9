//! Who a selector stands for, one of each kind.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use common::Identity;

use crate::{
    model::{App, GroupName, Isolation, Mode, Selector, Target},
    store::{Refusal, State},
};

/// One end of a flow.
#[derive(Clone, Debug)]
pub(super) enum Side {
    Host,
    App(Arc<App>),
    /// An app that does not exist yet: it is in this group, or in none.
    Future {
        identity: Identity,
        group: Option<GroupName>,
    },
}

impl Side {
    pub(super) fn identity(&self) -> Identity {
        match self {
            Self::Host => Identity::HOST,
            Self::App(app) => app.identity,
            Self::Future { identity, .. } => *identity,
        }
    }

    /// The selectors whose rules hold for it.
    pub(super) fn selectors(&self, state: &State) -> Vec<Selector> {
        match self {
            Self::Host => vec![Selector::Host],
            Self::App(app) => state.covering(&Selector::App(app.name.clone())),
            Self::Future { group, .. } => group.iter().cloned().map(Selector::Group).chain([Selector::Any]).collect(),
        }
    }

    pub(super) fn groups(&self) -> Vec<GroupName> {
        match self {
            Self::Host => Vec::new(),
            Self::App(app) => app.groups.iter().cloned().collect(),
            Self::Future { group, .. } => group.iter().cloned().collect(),
        }
    }

    pub(super) fn is_audited(&self) -> bool {
        match self {
            Self::App(app) => app.mode == Mode::Audit,
            Self::Host | Self::Future { .. } => false,
        }
    }

    /// What isolates it, and whether that holds all there is of it.
    pub(super) fn isolations(&self, state: &State) -> (bool, Vec<Isolation>) {
        let Self::App(app) = self else { return (false, Vec::new()) };
        let isolations: Vec<Isolation> =
            state.isolations_of(&app.name).map(|isolation| Isolation::clone(isolation)).collect();
        let is_isolated = |instance| {
            let target = Target { app: app.name.clone(), instance };
            isolations.iter().any(|isolation| isolation.target() == target)
        };
        let mut live = state.instances_of(&app.name).peekable();
        let is_whole = is_isolated(None) || live.peek().is_some() && live.all(|number| is_isolated(Some(number)));
        (is_whole, isolations)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::App(app) => app.name.fmt(f),
            Self::Future { group: None, .. } => f.write_str("an app that no rule names"),
            Self::Future { group: Some(group), .. } => write!(f, "an app that is in `{group}` only"),
        }
    }
}

/// The ends that a selector stands for; `field` is where the request names it. A group and `any` stand for apps that are
/// to come, too: who asks about them does not ask about today's members.
pub(super) fn all(state: &State, selector: &Selector, field: &'static str) -> Result<Vec<Side>, Refusal> {
    let future = |group| Side::Future { identity: identity_to_come(field), group };
    match selector {
        Selector::Host => Ok(vec![Side::Host]),
        Selector::App(name) => Ok(vec![Side::App(state.known_app(name, field)?.clone())]),
        Selector::Group(name) => {
            state.known_group(name, field)?;
            let members = one_of_each_kind(state, |app| app.groups.contains(name));
            Ok(members.into_iter().chain([future(Some(name.clone()))]).collect())
        }
        Selector::Any => Ok(one_of_each_kind(state, |_| true).into_iter().chain([future(None)]).collect()),
    }
}

/// One that no app has, and another one for each end: two apps to come need not be the same.
fn identity_to_come(field: &str) -> Identity {
    let last = Identity::LAST_APP;
    match field {
        "source" => last,
        _ => Identity::new(last.number() - 1).unwrap_or(last),
    }
}

/// Apps that no rule and no isolation names fare alike if they are in the same groups and mode.
fn one_of_each_kind(state: &State, is_meant: impl Fn(&App) -> bool) -> Vec<Side> {
    let mut singular = Vec::new();
    let mut kinds: BTreeMap<(bool, BTreeSet<GroupName>), Arc<App>> = BTreeMap::new();
    for app in state.replica().apps.values().filter(|app| is_meant(app)) {
        if state.is_named(&app.name) || state.isolations_of(&app.name).next().is_some() {
            singular.push(app.clone());
        } else {
            kinds.entry((app.mode == Mode::Audit, app.groups.clone())).or_insert_with(|| app.clone());
        }
    }
    singular.into_iter().chain(kinds.into_values()).map(Side::App).collect()
}
