//! The whole state, as changes make it: what the store holds and what a reader of a watch rebuilds.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{
    access::Access,
    api_token::ApiToken,
    app::App,
    ask::{RequestId, RuleRequest},
    binding::Binding,
    change::{Change, Key, WatchLine},
    digest::Digest,
    group::Group,
    history::{History, Revision},
    isolation::{Isolation, Target},
    name::{AppName, GroupName, NodeName, TeamName, TokenName},
    node::Node,
    revocation::{Revocation, Revoked},
    rule::{Rule, RuleId},
    signer::{SignerKey, SignerKeyId},
    team::Team,
};

/// All items as of one revision: apps, groups, rules, nodes, bindings and isolations; teams, tokens, requests, layers, roles,
/// resources, keys of the signer and revocations, of which no node is told. Cheap to clone: items are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    pub apps: BTreeMap<AppName, Arc<App>>,
    pub groups: BTreeMap<GroupName, Arc<Group>>,
    pub rules: BTreeMap<RuleId, Arc<Rule>>,
    pub nodes: BTreeMap<NodeName, Arc<Node>>,
    pub bindings: BTreeMap<IpAddr, Arc<Binding>>,
    pub isolations: BTreeMap<Target, Arc<Isolation>>,
    pub teams: BTreeMap<TeamName, Arc<Team>>,
    pub tokens: BTreeMap<TokenName, Arc<ApiToken>>,
    pub requests: BTreeMap<RequestId, Arc<RuleRequest>>,
    access: Access,
    pub signer_keys: BTreeMap<SignerKeyId, Arc<SignerKey>>,
    pub revocations: BTreeMap<Revoked, Arc<Revocation>>,
    revision: Revision,
    digest: Digest,
}

/// A watch that does not fit what was read before. The reader keeps its state and asks for a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistent {
    #[error("delta starts at revision {base} but the state is at {held}")]
    Base { base: Revision, held: Revision },
    #[error("snapshot has {held} items with digest {digest} but announces {count} with {announced}")]
    Snapshot { held: u64, count: u64, digest: Digest, announced: Digest },
    #[error("at revision {revision} the digest is {held} but the API has {announced} at {announced_revision}")]
    Digest { revision: Revision, held: Digest, announced_revision: Revision, announced: Digest },
    #[error("line belongs to history {found}, not {held}")]
    History { held: History, found: History },
    #[error(
        "the store has another history, {found}, than the one that is followed here, {followed}; if it was restored on \
         purpose, run `netpol-api accept` beside it"
    )]
    NotAccepted { followed: History, found: History },
}

impl Replica {
    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Layers, roles and resources.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// How many items there are.
    pub fn count(&self) -> u64 {
        let parties = self.apps.len() + self.groups.len();
        let places = self.nodes.len() + self.bindings.len();
        let rights = self.teams.len() + self.tokens.len() + self.requests.len();
        let proofs = self.signer_keys.len() + self.revocations.len();
        let all = parties + places + rights + proofs + self.rules.len() + self.isolations.len() + self.access.count();
        u64::try_from(all).unwrap_or(u64::MAX)
    }

    /// All items, as the changes that would make them: groups and apps first, since the others speak of them.
    pub fn items(&self) -> impl Iterator<Item = Change> {
        let groups = self.groups.values().map(|group| Change::PutGroup { group: group.clone() });
        let apps = self.apps.values().map(|app| Change::PutApp { app: app.clone() });
        let nodes = self.nodes.values().map(|node| Change::PutNode { node: node.clone() });
        let bindings = self.bindings.values().map(|binding| Change::PutBinding { binding: binding.clone() });
        let rules = self.rules.values().map(|rule| Change::PutRule { rule: rule.clone() });
        let isolations =
            self.isolations.values().map(|isolation| Change::PutIsolation { isolation: isolation.clone() });
        groups
            .chain(apps)
            .chain(nodes)
            .chain(bindings)
            .chain(rules)
            .chain(isolations)
            .chain(self.rights())
            .chain(self.proofs())
    }

    /// Who may do what, and who asks for what.
    fn rights(&self) -> impl Iterator<Item = Change> {
        let teams = self.teams.values().map(|team| Change::PutTeam { team: team.clone() });
        let tokens = self.tokens.values().map(|token| Change::PutToken { token: token.clone() });
        let requests = self.requests.values().map(|request| Change::PutRequest { request: request.clone() });
        teams.chain(tokens).chain(requests).chain(self.access_items())
    }

    fn access_items(&self) -> impl Iterator<Item = Change> {
        let layers = self.access.layers().values().map(|layer| Change::PutLayer { layer: layer.clone() });
        let roles = self.access.roles().values().map(|role| Change::PutRole { role: role.clone() });
        let resources = self.access.resources().values();
        layers.chain(roles).chain(resources.map(|resource| Change::PutResource { resource: resource.clone() }))
    }

    /// What identity tokens are signed with, and which are good no longer.
    fn proofs(&self) -> impl Iterator<Item = Change> {
        let keys = self.signer_keys.values().map(|key| Change::PutSignerKey { key: key.clone() });
        let revoked = self.revocations.values();
        keys.chain(revoked.map(|revocation| Change::PutRevocation { revocation: revocation.clone() }))
    }

    /// The item with this key, as the change that would make it.
    pub fn item(&self, key: &Key) -> Option<Change> {
        Some(match key {
            Key::App(name) => Change::PutApp { app: self.apps.get(name)?.clone() },
            Key::Group(name) => Change::PutGroup { group: self.groups.get(name)?.clone() },
            Key::Rule(id) => Change::PutRule { rule: self.rules.get(id)?.clone() },
            Key::Node(name) => Change::PutNode { node: self.nodes.get(name)?.clone() },
            Key::Binding(address) => Change::PutBinding { binding: self.bindings.get(address)?.clone() },
            Key::Isolation(target) => Change::PutIsolation { isolation: self.isolations.get(target)?.clone() },
            Key::Team(name) => Change::PutTeam { team: self.teams.get(name)?.clone() },
            Key::Token(name) => Change::PutToken { token: self.tokens.get(name)?.clone() },
            Key::Request(id) => Change::PutRequest { request: self.requests.get(id)?.clone() },
            Key::Layer(name) => Change::PutLayer { layer: self.access.layers().get(name)?.clone() },
            Key::Role(name) => Change::PutRole { role: self.access.roles().get(name)?.clone() },
            Key::Resource(id) => Change::PutResource { resource: self.access.resources().get(id)?.clone() },
            Key::SignerKey(id) => Change::PutSignerKey { key: self.signer_keys.get(id)?.clone() },
            Key::Revocation(of) => Change::PutRevocation { revocation: self.revocations.get(of)?.clone() },
        })
    }

    /// Makes the changes of one revision.
    pub fn apply(&mut self, revision: Revision, changes: &[Change]) {
        for change in changes {
            self.put(change);
        }
        self.revision = revision;
    }

    /// Makes one change, without moving on to its revision: a part of a snapshot.
    pub fn put(&mut self, change: &Change) {
        let key = change.key();
        let replaced = match change {
            Change::PutApp { app } => self.apps.insert(app.name.clone(), app.clone()).map(|old| old.revision),
            Change::DeleteApp { name } => self.apps.remove(name).map(|old| old.revision),
            Change::PutGroup { group } => self.groups.insert(group.name.clone(), group.clone()).map(|old| old.revision),
            Change::DeleteGroup { name } => self.groups.remove(name).map(|old| old.revision),
            Change::PutRule { rule } => self.rules.insert(rule.id, rule.clone()).map(|old| old.revision),
            Change::DeleteRule { id } => self.rules.remove(id).map(|old| old.revision),
            Change::PutNode { node } => self.nodes.insert(node.name.clone(), node.clone()).map(|old| old.revision),
            Change::DeleteNode { name } => self.nodes.remove(name).map(|old| old.revision),
            Change::PutBinding { binding } => {
                self.bindings.insert(binding.address, binding.clone()).map(|old| old.revision)
            }
            Change::DeleteBinding { address } => self.bindings.remove(address).map(|old| old.revision),
            Change::PutIsolation { isolation } => {
                self.isolations.insert(isolation.target(), isolation.clone()).map(|old| old.revision)
            }
            Change::DeleteIsolation { app, instance } => {
                let target = Target { app: app.clone(), instance: *instance };
                self.isolations.remove(&target).map(|old| old.revision)
            }
            Change::PutTeam { team } => self.teams.insert(team.name.clone(), team.clone()).map(|old| old.revision),
            Change::DeleteTeam { name } => self.teams.remove(name).map(|old| old.revision),
            Change::PutToken { token } => self.tokens.insert(token.name.clone(), token.clone()).map(|old| old.revision),
            Change::DeleteToken { name } => self.tokens.remove(name).map(|old| old.revision),
            Change::PutRequest { request } => self.requests.insert(request.id, request.clone()).map(|old| old.revision),
            Change::DeleteRequest { id } => self.requests.remove(id).map(|old| old.revision),
            Change::PutLayer { layer } => self.access.put_layer(layer.clone()).map(|old| old.revision),
            Change::DeleteLayer { name } => self.access.remove_layer(name).map(|old| old.revision),
            Change::PutRole { role } => self.access.put_role(role.clone()).map(|old| old.revision),
            Change::DeleteRole { name } => self.access.remove_role(name).map(|old| old.revision),
            Change::PutResource { resource } => self.access.put_resource(resource.clone()).map(|old| old.revision),
            Change::DeleteResource { id } => self.access.remove_resource(id).map(|old| old.revision),
            Change::PutSignerKey { key } => {
                self.signer_keys.insert(key.id.clone(), key.clone()).map(|old| old.revision)
            }
            Change::DeleteSignerKey { id } => self.signer_keys.remove(id).map(|old| old.revision),
            Change::PutRevocation { revocation } => {
                self.revocations.insert(revocation.of.clone(), revocation.clone()).map(|old| old.revision)
            }
            Change::DeleteRevocation { of } => self.revocations.remove(of).map(|old| old.revision),
        };
        if let Some(revision) = replaced {
            self.digest.remove(&key, revision);
        }
        if let Some(revision) = change.revision() {
            self.digest.add(&key, revision);
        }
    }

    /// Makes a delta's changes if it starts where this state is.
    pub fn apply_delta(&mut self, base: Revision, revision: Revision, changes: &[Change]) -> Result<(), Inconsistent> {
        if base != self.revision {
            return Err(Inconsistent::Base { base, held: self.revision });
        }
        self.apply(revision, changes);
        Ok(())
    }

    /// Ends a snapshot whose parts were put into an empty replica.
    pub fn finish_snapshot(&mut self, revision: Revision, count: u64, announced: Digest) -> Result<(), Inconsistent> {
        if (self.count(), self.digest) != (count, announced) {
            return Err(Inconsistent::Snapshot { held: self.count(), count, digest: self.digest, announced });
        }
        self.revision = revision;
        Ok(())
    }

    /// Compares with what the API says it has delivered, and moves on to the revision by which it did. A later revision with
    /// the same digest changed nothing here: each change of an item changes the digest.
    pub fn check(&mut self, revision: Revision, announced: Digest) -> Result<(), Inconsistent> {
        if revision < self.revision || self.digest != announced {
            let held = self.digest;
            return Err(Inconsistent::Digest {
                revision: self.revision,
                held,
                announced_revision: revision,
                announced,
            });
        }
        self.revision = revision;
        Ok(())
    }
}

/// Reads a watch into replicas: nothing of a snapshot shows before it is whole and proven.
#[derive(Clone, Debug, Default)]
pub struct Follower {
    held: Option<(History, Replica)>,
    arriving: Option<(History, Replica)>,
    /// Of the last whole state, also where that is forgotten: another one has to be accepted first.
    followed: Option<History>,
}

impl Follower {
    /// Starts from a state that was read before, to resume there.
    pub fn resuming(history: History, replica: Replica) -> Self {
        Self { followed: Some(history.clone()), held: Some((history, replica)), arriving: None }
    }

    /// Holds nothing any more, so that all is asked for anew; of the same history still.
    pub fn forget(&mut self) {
        self.held = None;
        self.arriving = None;
    }

    /// The last whole state.
    pub fn held(&self) -> Option<&(History, Replica)> {
        self.held.as_ref()
    }

    /// Takes a line. True if the held state changed.
    pub fn take(&mut self, line: WatchLine) -> Result<bool, Inconsistent> {
        match line {
            WatchLine::Clock { .. } => Ok(false),
            WatchLine::Snapshot { history, succeeds, .. } => {
                if let Some(followed) = &self.followed
                    && *followed != history
                    && !succeeds.contains(followed)
                {
                    return Err(Inconsistent::NotAccepted { followed: followed.clone(), found: history });
                }
                self.arriving = Some((history, Replica::default()));
                Ok(false)
            }
            WatchLine::Changes { changes } => {
                if let Some((_, replica)) = &mut self.arriving {
                    changes.iter().for_each(|change| replica.put(change));
                }
                Ok(false)
            }
            WatchLine::SnapshotEnd { revision, count, digest } => self.end_snapshot(revision, count, digest),
            WatchLine::Delta { history, base, revision, changes } => {
                self.of_history(&history)?.apply_delta(base, revision, &changes).map(|()| true)
            }
            WatchLine::Heartbeat { history, revision, digest } => {
                self.of_history(&history)?.check(revision, digest).map(|()| false)
            }
        }
    }

    fn end_snapshot(&mut self, revision: Revision, count: u64, digest: Digest) -> Result<bool, Inconsistent> {
        let Some((history, mut replica)) = self.arriving.take() else {
            return Err(Inconsistent::Snapshot { held: 0, count, digest: Digest::default(), announced: digest });
        };
        replica.finish_snapshot(revision, count, digest)?;
        self.followed = Some(history.clone());
        self.held = Some((history, replica));
        Ok(true)
    }

    fn of_history(&mut self, found: &History) -> Result<&mut Replica, Inconsistent> {
        match &mut self.held {
            Some((held, replica)) if held == found => Ok(replica),
            Some((held, _)) => Err(Inconsistent::History { held: held.clone(), found: found.clone() }),
            None => Err(Inconsistent::Base { base: Revision::default(), held: Revision::default() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str, identity: u32, revision: u64) -> Change {
        let identity = common::Identity::new(identity).expect("24 bits");
        Change::PutApp { app: Arc::new(App::new(name.parse().expect("name"), identity, Revision(revision))) }
    }

    fn history(text: &str) -> History {
        text.parse().expect("history")
    }

    fn snapshot_of(replica: &Replica, from: &History) -> [WatchLine; 3] {
        [
            WatchLine::Snapshot { history: from.clone(), revision: replica.revision(), succeeds: Vec::new() },
            WatchLine::Changes { changes: replica.items().collect() },
            WatchLine::SnapshotEnd { revision: replica.revision(), count: replica.count(), digest: replica.digest() },
        ]
    }

    #[test]
    fn a_follower_holds_what_a_snapshot_and_deltas_make() {
        let ours = history("00ff00ff00ff00ff");
        let mut source = Replica::default();
        source.apply(Revision(1), &[app("a", 256, 1), app("b", 257, 1)]);
        let mut follower = Follower::default();
        let outcomes: Vec<_> = snapshot_of(&source, &ours).into_iter().map(|line| follower.take(line)).collect();
        assert_eq!(outcomes, [Ok(false), Ok(false), Ok(true)]);
        let changes = vec![app("a", 256, 2)];
        source.apply(Revision(2), &changes);
        let delta = WatchLine::Delta { history: ours.clone(), base: Revision(1), revision: Revision(2), changes };
        assert_eq!(follower.take(delta), Ok(true));
        let heartbeat = WatchLine::Heartbeat { history: ours.clone(), revision: Revision(2), digest: source.digest() };
        assert_eq!(follower.take(heartbeat), Ok(false));
        assert_eq!(follower.held(), Some(&(ours, source)));
    }

    #[test]
    fn a_lost_line_is_noticed_and_the_state_kept() {
        let ours = history("00ff00ff00ff00ff");
        let mut source = Replica::default();
        source.apply(Revision(1), &[app("a", 256, 1)]);
        let mut follower = Follower::resuming(ours.clone(), source.clone());
        let skipping =
            WatchLine::Delta { history: ours.clone(), base: Revision(2), revision: Revision(3), changes: vec![] };
        assert!(matches!(follower.take(skipping), Err(Inconsistent::Base { .. })));
        let [begin, _, end] = snapshot_of(&source, &ours);
        assert_eq!(follower.take(begin), Ok(false));
        assert!(matches!(follower.take(end), Err(Inconsistent::Snapshot { .. })));
        let other = WatchLine::Heartbeat {
            history: history("1111111111111111"),
            revision: Revision(1),
            digest: source.digest(),
        };
        assert!(matches!(follower.take(other), Err(Inconsistent::History { .. })));
        assert_eq!(follower.held(), Some(&(ours, source)));
    }

    #[test]
    fn another_history_is_followed_only_if_it_is_said_to_succeed_the_one_that_is() {
        let (ours, theirs) = (history("00ff00ff00ff00ff"), history("1111111111111111"));
        let mut source = Replica::default();
        source.apply(Revision(1), &[app("a", 256, 1)]);
        for forgotten in [false, true] {
            let mut follower = Follower::resuming(ours.clone(), source.clone());
            if forgotten {
                follower.forget();
            }
            let [begin, changes, end] = snapshot_of(&Replica::default(), &theirs);
            let refused = Inconsistent::NotAccepted { followed: ours.clone(), found: theirs.clone() };
            assert_eq!(follower.take(begin), Err(refused));
            assert_eq!(follower.held().is_none(), forgotten);

            let accepted = WatchLine::Snapshot {
                history: theirs.clone(),
                revision: Revision::default(),
                succeeds: vec![history("2222222222222222"), ours.clone()],
            };
            let outcomes = [accepted, changes, end].map(|line| follower.take(line));
            assert_eq!(outcomes, [Ok(false), Ok(false), Ok(true)]);
            assert_eq!(follower.held(), Some(&(theirs.clone(), Replica::default())));
            let [back, ..] = snapshot_of(&source, &ours);
            assert!(matches!(follower.take(back), Err(Inconsistent::NotAccepted { .. })), "there is no way back");
        }
    }
}
