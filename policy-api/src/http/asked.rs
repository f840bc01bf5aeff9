//! What a request says, read within its bounds before anybody acts on it.

use axum::{
    body::{Body, Bytes},
    extract::{Query, Request},
    http::{HeaderMap, Method, Uri, header, request::Parts},
};
use futures_util::StreamExt;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    Context, answer,
    failure::Failure,
    gate::{RequestId, address},
    node::node_name,
};
use crate::{
    model::{Fields, Invalid, Origin, Reason, Revision, strict_json},
    store::{Answer, Command, Idempotency, NodeGrant, Principal, Refusal, Write},
};

/// How large bodies may be.
pub(super) const SMALL: usize = 1 << 20;
pub(super) const LARGE: usize = 16 << 20;

/// A whole request.
pub(super) struct Asked {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    principal: Principal,
    origin: Origin,
}

impl Asked {
    /// Reads a request that came through its gate.
    pub(super) async fn read(request: Request, limit: usize) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let principal = parts.extensions.get::<Principal>().cloned().ok_or_else(Failure::unknown_caller)?;
        let origin = origin(&parts)?;
        let body = read_body(body, limit).await?;
        Ok(Self { method: parts.method, uri: parts.uri, headers: parts.headers, body, principal, origin })
    }

    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The node that asks, which must be the one that the path names.
    pub(super) fn node(&self, named: &str) -> Result<&NodeGrant, Failure> {
        let name = node_name(named)?;
        match &self.principal {
            Principal::Node(grant) if grant.name == name => Ok(grant),
            Principal::Joining(grant, _) if grant.name == name => Ok(grant),
            other => Err(Failure::not_permitted(&other.to_string(), &format!("the certificate of node `{name}`"))),
        }
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn json(&self) -> Result<Value, Failure> {
        strict_json(&self.body).map_err(|error| Failure::malformed(&error))
    }

    /// The query's parameters.
    pub(super) fn query(&self) -> Result<Fields, Failure> {
        fields_of(&self.uri)
    }

    /// Refuses a query where there is nothing to ask for.
    pub(super) fn no_query(&self) -> Result<(), Failure> {
        Ok(self.query()?.finish()?)
    }

    /// Does a write that the headers may bind to a state or to a key, and the query to a dry run.
    pub(super) async fn write_rules(
        &self,
        context: &Context,
        command: Command,
    ) -> Result<axum::response::Response, Failure> {
        self.write(context, command, self.is_dry_run()?).await
    }

    /// Whether the query, which may say nothing else, asks for a dry run.
    pub(super) fn is_dry_run(&self) -> Result<bool, Failure> {
        let mut query = self.query()?;
        let dry_run = query.standard("dry_run", "is neither true nor false", "say `true` or `false`")?;
        query.finish()?;
        Ok(dry_run.unwrap_or(false))
    }

    pub(super) async fn write(
        &self,
        context: &Context,
        command: Command,
        dry_run: bool,
    ) -> Result<axum::response::Response, Failure> {
        Ok(answer::of_write(self.do_write(context, command, dry_run).await?))
    }

    /// The same, with the answer still to be made a response.
    pub(super) async fn do_write(&self, context: &Context, command: Command, dry_run: bool) -> Result<Answer, Failure> {
        let write = Write {
            if_match: self.if_match()?,
            idempotency: self.idempotency()?,
            dry_run,
            ..self.plain(context, command)
        };
        Ok(context.store.write(write).await?)
    }

    /// Does a write that nothing in the request binds to anything.
    pub(super) async fn command(&self, context: &Context, command: Command) -> Result<Answer, Refusal> {
        context.store.write(self.plain(context, command)).await
    }

    fn plain(&self, context: &Context, command: Command) -> Write {
        Write {
            command,
            by: self.principal.clone(),
            origin: self.origin.clone(),
            if_match: None,
            idempotency: None,
            dry_run: false,
            acknowledged: acknowledged(context),
        }
    }

    fn if_match(&self) -> Result<Option<crate::model::ETag>, Failure> {
        match self.header(header::IF_MATCH.as_str())? {
            // Any state will do, and there always is one.
            None | Some("*") => Ok(None),
            Some(text) => Ok(Some(text.parse().map_err(|invalid: Invalid| invalid.in_field("If-Match"))?)),
        }
    }

    fn idempotency(&self) -> Result<Option<Idempotency>, Failure> {
        let Some(key) = self.header("idempotency-key")? else { return Ok(None) };
        if key.is_empty() || key.len() > 128 {
            let invalid = Invalid::new(key, "is not a key", "use 1 to 128 characters");
            return Err(invalid.in_field("Idempotency-Key").into());
        }
        let mut hash = Sha256::new();
        for part in [self.method.as_str().as_bytes(), b" ", self.uri.to_string().as_bytes(), b"\n", &self.body] {
            hash.update(part);
        }
        Ok(Some(Idempotency { key: key.to_owned(), request: hash.finalize().into() }))
    }

    fn header(&self, name: &'static str) -> Result<Option<&str>, Failure> {
        let value = self.headers.get(name).map(|value| value.to_str());
        let unreadable = |_| Invalid::of("the header", "has bytes that are not text", "use ASCII").in_field(name);
        Ok(value.transpose().map_err(unreadable)?)
    }
}

/// Why a request is made, where it says so: one line of text, as the reason of a rule is.
const REASON: &str = "netpol-reason";

/// Where a request comes from, and why it is made.
fn origin(parts: &Parts) -> Result<Origin, Failure> {
    let reason = parts.headers.get(REASON).map(|value| {
        let unreadable = |_| Invalid::of("the header", "has bytes that are not text", "use UTF-8");
        std::str::from_utf8(value.as_bytes()).map_err(unreadable).and_then(str::parse::<Reason>)
    });
    Ok(Origin {
        from: address(&parts.extensions),
        request: parts.extensions.get::<RequestId>().map(|id| id.0.clone()),
        reason: reason.transpose().map_err(|invalid| invalid.in_field("Netpol-Reason"))?,
    })
}

/// What every registered node has acknowledged; looked up only where a plan needs it.
fn acknowledged(context: &Context) -> Option<Revision> {
    context.store.read(|state| {
        let nodes = state.is_short_of_numbers().then(|| state.replica().nodes.keys())?;
        context.presence.acknowledged(nodes)
    })
}

/// The body of a request that anybody may make, without a query.
pub(super) async fn open_json(request: Request, limit: usize) -> Result<Value, Failure> {
    let (parts, body) = request.into_parts();
    fields_of(&parts.uri)?.finish()?;
    strict_json(&read_body(body, limit).await?).map_err(|error| Failure::malformed(&error))
}

/// A query's parameters, each at most once.
pub(super) fn fields_of(uri: &Uri) -> Result<Fields, Failure> {
    let query = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| {
        Invalid::new(uri.query().unwrap_or_default(), "is not a query", "use `name=value&…`").in_field("(query)")
    })?;
    Ok(Fields::of_query(query.0)?)
}

/// What is read and thrown away of a body that is too large, so that a client that is still sending gets to see the refusal.
const DISCARDED: usize = 16 << 20;

async fn read_body(body: Body, limit: usize) -> Result<Bytes, Failure> {
    let mut parts = body.into_data_stream();
    let mut whole = Vec::new();
    let mut length = 0;
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| Failure::interrupted(&error))?;
        length += part.len();
        if length > limit + DISCARDED {
            return Err(Failure::too_large(limit));
        }
        if length <= limit {
            whole.extend_from_slice(&part);
        }
    }
    if length > limit { Err(Failure::too_large(limit)) } else { Ok(whole.into()) }
}
