//! Endpoints: what is said of one, and the tables of them, one a subject, that the router, the access checks, the metrics and the
//! description are made from.

mod identity;
mod node;
mod parameter;
mod policy;
mod right;
mod service;

use axum::routing::MethodRouter;

use super::Context;

pub(super) use self::parameter::{
    CLOCK, CUT, DECISION, Kind, LAYER, NAMED_APP, PERMISSION, Parameter, RESOURCE_SPEC, ROLE, RULE, USAGE,
};

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

/// Every endpoint there is, always in the same order.
pub(super) fn endpoints() -> impl Iterator<Item = &'static Endpoint> {
    [policy::ENDPOINTS, right::ENDPOINTS, identity::ENDPOINTS, node::ENDPOINTS, service::ENDPOINTS]
        .into_iter()
        .flatten()
}

/// Whose token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Nobody's.
    Open,
    /// An identity token of whom it is asked about, which the handler proves.
    Shown,
    /// Anybody's.
    Known,
    /// Anybody's whom identity tokens are for: a user's or a machine's token, a node's certificate.
    Identity,
    /// A gatekeeper's token, or the certificate of a node that has one.
    Gate,
    /// A user's or a machine's. What it is good for is for the store to say, which knows the state.
    User,
    /// The certificate of the node that the request speaks for.
    Node,
    /// The same, or the join token of such a node.
    Joining,
}
