//! What there is: the one table that the router, the access checks, the metrics and the description are made from.

use axum::routing::{MethodRouter, delete, get, post, put};

use super::{Context, app, health, history, lookup, metrics, node, openapi, read, right, rule, watch};

/// One method on one path.
pub(super) struct Endpoint {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) access: Access,
    pub(super) summary: &'static str,
    /// Parameters of the query string.
    pub(super) query: &'static [Parameter],
    /// Members of the request's body, if it has one.
    pub(super) body: &'static [Parameter],
    /// Statuses of answers other than refusals, and what they say.
    pub(super) answers: &'static [(u16, &'static str)],
    pub(super) handler: fn() -> MethodRouter<Context>,
}

/// Whose token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Nobody's.
    Open,
    /// Anybody's.
    Known,
    /// A user's or a machine's. What it is good for is for the store to say, which knows the state.
    User,
    /// The certificate of the node that the request speaks for.
    Node,
    /// The same, or the join token of such a node.
    Joining,
}

/// A parameter of a query or a member of a body.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
    pub(super) text: &'static str,
}

/// What JSON type a parameter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
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
}

const fn must(name: &'static str, kind: Kind, text: &'static str) -> Parameter {
    Parameter { name, kind, required: true, text }
}

const fn may(name: &'static str, kind: Kind, text: &'static str) -> Parameter {
    Parameter { name, kind, required: false, text }
}

const LIMIT: Parameter = may("limit", Kind::Number, "At most so many items, 1 to 1000");
const CURSOR: Parameter = may("cursor", Kind::Text, "`next` of the page before");
const AT: Parameter =
    may("at", Kind::Text, "What stood when this revision was the last, or at this time (RFC 3339, the API's clock)");
const PAGE: &[Parameter] = &[LIMIT, CURSOR];
const DRY_RUN: &[Parameter] = &[may("dry_run", Kind::Flag, "Say what would be done, and do nothing")];

/// Members of a cut in a report.
pub(super) const CUT: &[Parameter] = &[
    must("after", Kind::Number, "The revision before"),
    must("applied", Kind::Number, "The revision that was applied"),
    must("flows", Kind::Number, "Live flows that it cut"),
];

/// Members of a reading of a node's clock.
pub(super) const CLOCK: &[Parameter] = &[
    must("ahead_ms", Kind::Number, "By how much it is ahead of the API's; negative where it is behind"),
    must("error_ms", Kind::Number, "How wrong that may be"),
];

/// Members of a rule's counts in a report of usage.
pub(super) const USAGE: &[Parameter] = &[
    must("id", Kind::Text, "The rule"),
    must("packets", Kind::Number, "In both directions"),
    must("bytes", Kind::Number, "In both directions"),
    must("flows", Kind::Number, "Flows that it decided about"),
    may("live", Kind::Number, "Flows that began on this node and live by it now"),
    may("last_hit", Kind::Text, "When it last decided"),
];

const NAME: Parameter = must("name", Kind::Text, "The app");
const MODE: Parameter =
    may("mode", Kind::Text, "`enforce`, or `audit`: what its own end would deny passes there and is reported");
const GROUPS: Parameter = may("groups", Kind::Texts, "The groups it is in, and no others; at most 8");
const ADD_GROUPS: Parameter = may("add_groups", Kind::Texts, "Groups it is in besides");
const REMOVE_GROUPS: Parameter = may("remove_groups", Kind::Texts, "Groups it is in no longer");

/// Settings of an app; what is absent stays.
const APP: &[Parameter] = &[MODE, GROUPS, ADD_GROUPS, REMOVE_GROUPS];

/// Members of an app in a change set.
pub(super) const NAMED_APP: &[Parameter] = &[NAME, MODE, GROUPS, ADD_GROUPS, REMOVE_GROUPS];

/// Members of a rule in a request.
pub(super) const RULE: &[Parameter] = &[
    must("source", Kind::Text, "An app, `group:NAME`, `any` (every app) or `host`"),
    must("destination", Kind::Text, "The same; `host` may stand on one side only"),
    may("protocol", Kind::Text, "`tcp` (default), `udp`, `sctp`, `icmp` or `any`"),
    may("ports", Kind::Texts, "Like `8080` and `8000-8010`; absent: all"),
    must("action", Kind::Text, "`allow` or `deny`"),
    may(
        "mode",
        Kind::Text,
        "`enforce` (default), or `audit`: no part in the verdict, but what it would change is reported",
    ),
    may("expires_at", Kind::Text, "When it ends, by the API's clock (`now` of `/v1/status`)"),
    may("on_deny", Kind::Text, "Of a deny rule: `reset` (default) tells the sender at once, `drop` does not"),
    may("reason", Kind::Text, "At most 256 characters"),
];

pub(super) static ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        method: "get",
        path: "/v1/rules",
        access: Access::Known,
        summary: "Lists rules; the `ETag` is the state of all rules",
        query: &[
            may("source", Kind::Text, "Rules with exactly this source"),
            may("destination", Kind::Text, "Rules with exactly this destination"),
            may("app", Kind::Text, "Rules with this app on either side"),
            AT,
            LIMIT,
            CURSOR,
        ],
        body: &[],
        answers: &[(200, "A page of rules, each with what it is used for")],
        handler: || get(rule::list),
    },
    Endpoint {
        method: "post",
        path: "/v1/rules",
        access: Access::User,
        summary: "Makes a rule stand; takes `If-Match` and `Idempotency-Key`",
        query: DRY_RUN,
        body: RULE,
        answers: &[
            (201, "The rule, created"),
            (200, "The rule, updated or unchanged"),
            (202, "Nothing stands yet: a request that whoever has the other end may accept"),
        ],
        handler: || post(rule::create),
    },
    Endpoint {
        method: "get",
        path: "/v1/rules/{id}",
        access: Access::Known,
        summary: "Shows a rule",
        query: &[],
        body: &[],
        answers: &[(200, "The rule and what it is used for")],
        handler: || get(rule::show),
    },
    Endpoint {
        method: "delete",
        path: "/v1/rules/{id}",
        access: Access::User,
        summary: "Deletes a rule; takes `If-Match` and `Idempotency-Key`",
        query: DRY_RUN,
        body: &[],
        answers: &[(200, "The rule as it stood, and what still allows the pair")],
        handler: || delete(rule::remove),
    },
    Endpoint {
        method: "post",
        path: "/v1/changes",
        access: Access::User,
        summary: "Deletes rules, sets groups and apps, creates rules: all or nothing, in one revision; takes `If-Match` and \
                  `Idempotency-Key`",
        query: DRY_RUN,
        body: &[
            may("groups", Kind::Texts, "Groups that shall stand"),
            may("apps", Kind::Apps, "Apps to set"),
            may("create", Kind::Rules, "Rules to create"),
            may("delete", Kind::Texts, "Ids of rules to delete"),
        ],
        answers: &[(200, "What was set, created and deleted")],
        handler: || post(rule::change),
    },
    Endpoint {
        method: "get",
        path: "/v1/check",
        access: Access::Known,
        summary: "Says whether a flow would pass, and by which rule; refused where there is no one answer",
        query: &[
            must("source", Kind::Text, "An app, `group:NAME`, `any` (every app) or `host`"),
            must("destination", Kind::Text, "The same; `host` may stand on one side only"),
            may("protocol", Kind::Text, "`tcp` (default), `udp`, `sctp`, `icmp` or `any`"),
            may("port", Kind::Number, "The destination's port; absent: all ports"),
            AT,
        ],
        body: &[],
        answers: &[(200, "The verdict and what it rests on")],
        handler: || get(rule::check),
    },
    Endpoint {
        method: "get",
        path: "/v1/can-i",
        access: Access::User,
        summary: "Says whether the asker may write or remove a rule, and why; does nothing",
        query: &[
            must("verb", Kind::Text, "`allow`, `deny`, or `revoke` (the allow rule between the two)"),
            must("source", Kind::Text, "An app, `group:NAME`, `any` (every app) or `host`"),
            must("destination", Kind::Text, "The same; `host` may stand on one side only"),
            may("protocol", Kind::Text, "`tcp` (default), `udp`, `sctp`, `icmp` or `any`"),
            may("ports", Kind::Text, "Like `80,443` or `8000-8010`; absent: all"),
        ],
        body: &[],
        answers: &[(200, "`yes`, `ask` or `no`, and a sentence")],
        handler: || get(right::can_i),
    },
    Endpoint {
        method: "get",
        path: "/v1/whoami",
        access: Access::User,
        summary: "Says who asks, and in which roles",
        query: &[],
        body: &[],
        answers: &[(200, "The asker")],
        handler: || get(right::who_am_i),
    },
    Endpoint {
        method: "get",
        path: "/v1/teams",
        access: Access::User,
        summary: "Lists teams and what they own",
        query: PAGE,
        body: &[],
        answers: &[(200, "A page of teams")],
        handler: || get(right::teams),
    },
    Endpoint {
        method: "put",
        path: "/v1/teams/{name}",
        access: Access::User,
        summary: "Sets what a team owns, and creates it if it is new; takes `If-Match` and `Idempotency-Key`",
        query: DRY_RUN,
        body: &[
            must(
                "apps",
                Kind::Texts,
                "Its apps: names, and patterns like `shop-*`; no other team's may match the same",
            ),
            may("groups", Kind::Texts, "Its groups, likewise; its writers say who joins them"),
            may("most_rules", Kind::Number, "How many rules it may have; absent: as many as fit"),
        ],
        answers: &[(201, "The team, created"), (200, "The team, updated or unchanged")],
        handler: || put(right::set_team),
    },
    Endpoint {
        method: "delete",
        path: "/v1/teams/{name}",
        access: Access::User,
        summary: "Deletes a team that has neither rules nor tokens; takes `If-Match` and `Idempotency-Key`",
        query: DRY_RUN,
        body: &[],
        answers: &[(200, "The team as it was")],
        handler: || delete(right::delete_team),
    },
    Endpoint {
        method: "get",
        path: "/v1/tokens",
        access: Access::User,
        summary: "Lists API tokens: whom they let in, in which roles; never what they are",
        query: PAGE,
        body: &[],
        answers: &[(200, "A page of tokens")],
        handler: || get(right::tokens),
    },
    Endpoint {
        method: "post",
        path: "/v1/tokens",
        access: Access::User,
        summary: "Makes a token good, of which only the hash is told; takes `If-Match` and `Idempotency-Key`",
        query: DRY_RUN,
        body: &[
            must("name", Kind::Text, "Whom it lets in"),
            must("grants", Kind::Texts, "`admin`, `operator`, `auditor`, `writer:TEAM`, `wide:TEAM`"),
            must("hash", Kind::Text, "The SHA-256 of the token, which is 64 random hexadecimal digits; in hexadecimal"),
            may("expires_at", Kind::Text, "When it ends, by the API's clock (`now` of `/v1/status`)"),
        ],
        answers: &[(201, "The token, created"), (200, "The token, unchanged")],
        handler: || post(right::create_token),
    },
    Endpoint {
        method: "delete",
        path: "/v1/tokens/{name}",
        access: Access::User,
        summary: "Revokes a token at once, at every API; takes `If-Match` and `Idempotency-Key`",
        query: DRY_RUN,
        body: &[],
        answers: &[(200, "The token as it was")],
        handler: || delete(right::revoke_token),
    },
    Endpoint {
        method: "get",
        path: "/v1/requests",
        access: Access::User,
        summary: "Lists requests that wait for an answer",
        query: PAGE,
        body: &[],
        answers: &[(200, "A page of requests")],
        handler: || get(right::requests),
    },
    Endpoint {
        method: "post",
        path: "/v1/requests/{id}/accept",
        access: Access::User,
        summary: "Makes the rule stand that was asked for; takes `If-Match` and `Idempotency-Key`",
        query: DRY_RUN,
        body: &[],
        answers: &[(201, "The rule, created"), (200, "The rule, updated or unchanged")],
        handler: || post(right::accept),
    },
    Endpoint {
        method: "delete",
        path: "/v1/requests/{id}",
        access: Access::User,
        summary: "Rejects a request, or withdraws one's own; takes `If-Match` and `Idempotency-Key`",
        query: DRY_RUN,
        body: &[],
        answers: &[(200, "The request as it was")],
        handler: || delete(right::reject),
    },
    Endpoint {
        method: "get",
        path: "/v1/lookup",
        access: Access::Known,
        summary: "Says which instance has an address or had it last, or who had it at some time",
        query: &[
            must("ip", Kind::Text, "The address"),
            may("at", Kind::Text, "A time, RFC 3339, by the policy API's clock; who had the address then"),
        ],
        body: &[],
        answers: &[(
            200,
            "The binding of the address; with `at`, also since when and until when it was the instance's",
        )],
        handler: || get(lookup::lookup),
    },
    Endpoint {
        method: "get",
        path: "/v1/history",
        access: Access::User,
        summary: "Lists who did what, when, from where and why, newest first",
        query: &[
            may(
                "kind",
                Kind::Text,
                "`intent`, `node`, `placement`, `refused`, `in-force`, `restored`, some of them with commas, or `all`; absent: all but `placement` and `in-force`",
            ),
            may("who", Kind::Text, "Entries of this caller"),
            may("app", Kind::Text, "Entries that changed something of this app"),
            may("rule", Kind::Text, "Entries that changed this rule"),
            may("since", Kind::Text, "From this revision or time on"),
            may("until", Kind::Text, "Up to this revision or time"),
            may("order", Kind::Text, "`newest` first (default), or `oldest`"),
            LIMIT,
            CURSOR,
        ],
        body: &[],
        answers: &[(200, "A page of entries; where it is not full and has a `next`, there may be more")],
        handler: || get(history::list),
    },
    Endpoint {
        method: "get",
        path: "/v1/history/verify",
        access: Access::User,
        summary: "Walks over the whole history and says whether it is what was written",
        query: &[may("known", Kind::Text, "`NUMBER:SEAL` of an entry, as somebody wrote it down")],
        body: &[],
        answers: &[(200, "How far it fits, and the first entry that does not, if one does not")],
        handler: || get(history::verify),
    },
    Endpoint {
        method: "get",
        path: "/v1/apps",
        access: Access::Known,
        summary: "Lists apps",
        query: &[AT, LIMIT, CURSOR],
        body: &[],
        answers: &[(200, "A page of apps")],
        handler: || get(read::apps),
    },
    Endpoint {
        method: "put",
        path: "/v1/apps/{name}",
        access: Access::User,
        summary: "Sets an app's mode and groups, and creates it if it is new; takes `If-Match` and `Idempotency-Key`",
        query: DRY_RUN,
        body: APP,
        answers: &[(201, "The app, created"), (200, "The app, updated or unchanged")],
        handler: || put(app::set),
    },
    Endpoint {
        method: "delete",
        path: "/v1/apps/{name}",
        access: Access::User,
        summary: "Deletes an app that has no live instance and that no rule names; takes `If-Match` and `Idempotency-Key`",
        query: DRY_RUN,
        body: &[],
        answers: &[(200, "The app as it was")],
        handler: || delete(app::remove),
    },
    Endpoint {
        method: "get",
        path: "/v1/groups",
        access: Access::Known,
        summary: "Lists groups; who is in one, its apps say",
        query: PAGE,
        body: &[],
        answers: &[(200, "A page of groups")],
        handler: || get(read::groups),
    },
    Endpoint {
        method: "post",
        path: "/v1/isolations",
        access: Access::User,
        summary: "Isolates an app or one of its instances, whatever the rules say; takes `If-Match` and `Idempotency-Key`",
        query: DRY_RUN,
        body: &[
            must("app", Kind::Text, "The app"),
            may("instance", Kind::Number, "One of its live instances; absent: all, also those to come"),
            may("expires_at", Kind::Text, "When it ends, by the API's clock (`now` of `/v1/status`)"),
            may("reason", Kind::Text, "At most 256 characters"),
        ],
        answers: &[(201, "The isolation, created"), (200, "The isolation, updated or unchanged")],
        handler: || post(app::isolate),
    },
    Endpoint {
        method: "get",
        path: "/v1/isolations",
        access: Access::Known,
        summary: "Lists isolations",
        query: PAGE,
        body: &[],
        answers: &[(200, "A page of isolations")],
        handler: || get(app::isolations),
    },
    Endpoint {
        method: "delete",
        path: "/v1/isolations/{app}",
        access: Access::User,
        summary: "Ends the isolation of an app; those of its instances stand; takes `If-Match` and `Idempotency-Key`",
        query: DRY_RUN,
        body: &[],
        answers: &[(200, "The isolation as it stood, and what still isolates")],
        handler: || delete(app::end_of_app),
    },
    Endpoint {
        method: "delete",
        path: "/v1/isolations/{app}/{instance}",
        access: Access::User,
        summary: "Ends the isolation of an instance; that of its app stands; takes `If-Match` and `Idempotency-Key`",
        query: DRY_RUN,
        body: &[],
        answers: &[(200, "The isolation as it stood, and what still isolates")],
        handler: || delete(app::end_of_instance),
    },
    Endpoint {
        method: "get",
        path: "/v1/instances",
        access: Access::Known,
        summary: "Lists live instances, an item per address",
        query: &[may("app", Kind::Text, "Instances of this app"), AT, LIMIT, CURSOR],
        body: &[],
        answers: &[(200, "A page of bindings")],
        handler: || get(read::instances),
    },
    Endpoint {
        method: "get",
        path: "/v1/bindings",
        access: Access::Known,
        summary: "Lists who has, or had last, which address",
        query: PAGE,
        body: &[],
        answers: &[(200, "A page of bindings")],
        handler: || get(read::bindings),
    },
    Endpoint {
        method: "get",
        path: "/v1/nodes",
        access: Access::Known,
        summary: "Lists nodes and how they do",
        query: PAGE,
        body: &[],
        answers: &[(200, "A page of nodes")],
        handler: || get(read::nodes),
    },
    Endpoint {
        method: "get",
        path: "/v1/status",
        access: Access::Known,
        summary: "The API in numbers",
        query: &[],
        body: &[],
        answers: &[(200, "The numbers")],
        handler: || get(read::status),
    },
    Endpoint {
        method: "get",
        path: "/v1/revisions/{revision}",
        access: Access::Known,
        summary: "Says where a revision is in force; answers when it is on every connected node",
        query: &[may("wait_ms", Kind::Number, "Wait at most so long, up to 60000")],
        body: &[],
        answers: &[(200, "Nodes that have it in force, and those that do not")],
        handler: || get(watch::in_force),
    },
    Endpoint {
        method: "get",
        path: "/v1/receipts",
        access: Access::Known,
        summary: "Says how many live flows a revision cut; answers when every connected node has it in force",
        query: &[
            must("revision", Kind::Number, "The revision"),
            may("wait_ms", Kind::Number, "Wait at most so long, up to 60000"),
        ],
        body: &[],
        answers: &[(200, "Flows cut, by node, and the nodes that were not heard of")],
        handler: || get(watch::receipt),
    },
    Endpoint {
        method: "get",
        path: "/v1/watch",
        access: Access::Known,
        summary: "Streams JSON lines: a snapshot, or what changed since, then deltas and heartbeats",
        query: &[
            may("since", Kind::Number, "Resume behind this revision"),
            may("history", Kind::Text, "The history that `since` belongs to"),
            may("digest", Kind::Text, "Of a node: the digest of what it holds; it resumes if that is what it needs"),
        ],
        body: &[],
        answers: &[(200, "Lines without end")],
        handler: || get(watch::open),
    },
    Endpoint {
        method: "post",
        path: "/v1/nodes/{name}/join",
        access: Access::Joining,
        summary: "Registers the node and its key, with its join token, which is good for one key; gives it its slices of the overlay",
        query: &[],
        body: &[
            must("underlay", Kind::Text, "The node's own address on the underlay"),
            may(
                "csr",
                Kind::Text,
                "A certificate signing request (PKCS #10, PEM) by the node's key; absent: by a certificate",
            ),
            may("proof", Kind::Text, "What was sent to UDP port 789 of that address"),
        ],
        answers: &[
            (200, "The node, and a certificate for its key"),
            (428, "The node is not known to be at that address; a proof was sent there, to join again with"),
        ],
        handler: || post(node::join),
    },
    Endpoint {
        method: "post",
        path: "/v1/nodes/{name}/certificate",
        access: Access::Open,
        summary: "Makes a new certificate for a node; what proves the node is its key, which has to sign the request",
        query: &[],
        body: &[must(
            "csr",
            Kind::Text,
            "A certificate signing request (PKCS #10, PEM) by the key that the node is registered with",
        )],
        answers: &[(200, "The certificate")],
        handler: || post(node::certify),
    },
    Endpoint {
        method: "put",
        path: "/v1/nodes/{name}",
        access: Access::User,
        summary: "Sets whether a node takes new instances; takes `If-Match` and `Idempotency-Key`",
        query: DRY_RUN,
        body: &[must("draining", Kind::Flag, "Whether it takes no new instances; those that are there stay")],
        answers: &[(200, "The node, updated or unchanged")],
        handler: || put(node::set),
    },
    Endpoint {
        method: "delete",
        path: "/v1/nodes/{name}",
        access: Access::User,
        summary: "Removes a node that is off: its instances, certificate and token are void; takes `If-Match` and `Idempotency-Key`",
        query: DRY_RUN,
        body: &[],
        answers: &[(200, "The node as it was, and the instances that were live there")],
        handler: || delete(node::remove),
    },
    Endpoint {
        method: "post",
        path: "/v1/nodes/{name}/report",
        access: Access::Node,
        summary: "Says what the node enforces",
        query: &[],
        body: &[
            must("history", Kind::Text, "The history that `applied` belongs to"),
            must("applied", Kind::Number, "The revision that is wholly in force"),
            must("ready", Kind::Flag, "Whether the node enforces"),
            must("rows_used", Kind::Number, "Rows in its maps"),
            must("rows_capacity", Kind::Number, "Rows that its maps hold"),
            may("detail", Kind::Text, "For people"),
            may("clock", Kind::Clock, "How its clock stands to the API's"),
            may("cuts", Kind::Cuts, "What the last changes cut, at most 64; no later than the revision that cut it"),
        ],
        answers: &[(204, "Noted")],
        handler: || post(node::report),
    },
    Endpoint {
        method: "put",
        path: "/v1/nodes/{name}/usage",
        access: Access::Node,
        summary: "Says what rules are used for on the node",
        query: &[],
        body: &[
            must(
                "since",
                Kind::Text,
                "Since when the node has counted; a later one begins anew and adds to what was said before",
            ),
            must("rules", Kind::Usage, "Totals since then; a rule that is left out stays as it was"),
        ],
        answers: &[(204, "Noted")],
        handler: || put(node::usage),
    },
    Endpoint {
        method: "post",
        path: "/v1/bindings",
        access: Access::Node,
        summary: "Claims addresses of the node's slice for one of its instances",
        query: &[],
        body: &[
            must("app", Kind::Text, "The app"),
            may("instance", Kind::Number, "Absent: the lowest that is not live"),
            must("addresses", Kind::Texts, "Addresses of the node's slice"),
            may("labels", Kind::Labels, "Words for people"),
        ],
        answers: &[(201, "The instance and its identity")],
        handler: || post(node::claim),
    },
    Endpoint {
        method: "delete",
        path: "/v1/bindings/{address}",
        access: Access::Node,
        summary: "Frees an address; it stays listed as freed until it is claimed again",
        query: &[],
        body: &[],
        answers: &[(200, "The revision")],
        handler: || delete(node::release),
    },
    Endpoint {
        method: "get",
        path: "/healthz",
        access: Access::Open,
        summary: "Says that the process runs",
        query: &[],
        body: &[],
        answers: &[(200, "It does")],
        handler: || get(health::alive),
    },
    Endpoint {
        method: "get",
        path: "/readyz",
        access: Access::Open,
        summary: "Says whether writes can be stored",
        query: &[],
        body: &[],
        answers: &[(200, "They can")],
        handler: || get(health::ready),
    },
    Endpoint {
        method: "get",
        path: "/metrics",
        access: Access::Known,
        summary: "Prometheus text",
        query: &[],
        body: &[],
        answers: &[(200, "The metrics")],
        handler: || get(metrics::text),
    },
    Endpoint {
        method: "get",
        path: "/openapi.json",
        access: Access::Known,
        summary: "This description",
        query: &[],
        body: &[],
        answers: &[(200, "An OpenAPI document")],
        handler: || get(openapi::document),
    },
];
