//! Answers of the API that are not simply an item of the model.

use serde::{Deserialize, Serialize};

use super::{
    access::AccessAnswer,
    app::App,
    binding::Binding,
    history::{History, Revision},
    isolation::Isolation,
    name::NodeName,
    node::Overlay,
    rule::{Rule, RuleId},
    time::Timestamp,
};

/// What list answers say in `apiVersion`.
pub const API_VERSION: &str = "netpol/v1";

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List<T> {
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    pub items: Vec<T>,
    /// The head when the page was read.
    pub revision: Revision,
    /// Where the next page starts; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Created,
    /// It stood with other settings: a rule with another mode, end, reason or way to deny.
    Updated,
    /// The same stood.
    Unchanged,
}

/// The answer to a rule that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct RuleAnswer {
    #[serde(flatten)]
    pub rule: Rule,
    pub outcome: Outcome,
    /// Nothing was written: this is what would be.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

/// The answer to a deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Deleted {
    pub id: RuleId,
    /// The revision without the rule.
    pub revision: Revision,
    pub rule: Rule,
    /// Rules that go on allowing something between the same two ends; the oldest ones, where there are many.
    pub still_allowed_by: Vec<Rule>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

/// The answer to a change set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ChangesAnswer {
    pub revision: Revision,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<AppAnswer>,
    /// Of layers, roles and resources that were to stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<AccessAnswer>,
    pub created: Vec<RuleAnswer>,
    pub deleted: Vec<Deleted>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

/// The answer to settings of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct AppAnswer {
    #[serde(flatten)]
    pub app: App,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

/// The answer to the deletion of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct AppDeleted {
    /// The revision without the app.
    pub revision: Revision,
    pub app: App,
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

/// The answer to an isolation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct IsolationAnswer {
    #[serde(flatten)]
    pub isolation: Isolation,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

/// The answer to the end of an isolation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct IsolationDeleted {
    /// The revision without the isolation.
    pub revision: Revision,
    pub isolation: Isolation,
    /// Isolations that go on holding some or all of the same instances.
    pub still_isolated_by: Vec<Isolation>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(super) fn is_false(value: &bool) -> bool {
    !*value
}

/// A verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum VerdictWord {
    Allow,
    Deny,
}

/// What a verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    AllowRule,
    DenyRule,
    /// Default deny.
    NoRule,
    /// No rule allows it, but what denies it is softened: its apps are in audit.
    Audit,
    /// One of its ends is isolated, whatever the rules say.
    Isolated,
}

/// What would be the verdict if what is in audit were enforced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Would {
    pub verdict: VerdictWord,
    pub cause: Cause,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
}

/// The answer to a question about policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct CheckAnswer {
    pub verdict: VerdictWord,
    pub cause: Cause,
    /// The deciding rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// If no rule decides: the one that comes nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<Rule>,
    /// If it would be otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would: Option<Would>,
    /// Isolations of either end; where the cause is another, they hold some of its instances only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub isolated_by: Vec<Isolation>,
    /// The answer as a sentence.
    pub text: String,
    pub revision: Revision,
}

/// Who had an address, from when until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    pub binding: Binding,
    pub from: Timestamp,
    pub until: Option<Timestamp>,
}

/// The answer to "who has this address?", now or at some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct LookupAnswer {
    #[serde(flatten)]
    pub binding: Binding,
    /// The time that was asked about; absent where it was now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Since when it was this instance's then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Until when; absent while it still is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// By how much the time that was asked about may be wrong, where a node's clock told it and not the API's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_error_ms: Option<u64>,
    /// Who else had it within that time: instances, or `nobody`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub or: Vec<String>,
    /// The answer as a sentence.
    pub text: String,
}

/// The answer to a release of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Released {
    pub revision: Revision,
}

/// Where a revision is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct InForce {
    pub revision: Revision,
    /// Every connected node has it in force.
    pub complete: bool,
    /// Nodes that reported it, or a later one, as wholly applied.
    pub in_force: Vec<NodeName>,
    /// Connected nodes that did not yet.
    pub missing: Vec<NodeName>,
    /// Registered nodes that did not and are not connected: nobody can say what they enforce.
    #[serde(default)]
    pub disconnected: Vec<NodeName>,
}

/// The API in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Status {
    pub version: String,
    /// The API's clock, by which rules and isolations end.
    pub now: Timestamp,
    pub history: History,
    pub revision: Revision,
    pub overlay: Overlay,
    pub apps: u64,
    /// Identities of apps that were given out, ever, of all that there are; then those of deleted apps are given out again.
    #[serde(default)]
    pub identities_given: u32,
    #[serde(default)]
    pub identities_capacity: u32,
    pub rules: u64,
    /// Rows that all rules together need on a node that holds all of them.
    pub rows: u64,
    /// The smallest number of rows that a registered node can hold; absent until one has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_capacity: Option<u64>,
    /// Live ones.
    pub instances: u64,
    pub nodes: u64,
    pub nodes_connected: u64,
    /// Connected nodes that say they are ready.
    pub nodes_ready: u64,
    /// Whether the last write could be stored.
    pub store_healthy: bool,
}
