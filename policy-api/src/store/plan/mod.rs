//! From a request to changes: pure, so that time, order and refusal are test data.
//!
//! A [`Draft`] is the state with the changes planned so far laid over it; the state itself is only read. What comes out is
//! made durable first and applied afterwards, or nothing comes out and nothing happened.

mod access;
#[cfg(test)]
mod access_tests;
mod app;
mod binding;
mod expiry;
mod isolation;
mod node;
mod permit;
mod request;
mod revocation;
mod rule;
mod signer;
mod team;
#[cfg(test)]
mod tests;
mod token;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use common::Identity;
use serde::{Deserialize, Serialize};

pub use self::node::Registration;
pub(crate) use self::node::{SLICE_V4, SLICE_V6};
pub(super) use self::{
    expiry::{EXPIRY, Expiry, expire},
    rule::built_in,
};
use super::{
    principal::{NodeGrant, Principal},
    refusal::Refusal,
    rights::Rights,
    state::State,
};
use crate::model::{
    App, AppAnswer, AppDeleted, AppName, AppSettings, Change, ChangeSet, ChangesAnswer, Claim, Claimed, Deleted, Group,
    GroupName, Invalid, IsolationAnswer, IsolationDeleted, IsolationSpec, Joined, NewSignerKey, NodeAnswer,
    NodeDeleted, NodeName, NodeSettings, Released, RequestAnswer, RequestDeleted, RequestId, Revision,
    RevocationAnswer, Revoked, Rule, RuleAnswer, RuleId, RuleSpec, Selector, Target, TeamAnswer, TeamDeleted, TeamName,
    TeamSettings, Timestamp, TokenAnswer, TokenName, TokenRevoked, TokenSpec, Tuple,
};

/// What can be asked of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    PutRule(RuleSpec),
    DeleteRule(RuleId),
    Change(ChangeSet),
    SetApp(AppName, AppSettings),
    DeleteApp(AppName),
    Isolate(IsolationSpec),
    EndIsolation(Target),
    /// Of a node, by itself.
    Join(Registration),
    SetNode(NodeName, NodeSettings),
    RemoveNode(NodeName),
    Claim(Claim),
    Release(IpAddr),
    SetTeam(TeamName, TeamSettings),
    DeleteTeam(TeamName),
    CreateToken(TokenSpec),
    RevokeToken(TokenName),
    Accept(RequestId),
    /// Also of who asked: to withdraw it.
    Reject(RequestId),
    /// Of the policy API, by itself.
    RotateSigner(NewSignerKey),
    /// The same: nobody can open them any more.
    GiveUpSigner,
    Revoke(Revoked),
    /// Of a node, by itself: how many rows its maps hold. No change that anybody watches.
    SetCapacity(u64),
}

impl Command {
    /// Whether nobody is kept by it if it waits a moment for others.
    pub(super) fn can_wait(&self) -> bool {
        matches!(self, Self::SetCapacity(_))
    }
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Rule(RuleAnswer),
    Deleted(Deleted),
    Changes(ChangesAnswer),
    App(AppAnswer),
    AppDeleted(AppDeleted),
    Isolation(IsolationAnswer),
    IsolationDeleted(IsolationDeleted),
    Joined(Joined),
    Node(NodeAnswer),
    NodeDeleted(NodeDeleted),
    Claimed(Claimed),
    Released(Released),
    Team(TeamAnswer),
    TeamDeleted(TeamDeleted),
    Token(TokenAnswer),
    TokenRevoked(TokenRevoked),
    Asked(RequestAnswer),
    RequestDeleted(RequestDeleted),
    Revoked(RevocationAnswer),
    Done,
}

impl Answer {
    /// The same answer, saying that nothing was done.
    pub(super) fn into_dry_run(mut self) -> Self {
        match &mut self {
            Self::Rule(answer) => answer.dry_run = true,
            Self::Deleted(answer) => answer.dry_run = true,
            Self::Changes(answer) => answer.dry_run = true,
            Self::App(answer) => answer.dry_run = true,
            Self::AppDeleted(answer) => answer.dry_run = true,
            Self::Isolation(answer) => answer.dry_run = true,
            Self::IsolationDeleted(answer) => answer.dry_run = true,
            Self::Node(answer) => answer.dry_run = true,
            Self::NodeDeleted(answer) => answer.dry_run = true,
            Self::Team(answer) => answer.dry_run = true,
            Self::TeamDeleted(answer) => answer.dry_run = true,
            Self::Token(answer) => answer.dry_run = true,
            Self::TokenRevoked(answer) => answer.dry_run = true,
            Self::Asked(answer) => answer.dry_run = true,
            Self::RequestDeleted(answer) => answer.dry_run = true,
            Self::Revoked(answer) => answer.dry_run = true,
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
///
/// `acknowledged` is the last revision that every registered node has acknowledged; needed only where numbers have to be
/// given out again.
pub(super) fn plan(
    state: &State,
    command: &Command,
    by: &Principal,
    now: Timestamp,
    acknowledged: Option<Revision>,
) -> Result<Plan, Refusal> {
    let rights = Rights::of(by, state, now)?;
    let mut draft = Draft { acknowledged, ..Draft::new(state, by.to_string(), rights, now) };
    let answer = match command {
        Command::PutRule(spec) => draft.put_rule(spec)?,
        Command::DeleteRule(id) => {
            let rule = draft.delete_rule(*id, "id")?;
            Answer::Deleted(draft.deleted(&rule))
        }
        Command::Change(set) => Answer::Changes(draft.change(set)?),
        Command::SetApp(name, settings) => Answer::App(draft.set_app(name, settings, "")?),
        Command::DeleteApp(name) => Answer::AppDeleted(draft.delete_app(name)?),
        Command::Isolate(spec) => Answer::Isolation(draft.isolate(spec)?),
        Command::EndIsolation(target) => Answer::IsolationDeleted(draft.end_isolation(target)?),
        Command::Join(registration) => Answer::Joined(draft.join(by, registration)?),
        Command::SetNode(name, settings) => Answer::Node(draft.set_node(name, *settings)?),
        Command::RemoveNode(name) => Answer::NodeDeleted(draft.remove_node(name)?),
        Command::SetTeam(name, settings) => Answer::Team(draft.set_team(name, settings)?),
        Command::DeleteTeam(name) => Answer::TeamDeleted(draft.delete_team(name)?),
        Command::CreateToken(spec) => Answer::Token(draft.create_token(spec)?),
        Command::RevokeToken(name) => Answer::TokenRevoked(draft.revoke_token(name)?),
        Command::Accept(id) => Answer::Rule(draft.accept(*id)?),
        Command::Reject(id) => Answer::RequestDeleted(draft.reject(*id)?),
        Command::RotateSigner(new) => draft.rotate_signer(by, new)?,
        Command::GiveUpSigner => draft.give_up_signer(by)?,
        Command::Revoke(what) => Answer::Revoked(draft.revoke(by, what)?),
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
        Principal::Operator | Principal::User(_) | Principal::Itself => Err(Refusal::forbidden(
            "Authorization",
            by,
            "cannot speak for a node".to_owned(),
            "use the node's own certificate",
        )),
        Principal::Joining(grant, _) => Err(Refusal::forbidden(
            "Authorization",
            &grant.name,
            "has not joined".to_owned(),
            "join with the token first, and use the certificate that comes of it",
        )),
    }
}

/// The state with planned changes laid over it.
struct Draft<'a> {
    state: &'a State,
    /// Who asks, for people.
    by: String,
    rights: Rights,
    now: Timestamp,
    acknowledged: Option<Revision>,
    /// The revision that the changes will have.
    revision: Revision,
    changes: Vec<Change>,
    /// New apps by folded name.
    apps: HashMap<String, Arc<App>>,
    next_identity: u32,
    next_reused_identity: u32,
    /// All identities that somebody has, once it had to be asked.
    taken: Option<BTreeSet<u32>>,
    /// New groups by folded name.
    groups: HashMap<String, Arc<Group>>,
    next_group: u32,
    /// New and changed rules by tuple, and ids of deleted ones.
    rules: HashMap<Tuple, Arc<Rule>>,
    touched: HashMap<(Selector, Selector), BTreeMap<RuleId, Arc<Rule>>>,
    deleted: BTreeSet<RuleId>,
    next_rule: u32,
    rows: u64,
    /// Rules that teams gain by the plan, and lose.
    rules_of: HashMap<TeamName, i64>,
    /// Apps that teams have, with those that the plan makes, once it had to be asked.
    apps_of: HashMap<TeamName, usize>,
}

impl<'a> Draft<'a> {
    fn new(state: &'a State, by: String, rights: Rights, now: Timestamp) -> Self {
        let head = state.head();
        Self {
            state,
            by,
            rights,
            now,
            acknowledged: None,
            revision: state.revision().next(),
            changes: Vec::new(),
            apps: HashMap::new(),
            next_identity: head.next_identity,
            next_reused_identity: head.next_reused_identity,
            taken: None,
            groups: HashMap::new(),
            next_group: head.next_group,
            rules: HashMap::new(),
            touched: HashMap::new(),
            deleted: BTreeSet::new(),
            next_rule: head.next_rule,
            rows: state.rows(),
            rules_of: HashMap::new(),
            apps_of: HashMap::new(),
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
            None => {
                let app = self.new_app(name)?;
                Ok(self.put_app(app))
            }
        }
    }

    fn new_app(&mut self, name: &AppName) -> Result<App, Refusal> {
        self.check_app_quota(name)?;
        let identity = match Identity::new(self.next_identity) {
            Some(identity) => {
                self.next_identity += 1;
                identity
            }
            None => self.rested_identity()?,
        };
        Ok(App::new(name.clone(), identity, self.revision))
    }

    /// An identity that was another app's, which no node remembers: one that did could lend the new app the old one's flows.
    fn rested_identity(&mut self) -> Result<Identity, Refusal> {
        let state = self.state;
        let number = |app: &Arc<App>| app.identity.number();
        let taken = self.taken.get_or_insert_with(|| state.replica().apps.values().map(number).collect());
        let (first, last) = (Identity::FIRST_APP.number(), Identity::LAST_APP.number());
        let resting = &state.head().resting_identities;
        let rested = resting.rested(first..last + 1, self.next_reused_identity, taken, self.acknowledged);
        let identity = rested.and_then(Identity::new).ok_or(Refusal::Resting("24-bit identities"))?;
        taken.insert(identity.number());
        self.next_reused_identity = identity.number() + 1;
        Ok(identity)
    }

    fn put_app(&mut self, app: App) -> Arc<App> {
        let app = Arc::new(app);
        self.apps.insert(app.name.folded(), app.clone());
        self.changes.push(Change::PutApp { app: app.clone() });
        app
    }

    /// Makes the group stand, if it is new: it may be named before anybody is in it.
    fn group(&mut self, name: &GroupName, field: &str) -> Result<(), Refusal> {
        let standing = self.groups.get(&name.folded()).or_else(|| self.state.group_like(name));
        match standing {
            Some(group) if group.name == *name => Ok(()),
            Some(group) => {
                let problem = format!("differs only by case from the group `{}`", group.name);
                Err(Refusal::conflict(field, name, problem, "use that name, or another one"))
            }
            None => {
                let number = self.next_group;
                self.next_group = number.checked_add(1).ok_or(Refusal::Exhausted("numbers of groups"))?;
                let group = Arc::new(Group { name: name.clone(), number, revision: self.revision });
                self.groups.insert(name.folded(), group.clone());
                self.changes.push(Change::PutGroup { group });
                Ok(())
            }
        }
    }

    /// What has ended already would be gone before anybody heard of it.
    fn check_end(&self, end: Option<Timestamp>, field: String) -> Result<(), Refusal> {
        match end {
            Some(end) if end <= self.now => {
                let problem = format!("is past: it is {} now, by this clock", self.now);
                Err(Invalid::new(end, problem, "give a later time, or leave it out").in_field(field).into())
            }
            Some(_) | None => Ok(()),
        }
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
