//! Who may: one place that decides, over the same state that the change is made on.
//!
//! A rule concerns two ends. Each is the asker's own, another's, or stands for many (`any`, `host`, a group); what may be
//! done follows from the two. Operators may do all of it. The matrix is in `docs/architecture.md`.

use std::collections::BTreeSet;

use super::{Draft, member};
use crate::{
    model::{Action, App, AppName, Grant, GroupName, Mode, Rule, RuleRequest, RuleSpec, Selector, Team, TeamName},
    store::{Denied, Refusal},
};

/// What an asker may do about a rule.
pub(super) enum Permit {
    /// Write it: for a team, or as an operator.
    Write(Option<TeamName>),
    /// Have it asked for.
    Ask { team: TeamName, of: Option<TeamName> },
}

/// One end of a rule, as the asker sees it.
enum End<'a> {
    Own(&'a Team),
    /// An app of another team, or of none.
    Others(&'a AppName, Option<&'a Team>),
    /// Many apps, or none: a group that is not the asker's to speak of, `any`, `host`.
    Many,
}

impl Permit {
    /// Whom the rule is written for, where nobody can be asked: of many rules all stand or none does.
    pub(super) fn without_asking(
        self,
        draft: &Draft<'_>,
        spec: &RuleSpec,
        path: &str,
    ) -> Result<Option<TeamName>, Refusal> {
        match self {
            Self::Write(team) => Ok(team),
            Self::Ask { of, .. } => {
                let why = "among many rules nobody is asked; ask for this one by itself".to_owned();
                let team = of.map(|team| format!(" or `writer:{team}`"));
                let wanted = format!("role `operator`{}", team.unwrap_or_default());
                Err(draft.denied(if path.is_empty() { "(body)" } else { path }, what(spec), why, wanted))
            }
        }
    }
}

impl Draft<'_> {
    /// Whether the asker may make a rule stand; `path` is where the request has it.
    pub(super) fn permit_rule(&self, spec: &RuleSpec, path: &str) -> Result<Permit, Refusal> {
        if self.rights.is_operator() {
            return Ok(Permit::Write(None));
        }
        let standing = self.standing(&spec.tuple());
        if let Some(rule) = standing.filter(|rule| rule.action == Action::Deny && !self.rights.wrote(rule)) {
            let why = format!("{} is {}'s deny", rule.id, owner(rule));
            return Err(self.denied(member(path, "action"), what(spec), why, holder(rule)));
        }
        let (source, destination) = (self.end(&spec.source), self.end(&spec.destination));
        match (spec.action, source, destination) {
            (_, End::Own(team), End::Own(_)) => Ok(Permit::Write(Some(team.name.clone()))),
            (Action::Allow, End::Own(team), End::Others(_, other))
            | (Action::Allow, End::Others(_, other), End::Own(team)) => {
                Ok(Permit::Ask { team: team.name.clone(), of: other.map(|other| other.name.clone()) })
            }
            (Action::Deny, End::Own(team), End::Others(app, _)) => {
                self.permit_deny(spec, team, app, "destination", path)
            }
            (Action::Deny, End::Others(app, _), End::Own(team)) => self.permit_deny(spec, team, app, "source", path),
            (Action::Allow, End::Many, End::Own(team))
            | (Action::Deny, End::Many, End::Own(team))
            | (Action::Deny, End::Own(team), End::Many) => self.permit_many(spec, team, path),
            (Action::Allow, End::Own(_), End::Many) => {
                let why = format!("`{}` opens apps of others", spec.destination);
                Err(self.denied(member(path, "destination"), what(spec), why, "role `operator`"))
            }
            (_, End::Others(..) | End::Many, End::Others(..) | End::Many) => Err(self.denied(
                member(path, "source"),
                what(spec),
                "neither end is an app of a team of theirs".to_owned(),
                self.holders_of_either(spec),
            )),
        }
    }

    /// A deny may be written by the owner of either end, but not about an app that nobody knows: that would make it.
    fn permit_deny(
        &self,
        spec: &RuleSpec,
        team: &Team,
        other: &AppName,
        side: &str,
        path: &str,
    ) -> Result<Permit, Refusal> {
        if self.state.app(other).is_some() {
            return Ok(Permit::Write(Some(team.name.clone())));
        }
        let why = format!("it would make the app `{other}`, which is not of team {}", team.name);
        Err(self.denied(member(path, side), what(spec), why, self.holder_of(other)))
    }

    fn permit_many(&self, spec: &RuleSpec, team: &Team, path: &str) -> Result<Permit, Refusal> {
        let new_group = [&spec.source, &spec.destination].into_iter().filter_map(Selector::group);
        let new_group = new_group.filter(|group| self.state.group(group).is_none()).find(|group| !self.is_own(group));
        let wanted = format!("role `operator` or `wide:{}`", team.name);
        let side = if matches!(self.end(&spec.source), End::Many) { "source" } else { "destination" };
        match new_group {
            Some(group) => {
                let why = format!("it would make the group `{group}`, which is not of team {}", team.name);
                Err(self.denied(member(path, side), what(spec), why, "role `operator`"))
            }
            None if self.rights.is_wide_for(&team.name) => Ok(Permit::Write(Some(team.name.clone()))),
            None => Err(self.denied(member(path, side), what(spec), "it names more than apps".to_owned(), wanted)),
        }
    }

    /// Whether the asker may take a rule away: an allow by either end's owner, a deny by whoever wrote it.
    pub(super) fn permit_removal(&self, rule: &Rule, field: &str) -> Result<(), Refusal> {
        let has_an_end =
            || [&rule.source, &rule.destination].into_iter().any(|side| matches!(self.end(side), End::Own(_)));
        let may = match rule.action {
            Action::Allow => has_an_end() || self.rights.wrote(rule),
            Action::Deny => self.rights.wrote(rule),
        };
        if may || self.rights.is_operator() {
            return Ok(());
        }
        let (what, why) = (format!("remove {}", rule.id), format!("it is {}'s {}", owner(rule), rule.action));
        Err(self.denied(field, what, why, holder(rule)))
    }

    /// Whether the asker may say yes: whoever has the end that the asking team has not.
    pub(super) fn permit_acceptance(&self, request: &RuleRequest) -> Result<(), Refusal> {
        let is_theirs = |side: &Selector| self.owner_of(side).is_some_and(|team| team.name == request.team);
        let open: Vec<&Selector> =
            [&request.rule.source, &request.rule.destination].into_iter().filter(|side| !is_theirs(side)).collect();
        let may = open.len() < 2 && open.iter().all(|side| matches!(self.end(side), End::Own(_)));
        if may || self.rights.is_operator() {
            return Ok(());
        }
        let why = match open.as_slice() {
            [side] => format!("`{side}` is no app of a team of theirs"),
            _ => format!("neither end is of team {} any more", request.team),
        };
        Err(self.denied("id", format!("accept {}", request.id), why, self.holders_of_all(&open)))
    }

    /// Whether the asker may end a request: whoever may accept it, and who asked.
    pub(super) fn permit_rejection(&self, request: &RuleRequest) -> Result<(), Refusal> {
        if self.rights.writes_for(&request.team) {
            return Ok(());
        }
        self.permit_acceptance(request).map_err(|refusal| match refusal {
            Refusal::Denied(denied) => {
                Refusal::Denied(Box::new(Denied { what: format!("reject {}", request.id), ..*denied }))
            }
            other => other,
        })
    }

    /// Whether the asker may make of an app what it is to be.
    pub(super) fn permit_app(&self, before: &App, after: &App, path: &str) -> Result<(), Refusal> {
        if self.rights.is_operator() {
            return Ok(());
        }
        let what = || format!("set app {}", before.name);
        self.permit_own(&before.name, &member(path, "name"), what())?;
        if before.mode != after.mode {
            let why = "its mode decides what its own end denies".to_owned();
            return Err(self.denied(member(path, "mode"), what(), why, "role `operator`"));
        }
        self.permit_membership(before.groups.symmetric_difference(&after.groups), &member(path, "groups"), &what())
    }

    /// Whether the asker may have a group stand.
    pub(super) fn permit_group(&self, group: &GroupName, path: &str) -> Result<(), Refusal> {
        if self.rights.is_operator() || self.state.group(group).is_some() {
            return Ok(());
        }
        self.permit_membership([group], path, &format!("make group {group}"))
    }

    /// Whether the asker may delete an app: one that came back would be in no group, not isolated and not in audit.
    pub(super) fn permit_app_removal(&self, app: &App) -> Result<(), Refusal> {
        if self.rights.is_operator() {
            return Ok(());
        }
        let what = format!("delete app {}", app.name);
        self.permit_own(&app.name, "name", what.clone())?;
        let held = self.state.isolations_of(&app.name).next().is_some() || app.mode == Mode::Audit;
        if held {
            let why = "operators isolated it or set its mode".to_owned();
            return Err(self.denied("name", what, why, "role `operator`"));
        }
        self.permit_membership(&app.groups, "name", &what)
    }

    fn permit_own(&self, app: &AppName, field: &str, what: String) -> Result<(), Refusal> {
        match self.end(&Selector::App(app.clone())) {
            End::Own(_) => Ok(()),
            End::Others(..) | End::Many => {
                let why = match self.state.owner_of_app(app) {
                    Some(team) => format!("`{app}` is of team {}", team.name),
                    None => format!("`{app}` is of no team"),
                };
                Err(self.denied(field, what, why, self.holder_of(app)))
            }
        }
    }

    fn permit_membership<'a>(
        &self,
        groups: impl IntoIterator<Item = &'a GroupName>,
        field: &str,
        what: &str,
    ) -> Result<(), Refusal> {
        let Some(group) = groups.into_iter().find(|group| !self.is_own(group)) else { return Ok(()) };
        let (why, wanted) = match self.state.owner_of_group(group) {
            Some(team) => (
                format!("group `{group}` is of team {}", team.name),
                format!("role `operator` or `writer:{}`", team.name),
            ),
            None => (format!("group `{group}` is of no team"), "role `operator`".to_owned()),
        };
        Err(self.denied(field, what, why, wanted))
    }

    /// Whether the asker may set or delete a resource, a role or a layer: whoever owns its id decides who may what there, and
    /// who is in it. So a permission for a role of another team is theirs to hand on.
    pub(super) fn permit_access(&self, id: &str, field: &str, what: &str) -> Result<(), Refusal> {
        let owner = self.state.owner_of_id(id);
        if self.rights.is_operator() || owner.is_some_and(|team| self.rights.writes_for(&team.name)) {
            return Ok(());
        }
        let (why, wanted) = match owner {
            Some(team) => {
                (format!("`{id}` is of team {}", team.name), format!("role `operator` or `writer:{}`", team.name))
            }
            None => (format!("`{id}` is of no team"), "role `operator`".to_owned()),
        };
        Err(self.denied(field, what, why, wanted))
    }

    pub(super) fn permit_operator(&self, field: &str, what: &str) -> Result<(), Refusal> {
        let why = || "no team has a say in it".to_owned();
        if self.rights.is_operator() { Ok(()) } else { Err(self.denied(field, what, why(), "role `operator`")) }
    }

    pub(super) fn permit_admin(&self, field: &str, what: &str) -> Result<(), Refusal> {
        let why = || "it decides who may do what".to_owned();
        if self.rights.is_admin() { Ok(()) } else { Err(self.denied(field, what, why(), "role `admin`")) }
    }

    fn end<'a>(&'a self, side: &'a Selector) -> End<'a> {
        match (side, self.owner_of(side)) {
            (Selector::App(_), Some(team)) if self.rights.writes_for(&team.name) => End::Own(team),
            (Selector::Group(_), Some(team)) if self.rights.is_wide_for(&team.name) => End::Own(team),
            (Selector::App(app), other) => End::Others(app, other),
            (Selector::Group(_) | Selector::Any | Selector::Host, _) => End::Many,
        }
    }

    fn owner_of(&self, side: &Selector) -> Option<&Team> {
        let owner = match side {
            Selector::App(app) => self.state.owner_of_app(app),
            Selector::Group(group) => self.state.owner_of_group(group),
            Selector::Any | Selector::Host => None,
        };
        owner.map(AsRef::as_ref)
    }

    fn is_own(&self, group: &GroupName) -> bool {
        self.state.owner_of_group(group).is_some_and(|team| self.rights.writes_for(&team.name))
    }

    pub(super) fn denied(
        &self,
        field: impl Into<String>,
        what: impl Into<String>,
        why: String,
        wanted: impl Into<String>,
    ) -> Refusal {
        let (who, what, wanted, field) = (self.by.clone(), what.into(), wanted.into(), field.into());
        Refusal::Denied(Box::new(Denied { who, what, why, wanted, field }))
    }

    /// Who may speak for an app.
    fn holder_of(&self, app: &AppName) -> String {
        match self.state.owner_of_app(app) {
            Some(team) => format!("role `operator` or `writer:{}`", team.name),
            None => "role `operator`".to_owned(),
        }
    }

    fn holders_of_either(&self, spec: &RuleSpec) -> String {
        self.holders_of_all(&[&spec.source, &spec.destination])
    }

    fn holders_of_all(&self, sides: &[&Selector]) -> String {
        let teams = sides.iter().filter_map(|side| self.owner_of(side));
        let roles: BTreeSet<Grant> = teams.map(|team| Grant::Writer(team.name.clone())).collect();
        let roles: Vec<String> = roles.iter().map(|role| format!(" or `{role}`")).collect();
        format!("role `operator`{}", roles.concat())
    }
}

fn what(spec: &RuleSpec) -> String {
    format!("{} {} to reach {}", spec.action, spec.source, spec.destination)
}

fn owner(rule: &Rule) -> String {
    rule.team.as_ref().map_or_else(|| "an operator".to_owned(), |team| format!("team {team}"))
}

fn holder(rule: &Rule) -> String {
    let teams = rule.team.as_ref().map(|team| format!(" or `writer:{team}`"));
    format!("role `operator`{}", teams.unwrap_or_default())
}
