//! Who owns what and whom tokens let in, read off the state: no request has to ask the disk for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::State;
use crate::model::{ApiToken, AppName, GroupName, Rule, RuleRequest, Team, TeamName, TokenHash, TokenName};

/// The indexes.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    by_hash: HashMap<TokenHash, TokenName>,
    rules_of: BTreeMap<TeamName, u64>,
}

impl State {
    /// The team that an app is of: one at most, as no two teams' patterns overlap.
    pub fn owner_of_app(&self, app: &AppName) -> Option<&Arc<Team>> {
        self.replica.teams.values().find(|team| team.owns_app(app))
    }

    pub fn owner_of_group(&self, group: &GroupName) -> Option<&Arc<Team>> {
        self.replica.teams.values().find(|team| team.owns_group(group))
    }

    /// The team that a resource, a role or a layer of this id is of.
    pub fn owner_of_id(&self, id: &str) -> Option<&Arc<Team>> {
        self.replica.teams.values().find(|team| team.owns_id(id))
    }

    /// The token with this hash.
    pub fn token_with(&self, hash: &TokenHash) -> Option<&Arc<ApiToken>> {
        self.rights.by_hash.get(hash).and_then(|name| self.replica.tokens.get(name))
    }

    /// How many rules are this team's.
    pub fn rules_of(&self, team: &TeamName) -> u64 {
        self.rights.rules_of.get(team).copied().unwrap_or(0)
    }

    /// The requests that a team has made and that nobody has answered.
    pub fn requests_of<'a>(&'a self, team: &'a TeamName) -> impl Iterator<Item = &'a Arc<RuleRequest>> {
        self.replica.requests.values().filter(move |request| request.team == *team)
    }
}

impl Index {
    pub(super) fn note_token(&mut self, token: &ApiToken) {
        self.by_hash.extend(token.hash.map(|hash| (hash, token.name.clone())));
    }

    pub(super) fn forget_token(&mut self, token: &ApiToken) {
        if let Some(hash) = &token.hash {
            self.by_hash.remove(hash);
        }
    }

    pub(super) fn note_rule(&mut self, rule: &Rule) {
        if let Some(team) = &rule.team {
            *self.rules_of.entry(team.clone()).or_default() += 1;
        }
    }

    pub(super) fn forget_rule(&mut self, rule: &Rule) {
        let Some(team) = &rule.team else { return };
        let Some(number) = self.rules_of.get_mut(team) else { return };
        *number -= 1;
        if *number == 0 {
            self.rules_of.remove(team);
        }
    }
}
