//! What stands otherwise than files say, and the change set that makes them agree.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{AccessDifference, End, Policy, Settings, StandingAccess, WantedRule, place, touched};
use crate::model::{
    App, AppName, AppSettings, AppWish, ChangeSet, Group, GroupName, GroupWish, Mode, Rule, RuleSpec, RuleView,
    Selector, Timestamp,
};

/// What stands, as of one state.
#[derive(Clone, Debug)]
pub struct Standing {
    pub rules: Vec<RuleView>,
    pub apps: Vec<App>,
    pub groups: Vec<Group>,
    pub access: StandingAccess,
    /// By the clock that ends rules.
    pub now: Timestamp,
}

/// What goes that stands but that no file has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prune {
    Nothing,
    /// All rules but the one that a store is born with; layers, roles and resources, of the kinds of which files speak.
    Rules,
    /// Those with this app on either side.
    RulesOf(AppName),
    /// All rules. For going back to a state, which says itself what was not there.
    Everything,
}

/// What making the policy stand would change, in the order of files.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    pub groups: Vec<GroupName>,
    pub apps: Vec<AppDifference>,
    pub created: Vec<RuleSpec>,
    pub updated: Vec<Updated>,
    pub deleted: Vec<RuleView>,
    /// Rules that stand as the files say.
    pub unchanged: usize,
    /// Rules of the files whose end is past.
    pub over: Vec<RuleSpec>,
    /// Live flows that live by a rule that changes or goes, or that a new deny may hit: at most so many are cut.
    pub live_flows: u64,
    pub access: AccessDifference,
}

/// An app that is not as files say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppDifference {
    pub name: AppName,
    /// Absent where it is new.
    pub before: Option<App>,
    /// Of what changes.
    pub mode: Option<Mode>,
    pub groups: Option<BTreeSet<GroupName>>,
}

/// A rule that stands with other settings.
#[derive(Clone, Debug)]
pub struct Updated {
    pub before: RuleView,
    pub spec: RuleSpec,
}

impl Standing {
    /// What an export writes: all rules; the apps that rules name or that are set otherwise than a new one; groups; layers,
    /// roles and resources.
    pub fn policy(&self) -> Policy {
        let mut policy = Policy::of_rules(self.rules.iter().map(|view| &view.rule));
        let sides = self.rules.iter().flat_map(|view| [&view.rule.source, &view.rule.destination]);
        let named: BTreeSet<&AppName> = sides.filter_map(Selector::app).collect();
        let said = |app: &&App| named.contains(&app.name) || app.mode != Mode::default() || !app.groups.is_empty();
        let settings = |app: &App| Settings { mode: Some(app.mode), groups: Some(app.groups.clone()) };
        policy.apps = self.apps.iter().filter(said).map(|app| (app.name.clone(), settings(app))).collect();
        policy.groups = self.groups.iter().map(|group| group.name.clone()).collect();
        policy.access = self.access.policy();
        policy
    }
}

impl Difference {
    pub fn of(policy: &Policy, standing: &Standing, prune: &Prune) -> Self {
        let known: BTreeSet<&GroupName> = standing.groups.iter().map(|group| &group.name).collect();
        let groups = policy.groups.iter().filter(|group| !known.contains(group)).cloned().collect();
        let access = AccessDifference::of(&policy.access, &standing.access, prune);
        let mut difference = Self { groups, apps: of_apps(policy, standing), access, ..Self::default() };
        let views: HashMap<_, _> = standing.rules.iter().map(|view| (view.rule.tuple(), view)).collect();
        for wanted in policy.ordered() {
            difference.take(wanted, views.get(&wanted.spec.tuple()).copied(), standing.now);
        }
        let gone = standing
            .rules
            .iter()
            .filter(|view| !policy.rules.contains_key(&view.rule.tuple()) && prune.covers(&view.rule));
        difference.deleted = gone.cloned().collect();
        difference.deleted.sort_by_cached_key(|view| place(&view.rule.tuple()));
        difference.live_flows = touched::flows(&difference, standing);
        difference
    }

    fn take(&mut self, wanted: &WantedRule, standing: Option<&RuleView>, now: Timestamp) {
        let Some(spec) = wanted.spec_for(standing.map(|view| &view.rule), now) else {
            self.over.push(wanted.spec.clone());
            return;
        };
        match standing {
            None => self.created.push(spec),
            Some(view) if view.rule.is_as(&spec) => self.unchanged += 1,
            Some(view) => self.updated.push(Updated { before: view.clone(), spec }),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
            && self.apps.is_empty()
            && self.created.is_empty()
            && self.updated.is_empty()
            && self.deleted.is_empty()
            && self.access.is_empty()
    }

    /// What makes the policy stand, all or nothing.
    pub fn change_set(&self) -> ChangeSet {
        ChangeSet {
            groups: self.groups.clone(),
            apps: self.apps.iter().map(AppDifference::wish).collect(),
            create: self.created.iter().chain(self.updated.iter().map(|updated| &updated.spec)).cloned().collect(),
            delete: self.deleted.iter().map(|view| view.rule.id).collect(),
            access: self.access.changes(),
        }
    }
}

impl Prune {
    fn covers(&self, rule: &Rule) -> bool {
        match self {
            Self::Nothing => false,
            Self::Rules => !rule.is_built_in(),
            Self::RulesOf(app) => [&rule.source, &rule.destination].iter().any(|side| side.app() == Some(app)),
            Self::Everything => true,
        }
    }

    /// Whether layers, roles and resources go that files could have.
    pub(super) fn covers_access(&self) -> bool {
        match self {
            Self::Rules => true,
            Self::Nothing | Self::RulesOf(_) | Self::Everything => false,
        }
    }
}

impl WantedRule {
    /// What is to be asked for; nothing, if its end is past.
    fn spec_for(&self, standing: Option<&Rule>, now: Timestamp) -> Option<RuleSpec> {
        let expires_at = match self.end {
            End::Never => None,
            End::At(end) if end <= now => return None,
            End::At(end) => Some(end),
            End::After(time) => {
                let latest = now.after(time);
                let standing = standing.and_then(|rule| rule.expires_at);
                standing.filter(|end| latest.is_none_or(|latest| *end <= latest)).or(latest)
            }
        };
        Some(RuleSpec { expires_at, ..self.spec.clone() })
    }
}

impl AppDifference {
    fn wish(&self) -> AppWish {
        let groups = self.groups.clone().map_or_else(GroupWish::default, |groups| GroupWish::These { groups });
        AppWish { name: self.name.clone(), settings: AppSettings { mode: self.mode, groups } }
    }
}

fn of_apps(policy: &Policy, standing: &Standing) -> Vec<AppDifference> {
    let apps: BTreeMap<&AppName, &App> = standing.apps.iter().map(|app| (&app.name, app)).collect();
    let differs = |(name, settings): (&AppName, &Settings)| {
        let before = apps.get(name).copied();
        let mode = settings.mode.filter(|mode| before.map_or(Mode::default(), |app| app.mode) != *mode);
        let none = BTreeSet::new();
        let groups = settings.groups.as_ref().filter(|groups| before.map_or(&none, |app| &app.groups) != *groups);
        let same = before.is_some() && mode.is_none() && groups.is_none();
        let difference = AppDifference { name: name.clone(), before: before.cloned(), mode, groups: groups.cloned() };
        (!same).then_some(difference)
    };
    policy.apps.iter().filter_map(differs).collect()
}
