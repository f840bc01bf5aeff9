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
use crate::store::{Principal, Refusal};

/// An endpoint's gate.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) context: Context,
    pub(super) endpoint: &'static Endpoint,
    /// Its place in the table, which is its place in the metrics.
    pub(super) index: usize,
}

pub(super) async fn pass(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let response = match gate.admit(request.headers()) {
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
    fn admit(&self, headers: &HeaderMap) -> Result<Option<Principal>, Failure> {
        if self.endpoint.access == Access::Open {
            return Ok(None);
        }
        let principal = self.principal(headers)?;
        match (self.endpoint.access, &principal) {
            (Access::Open | Access::Known, _)
            | (Access::Operator, Principal::Operator)
            | (Access::Node, Principal::Node(_)) => Ok(Some(principal)),
            (Access::Operator, Principal::Node(_)) => {
                Err(Failure::not_permitted(&principal.to_string(), "the operator's token"))
            }
            (Access::Node, Principal::Operator) => Err(Failure::not_permitted("operator", "the node's own token")),
        }
    }

    fn principal(&self, headers: &HeaderMap) -> Result<Principal, Failure> {
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
