//! From what stands to a file: the same policy is the same text, whoever writes it and whenever.

use std::fmt::Write as _;

use super::{AccessPolicy, End, Policy, WantedRule};
use crate::model::{API_VERSION, LayerSpec, Mode, ResourceSpec, RoleSpec, RuleSpec, Selector};

const HEAD: &str = "\
# Who may talk to whom. `netpol apply -f FILE` makes it stand, `netpol diff -f FILE` says what stands otherwise.
# What is left out: protocol tcp, all ports, mode enforce, no end. Isolations are not policy and not in here.
";
const GROUPS: &str = "
# Groups. One that an app or a rule names need not be here.
groups:
";
const APPS: &str = "
# Apps: whether their own end is enforced, and which groups they are in. What is left out stays as it is.
apps:
";
const RULES: &str = "
# Rules, by source and destination. Two are the same if source, destination, protocol, ports and action are.
rules:
";

const LAYERS: &str = "
# Layers: machines and apps that are spoken of together. One that is here has these members and no others.
";
const ROLES: &str = "
# Roles: who is in them. One that is here has these members and no others.
";
const RESOURCES: &str = "
# Resources: what gatekeepers stand before, and which roles may do what on them; whoever has no permission here has none.
";

/// A policy as text that reads back as the same policy.
pub fn write(policy: &Policy) -> String {
    let mut text = format!("{HEAD}apiVersion: {API_VERSION}\n");
    section(&mut text, GROUPS, policy.groups.iter().map(|group| format!("  - {}\n", scalar(group.as_str()))));
    let apps = policy.apps.iter().map(|(name, settings)| {
        let mode = settings.mode.map(|mode| format!("    mode: {mode}\n")).unwrap_or_default();
        let names = |names: Vec<String>| format!("    groups: [{}]\n", names.join(", "));
        let groups = settings.groups.as_ref().map(|groups| names(groups.iter().map(|g| scalar(g.as_str())).collect()));
        format!("  - name: {}\n{mode}{}", scalar(name.as_str()), groups.unwrap_or_default())
    });
    section(&mut text, APPS, apps);
    let mut pair: Option<(&Selector, &Selector)> = None;
    let rules = policy.ordered().into_iter().map(|wanted| {
        let this = (&wanted.spec.source, &wanted.spec.destination);
        let title =
            if pair.replace(this) == Some(this) { String::new() } else { format!("  # {} -> {}\n", this.0, this.1) };
        title + &rule(wanted)
    });
    section(&mut text, RULES, rules);
    access(&mut text, &policy.access);
    text
}

fn access(text: &mut String, AccessPolicy { layers, roles, resources }: &AccessPolicy) {
    if let Some(layers) = layers {
        let items = layers.values().map(|LayerSpec { name, members }| whole(name.as_str(), members));
        spoken_of(text, LAYERS, "layers", items.collect());
    }
    if let Some(roles) = roles {
        let items = roles.values().map(|RoleSpec { name, members }| whole(name.as_str(), members));
        spoken_of(text, ROLES, "roles", items.collect());
    }
    if let Some(resources) = resources {
        spoken_of(text, RESOURCES, "resources", resources.values().map(resource).collect());
    }
}

/// A section that says something even where it is empty: that there is to be nothing.
fn spoken_of(text: &mut String, comment: &str, name: &str, items: Vec<String>) {
    text.push_str(comment);
    text.push_str(name);
    text.push_str(if items.is_empty() { ": []\n" } else { ":\n" });
    text.extend(items);
}

/// A layer or a role.
fn whole<T: ToString>(name: &str, members: &[T]) -> String {
    format!("  - name: {}\n    members:{}\n", scalar(name), ordered(members, 4))
}

fn resource(ResourceSpec { id, permissions }: &ResourceSpec) -> String {
    let mut permissions: Vec<_> = permissions.iter().collect();
    permissions.sort_by_key(|permission| &permission.role);
    let permission = |permission: &&crate::model::Permission| {
        let privileges: Vec<_> = permission.privileges.iter().collect();
        let role = scalar(permission.role.as_str());
        format!("      - role: {role}\n        privileges:{}\n", ordered(&privileges, 8))
    };
    let permissions: String = permissions.iter().map(permission).collect();
    let permissions = if permissions.is_empty() { " []\n".to_owned() } else { format!("\n{permissions}") };
    format!("  - id: {}\n    permissions:{permissions}", scalar(id.as_str()))
}

/// A list in one order, on one line if it is short, else below the member that it is of.
fn ordered<T: ToString>(items: &[T], indent: usize) -> String {
    const SHORT: usize = 90;
    let mut items: Vec<String> = items.iter().map(|item| scalar(&item.to_string())).collect();
    items.sort_unstable();
    let line = format!(" [{}]", items.join(", "));
    if line.len() <= SHORT {
        return line;
    }
    items.iter().map(|item| format!("\n{:indent$}  - {item}", "")).collect()
}

fn section(text: &mut String, title: &str, items: impl Iterator<Item = String>) {
    let mut items = items.peekable();
    if items.peek().is_some() {
        text.push_str(title);
        text.extend(items);
    }
}

fn rule(WantedRule { spec, end }: &WantedRule) -> String {
    let RuleSpec { source, destination, protocol, ports, action, mode, expires_at: _, on_deny, reason } = spec;
    let mut text = format!(
        "  - source: {}\n    destination: {}\n    protocol: {protocol}\n",
        scalar(&source.to_string()),
        scalar(&destination.to_string())
    );
    let mut field = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _infallible = writeln!(text, "    {name}: {value}");
    };
    if !ports.is_all() {
        field("ports", format!("[{}]", ports.entries().join(", ")));
    }
    field("action", action.to_string());
    if *mode != Mode::default() {
        field("mode", mode.to_string());
    }
    on_deny.iter().for_each(|on_deny| field("on_deny", on_deny.to_string()));
    match end {
        End::Never => {}
        End::At(time) => field("expires_at", scalar(&time.to_string())),
        End::After(time) => field("ttl", format!("{}s", time.as_secs())),
    }
    reason.iter().for_each(|reason| field("reason", quoted(reason.as_str())));
    text
}

/// A word, quoted where a reader of YAML could take it for something else.
fn scalar(word: &str) -> String {
    const OTHERS: [&str; 8] = ["null", "true", "false", "yes", "no", "on", "off", "y"];
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'/');
    let safe = word.bytes().all(plain)
        && word.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
        && !OTHERS.contains(&word.to_ascii_lowercase().as_str())
        && !word.eq_ignore_ascii_case("n")
        && !word.ends_with(':');
    if safe { word.to_owned() } else { quoted(word) }
}

/// A text between quotes, as JSON has it, which is YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
