//! Rules: created, updated in place, deleted.

use std::{collections::HashMap, sync::Arc};

use super::{Answer, Draft, member, permit::Permit};
use crate::{
    model::{
        Action, Change, ChangeSet, ChangesAnswer, Deleted, Mode, Outcome, Ports, Protocol, Revision, Rule, RuleAnswer,
        RuleId, RuleSpec, Selector, TeamName, Timestamp, Tuple,
    },
    store::Refusal,
};

/// How many of the rules that still allow a pair an answer names: enough to read, and a bound on the answer's size.
const STILL_NAMED: usize = 20;

impl Draft<'_> {
    /// Makes the rule stand, or asks for it where somebody else has a say in it.
    pub(super) fn put_rule(&mut self, spec: &RuleSpec) -> Result<Answer, Refusal> {
        match self.permit_rule(spec, "")? {
            Permit::Write(team) => Ok(Answer::Rule(self.write_rule(spec, team, "")?)),
            Permit::Ask { team, of } => match self.standing(&spec.tuple()) {
                Some(rule) if rule.is_as(spec) => Ok(Answer::Rule(answer(rule, Outcome::Unchanged))),
                Some(_) | None => Ok(Answer::Asked(self.ask(spec, team, of)?)),
            },
        }
    }

    /// The rule with this tuple, as planned so far.
    pub(super) fn standing(&self, tuple: &Tuple) -> Option<&Arc<Rule>> {
        let standing = self.rules.get(tuple).or_else(|| self.state.rule_with(tuple));
        standing.filter(|rule| !self.deleted.contains(&rule.id))
    }

    /// Makes the rule stand, for a team or for the operators. Where one with the same tuple stands, that one is updated.
    pub(super) fn write_rule(
        &mut self,
        spec: &RuleSpec,
        team: Option<TeamName>,
        path: &str,
    ) -> Result<RuleAnswer, Refusal> {
        for (name, side) in [("source", &spec.source), ("destination", &spec.destination)] {
            match side {
                Selector::App(app) => drop(self.app(app, &member(path, name))?),
                Selector::Group(group) => self.group(group, &member(path, name))?,
                Selector::Host | Selector::Any => {}
            }
        }
        self.check_end(spec.expires_at, member(path, "expires_at"))?;
        match self.standing(&spec.tuple()).cloned() {
            Some(rule) if rule.is_as(spec) => Ok(answer(&rule, Outcome::Unchanged)),
            Some(rule) => {
                let updated = Rule {
                    mode: spec.mode,
                    expires_at: spec.expires_at,
                    on_deny: spec.on_deny,
                    reason: spec.reason.clone(),
                    revision: self.revision,
                    ..Rule::clone(&rule)
                };
                Ok(answer(&self.stand(updated), Outcome::Updated))
            }
            None => {
                let rule = self.new_rule(spec, team)?;
                self.rows += rule.rows();
                Ok(answer(&self.stand(rule), Outcome::Created))
            }
        }
    }

    fn new_rule(&mut self, spec: &RuleSpec, team: Option<TeamName>) -> Result<Rule, Refusal> {
        if let Some(team) = &team {
            self.check_quota(team)?;
            *self.rules_of.entry(team.clone()).or_default() += 1;
        }
        let id = RuleId(self.next_rule);
        self.next_rule = self.next_rule.checked_add(1).ok_or(Refusal::Exhausted("ids of rules"))?;
        Ok(Rule {
            id,
            source: spec.source.clone(),
            destination: spec.destination.clone(),
            protocol: spec.protocol,
            ports: spec.ports.clone(),
            action: spec.action,
            mode: spec.mode,
            expires_at: spec.expires_at,
            on_deny: spec.on_deny,
            reason: spec.reason.clone(),
            revision: self.revision,
            created_at: self.now,
            created_by: self.by.clone(),
            team,
        })
    }

    fn stand(&mut self, rule: Rule) -> Arc<Rule> {
        let rule = Arc::new(rule);
        self.rules.insert(rule.tuple(), rule.clone());
        let pair = (rule.source.clone(), rule.destination.clone());
        self.touched.entry(pair).or_default().insert(rule.id, rule.clone());
        self.changes.push(Change::PutRule { rule: rule.clone() });
        rule
    }

    /// Takes a standing rule away; `field` is where the request names it.
    pub(super) fn delete_rule(&mut self, id: RuleId, field: &str) -> Result<Arc<Rule>, Refusal> {
        let standing = self.state.rule(id).filter(|rule| !self.deleted.contains(&rule.id)).cloned();
        let rule = standing.ok_or_else(|| Refusal::not_found(field, "a rule", &id.to_string(), []))?;
        self.permit_removal(&rule, field)?;
        self.deleted.insert(id);
        if let Some(team) = &rule.team {
            *self.rules_of.entry(team.clone()).or_default() -= 1;
        }
        self.rows -= rule.rows();
        self.changes.push(Change::DeleteRule { id });
        Ok(rule)
    }

    /// Says what a deletion left standing.
    pub(super) fn deleted(&self, rule: &Rule) -> Deleted {
        let still_allowed_by = self.allowing(&rule.source, &rule.destination);
        Deleted { id: rule.id, revision: self.revision, rule: rule.clone(), still_allowed_by, dry_run: false }
    }

    /// Rules that allow something from one selector to the other once the plan is done: first those of exactly this pair,
    /// then those of groups and wildcards that stand for it too, each the oldest first.
    fn allowing(&self, source: &Selector, destination: &Selector) -> Vec<Rule> {
        let destinations = self.state.covering(destination);
        let pairs = self.state.covering(source).into_iter();
        let pairs =
            pairs.flat_map(|source| destinations.iter().map(move |destination| (source.clone(), destination.clone())));
        pairs.flat_map(|pair| self.allowing_between(&pair)).take(STILL_NAMED).collect()
    }

    /// Those of exactly this pair.
    fn allowing_between(&self, pair: &(Selector, Selector)) -> Vec<Rule> {
        let touched = self.touched.get(pair);
        let is_touched = |id: &RuleId| self.deleted.contains(id) || touched.is_some_and(|rules| rules.contains_key(id));
        let untouched = self.state.rules_between(&pair.0, &pair.1).filter(|rule| !is_touched(&rule.id));
        let standing = untouched.chain(touched.into_iter().flat_map(|rules| rules.values()));
        let allows = standing.filter(|rule| rule.action == Action::Allow && rule.mode == Mode::Enforce);
        let mut allows: Vec<Rule> = allows.take(STILL_NAMED).map(|rule| Rule::clone(rule)).collect();
        allows.sort_by_key(|rule| rule.id);
        allows
    }

    /// Deletes, then sets and creates: so one change can replace a rule by a narrower one.
    pub(super) fn change(&mut self, set: &ChangeSet) -> Result<ChangesAnswer, Refusal> {
        let mut gone = Vec::with_capacity(set.delete.len());
        for (i, id) in set.delete.iter().enumerate() {
            gone.push(self.delete_rule(*id, &format!("delete[{i}]"))?);
        }
        for (i, group) in set.groups.iter().enumerate() {
            let path = format!("groups[{i}]");
            self.permit_group(group, &path)?;
            self.group(group, &path)?;
        }
        let mut apps = Vec::with_capacity(set.apps.len());
        for (i, wish) in set.apps.iter().enumerate() {
            apps.push(self.set_app(&wish.name, &wish.settings, &format!("apps[{i}]"))?);
        }
        let mut created = Vec::with_capacity(set.create.len());
        for (i, spec) in set.create.iter().enumerate() {
            let path = format!("create[{i}]");
            let team = self.permit_rule(spec, &path)?.without_asking(self, spec, &path)?;
            created.push(self.write_rule(spec, team, &path)?);
        }
        let access = self.change_access(&set.access)?;
        let deleted = self.all_deleted(&gone);
        Ok(ChangesAnswer { revision: self.resulting_revision(), apps, access, created, deleted, dry_run: false })
    }

    /// As [`Draft::deleted`], looking once per pair: a set may delete all of a pair's many rules.
    pub(super) fn all_deleted(&self, gone: &[Arc<Rule>]) -> Vec<Deleted> {
        let mut of_pairs: HashMap<(&Selector, &Selector), Vec<Rule>> = HashMap::new();
        let deleted = gone.iter().map(|rule| {
            let pair = (&rule.source, &rule.destination);
            let still = of_pairs.entry(pair).or_insert_with(|| self.allowing(pair.0, pair.1)).clone();
            Deleted {
                id: rule.id,
                revision: self.revision,
                rule: Rule::clone(rule),
                still_allowed_by: still,
                dry_run: false,
            }
        });
        deleted.collect()
    }
}

/// The rule that a store is born with: a node reaches its own endpoints, for health checks.
pub(in crate::store) fn built_in(now: Timestamp) -> Rule {
    let spec = RuleSpec::new(Selector::Host, Selector::Any, Protocol::Any, Ports::All, Action::Allow);
    Rule {
        id: RuleId(1),
        source: spec.source,
        destination: spec.destination,
        protocol: spec.protocol,
        ports: spec.ports,
        action: spec.action,
        mode: spec.mode,
        expires_at: None,
        on_deny: None,
        reason: "health checks: a node reaches its own instances".parse().ok(),
        revision: Revision::default().next(),
        created_at: now,
        created_by: Rule::BUILT_IN.to_owned(),
        team: None,
    }
}

fn answer(rule: &Rule, outcome: Outcome) -> RuleAnswer {
    RuleAnswer { rule: rule.clone(), outcome, dry_run: false }
}
