//! From a request to changes: pure, so that time, order and refusal are test data.
//!
//! A [`Draft`] is the state with the changes planned so far laid over it; the state itself is only read. What comes out is
//! made durable first and applied afterwards, or nothing comes out and nothing happened.

mod binding;
mod node;
mod rule;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use common::Identity;
use serde::{Deserialize, Serialize};

pub(crate) use self::node::{SLICE_V4, SLICE_V6};
use super::{
    principal::{NodeGrant, Principal},
    refusal::Refusal,
    state::State,
};
use crate::model::{
    App, AppName, Change, ChangeSet, ChangesAnswer, Claim, Claimed, Deleted, Join, Joined, NodeName, Released,
    Revision, Rule, RuleAnswer, RuleId, RuleSpec, Selector, Timestamp, Tuple,
};

/// What can be asked of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    PutRule(RuleSpec),
    DeleteRule(RuleId),
    Change(ChangeSet),
    /// Of a node, by itself.
    Join(Join),
    Claim(Claim),
    Release(IpAddr),
    /// Of a node, by itself: how many rows its maps hold. No change that anybody watches.
    SetCapacity(u64),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Rule(RuleAnswer),
    Deleted(Deleted),
    Changes(ChangesAnswer),
    Joined(Joined),
    Claimed(Claimed),
    Released(Released),
    Done,
}

impl Answer {
    /// The same answer, saying that nothing was done.
    pub(super) fn into_dry_run(mut self) -> Self {
        match &mut self {
            Self::Rule(answer) => answer.dry_run = true,
            Self::Deleted(answer) => answer.dry_run = true,
            Self::Changes(answer) => answer.dry_run = true,
            Self::Joined(_) | Self::Claimed(_) | Self::Released(_) | Self::Done => {}
        }
        self
    }
}

/// A request that can be done, and what doing it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) answer: Answer,
    /// What the next revision changes; no revision is used up if nothing.
    pub(super) changes: Vec<Change>,
    pub(super) capacity: Option<(NodeName, u64)>,
}

/// Decides what a request would change.
pub(super) fn plan(state: &State, command: &Command, by: &Principal, now: Timestamp) -> Result<Plan, Refusal> {
    let mut draft = Draft::new(state, by, now);
    let answer = match command {
        Command::PutRule(spec) => Answer::Rule(draft.put_rule(spec, "")?),
        Command::DeleteRule(id) => {
            let rule = draft.delete_rule(*id, "id")?;
            Answer::Deleted(draft.deleted(&rule))
        }
        Command::Change(set) => Answer::Changes(draft.change(set)?),
        Command::Join(join) => Answer::Joined(draft.join(&grant(by)?.name, join)?),
        Command::Claim(claim) => Answer::Claimed(draft.claim(grant(by)?, claim)?),
        Command::Release(address) => Answer::Released(draft.release(&grant(by)?.name, *address)?),
        Command::SetCapacity(rows) => {
            let node = draft.registered(&grant(by)?.name)?.name.clone();
            return Ok(Plan { answer: Answer::Done, changes: Vec::new(), capacity: Some((node, *rows)) });
        }
    };
    draft.check_room()?;
    Ok(Plan { answer, changes: draft.changes, capacity: None })
}

fn grant(by: &Principal) -> Result<&NodeGrant, Refusal> {
    match by {
        Principal::Node(grant) => Ok(grant),
        Principal::Operator => Err(Refusal::forbidden(
            "Authorization",
            "operator",
            "cannot speak for a node".to_owned(),
            "use the node's own token",
        )),
    }
}

/// The state with planned changes laid over it.
struct Draft<'a> {
    state: &'a State,
    by: &'a Principal,
    now: Timestamp,
    /// The revision that the changes will have.
    revision: Revision,
    changes: Vec<Change>,
    /// New apps by folded name.
    apps: HashMap<String, Arc<App>>,
    next_identity: u32,
    /// New and changed rules by tuple, and ids of deleted ones.
    rules: HashMap<Tuple, Arc<Rule>>,
    touched: HashMap<(Selector, Selector), BTreeMap<RuleId, Arc<Rule>>>,
    deleted: BTreeSet<RuleId>,
    next_rule: u32,
    rows: u64,
}

impl<'a> Draft<'a> {
    fn new(state: &'a State, by: &'a Principal, now: Timestamp) -> Self {
        let head = state.head();
        Self {
            state,
            by,
            now,
            revision: state.revision().next(),
            changes: Vec::new(),
            apps: HashMap::new(),
            next_identity: head.next_identity,
            rules: HashMap::new(),
            touched: HashMap::new(),
            deleted: BTreeSet::new(),
            next_rule: head.next_rule,
            rows: state.rows(),
        }
    }

    /// The revision after the plan: the next one if it changes anything, else the head.
    fn resulting_revision(&self) -> Revision {
        if self.changes.is_empty() { self.state.revision() } else { self.revision }
    }

    /// The app of this name, created if it is new.
    fn app(&mut self, name: &AppName, field: &str) -> Result<Arc<App>, Refusal> {
        let standing = self.apps.get(&name.folded()).or_else(|| self.state.app_like(name));
        match standing {
            Some(app) if app.name == *name => Ok(app.clone()),
            Some(app) => {
                let problem = format!("differs only by case from the app `{}`", app.name);
                Err(Refusal::conflict(field, name, problem, "use that name, or another one"))
            }
            None => self.create_app(name),
        }
    }

    fn create_app(&mut self, name: &AppName) -> Result<Arc<App>, Refusal> {
        // Ascending and never handed out twice: an identity that came back could lend a new app an old one's flows.
        let identity = Identity::new(self.next_identity).ok_or(Refusal::Exhausted("24-bit identities"))?;
        self.next_identity += 1;
        let app = Arc::new(App { name: name.clone(), identity, revision: self.revision });
        self.apps.insert(name.folded(), app.clone());
        self.changes.push(Change::PutApp { app: app.clone() });
        Ok(app)
    }

    /// Refuses rules that do not fit into the smallest node. What makes the rules smaller is never refused.
    fn check_room(&self) -> Result<(), Refusal> {
        match self.state.smallest_capacity() {
            Some((node, capacity)) if self.rows > capacity && self.rows > self.state.rows() => {
                Err(Refusal::Full { rows: self.rows, node: node.clone(), capacity })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The path of a member of the request's object at `path`.
fn member(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
