//! Teams: what they own, and their end.

use std::{collections::BTreeSet, fmt::Display, sync::Arc};

use super::Draft;
use crate::{
    model::{
        AppName, AppPattern, Change, Invalid, Outcome, ResourceId, Team, TeamAnswer, TeamDeleted, TeamName,
        TeamSettings,
    },
    store::Refusal,
};

impl Draft<'_> {
    /// Gives the team, created if it is new, these settings and no others.
    pub(super) fn set_team(&mut self, name: &TeamName, settings: &TeamSettings) -> Result<TeamAnswer, Refusal> {
        self.permit_admin("name", &format!("set team {name}"))?;
        self.check_apart(name, "apps", &settings.apps, |team| &team.apps, AppPattern::overlaps)?;
        self.check_apart(name, "groups", &settings.groups, |team| &team.groups, AppPattern::overlaps)?;
        let overlaps = |one: &ResourceId, other: &ResourceId| one.covers(other.as_str()) || other.covers(one.as_str());
        self.check_apart(name, "resources", &settings.resources, |team| &team.resources, overlaps)?;
        let TeamSettings { apps, groups, resources, most_rules, most_apps } = settings.clone();
        let standing = self.state.replica().teams.get(name);
        let revision = self.revision;
        let wanted = Team { name: name.clone(), apps, groups, resources, most_rules, most_apps, revision };
        let outcome = match standing {
            None => Outcome::Created,
            Some(team) if (Team { revision: wanted.revision, ..Team::clone(team) }) == wanted => {
                return Ok(TeamAnswer { team: Team::clone(team), outcome: Outcome::Unchanged, dry_run: false });
            }
            Some(_) => Outcome::Updated,
        };
        self.changes.push(Change::PutTeam { team: Arc::new(wanted.clone()) });
        Ok(TeamAnswer { team: wanted, outcome, dry_run: false })
    }

    /// What two teams owned, either could open.
    fn check_apart<T: Display>(
        &self,
        name: &TeamName,
        field: &'static str,
        wanted: &BTreeSet<T>,
        owned: impl Fn(&Team) -> &BTreeSet<T>,
        overlaps: impl Fn(&T, &T) -> bool,
    ) -> Result<(), Refusal> {
        for (i, pattern) in wanted.iter().enumerate() {
            let others = self.state.replica().teams.values().filter(|team| team.name != *name);
            let of_both = others.filter_map(|team| {
                owned(team).iter().find(|other| overlaps(other, pattern)).map(|other| (&team.name, other))
            });
            if let Some((team, other)) = of_both.into_iter().next() {
                let problem = format!("matches some of what `{other}` does, which is of team {team}");
                let remedy = "take patterns that no name can match both of";
                return Err(Refusal::Conflict(
                    Invalid::new(pattern, problem, remedy).in_field(format!("{field}[{i}]")),
                ));
            }
        }
        Ok(())
    }

    pub(super) fn delete_team(&mut self, name: &TeamName) -> Result<TeamDeleted, Refusal> {
        self.permit_admin("name", &format!("delete team {name}"))?;
        let team = self.known_team(name, "name")?;
        let rules = self.state.rules_of(name);
        let tokens = self
            .state
            .replica()
            .tokens
            .values()
            .filter(|token| token.grants.iter().any(|grant| grant.team() == Some(name)));
        let tokens: Vec<&str> = tokens.map(|token| token.name.as_str()).take(MOST_NAMED).collect();
        if rules > 0 || !tokens.is_empty() {
            let problem = match tokens.as_slice() {
                [] => format!("has rules, {rules} of them"),
                tokens => format!("has tokens ({}), and rules: {rules}", tokens.join(", ")),
            };
            return Err(Refusal::conflict("name", name, problem, "revoke those first"));
        }
        let asked = self.state.requests_of(name).map(|request| Change::DeleteRequest { id: request.id });
        self.changes.extend(asked.collect::<Vec<_>>());
        self.changes.push(Change::DeleteTeam { name: name.clone() });
        Ok(TeamDeleted { revision: self.revision, team: Team::clone(&team), dry_run: false })
    }

    pub(super) fn known_team(&self, name: &TeamName, field: &str) -> Result<Arc<Team>, Refusal> {
        let teams = &self.state.replica().teams;
        let known = teams.keys().map(TeamName::as_str);
        teams.get(name).cloned().ok_or_else(|| Refusal::not_found(field, "a team", name.as_str(), known))
    }

    /// Refuses one app more than its team may have, to those who make it by naming it. Operators may, and what nodes run
    /// counts, but is refused to nobody.
    pub(super) fn check_app_quota(&mut self, app: &AppName) -> Result<(), Refusal> {
        let is_bound = self.rights.writes_for_some() && !self.rights.is_operator();
        let owner = self.state.owner_of_app(app).filter(|_| is_bound);
        let Some((team, most)) = owner.and_then(|team| Some((team, team.most_apps?))) else { return Ok(()) };
        let state = self.state;
        let standing = || state.replica().apps.keys().filter(|app| team.owns_app(app)).count();
        let number = self.apps_of.entry(team.name.clone()).or_insert_with(standing);
        if *number < usize::try_from(most).unwrap_or(usize::MAX) {
            *number += 1;
            return Ok(());
        }
        let problem = format!("has {number} apps, and its writers may make no more");
        Err(over("team", &team.name, problem, "delete some that are not needed, or ask an admin for more"))
    }

    /// Refuses one rule more than a team may have.
    pub(super) fn check_quota(&self, team: &TeamName) -> Result<(), Refusal> {
        let Some(most) = self.state.replica().teams.get(team).and_then(|team| team.most_rules) else { return Ok(()) };
        let planned = self.rules_of.get(team).copied().unwrap_or(0);
        let standing = i64::try_from(self.state.rules_of(team)).unwrap_or(i64::MAX);
        if standing.saturating_add(planned) < i64::from(most) {
            return Ok(());
        }
        let problem = format!("has {most} rules, and may have no more");
        Err(over("team", team, problem, "revoke some that are not needed, or ask an admin for more"))
    }
}

fn over(field: &str, team: &TeamName, problem: String, remedy: &'static str) -> Refusal {
    Refusal::OverQuota(Invalid::new(team, problem, remedy).in_field(field))
}

/// How many tokens a refusal names.
const MOST_NAMED: usize = 5;
