//! What a change of policy does, line by line, and a whole policy as a file.

use policy_api::model::{
    App, GroupName, LayerSpec, Mode, Receipt, ResourceSpec, Revision, RoleSpec, Rule, RuleSpec, RuleView,
};
use policy_api::policy::{AccessDifference, AppDifference, Difference, Policy, Updated, write};
use serde::Serialize;

use super::rule::{Waited, tone};
use super::table::{Tone, paint};
use super::{Answer, Detail, access, phrase};
use crate::terminal::Look;

/// What `apply`, `diff` and `rollback` did or would do.
#[derive(Serialize)]
pub(crate) struct Applied<'a> {
    dry_run: bool,
    revision: u64,
    groups: &'a [GroupName],
    apps: Vec<SetApp<'a>>,
    created: &'a [RuleSpec],
    updated: Vec<Change<'a>>,
    deleted: &'a [RuleView],
    unchanged: usize,
    /// That live by rules that change or go, or that new denies may hit.
    live_flows: u64,
    /// Rules of the files that are not made, because their end is past.
    over: &'a [RuleSpec],
    #[serde(flatten)]
    access: &'a AccessDifference,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<&'a Receipt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<&'a Waited>,
}

#[derive(Serialize)]
struct SetApp<'a> {
    #[serde(skip)]
    difference: &'a AppDifference,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a App>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Change<'a> {
    before: &'a RuleView,
    after: &'a RuleSpec,
}

impl<'a> Applied<'a> {
    pub(crate) fn dry(difference: &'a Difference, revision: Revision) -> Self {
        Self { dry_run: true, ..Self::done(difference, revision) }
    }

    pub(crate) fn done(difference: &'a Difference, revision: Revision) -> Self {
        let Difference { groups, apps, created, updated, deleted, unchanged, over, live_flows, access } = difference;
        let change = |Updated { before, spec }: &'a Updated| Change { before, after: spec };
        Self {
            dry_run: false,
            revision: revision.0,
            groups,
            apps: apps.iter().map(SetApp::from).collect(),
            created,
            updated: updated.iter().map(change).collect(),
            deleted,
            unchanged: *unchanged,
            live_flows: *live_flows,
            over,
            access,
            receipt: None,
            wait: None,
        }
    }

    /// The same, with what is known once nodes have it in force.
    pub(crate) fn with(self, receipt: Option<&'a Receipt>, wait: Option<&'a Waited>) -> Self {
        Self { receipt, wait, ..self }
    }

    fn is_empty(&self) -> bool {
        self.groups.is_empty()
            && self.apps.is_empty()
            && self.created.is_empty()
            && self.updated.is_empty()
            && self.deleted.is_empty()
            && self.access.is_empty()
    }

    /// `2 rules created, 1 updated, 0 deleted, 7 unchanged`, in the words of what is or would be.
    fn sum(&self) -> String {
        let [created, updated, deleted] =
            if self.dry_run { ["to create", "to update", "to delete"] } else { ["created", "updated", "deleted"] };
        let rules = phrase::count(self.created.len(), "rule");
        let flows = usize::try_from(self.live_flows).unwrap_or(usize::MAX);
        let revision = if self.dry_run {
            format!("; touches {}", phrase::count(flows, "live flow"))
        } else {
            format!("; revision {}", self.revision)
        };
        let access = if self.access.is_empty() {
            String::new()
        } else {
            let set = if self.dry_run { "to set" } else { "set" };
            format!("; roles and resources: {} {set}, {} {deleted}", self.access.set(), self.access.deleted())
        };
        format!(
            "{rules} {created}, {} {updated}, {} {deleted}, {} unchanged{access}{revision}",
            self.updated.len(),
            self.deleted.len(),
            self.unchanged
        )
    }
}

impl Answer for Applied<'_> {
    fn text(&self, look: &Look, _: Detail) -> String {
        let sign = |sign: &str, tone: Tone| paint(sign, tone, look);
        let mut lines: Vec<String> = Vec::new();
        lines.extend(self.groups.iter().map(|group| format!("{} group {group}", sign("+", Tone::Good))));
        lines.extend(self.apps.iter().map(|app| app.line(look)));
        let created = |spec: &RuleSpec| format!("{} {}", sign("+", Tone::Good), said(spec, look));
        lines.extend(self.created.iter().map(created));
        lines.extend(self.updated.iter().map(|change| format!("{} {}", sign("~", Tone::Plain), change.line(look))));
        let deleted = |view: &RuleView| {
            format!("{} {} {}{}", sign("-", Tone::Bad), view.rule.id, painted(&view.rule, look), living(view))
        };
        lines.extend(self.deleted.iter().map(deleted));
        lines.extend(access::difference(self.access, look));
        if !self.is_empty() || !self.dry_run {
            lines.push(self.sum());
        }
        lines.join("\n")
    }

    fn name(&self) -> String {
        let changed = self.updated.iter().map(|change| change.before).chain(self.deleted);
        changed.map(|view| view.rule.id.to_string()).collect::<Vec<_>>().join("\n")
    }
}

impl<'a> From<&'a AppDifference> for SetApp<'a> {
    fn from(difference: &'a AppDifference) -> Self {
        let AppDifference { name, before, mode, groups } = difference;
        let groups = groups.as_ref().map(|groups| groups.iter().map(ToString::to_string).collect());
        Self { difference, name: name.to_string(), before: before.as_ref(), mode: *mode, groups }
    }
}

impl SetApp<'_> {
    /// `~ app web  mode enforce -> audit, groups front -> front,eu`.
    fn line(&self, look: &Look) -> String {
        let (sign, tone) = if self.before.is_some() { ("~", Tone::Plain) } else { ("+", Tone::Good) };
        let before = self.before;
        let mode = self.mode.map(|mode| format!("mode {} -> {mode}", before.map_or(Mode::default(), |app| app.mode)));
        let groups = self.difference.groups.as_ref().map(|after| {
            let names = |groups: &std::collections::BTreeSet<GroupName>| {
                if groups.is_empty() {
                    "none".to_owned()
                } else {
                    groups.iter().map(GroupName::as_str).collect::<Vec<_>>().join(",")
                }
            };
            format!("groups {} -> {}", before.map_or_else(|| "none".to_owned(), |app| names(&app.groups)), names(after))
        });
        let what: Vec<String> = [mode, groups].into_iter().flatten().collect();
        format!("{} app {}  {}", paint(sign, tone, look), self.name, what.join(", ")).trim_end().to_owned()
    }
}

impl Change<'_> {
    /// `r12 allow appA -> appB tcp/8080  mode enforce -> audit`.
    fn line(&self, look: &Look) -> String {
        let (rule, after) = (&self.before.rule, self.after);
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
        let end = |end: Option<policy_api::model::Timestamp>| or_none(end.map(|end| end.to_string()));
        let reason = |reason: Option<&policy_api::model::Reason>| {
            or_none(reason.map(|reason| phrase::shell_word(reason.as_str()).into_owned()))
        };
        let pairs = [
            ("mode", rule.mode.to_string(), after.mode.to_string()),
            ("end", end(rule.expires_at), end(after.expires_at)),
            ("on-deny", rule.on_deny().to_string(), after.on_deny.unwrap_or_default().to_string()),
            ("reason", reason(rule.reason.as_ref()), reason(after.reason.as_ref())),
        ];
        let changed = pairs.into_iter().filter(|(_, before, after)| before != after);
        let changed: Vec<String> = changed.map(|(what, before, after)| format!("{what} {before} -> {after}")).collect();
        let words = paint(&phrase::tuple(&rule.tuple()), tone(rule.action), look);
        format!("{} {words}  {}{}", rule.id, changed.join(", "), living(self.before))
    }
}

/// What lives by a rule; nothing, where nothing does.
fn living(view: &RuleView) -> String {
    match usize::try_from(view.usage.live).unwrap_or(usize::MAX) {
        0 => String::new(),
        flows => format!("  ({})", phrase::count(flows, "live flow")),
    }
}

fn painted(rule: &Rule, look: &Look) -> String {
    paint(&phrase::whole(rule), tone(rule.action), look)
}

fn said(spec: &RuleSpec, look: &Look) -> String {
    let mode = if spec.mode == Mode::Audit { ", audit" } else { "" };
    let end = spec.expires_at.map(|end| format!(", until {end}")).unwrap_or_default();
    paint(&format!("{}{mode}{end}", phrase::tuple(&spec.tuple())), tone(spec.action), look)
}

/// A policy as a file that `apply` reads, in whatever format: YAML for people.
#[derive(Serialize)]
pub(crate) struct Exported {
    groups: Vec<String>,
    apps: Vec<ExportedApp>,
    rules: Vec<RuleSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<LayerSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<Vec<RoleSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Vec<ResourceSpec>>,
    #[serde(skip)]
    text: String,
}

#[derive(Serialize)]
struct ExportedApp {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<String>>,
}

impl Exported {
    pub(crate) fn of(policy: &Policy) -> Self {
        let names = |groups: &std::collections::BTreeSet<GroupName>| groups.iter().map(ToString::to_string).collect();
        let apps = policy.apps.iter().map(|(name, settings)| ExportedApp {
            name: name.to_string(),
            mode: settings.mode,
            groups: settings.groups.as_ref().map(names),
        });
        Self {
            groups: names(&policy.groups),
            apps: apps.collect(),
            rules: policy.ordered().into_iter().map(policy_api::policy::WantedRule::whole).collect(),
            layers: policy.access.layers.as_ref().map(|layers| layers.values().cloned().collect()),
            roles: policy.access.roles.as_ref().map(|roles| roles.values().cloned().collect()),
            resources: policy.access.resources.as_ref().map(|resources| resources.values().cloned().collect()),
            text: write(policy),
        }
    }
}

impl Answer for Exported {
    fn text(&self, _: &Look, _: Detail) -> String {
        self.text.clone()
    }

    fn name(&self) -> String {
        self.rules.iter().map(|rule| phrase::tuple(&rule.tuple())).collect::<Vec<_>>().join("\n")
    }
}
