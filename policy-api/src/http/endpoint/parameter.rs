//! What endpoints take, in queries and bodies, by name and kind; what several of them take stands once.

/// A parameter of a query or a member of a body.
pub(in crate::http) struct Parameter {
    pub(in crate::http) name: &'static str,
    pub(in crate::http) kind: Kind,
    pub(in crate::http) required: bool,
    pub(in crate::http) text: &'static str,
}

/// What JSON type a parameter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Kind {
    Text,
    /// Whatever somebody says, of which so much is kept as has room.
    Words,
    Number,
    Flag,
    Texts,
    /// An object of texts.
    Labels,
    /// A list of rules.
    Rules,
    /// A list of apps and what to change of them.
    Apps,
    /// A list of cuts.
    Cuts,
    Clock,
    /// A list of what rules are used for.
    Usage,
    /// Words with slashes between them.
    Id,
    /// A list of such.
    Ids,
    /// A list of what can be in a role.
    Members,
    Privileges,
    /// A list of layers.
    Layers,
    /// A list of roles on resources.
    Roles,
    /// A list of resources.
    Resources,
    /// A list of what roles may do.
    Permissions,
    /// A list of what a gatekeeper decided.
    Decisions,
}

pub(super) const fn must(name: &'static str, kind: Kind, text: &'static str) -> Parameter {
    Parameter { name, kind, required: true, text }
}

pub(super) const fn may(name: &'static str, kind: Kind, text: &'static str) -> Parameter {
    Parameter { name, kind, required: false, text }
}

pub(super) const LIMIT: Parameter = may("limit", Kind::Number, "At most so many items, 1 to 1000");
pub(super) const CURSOR: Parameter = may("cursor", Kind::Text, "`next` of the page before");
pub(super) const AT: Parameter =
    may("at", Kind::Text, "What stood when this revision was the last, or at this time (RFC 3339, the API's clock)");
pub(super) const SOURCE: Parameter = must("source", Kind::Text, "An app, `group:NAME`, `any` (every app) or `host`");
pub(super) const DESTINATION: Parameter =
    must("destination", Kind::Text, "The same; `host` may stand on one side only");
pub(super) const PROTOCOL: Parameter = may("protocol", Kind::Text, "`tcp` (default), `udp`, `sctp`, `icmp` or `any`");
pub(super) const EXPIRES_AT: Parameter =
    may("expires_at", Kind::Text, "When it ends, by the API's clock (`now` of `/v1/status`)");
pub(super) const PRIVILEGE: Parameter =
    must("privilege", Kind::Text, "`read`, `create`, `update`, `delete`, `execute`, or a word of the resource's own");
pub(super) const RESOURCE: Parameter = must("resource", Kind::Text, "Like `production/release-bot`");
pub(super) const REASON: Parameter = may("reason", Kind::Text, "At most 256 characters");
pub(super) const PAGE: &[Parameter] = &[LIMIT, CURSOR];
pub(super) const DRY_RUN: &[Parameter] = &[may("dry_run", Kind::Flag, "Say what would be done, and do nothing")];

/// Members of a cut in a report.
pub(in crate::http) const CUT: &[Parameter] = &[
    must("after", Kind::Number, "The revision before"),
    must("applied", Kind::Number, "The revision that was applied"),
    must("flows", Kind::Number, "Live flows that it cut"),
];

/// Members of a reading of a node's clock.
pub(in crate::http) const CLOCK: &[Parameter] = &[
    must("ahead_ms", Kind::Number, "By how much it is ahead of the API's; negative where it is behind"),
    must("error_ms", Kind::Number, "How wrong that may be"),
];

/// Members of a rule's counts in a report of usage.
pub(in crate::http) const USAGE: &[Parameter] = &[
    must("id", Kind::Text, "The rule"),
    must("packets", Kind::Number, "In both directions"),
    must("bytes", Kind::Number, "In both directions"),
    must("flows", Kind::Number, "Flows that it decided about"),
    may("live", Kind::Number, "Flows that began on this node and live by it now"),
    may("last_hit", Kind::Text, "When it last decided"),
];

/// Members of a layer in a change set.
pub(in crate::http) const LAYER: &[Parameter] = &[
    must("name", Kind::Id, "Its name, like `ci`"),
    must("members", Kind::Members, "All that are in it: `app:NAME`, `host:NAME`"),
];

/// Members of a role in a change set.
pub(in crate::http) const ROLE: &[Parameter] = &[
    must("name", Kind::Id, "Its name, like `production/release-bot/publisher`"),
    must("members", Kind::Members, "All that are in it: `app:`, `host:`, `user:`, `layer:` and `role:`, with a name"),
];

/// Members of a resource in a change set.
pub(in crate::http) const RESOURCE_SPEC: &[Parameter] = &[
    must("id", Kind::Id, "Like `production/release-bot`"),
    must("permissions", Kind::Permissions, "What roles may do on it, each role once"),
];

/// Members of a permission of a resource.
pub(in crate::http) const PERMISSION: &[Parameter] = &[
    must("role", Kind::Id, "The role"),
    must(
        "privileges",
        Kind::Privileges,
        "What it may do: `read`, `create`, `update`, `delete`, `execute`, or another word",
    ),
];

/// Members of a decision in a gatekeeper's report.
pub(in crate::http) const DECISION: &[Parameter] = &[
    must("at", Kind::Text, "When, by the gatekeeper's clock; of several, the last one"),
    may("subject", Kind::Words, "Who asked; absent: nobody knows"),
    may("privilege", Kind::Text, "What would be done; absent: it did not come to that"),
    must("method", Kind::Words, "Of the request"),
    must("path", Kind::Words, "Of the request"),
    must("verdict", Kind::Text, "`allow` or `deny`"),
    may("reason", Kind::Words, "Why"),
    may("status", Kind::Number, "What the asker was answered"),
    may("request_id", Kind::Words, "What the request is called in logs"),
    may("count", Kind::Number, "How many decisions it stands for"),
];

const NAME: Parameter = must("name", Kind::Text, "The app");
const MODE: Parameter =
    may("mode", Kind::Text, "`enforce`, or `audit`: what its own end would deny passes there and is reported");
const GROUPS: Parameter = may("groups", Kind::Texts, "The groups it is in, and no others; at most 8");
const ADD_GROUPS: Parameter = may("add_groups", Kind::Texts, "Groups it is in besides");
const REMOVE_GROUPS: Parameter = may("remove_groups", Kind::Texts, "Groups it is in no longer");

/// Settings of an app; what is absent stays.
pub(super) const APP: &[Parameter] = &[MODE, GROUPS, ADD_GROUPS, REMOVE_GROUPS];

/// Members of an app in a change set.
pub(in crate::http) const NAMED_APP: &[Parameter] = &[NAME, MODE, GROUPS, ADD_GROUPS, REMOVE_GROUPS];

/// Members of a rule in a request.
pub(in crate::http) const RULE: &[Parameter] = &[
    SOURCE,
    DESTINATION,
    PROTOCOL,
    may("ports", Kind::Texts, "Like `8080` and `8000-8010`; absent: all"),
    must("action", Kind::Text, "`allow` or `deny`"),
    may(
        "mode",
        Kind::Text,
        "`enforce` (default), or `audit`: no part in the verdict, but what it would change is reported",
    ),
    EXPIRES_AT,
    may("on_deny", Kind::Text, "Of a deny rule: `reset` (default) tells the sender at once, `drop` does not"),
    REASON,
];
