//! Identity tokens, what they are checked by, and what gatekeepers are told and tell.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::{Client, ClientError, REQUEST_TIMEOUT, Repeatable, WriteOptions, lines::Lines, read};
use crate::model::{
    Audience, GateLine, GateReport, IdentityToken, IdentityTokenId, JwkSet, ResourceId, RevocationAnswer, Revoked,
    Target,
};

/// An open watch of a gatekeeper. It never ends by itself: when [`GateWatch::next`] fails, open another one; its first line is
/// the whole state.
pub struct GateWatch(Lines);

/// Heartbeats come every 2 seconds or oftener; three of them missing means that nobody is there.
const SILENCE: Duration = Duration::from_secs(7);

impl GateWatch {
    /// The URL of the API that this watch is open to.
    pub fn api(&self) -> &str {
        self.0.api()
    }

    /// Waits for the next line. Safe to drop and call again: nothing that arrived is lost.
    pub async fn next(&mut self) -> Result<GateLine, ClientError> {
        self.0.next().await
    }
}

impl Client {
    /// A token that proves to `audience` who asks, or, to the agent of its node, which instance; good for `lifetime`, or for as
    /// long as the API thinks right.
    pub async fn identity_token(
        &self,
        audience: &Audience,
        instance: Option<&Target>,
        lifetime: Option<Duration>,
    ) -> Result<IdentityToken, ClientError> {
        let mut body = json!({"audience": audience});
        if let Some(instance) = instance {
            body["instance"] = json!(instance.to_string());
        }
        if let Some(lifetime) = lifetime {
            body["lifetime"] = json!(lifetime.as_secs());
        }
        // Two tokens are no more than one: whoever has not seen the first has not got it.
        let build = |request: RequestBuilder| request.json(&body).timeout(REQUEST_TIMEOUT);
        read(self.send_to_any(Method::POST, "/v1/identity-tokens", build, Repeatable::Always).await?).await
    }

    pub async fn revoke_identity_token(
        &self,
        id: &IdentityTokenId,
        options: &WriteOptions,
    ) -> Result<RevocationAnswer, ClientError> {
        self.write(Method::DELETE, &format!("/v1/identity-tokens/{id}"), None::<&()>, options).await
    }

    /// Revokes all tokens that a subject has by now.
    pub async fn revoke_identity_tokens_of(
        &self,
        whose: &Revoked,
        options: &WriteOptions,
    ) -> Result<RevocationAnswer, ClientError> {
        let body = json!({"subject": whose});
        self.write(Method::POST, "/v1/identity-tokens/revocations", Some(&body), options).await
    }

    /// The keys that tokens are checked by. Takes no credentials.
    pub async fn jwks(&self) -> Result<JwkSet, ClientError> {
        self.get("/v1/jwks", Vec::new()).await
    }

    /// Opens a gatekeeper's watch of its resource; `audience` is whom tokens that it takes are for.
    pub async fn gate_watch(&self, resource: &ResourceId, audience: &Audience) -> Result<GateWatch, ClientError> {
        let parameters = [("resource", resource.to_string()), ("audience", audience.to_string())];
        let opening = self.send(Method::GET, "/v1/gate/watch", |request| request.query(&parameters));
        let response = tokio::time::timeout(REQUEST_TIMEOUT, opening).await.map_err(|_| self.silent())??;
        Ok(GateWatch(Lines::new(response, self.api_in_use(), SILENCE)))
    }

    /// Has written down what a gatekeeper decided. Where it fails some of it may have been written.
    pub async fn gate_report(&self, report: &GateReport) -> Result<(), ClientError> {
        let build = |request: RequestBuilder| request.json(report).timeout(REQUEST_TIMEOUT);
        self.send_to_any(Method::POST, "/v1/gate/reports", build, Repeatable::IfNotDone).await.map(drop)
    }
}
