//! Changes, and the lines of a watch.

use std::{borrow::Cow, fmt, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    access::{Layer, LayerName, Resource, ResourceId, Role, RoleName},
    api_token::ApiToken,
    app::App,
    ask::{RequestId, RuleRequest},
    binding::Binding,
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
    time::Timestamp,
};

/// One item put in place (new or changed), or taken away. What reads it has a file of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    PutApp {
        app: Arc<App>,
    },
    DeleteApp {
        name: AppName,
    },
    PutGroup {
        group: Arc<Group>,
    },
    /// Groups stay; one may go out of what a watcher gets.
    DeleteGroup {
        name: GroupName,
    },
    PutRule {
        rule: Arc<Rule>,
    },
    DeleteRule {
        id: RuleId,
    },
    PutNode {
        node: Arc<Node>,
    },
    DeleteNode {
        name: NodeName,
    },
    PutBinding {
        binding: Arc<Binding>,
    },
    DeleteBinding {
        address: IpAddr,
    },
    PutIsolation {
        isolation: Arc<Isolation>,
    },
    DeleteIsolation {
        app: AppName,
        #[serde(skip_serializing_if = "Option::is_none")]
        instance: Option<u32>,
    },
    PutTeam {
        team: Arc<Team>,
    },
    DeleteTeam {
        name: TeamName,
    },
    PutToken {
        token: Arc<ApiToken>,
    },
    DeleteToken {
        name: TokenName,
    },
    PutRequest {
        request: Arc<RuleRequest>,
    },
    DeleteRequest {
        id: RequestId,
    },
    PutLayer {
        layer: Arc<Layer>,
    },
    DeleteLayer {
        name: LayerName,
    },
    PutRole {
        role: Arc<Role>,
    },
    DeleteRole {
        name: RoleName,
    },
    PutResource {
        resource: Arc<Resource>,
    },
    DeleteResource {
        id: ResourceId,
    },
    PutSignerKey {
        key: Arc<SignerKey>,
    },
    DeleteSignerKey {
        id: SignerKeyId,
    },
    PutRevocation {
        revocation: Arc<Revocation>,
    },
    DeleteRevocation {
        of: Revoked,
    },
}

/// What a change is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    App(AppName),
    Group(GroupName),
    Rule(RuleId),
    Node(NodeName),
    Binding(IpAddr),
    Isolation(Target),
    Team(TeamName),
    Token(TokenName),
    Request(RequestId),
    Layer(LayerName),
    Role(RoleName),
    Resource(ResourceId),
    SignerKey(SignerKeyId),
    Revocation(Revoked),
}

impl Change {
    pub fn key(&self) -> Key {
        match self {
            Self::PutApp { app } => Key::App(app.name.clone()),
            Self::DeleteApp { name } => Key::App(name.clone()),
            Self::PutGroup { group } => Key::Group(group.name.clone()),
            Self::DeleteGroup { name } => Key::Group(name.clone()),
            Self::PutRule { rule } => Key::Rule(rule.id),
            Self::DeleteRule { id } => Key::Rule(*id),
            Self::PutNode { node } => Key::Node(node.name.clone()),
            Self::DeleteNode { name } => Key::Node(name.clone()),
            Self::PutBinding { binding } => Key::Binding(binding.address),
            Self::DeleteBinding { address } => Key::Binding(*address),
            Self::PutIsolation { isolation } => Key::Isolation(isolation.target()),
            Self::DeleteIsolation { app, instance } => Key::Isolation(Target { app: app.clone(), instance: *instance }),
            Self::PutTeam { team } => Key::Team(team.name.clone()),
            Self::DeleteTeam { name } => Key::Team(name.clone()),
            Self::PutToken { token } => Key::Token(token.name.clone()),
            Self::DeleteToken { name } => Key::Token(name.clone()),
            Self::PutRequest { request } => Key::Request(request.id),
            Self::DeleteRequest { id } => Key::Request(*id),
            Self::PutLayer { layer } => Key::Layer(layer.name.clone()),
            Self::DeleteLayer { name } => Key::Layer(name.clone()),
            Self::PutRole { role } => Key::Role(role.name.clone()),
            Self::DeleteRole { name } => Key::Role(name.clone()),
            Self::PutResource { resource } => Key::Resource(resource.id.clone()),
            Self::DeleteResource { id } => Key::Resource(id.clone()),
            Self::PutSignerKey { key } => Key::SignerKey(key.id.clone()),
            Self::DeleteSignerKey { id } => Key::SignerKey(id.clone()),
            Self::PutRevocation { revocation } => Key::Revocation(revocation.of.clone()),
            Self::DeleteRevocation { of } => Key::Revocation(of.clone()),
        }
    }

    /// The revision that the item carries; none if it is taken away.
    pub fn revision(&self) -> Option<Revision> {
        match self {
            Self::PutApp { app } => Some(app.revision),
            Self::PutGroup { group } => Some(group.revision),
            Self::PutRule { rule } => Some(rule.revision),
            Self::PutNode { node } => Some(node.revision),
            Self::PutBinding { binding } => Some(binding.revision),
            Self::PutIsolation { isolation } => Some(isolation.revision),
            Self::PutTeam { team } => Some(team.revision),
            Self::PutToken { token } => Some(token.revision),
            Self::PutRequest { request } => Some(request.revision),
            Self::PutLayer { layer } => Some(layer.revision),
            Self::PutRole { role } => Some(role.revision),
            Self::PutResource { resource } => Some(resource.revision),
            Self::PutSignerKey { key } => Some(key.revision),
            Self::PutRevocation { revocation } => Some(revocation.revision),
            Self::DeleteApp { .. }
            | Self::DeleteGroup { .. }
            | Self::DeleteRule { .. }
            | Self::DeleteNode { .. }
            | Self::DeleteBinding { .. }
            | Self::DeleteIsolation { .. }
            | Self::DeleteTeam { .. }
            | Self::DeleteToken { .. }
            | Self::DeleteRequest { .. }
            | Self::DeleteLayer { .. }
            | Self::DeleteRole { .. }
            | Self::DeleteResource { .. }
            | Self::DeleteSignerKey { .. }
            | Self::DeleteRevocation { .. } => None,
        }
    }

    /// The same without what is nobody's business but the policy API's: what watches and the history tell.
    pub fn without_secrets(&self) -> Cow<'_, Self> {
        match self {
            Self::PutToken { token } => Cow::Owned(Self::PutToken { token: Arc::new(token.without_hash()) }),
            Self::PutSignerKey { key } => Cow::Owned(Self::PutSignerKey { key: Arc::new(key.without_secret()) }),
            other => Cow::Borrowed(other),
        }
    }
}

impl Key {
    /// What takes the item away.
    pub fn deletion(&self) -> Change {
        match self.clone() {
            Self::App(name) => Change::DeleteApp { name },
            Self::Group(name) => Change::DeleteGroup { name },
            Self::Rule(id) => Change::DeleteRule { id },
            Self::Node(name) => Change::DeleteNode { name },
            Self::Binding(address) => Change::DeleteBinding { address },
            Self::Isolation(Target { app, instance }) => Change::DeleteIsolation { app, instance },
            Self::Team(name) => Change::DeleteTeam { name },
            Self::Token(name) => Change::DeleteToken { name },
            Self::Request(id) => Change::DeleteRequest { id },
            Self::Layer(name) => Change::DeleteLayer { name },
            Self::Role(name) => Change::DeleteRole { name },
            Self::Resource(id) => Change::DeleteResource { id },
            Self::SignerKey(id) => Change::DeleteSignerKey { id },
            Self::Revocation(of) => Change::DeleteRevocation { of },
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(name) => write!(f, "app/{name}"),
            Self::Group(name) => write!(f, "group/{name}"),
            Self::Rule(id) => write!(f, "rule/{id}"),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Binding(address) => write!(f, "binding/{address}"),
            Self::Isolation(target) => write!(f, "isolation/{target}"),
            Self::Team(name) => write!(f, "team/{name}"),
            Self::Token(name) => write!(f, "token/{name}"),
            Self::Request(id) => write!(f, "request/{id}"),
            Self::Layer(name) => write!(f, "layer/{name}"),
            Self::Role(name) => write!(f, "role/{name}"),
            Self::Resource(id) => write!(f, "resource/{id}"),
            Self::SignerKey(id) => write!(f, "signer-key/{id}"),
            Self::Revocation(of) => write!(f, "revocation/{of}"),
        }
    }
}

/// How many changes a [`WatchLine::Changes`] holds at most.
pub const CHANGES_PER_LINE: usize = 1000;

/// A line of a watch. First the clock; then either a snapshot (`snapshot`, any number of `changes`, `snapshot_end`) or
/// nothing, if the watch resumes; then deltas and heartbeats without end, with each heartbeat the clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", try_from = "Members")]
pub enum WatchLine {
    /// The API's clock, by which readers compute how long what expires still lasts. It changes no state.
    Clock { now: Timestamp },
    /// Forget everything: here comes the whole state as of this revision.
    Snapshot {
        history: History,
        revision: Revision,
        /// Histories whose followers may go over to this one: an operator said so.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        succeeds: Vec<History>,
    },
    /// A part of a snapshot.
    Changes { changes: Vec<Change> },
    /// The end of a snapshot, which counts only if number and digest of its items are these.
    SnapshotEnd { revision: Revision, count: u64, digest: Digest },
    /// From `base`, and from nowhere else, to `revision`.
    Delta { history: History, base: Revision, revision: Revision, changes: Vec<Change> },
    /// Nothing new: who has followed holds what has this digest, and that is all there is for him up to this revision.
    Heartbeat { history: History, revision: Revision, digest: Digest },
}

/// The members of a line of any type, read in one go whatever their order; see [`super::change_reader`].
#[derive(Deserialize)]
struct Members {
    r#type: LineType,
    now: Option<Timestamp>,
    history: Option<History>,
    base: Option<Revision>,
    revision: Option<Revision>,
    #[serde(default)]
    succeeds: Vec<History>,
    changes: Option<Vec<Change>>,
    count: Option<u64>,
    digest: Option<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum LineType {
    Clock,
    Snapshot,
    Changes,
    SnapshotEnd,
    Delta,
    Heartbeat,
}

impl TryFrom<Members> for WatchLine {
    type Error = String;

    fn try_from(members: Members) -> Result<Self, String> {
        let Members { r#type, now, history, base, revision, succeeds, changes, count, digest } = members;
        let history = || there("history", history);
        let revision = || there("revision", revision);
        let digest = || there("digest", digest);
        let changes = || there("changes", changes);
        Ok(match r#type {
            LineType::Clock => Self::Clock { now: there("now", now)? },
            LineType::Snapshot => Self::Snapshot { history: history()?, revision: revision()?, succeeds },
            LineType::Changes => Self::Changes { changes: changes()? },
            LineType::SnapshotEnd => {
                Self::SnapshotEnd { revision: revision()?, count: there("count", count)?, digest: digest()? }
            }
            LineType::Delta => {
                let base = there("base", base)?;
                Self::Delta { history: history()?, base, revision: revision()?, changes: changes()? }
            }
            LineType::Heartbeat => Self::Heartbeat { history: history()?, revision: revision()?, digest: digest()? },
        })
    }
}

fn there<T>(name: &str, member: Option<T>) -> Result<T, String> {
    member.ok_or_else(|| format!("missing field `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_read_as_documented_and_unknown_members_are_ignored() {
        let line = json!({
            "type": "delta", "history": "00ff00ff00ff00ff", "base": 6, "revision": 7, "later": true,
            "changes": [
                {"kind": "put_app", "app": {"name": "web", "identity": 256, "revision": 7, "later": 1}},
                {"kind": "delete_rule", "id": "r3"},
                {"kind": "put_node", "node": {"name": "n1", "underlay": "192.168.1.1", "slice_v4": "10.255.1.0/24", "slice_v6": "fd00:0:0:1::/64", "revision": 7}},
                {"kind": "put_binding", "binding": {"address": "10.255.1.7", "app": "web", "identity": 256, "instance": 0, "node": "n1",
                    "state": "freed", "since": "2026-01-31T12:00:00.000Z", "labels": {"a": "b"}, "revision": 7}},
                {"kind": "delete_binding", "address": "10.255.1.7"},
                {"kind": "put_app", "app": {"name": "db", "identity": 257, "mode": "audit", "groups": ["data"], "revision": 7}},
                {"kind": "delete_app", "name": "web"},
                {"kind": "put_group", "group": {"name": "data", "number": 1, "revision": 7}},
                {"kind": "put_isolation", "isolation": {"app": "db", "instance": 0, "expires_at": "2026-01-31T12:00:00.000Z",
                    "created_at": "2026-01-31T11:00:00.000Z", "created_by": "operator", "revision": 7}},
                {"kind": "delete_isolation", "app": "db", "instance": 0},
                {"kind": "delete_isolation", "app": "db"}
            ]
        });
        let WatchLine::Delta { base, revision, changes, .. } = serde_json::from_value(line).expect("readable") else {
            panic!("not a delta");
        };
        assert_eq!((base, revision, changes.len()), (Revision(6), Revision(7), 11));
        let keys: Vec<_> = changes.iter().map(|change| change.key().to_string()).collect();
        assert_eq!(keys[..5], ["app/web", "rule/r3", "node/n1", "binding/10.255.1.7", "binding/10.255.1.7"]);
        assert_eq!(keys[5..], ["app/db", "app/web", "group/data", "isolation/db/0", "isolation/db/0", "isolation/db"]);
        let again: Vec<Change> =
            serde_json::from_value(serde_json::to_value(&changes).expect("json")).expect("readable");
        assert_eq!(again, changes);
    }

    #[test]
    fn the_kind_may_stand_anywhere_and_counts_once() {
        let read = |text: &str| serde_json::from_str::<Change>(text);
        let (first, last) = (
            r#"{"kind": "delete_isolation", "app": "d\u0062", "instance": 3}"#,
            r#"{"later": [{"kind": "x"}], "app": "db", "instance": 3, "k\u0069nd": "delete_isolation"}"#,
        );
        let isolated = Change::DeleteIsolation { app: "db".parse().expect("name"), instance: Some(3) };
        assert_eq!((read(first).expect("readable"), read(last).expect("readable")), (isolated.clone(), isolated));
        let between = r#"{"app": {"name": "web", "identity": 256, "revision": 7}, "kind": "put_app", "later": {}}"#;
        assert_eq!(read(between).expect("readable").key().to_string(), "app/web");
        for (text, said) in [
            ("[]", "an object with its `kind`"),
            ("{}", "missing field `kind`"),
            (r#"{"kind": 7}"#, "expected a string"),
            (r#"{"kind": "put_all"}"#, "unknown kind of change `put_all`"),
            (r#"{"kind": "delete_app", "app": "web"}"#, "missing field `name`"),
            (r#"{"name": "web", "kind": "delete_app", "name": "db"}"#, "duplicate field `name`"),
            (r#"{"name": "any", "kind": "delete_app"}"#, "reserved word"),
            (r#"{"kind": "delete_app", "name": "web", "kind": "delete_app"}"#, "duplicate field `kind`"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_line_without_what_its_type_needs_is_refused_by_name() {
        let standing = r#""history": "00ff00ff00ff00ff", "revision": 7, "digest": "00ff00ff00ff00ff", "changes": []"#;
        for (text, said) in [
            ("{}".to_owned(), "missing field `type`"),
            (r#"{"type": "tale"}"#.to_owned(), "unknown variant `tale`"),
            (format!(r#"{{{standing}, "type": "delta"}}"#), "missing field `base`"),
            (format!(r#"{{"type": "clock", {standing}}}"#), "missing field `now`"),
            (format!(r#"{{"type": "snapshot_end", {standing}}}"#), "missing field `count`"),
            (r#"{"type": "heartbeat"}"#.to_owned(), "missing field `history`"),
        ] {
            let error = serde_json::from_str::<WatchLine>(&text).expect_err(&text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_reserved_identity_is_never_an_apps() {
        let change = json!({"kind": "put_app", "app": {"name": "web", "identity": 1, "revision": 7}});
        assert!(serde_json::from_value::<Change>(change).is_err());
    }
}
