//! What is asked of the history, and what it answers.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    access::{Member, Subject},
    at::At,
    change::{Change, Key},
    entry::{EntryKind, HistoryEntry},
    fields::Fields,
    history::Revision,
    invalid::{Invalid, InvalidField},
    name::{AppName, NodeName},
    rule::RuleId,
    seal::Seal,
    selector::Selector,
    time::Timestamp,
};

/// Which entries to list. All of the given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryQuery {
    /// None named: those that are shown unasked.
    pub kinds: BTreeSet<EntryKind>,
    pub who: Option<String>,
    /// That something was changed of: the app itself, its rules, instances, isolations.
    pub app: Option<AppName>,
    pub rule: Option<RuleId>,
    pub since: Option<At>,
    pub until: Option<At>,
    /// Whether to say of each revision on which node it was in force by when.
    pub nodes: bool,
}

impl HistoryQuery {
    pub fn from_fields(fields: &mut Fields) -> Result<Self, InvalidField> {
        let kinds = fields.text("kind")?.unwrap_or_default();
        let kinds = kinds.split(',').filter(|kind| !kind.is_empty()).map(|kind| match kind {
            "all" => Ok(EntryKind::ALL.to_vec()),
            kind => kind.parse().map(|kind| vec![kind]),
        });
        let kinds: Vec<Vec<EntryKind>> =
            kinds.collect::<Result<_, _>>().map_err(|invalid: Invalid| invalid.in_field("kind"))?;
        Ok(Self {
            kinds: kinds.into_iter().flatten().collect(),
            who: fields.text("who")?,
            app: fields.parsed("app")?,
            rule: fields.parsed("rule")?,
            since: fields.parsed("since")?,
            until: fields.parsed("until")?,
            nodes: fields.standard("nodes", "is neither true nor false", "say `true` or `false`")?.unwrap_or(false),
        })
    }

    /// As parameters of a query string.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let kinds: Vec<&str> = self.kinds.iter().map(|kind| kind.as_str()).collect();
        let kinds = Some(kinds.join(",")).filter(|kinds| !kinds.is_empty());
        let [since, until] = [self.since, self.until].map(|at| at.map(|at| at.to_string()));
        let (app, rule) = (self.app.as_ref().map(ToString::to_string), self.rule.map(|rule| rule.to_string()));
        let all = [("kind", kinds), ("who", self.who.clone()), ("app", app), ("rule", rule), ("since", since)];
        let nodes = self.nodes.then(|| self.nodes.to_string());
        let all = all.into_iter().chain([("until", until), ("nodes", nodes)]);
        all.filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Whether it is about this entry, of those between its times.
    pub fn fits(&self, entry: &HistoryEntry) -> bool {
        let is_of_kind =
            if self.kinds.is_empty() { entry.kind.is_shown_unasked() } else { self.kinds.contains(&entry.kind) };
        let items = || entry.changes.iter().chain(&entry.before);
        is_of_kind
            && self.who.as_ref().is_none_or(|who| is_by(entry, who))
            && self.app.as_ref().is_none_or(|app| items().any(|item| is_about(item, app)))
            && self.rule.is_none_or(|rule| items().any(|item| item.key() == Key::Rule(rule)))
    }
}

/// Whether it is of this caller, or of what a gatekeeper decided about this subject.
fn is_by(entry: &HistoryEntry, who: &str) -> bool {
    entry.who == who || entry.gate.as_ref().is_some_and(|note| note.is_about(who))
}

fn is_about(item: &Change, app: &AppName) -> bool {
    let names = |sides: [&Selector; 2]| sides.iter().any(|side| side.app() == Some(app));
    match item {
        Change::PutApp { app: item } => item.name == *app,
        Change::PutRule { rule } => names([&rule.source, &rule.destination]),
        Change::PutRequest { request } => names([&request.rule.source, &request.rule.destination]),
        Change::PutTeam { team } => team.owns_app(app),
        Change::PutBinding { binding } => binding.app == *app,
        Change::PutIsolation { isolation } => isolation.app == *app,
        Change::PutLayer { layer } => layer.members.contains(&Subject::App(app.clone())),
        Change::PutRole { role } => role.members.contains(&Member::Subject(Subject::App(app.clone()))),
        Change::DeleteApp { name } => name == app,
        Change::DeleteIsolation { app: name, .. } => name == app,
        // What they were is among what was before.
        Change::DeleteRule { .. }
        | Change::DeleteBinding { .. }
        | Change::DeleteTeam { .. }
        | Change::DeleteRequest { .. }
        | Change::DeleteLayer { .. }
        | Change::DeleteRole { .. } => false,
        Change::PutGroup { .. }
        | Change::DeleteGroup { .. }
        | Change::PutNode { .. }
        | Change::DeleteNode { .. }
        | Change::PutToken { .. }
        | Change::DeleteToken { .. }
        | Change::PutResource { .. }
        | Change::DeleteResource { .. }
        | Change::PutSignerKey { .. }
        | Change::DeleteSignerKey { .. }
        | Change::PutRevocation { .. }
        | Change::DeleteRevocation { .. } => false,
    }
}

/// An entry as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryItem {
    #[serde(flatten)]
    pub entry: HistoryEntry,
    pub seal: Seal,
    /// When its revision was in force on every registered node, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force_at: Option<Timestamp>,
    /// When nodes had it in force for which it changed something, as far as that is known; where that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_force_on: Vec<InForceOn>,
    /// What it says, in words.
    #[serde(default)]
    pub what: Vec<String>,
}

/// By when a node had a revision in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForceOn {
    pub node: NodeName,
    pub at: Timestamp,
}

/// A seal that somebody wrote down: `NUMBER:SEAL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownSeal {
    pub number: u64,
    pub seal: Seal,
}

impl FromStr for KnownSeal {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let read = || {
            let (number, seal) = text.split_once(':')?;
            Some(Self { number: number.parse().ok()?, seal: seal.parse().ok()? })
        };
        let remedy = "use `NUMBER:SEAL`, as `netpol history verify` printed it";
        read().ok_or_else(|| Invalid::new(text, "is not an entry's number and seal", remedy))
    }
}

impl fmt::Display for KnownSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.seal)
    }
}

/// The answer to "is the history what was written?".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    /// The first entry that is kept.
    pub first: u64,
    /// The last one that fits, and its seal: whoever writes these down can prove later that nothing up to there was changed.
    pub number: u64,
    pub seal: Seal,
    pub revision: Revision,
    pub bytes: u64,
    /// The first thing that does not fit; absent where all does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misfit: Option<Misfit>,
}

/// What does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misfit {
    pub number: u64,
    /// The first revision that cannot be relied upon.
    pub revision: Revision,
    pub problem: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(parameters: &[(&str, &str)]) -> Result<HistoryQuery, InvalidField> {
        let owned = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut fields = Fields::of_query(owned)?;
        let query = HistoryQuery::from_fields(&mut fields)?;
        fields.finish()?;
        Ok(query)
    }

    #[test]
    fn a_question_reads_back_what_it_wrote() {
        let all = [
            ("kind", "intent,refused"),
            ("who", "operator"),
            ("app", "web"),
            ("rule", "r3"),
            ("since", "7"),
            ("nodes", "true"),
        ];
        let asked = query(&all).expect("valid");
        let again: Vec<_> = asked.parameters();
        let again: Vec<_> = again.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(query(&again), Ok(asked));
        assert_eq!(query(&[("kind", "all")]).expect("valid").kinds.len(), EntryKind::ALL.len());
    }

    #[test]
    fn a_bad_question_is_refused_naming_the_parameter() {
        for (name, value) in [
            ("kind", "rules"),
            ("app", "any"),
            ("rule", "12x"),
            ("since", "yesterday"),
            ("until", "-"),
            ("nodes", "n1"),
            ("by", "x"),
        ] {
            assert_eq!(query(&[(name, value)]).expect_err(value).field, name);
        }
        assert!("7:00".parse::<KnownSeal>().is_err());
        let known = KnownSeal { number: 7, seal: Seal::default() };
        assert_eq!(known.to_string().parse(), Ok(known));
    }
}
