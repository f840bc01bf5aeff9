//! In front of every endpoint: who asks, whether they may, and the count of what came of it.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::error;

use super::{
    Context,
    endpoint::{Access, Endpoint},
    failure::Failure,
};
use crate::{
    model::Timestamp,
    store::{NodeGrant, Principal, Refusal},
    tls::Peer,
};

/// An endpoint's gate.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) context: Context,
    pub(super) endpoint: &'static Endpoint,
    /// Its place in the table, which is its place in the metrics.
    pub(super) index: usize,
}

pub(super) async fn pass(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let response = match gate.admit(request.headers(), request.extensions().get().cloned().flatten()) {
        Ok(principal) => {
            if let Some(principal) = principal {
                request.extensions_mut().insert(principal);
            }
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    };
    gate.context.metrics.count(gate.index, response.status());
    response
}

impl Gate {
    /// Who asks, if that matters here and they may.
    fn admit(&self, headers: &HeaderMap, peer: Option<Peer>) -> Result<Option<Principal>, Failure> {
        if self.endpoint.access == Access::Open {
            return Ok(None);
        }
        let principal = match peer.filter(|_| !headers.contains_key(header::AUTHORIZATION)) {
            Some(peer) => Principal::Node(known(&self.context, &peer)?),
            None => self.bearer(headers)?,
        };
        let who = principal.to_string();
        match (self.endpoint.access, &principal) {
            (Access::Open | Access::Known, Principal::Operator | Principal::Node(_))
            | (Access::Operator, Principal::Operator)
            | (Access::Node | Access::Joining, Principal::Node(_))
            | (Access::Joining, Principal::Joining(..)) => Ok(Some(principal)),
            (Access::Operator, _) => Err(Failure::not_permitted(&who, "the operator's token")),
            (Access::Open | Access::Known | Access::Node, Principal::Joining(..)) => {
                Err(Failure::not_permitted(&who, "the certificate that the node got when it joined"))
            }
            (Access::Node, Principal::Operator) => Err(Failure::not_permitted(&who, "the node's own certificate")),
            (Access::Joining, Principal::Operator) => Err(Failure::not_permitted(&who, "the node's join token")),
        }
    }

    /// Who has the token.
    fn bearer(&self, headers: &HeaderMap) -> Result<Principal, Failure> {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token =
            value.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let (_, token) = token.ok_or_else(Failure::unknown_caller)?;
        match self.context.store.tokens().principal(token) {
            Ok(Some(principal)) => Ok(principal),
            Ok(None) => Err(Failure::unknown_caller()),
            Err(failure) => {
                error!(error = %failure, "cannot look a token up");
                Err(Refusal::Store(failure.to_string()).into())
            }
        }
    }
}

/// The node at the other end, if the key that it has proven to hold is still the one that it is registered with.
pub(super) fn known(context: &Context, peer: &Peer) -> Result<NodeGrant, Failure> {
    if peer.until < Timestamp::now() {
        return Err(Failure::certificate_over(&peer.node, "has expired since the connection was made"));
    }
    let registered = context.store.read(|state| state.replica().nodes.get(&peer.node).cloned());
    let node = registered.ok_or_else(|| Failure::certificate_over(&peer.node, "is of a node that was removed"))?;
    if node.key != Some(peer.key) {
        return Err(Failure::certificate_over(&peer.node, "is for a key that the node had before"));
    }
    Ok(NodeGrant { name: node.name.clone(), apps: node.apps.clone() })
}
