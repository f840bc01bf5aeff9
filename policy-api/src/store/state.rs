//! Everything that stands, with the indexes that questions and changes need. In memory; made by changes alone.

mod access;
mod instances;
mod right;
mod rules;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use common::Identity;
use serde::{Deserialize, Serialize};

pub use self::instances::{Instance, Place};
use super::{Refusal, chain::Tip, numbers::Resting};
use crate::model::{
    Access, App, AppName, Binding, Change, Digest, ETag, Group, GroupName, History, Isolation, Key, Node, NodeName,
    Overlay, Replica, RequestId, Revision, Revoked, Rule, RuleId, Selector, SignerKeyId, Target, Timestamp, TokenName,
};

/// The whole state as of one revision.
#[derive(Clone, Debug)]
pub struct State {
    history: History,
    overlay: Overlay,
    replica: Replica,
    head: Head,
    rules: rules::Index,
    instances: instances::Index,
    rights: right::Index,
    by_folded_name: HashMap<String, AppName>,
    by_folded_group: HashMap<String, GroupName>,
    /// What ends by itself, by when it does.
    by_expiry: BTreeSet<(Timestamp, Key)>,
    by_underlay: HashMap<IpAddr, NodeName>,
    capacities: BTreeMap<NodeName, u64>,
    access_revision: Revision,
}

/// What cannot be read off the items: numbers that must never come back, and what proves that the items are whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) revision: Revision,
    /// The revision that last changed the rules.
    pub(super) rules_revision: Revision,
    pub(super) next_rule: u32,
    pub(super) next_identity: u32,
    #[serde(default = "first_group")]
    pub(super) next_group: u32,
    pub(super) next_slice: u32,
    #[serde(default = "first_request")]
    pub(super) next_request: u32,
    /// Identities and slices that were given back.
    #[serde(default)]
    pub(super) resting_identities: Resting,
    #[serde(default)]
    pub(super) resting_slices: Resting,
    /// Behind the identity that was given out again last.
    #[serde(default)]
    pub(super) next_reused_identity: u32,
    /// The end of the journal.
    #[serde(default)]
    pub(super) tip: Tip,
    pub(super) digest: Digest,
}

/// In stores that were made before there were groups.
fn first_group() -> u32 {
    Head::first().next_group
}

/// In stores that were made before there were requests.
fn first_request() -> u32 {
    Head::first().next_request
}

impl Head {
    /// The head of an empty store.
    pub(super) fn first() -> Self {
        Self {
            revision: Revision::default(),
            rules_revision: Revision::default(),
            next_rule: 1,
            next_identity: Identity::FIRST_APP.number(),
            next_group: 1,
            next_slice: 1,
            next_request: 1,
            resting_identities: Resting::default(),
            resting_slices: Resting::default(),
            next_reused_identity: 0,
            tip: Tip::default(),
            digest: Digest::default(),
        }
    }
}

impl State {
    /// The state of an empty store.
    pub(crate) fn empty(history: History, overlay: Overlay) -> Self {
        Self {
            history,
            overlay,
            replica: Replica::default(),
            head: Head::first(),
            rules: rules::Index::default(),
            instances: instances::Index::default(),
            rights: right::Index::default(),
            by_folded_name: HashMap::new(),
            by_folded_group: HashMap::new(),
            by_expiry: BTreeSet::new(),
            by_underlay: HashMap::new(),
            capacities: BTreeMap::new(),
            access_revision: Revision::default(),
        }
    }

    /// The state that was stored. Its parts must fit each other.
    pub(super) fn restored(mut self, head: Head, items: &[Change]) -> Option<Self> {
        self.apply(head.revision, items);
        self.head = Head { digest: self.replica.digest(), ..head };
        (self.head == head).then_some(self)
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    pub fn overlay(&self) -> Overlay {
        self.overlay
    }

    pub fn revision(&self) -> Revision {
        self.head.revision
    }

    /// The state of the rules.
    pub fn etag(&self) -> ETag {
        ETag { history: self.history.clone(), revision: self.head.rules_revision }
    }

    /// The items.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    pub(super) fn head(&self) -> Head {
        self.head
    }

    pub(super) fn tip(&self) -> Tip {
        self.head.tip
    }

    /// The last revision by which somebody, and not a machine, changed something.
    pub fn intent(&self) -> Revision {
        self.head.tip.intent
    }

    /// The last revision of which the history says that it is in force everywhere.
    pub fn said_in_force(&self) -> Revision {
        self.head.tip.in_force
    }

    pub(super) fn set_tip(&mut self, tip: Tip) {
        self.head.tip = tip;
    }

    /// Layers, roles and resources.
    pub fn access(&self) -> &Access {
        self.replica.access()
    }

    /// A revision since which nothing of layers, roles and resources has changed: what was computed of them then, or later,
    /// still holds.
    pub fn access_revision(&self) -> Revision {
        self.access_revision
    }

    /// The registered node with the least room for rows, as far as they have said.
    pub fn smallest_capacity(&self) -> Option<(&NodeName, u64)> {
        self.capacities.iter().map(|(node, rows)| (node, *rows)).min_by_key(|(_, rows)| *rows)
    }

    pub fn capacity(&self, node: &NodeName) -> Option<u64> {
        self.capacities.get(node).copied()
    }

    pub(super) fn capacities(&self) -> Vec<(NodeName, u64)> {
        self.capacities.iter().map(|(node, rows)| (node.clone(), *rows)).collect()
    }

    pub(super) fn set_capacity(&mut self, node: NodeName, rows: u64) {
        self.capacities.insert(node, rows);
    }

    pub fn app(&self, name: &AppName) -> Option<&Arc<App>> {
        self.replica.apps.get(name)
    }

    /// The app, which must exist; `field` is where the request names it.
    pub fn known_app(&self, name: &AppName, field: &str) -> Result<&Arc<App>, Refusal> {
        let known = || self.replica.apps.keys().map(AppName::as_str);
        self.app(name).ok_or_else(|| Refusal::not_found(field, "an app", name.as_str(), known()))
    }

    /// The group, which must exist; `field` is where the request names it.
    pub fn known_group(&self, name: &GroupName, field: &str) -> Result<&Arc<Group>, Refusal> {
        let known = || self.replica.groups.keys().map(GroupName::as_str);
        self.group(name).ok_or_else(|| Refusal::not_found(field, "a group", name.as_str(), known()))
    }

    pub fn group(&self, name: &GroupName) -> Option<&Arc<Group>> {
        self.replica.groups.get(name)
    }

    /// The group whose name differs from this one by case at most.
    pub(super) fn group_like(&self, name: &GroupName) -> Option<&Arc<Group>> {
        self.by_folded_group.get(&name.folded()).and_then(|name| self.group(name))
    }

    pub fn isolation(&self, target: &Target) -> Option<&Arc<Isolation>> {
        self.replica.isolations.get(target)
    }

    /// The isolations of an app and of its instances; that of the whole app first.
    pub fn isolations_of<'a>(&'a self, app: &'a AppName) -> impl Iterator<Item = &'a Arc<Isolation>> {
        let first = Target { app: app.clone(), instance: None };
        let from = self.replica.isolations.range(first..);
        from.take_while(|(target, _)| target.app == *app).map(|(_, isolation)| isolation)
    }

    /// When the next thing ends by itself.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        self.by_expiry.first().map(|(time, _)| *time)
    }

    /// What has ended by itself, oldest end first.
    pub(super) fn expired(&self, now: Timestamp) -> impl Iterator<Item = &Key> {
        self.by_expiry.iter().take_while(move |(time, _)| *time <= now).map(|(_, key)| key)
    }

    /// The selectors whose rules hold for whatever this one stands for: an app's own name, its groups, and `any`.
    pub fn covering(&self, selector: &Selector) -> Vec<Selector> {
        match selector {
            Selector::Host | Selector::Any => vec![selector.clone()],
            Selector::Group(_) => vec![selector.clone(), Selector::Any],
            Selector::App(name) => {
                let groups = self.app(name).into_iter().flat_map(|app| app.groups.iter().cloned());
                [selector.clone(), Selector::Any].into_iter().chain(groups.map(Selector::Group)).collect()
            }
        }
    }

    /// The bindings of an app, live and freed.
    pub(super) fn bindings_of<'a>(&'a self, app: &'a AppName) -> impl Iterator<Item = &'a Arc<Binding>> {
        self.replica.bindings.values().filter(move |binding| binding.app == *app)
    }

    /// The app whose name differs from this one by case at most.
    pub(super) fn app_like(&self, name: &AppName) -> Option<&Arc<App>> {
        self.by_folded_name.get(&name.folded()).and_then(|name| self.app(name))
    }

    pub(super) fn node_at(&self, underlay: IpAddr) -> Option<&NodeName> {
        self.by_underlay.get(&underlay)
    }

    /// Whether nobody was found to be at this address yet, who could be.
    pub fn is_unproven(&self, underlay: IpAddr) -> bool {
        self.node_at(underlay).is_none() && !self.overlay.contains(underlay)
    }

    /// Makes the changes of one revision.
    pub(crate) fn apply(&mut self, revision: Revision, changes: &[Change]) {
        for change in changes {
            self.rest(revision, change);
            self.unindex(change);
            self.index(change);
            self.advance(revision, change);
            self.replica.put(change);
        }
        self.replica.apply(revision, &[]);
        self.head.revision = revision;
        self.head.digest = self.replica.digest();
    }

    /// Notes numbers that a change gives back.
    fn rest(&mut self, revision: Revision, change: &Change) {
        match change {
            Change::DeleteApp { name } => {
                if let Some(identity) = self.app(name).map(|app| app.identity.number()) {
                    self.head.resting_identities.rest(identity, revision);
                }
            }
            Change::DeleteNode { name } => {
                if let Some(index) = self.replica.nodes.get(name).and_then(|node| self.slice_of(node)) {
                    self.head.resting_slices.rest(index, revision);
                }
            }
            _ => {}
        }
    }

    /// Which slice of the overlay a node has.
    pub(super) fn slice_of(&self, node: &Node) -> Option<u32> {
        self.overlay.v4.index_of(node.slices.slice_v4)
    }

    /// How many identities have been given out, ever, up to as many as there are.
    pub fn identities_given(&self) -> u32 {
        self.head.next_identity - Identity::FIRST_APP.number()
    }

    /// Whether numbers have to be given out again: then it matters what nodes have acknowledged.
    pub fn is_short_of_numbers(&self) -> bool {
        let slice = self.overlay.v4.subnet(super::plan::SLICE_V4, self.head.next_slice);
        Identity::new(self.head.next_identity).is_none() || slice.is_none()
    }

    fn advance(&mut self, revision: Revision, change: &Change) {
        match change {
            Change::PutApp { app } => {
                let number = app.identity.number();
                if number < self.head.next_identity && self.app(&app.name).is_none() {
                    self.head.next_reused_identity = number + 1;
                }
                self.head.next_identity = self.head.next_identity.max(number + 1);
            }
            Change::PutGroup { group } => {
                self.head.next_group = self.head.next_group.max(group.number.saturating_add(1));
            }
            Change::PutRule { rule } => {
                self.head.next_rule = self.head.next_rule.max(rule.id.0.saturating_add(1));
                self.head.rules_revision = revision;
            }
            Change::DeleteRule { .. } => self.head.rules_revision = revision,
            Change::PutNode { node } => {
                let index = self.overlay.v4.index_of(node.slices.slice_v4);
                self.head.next_slice = self.head.next_slice.max(index.map_or(0, |index| index + 1));
            }
            Change::PutRequest { request } => {
                self.head.next_request = self.head.next_request.max(request.id.0.saturating_add(1));
            }
            Change::DeleteApp { .. }
            | Change::DeleteGroup { .. }
            | Change::DeleteNode { .. }
            | Change::PutBinding { .. }
            | Change::DeleteBinding { .. }
            | Change::PutIsolation { .. }
            | Change::DeleteIsolation { .. }
            | Change::PutTeam { .. }
            | Change::DeleteTeam { .. }
            | Change::PutToken { .. }
            | Change::DeleteToken { .. }
            | Change::DeleteRequest { .. }
            | Change::PutSignerKey { .. }
            | Change::DeleteSignerKey { .. }
            | Change::PutRevocation { .. }
            | Change::DeleteRevocation { .. } => {}
            Change::PutLayer { .. }
            | Change::DeleteLayer { .. }
            | Change::PutRole { .. }
            | Change::DeleteRole { .. }
            | Change::PutResource { .. }
            | Change::DeleteResource { .. } => self.access_revision = revision,
        }
    }

    fn index(&mut self, change: &Change) {
        match change {
            Change::PutApp { app } => {
                self.by_folded_name.insert(app.name.folded(), app.name.clone());
            }
            Change::PutGroup { group } => {
                self.by_folded_group.insert(group.name.folded(), group.name.clone());
            }
            Change::PutRule { rule } => self.index_rule(rule),
            Change::PutIsolation { isolation } => self.index_expiry(isolation.expires_at, change.key()),
            Change::PutNode { node } => {
                self.by_underlay.insert(node.underlay, node.name.clone());
            }
            Change::PutBinding { binding } if binding.is_live() => {
                self.instances.note(binding);
            }
            Change::PutToken { token } => {
                self.index_expiry(token.expires_at, change.key());
                self.rights.note_token(token);
            }
            Change::PutRequest { request } => self.index_expiry(Some(request.expires_at), change.key()),
            Change::PutSignerKey { key } => self.index_expiry(Some(key.expires_at), change.key()),
            Change::PutRevocation { revocation } => self.index_expiry(Some(revocation.expires_at), change.key()),
            Change::PutTeam { .. }
            | Change::DeleteTeam { .. }
            | Change::DeleteToken { .. }
            | Change::DeleteRequest { .. }
            | Change::PutBinding { .. }
            | Change::DeleteApp { .. }
            | Change::DeleteGroup { .. }
            | Change::DeleteRule { .. }
            | Change::DeleteNode { .. }
            | Change::DeleteBinding { .. }
            | Change::DeleteIsolation { .. }
            | Change::DeleteSignerKey { .. }
            | Change::DeleteRevocation { .. } => {}
            // Their indexes are their own.
            Change::PutLayer { .. }
            | Change::DeleteLayer { .. }
            | Change::PutRole { .. }
            | Change::DeleteRole { .. }
            | Change::PutResource { .. }
            | Change::DeleteResource { .. } => {}
        }
    }

    fn index_rule(&mut self, rule: &Rule) {
        self.rules.note(rule, &self.replica.rules);
        self.rights.note_rule(rule);
        self.index_expiry(rule.expires_at, Key::Rule(rule.id));
    }

    fn index_expiry(&mut self, time: Option<Timestamp>, key: Key) {
        self.by_expiry.extend(time.map(|time| (time, key)));
    }

    fn unindex_expiry(&mut self, time: Option<Timestamp>, key: Key) {
        if let Some(time) = time {
            self.by_expiry.remove(&(time, key));
        }
    }

    /// Takes what a change replaces out of the indexes.
    fn unindex(&mut self, change: &Change) {
        match change {
            Change::PutApp { .. } | Change::PutGroup { .. } => {}
            Change::DeleteApp { name } => {
                self.by_folded_name.remove(&name.folded());
            }
            Change::DeleteGroup { name } => {
                self.by_folded_group.remove(&name.folded());
            }
            Change::PutRule { rule } => self.unindex_rule(rule.id),
            Change::DeleteRule { id } => self.unindex_rule(*id),
            Change::PutNode { node } => self.unindex_node(&node.name.clone()),
            Change::DeleteNode { name } => {
                self.unindex_node(name);
                self.capacities.remove(name);
            }
            Change::PutBinding { binding } => self.unindex_binding(binding.address),
            Change::DeleteBinding { address } => self.unindex_binding(*address),
            Change::PutIsolation { isolation } => self.unindex_isolation(&isolation.target()),
            Change::DeleteIsolation { app, instance } => {
                self.unindex_isolation(&Target { app: app.clone(), instance: *instance });
            }
            Change::PutToken { token } => self.unindex_token(&token.name),
            Change::DeleteToken { name } => self.unindex_token(name),
            Change::PutRequest { request } => self.unindex_request(request.id),
            Change::DeleteRequest { id } => self.unindex_request(*id),
            Change::PutSignerKey { key } => self.unindex_signer_key(&key.id),
            Change::DeleteSignerKey { id } => self.unindex_signer_key(id),
            Change::PutRevocation { revocation } => self.unindex_revocation(&revocation.of),
            Change::DeleteRevocation { of } => self.unindex_revocation(of),
            Change::PutTeam { .. } | Change::DeleteTeam { .. } => {}
            Change::PutLayer { .. }
            | Change::DeleteLayer { .. }
            | Change::PutRole { .. }
            | Change::DeleteRole { .. }
            | Change::PutResource { .. }
            | Change::DeleteResource { .. } => {}
        }
    }

    fn unindex_rule(&mut self, id: RuleId) {
        let Some(rule) = self.replica.rules.get(&id).cloned() else { return };
        self.rules.forget(&rule);
        self.rights.forget_rule(&rule);
        self.unindex_expiry(rule.expires_at, Key::Rule(id));
    }

    fn unindex_isolation(&mut self, target: &Target) {
        if let Some(isolation) = self.isolation(target) {
            self.unindex_expiry(isolation.expires_at, Key::Isolation(target.clone()));
        }
    }

    fn unindex_token(&mut self, name: &TokenName) {
        let Some(token) = self.replica.tokens.get(name).cloned() else { return };
        self.unindex_expiry(token.expires_at, Key::Token(name.clone()));
        self.rights.forget_token(&token);
    }

    fn unindex_request(&mut self, id: RequestId) {
        if let Some(end) = self.replica.requests.get(&id).map(|request| request.expires_at) {
            self.unindex_expiry(Some(end), Key::Request(id));
        }
    }

    fn unindex_signer_key(&mut self, id: &SignerKeyId) {
        if let Some(end) = self.replica.signer_keys.get(id).map(|key| key.expires_at) {
            self.unindex_expiry(Some(end), Key::SignerKey(id.clone()));
        }
    }

    fn unindex_revocation(&mut self, of: &Revoked) {
        if let Some(end) = self.replica.revocations.get(of).map(|revocation| revocation.expires_at) {
            self.unindex_expiry(Some(end), Key::Revocation(of.clone()));
        }
    }

    fn unindex_node(&mut self, name: &NodeName) {
        if let Some(node) = self.replica.nodes.get(name) {
            self.by_underlay.remove(&node.underlay);
        }
    }

    fn unindex_binding(&mut self, address: IpAddr) {
        if let Some(binding) = self.replica.bindings.get(&address).filter(|binding| binding.is_live()) {
            self.instances.forget(binding);
        }
    }

    /// Who has the address, or had it last.
    pub fn binding(&self, address: IpAddr) -> Option<&Arc<Binding>> {
        self.replica.bindings.get(&address)
    }
}
