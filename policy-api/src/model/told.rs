//! What an entry of the history says, in words: what was, and what it became.

use std::collections::BTreeSet;

use super::{
    access::{Layer, Resource, Role},
    api_token::ApiToken,
    app::App,
    ask::RuleRequest,
    binding::{Binding, BindingState},
    change::{Change, Key},
    entry::{EntryKind, HistoryEntry, Spread, Taken},
    isolation::Isolation,
    node::Node,
    revocation::Revoked,
    rule::{Reason, Rule, RuleSpec},
    team::Team,
};

impl HistoryEntry {
    /// A line for each thing that it changed.
    pub fn told(&self) -> Vec<String> {
        match self.kind {
            EntryKind::Refused => self
                .refused
                .iter()
                .map(|attempt| {
                    let times = if attempt.count > 1 { format!("; {} times", attempt.count) } else { String::new() };
                    format!("{} {} refused: {}{times}", attempt.method, attempt.path, attempt.detail)
                })
                .collect(),
            EntryKind::InForce => self
                .in_force
                .iter()
                .map(|spread| {
                    let Spread { revision, nodes, taken } = spread;
                    let took = if taken.is_empty() {
                        String::new()
                    } else {
                        format!("; news of {} nodes", count_nodes(taken))
                    };
                    format!("all up to revision {revision} in force on {nodes} nodes{took}")
                })
                .collect(),
            EntryKind::Restored => self
                .restored
                .iter()
                .map(|restored| format!("restored from a copy: history {} goes on as {}", restored.from, restored.to))
                .collect(),
            EntryKind::Gate => self.gate.iter().map(ToString::to_string).collect(),
            EntryKind::Intent | EntryKind::Node | EntryKind::Placement | EntryKind::Signer => self
                .changes
                .iter()
                .map(|change| told(change, self.item_before(&change.key()), self.reason.as_ref()))
                .collect(),
        }
    }

    fn item_before(&self, key: &Key) -> Option<&Change> {
        self.before.iter().find(|before| before.key() == *key)
    }
}

fn count_nodes(taken: &[Taken]) -> usize {
    taken.iter().map(|taken| &taken.node).collect::<BTreeSet<_>>().len()
}

/// In words; the reason that the entry gives anyway is not said again.
fn told(change: &Change, before: Option<&Change>, reason: Option<&Reason>) -> String {
    match (change, before) {
        (Change::PutRule { rule }, Some(Change::PutRule { rule: before })) => {
            changed(&named(rule), &rule_parts(before), &rule_parts(rule))
        }
        (Change::PutRule { rule }, _) => format!("{} created{}", named(rule), besides(rule, reason)),
        (Change::DeleteRule { .. }, Some(Change::PutRule { rule })) => format!("{} deleted", named(rule)),
        (Change::DeleteRule { id }, _) => format!("rule {id} deleted"),
        (Change::PutApp { app }, Some(Change::PutApp { app: before })) => {
            changed(&format!("app {}", app.name), &app_parts(before), &app_parts(app))
        }
        (Change::PutApp { app }, _) => format!("app {} created", app.name),
        (Change::DeleteApp { name }, _) => format!("app {name} deleted"),
        (Change::PutGroup { group }, _) => format!("group {} created", group.name),
        (Change::DeleteGroup { name }, _) => format!("group {name} deleted"),
        (Change::PutNode { node }, Some(Change::PutNode { node: before })) => {
            changed(&format!("node {}", node.name), &node_parts(before), &node_parts(node))
        }
        (Change::PutNode { node }, _) => format!("node {} joined at {}", node.name, node.underlay),
        (Change::DeleteNode { name }, _) => format!("node {name} removed"),
        (Change::PutBinding { binding }, _) => binding_told(binding),
        (Change::DeleteBinding { address }, _) => format!("{address} is nobody's any more"),
        (Change::PutIsolation { isolation }, Some(Change::PutIsolation { isolation: before })) => {
            let name = format!("isolation of {}", isolation.target());
            changed(&name, &isolation_parts(before), &isolation_parts(isolation))
        }
        (Change::PutIsolation { isolation }, _) => format!("{} isolated", isolation.target()),
        (Change::DeleteIsolation { app, instance: Some(instance) }, _) => {
            format!("isolation of {app}/{instance} ended")
        }
        (Change::DeleteIsolation { app, instance: None }, _) => format!("isolation of {app} ended"),
        (Change::PutTeam { team }, Some(Change::PutTeam { team: before })) => {
            changed(&format!("team {}", team.name), &team_parts(before), &team_parts(team))
        }
        (Change::PutTeam { team }, _) => format!("team {} created{}", team.name, listed(team_parts(team))),
        (Change::DeleteTeam { name }, _) => format!("team {name} deleted"),
        (Change::PutToken { token }, Some(Change::PutToken { token: before })) => {
            changed(&format!("token {}", token.name), &token_parts(before), &token_parts(token))
        }
        (Change::PutToken { token }, _) => format!("token {} created{}", token.name, listed(token_parts(token))),
        (Change::DeleteToken { name }, _) => format!("token {name} revoked"),
        (Change::PutRequest { request }, _) => format!("{} asks: {}", request.team, asked_for(request)),
        (Change::DeleteRequest { .. }, Some(Change::PutRequest { request })) => {
            format!("request of {} is over: {}", request.team, asked_for(request))
        }
        (Change::DeleteRequest { id }, _) => format!("request {id} is over"),
        (
            Change::PutLayer { .. }
            | Change::DeleteLayer { .. }
            | Change::PutRole { .. }
            | Change::DeleteRole { .. }
            | Change::PutResource { .. }
            | Change::DeleteResource { .. },
            before,
        ) => access_told(change, before),
        (Change::PutSignerKey { key }, _) => {
            format!("signer key {} created, signs from {} until {}", key.id, key.signs_from, key.signs_until)
        }
        (Change::DeleteSignerKey { id }, _) => format!("signer key {id} is over"),
        (Change::PutRevocation { revocation }, _) => match &revocation.of {
            Revoked::Token(id) => format!("identity token {id} revoked"),
            Revoked::Subject(_) | Revoked::Node(_) => {
                format!("identity tokens of {} revoked, issued before {}", revocation.of, revocation.issued_before)
            }
        },
        (Change::DeleteRevocation { of }, _) => format!("revocation of {of} is over: nothing is left that it is about"),
    }
}

/// Of layers, roles and resources.
fn access_told(change: &Change, before: Option<&Change>) -> String {
    match (change, before) {
        (Change::PutLayer { layer }, Some(Change::PutLayer { layer: before })) => {
            changed(&format!("layer {}", layer.name), &layer_parts(before), &layer_parts(layer))
        }
        (Change::PutLayer { layer }, _) => format!("layer {} created{}", layer.name, listed(layer_parts(layer))),
        (Change::PutRole { role }, Some(Change::PutRole { role: before })) => {
            changed(&format!("role {}", role.name), &role_parts(before), &role_parts(role))
        }
        (Change::PutRole { role }, _) => format!("role {} created{}", role.name, listed(role_parts(role))),
        (Change::PutResource { resource }, Some(Change::PutResource { resource: before })) => {
            changed(&format!("resource {}", resource.id), &resource_parts(before), &resource_parts(resource))
        }
        (Change::PutResource { resource }, _) => {
            format!("resource {} created{}", resource.id, listed(resource_parts(resource)))
        }
        (other, _) => format!("{} deleted", other.key().to_string().replacen('/', " ", 1)),
    }
}

/// `q3 (allow web -> db tcp/8080)`.
fn asked_for(request: &RuleRequest) -> String {
    let RuleSpec { action, source, destination, protocol, ports, .. } = &request.rule;
    let ports = if protocol.has_ports() { format!("/{ports}") } else { String::new() };
    format!("{} ({action} {source} -> {destination} {protocol}{ports})", request.id)
}

fn listed(parts: Parts) -> String {
    parts.into_iter().map(|(name, value)| format!(", {name} {value}")).collect()
}

fn team_parts(team: &Team) -> Parts {
    vec![
        ("apps", joined(&team.apps)),
        ("groups", joined(&team.groups)),
        ("resources", joined(&team.resources)),
        ("most-rules", or_none(team.most_rules)),
        ("most-apps", or_none(team.most_apps)),
    ]
}

fn token_parts(token: &ApiToken) -> Parts {
    vec![("roles", joined(&token.grants)), ("expiry", or_none(token.expires_at))]
}

fn layer_parts(layer: &Layer) -> Parts {
    vec![("members", joined(&layer.members))]
}

fn role_parts(role: &Role) -> Parts {
    vec![("members", joined(&role.members))]
}

/// `permissions publisher(create,read) operators(delete)`.
fn resource_parts(resource: &Resource) -> Parts {
    let permission = |(role, privileges)| format!("{role}({})", joined(privileges));
    let permissions: Vec<String> = resource.permissions.iter().map(permission).collect();
    let permissions = if permissions.is_empty() { "none".to_owned() } else { permissions.join(" ") };
    vec![("permissions", permissions)]
}

fn joined<T: std::fmt::Display>(all: &BTreeSet<T>) -> String {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(",") }
}

/// `r12 (allow web -> db tcp/8080)`.
fn named(rule: &Rule) -> String {
    let Rule { id, action, source, destination, protocol, ports, .. } = rule;
    let ports = if protocol.has_ports() { format!("/{ports}") } else { String::new() };
    format!("{id} ({action} {source} -> {destination} {protocol}{ports})")
}

/// Of one thing, what may change in place: its name and its value.
type Parts = Vec<(&'static str, String)>;

fn besides(rule: &Rule, said: Option<&Reason>) -> String {
    let reason = rule.reason.clone().filter(|reason| Some(reason) == said);
    let standard = Rule { mode: Default::default(), expires_at: None, on_deny: None, reason, ..rule.clone() };
    let unlike = rule_parts(rule).into_iter().zip(rule_parts(&standard)).filter(|(part, usual)| part != usual);
    unlike.map(|((name, value), _)| format!(", {name} {value}")).collect()
}

fn rule_parts(rule: &Rule) -> Parts {
    vec![
        ("mode", rule.mode.to_string()),
        ("expiry", or_none(rule.expires_at)),
        ("on-deny", rule.on_deny().to_string()),
        ("reason", rule.reason.as_ref().map_or_else(|| "none".to_owned(), |reason| format!("`{reason}`"))),
    ]
}

fn app_parts(app: &App) -> Parts {
    let groups: Vec<&str> = app.groups.iter().map(|group| group.as_str()).collect();
    let groups = if groups.is_empty() { "none".to_owned() } else { groups.join(",") };
    vec![("mode", app.mode.to_string()), ("groups", groups)]
}

fn node_parts(node: &Node) -> Parts {
    let draining = if node.draining { "yes" } else { "no" };
    let apps: Vec<String> = node.apps.iter().map(ToString::to_string).collect();
    let key = node.key.map_or_else(|| "none".to_owned(), |key| key.to_string());
    vec![
        ("draining", draining.to_owned()),
        ("underlay", node.underlay.to_string()),
        ("apps", apps.join(",")),
        ("key", key),
    ]
}

fn isolation_parts(isolation: &Isolation) -> Parts {
    let reason = isolation.reason.as_ref().map_or_else(|| "none".to_owned(), |reason| format!("`{reason}`"));
    vec![("expiry", or_none(isolation.expires_at)), ("reason", reason)]
}

fn binding_told(binding: &Binding) -> String {
    let (name, address, node) = (binding.instance_name(), binding.address, &binding.node);
    match binding.state {
        BindingState::Live => format!("{name} has {address} on {node}"),
        BindingState::Freed => format!("{name} gave {address} on {node} back"),
    }
}

fn or_none<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn changed(name: &str, before: &Parts, after: &Parts) -> String {
    let unlike = before.iter().zip(after).filter(|(before, after)| before != after);
    let parts: Vec<String> = unlike.map(|((part, old), (_, new))| format!("{part} {old} -> {new}")).collect();
    if parts.is_empty() { format!("{name} written again") } else { format!("{name}: {}", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Revision, Timestamp};

    fn said(changes: serde_json::Value, before: serde_json::Value) -> Vec<String> {
        let entry = HistoryEntry::new(EntryKind::Intent, "operator", Timestamp::now(), Revision(7));
        let changes = serde_json::from_value(changes).expect("changes");
        HistoryEntry { changes, before: serde_json::from_value(before).expect("items"), ..entry }.told()
    }

    fn rule(mode: &str) -> serde_json::Value {
        json!({"kind": "put_rule", "rule": {
            "id": "r12", "source": "web", "destination": "db", "protocol": "tcp", "ports": ["8080"], "action": "allow",
            "mode": mode, "revision": 7, "created_at": "2026-01-31T12:00:00Z", "created_by": "operator",
        }})
    }

    #[test]
    fn a_change_is_told_as_what_was_and_what_it_became() {
        assert_eq!(said(json!([rule("audit")]), json!([])), ["r12 (allow web -> db tcp/8080) created, mode audit"]);
        assert_eq!(
            said(json!([rule("audit")]), json!([rule("enforce")])),
            ["r12 (allow web -> db tcp/8080): mode enforce -> audit"]
        );
        let gone = json!([{"kind": "delete_rule", "id": "r12"}]);
        assert_eq!(said(gone.clone(), json!([rule("enforce")])), ["r12 (allow web -> db tcp/8080) deleted"]);
        let app = |groups: &[&str]| json!({"kind": "put_app", "app": {"name": "web", "identity": 256, "groups": groups, "revision": 7}});
        assert_eq!(said(json!([app(&["a", "b"])]), json!([app(&["a"])])), ["app web: groups a -> a,b"]);
        let free = json!([{"kind": "delete_isolation", "app": "web", "instance": 0}]);
        assert_eq!(said(free, json!([])), ["isolation of web/0 ended"]);
    }

    #[test]
    fn who_came_to_be_in_a_role_and_what_it_may_is_told() {
        let role = |members: &[&str]| json!([{"kind": "put_role", "role": {"name": "ci/publisher", "members": members, "revision": 7}}]);
        assert_eq!(said(role(&["layer:ci"]), json!([])), ["role ci/publisher created, members layer:ci"]);
        let both = role(&["layer:ci", "user:olga"]);
        assert_eq!(said(both, role(&["layer:ci"])), ["role ci/publisher: members layer:ci -> user:olga,layer:ci"]);
        let resource = json!([{"kind": "put_resource", "resource": {"id": "bot", "revision": 7, "permissions": [
            {"role": "ci/publisher", "privileges": ["read", "create"]}]}}]);
        assert_eq!(said(resource, json!([])), ["resource bot created, permissions ci/publisher(create,read)"]);
        let gone = json!([{"kind": "delete_role", "name": "ci/publisher"}, {"kind": "delete_layer", "name": "ci"}]);
        assert_eq!(said(gone, json!([])), ["role ci/publisher deleted", "layer ci deleted"]);
    }
}
