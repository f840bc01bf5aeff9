//! Identity tokens over HTTP: asked for, revoked, and the keys that they are checked by.

use axum::{
    Json,
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    Context,
    asked::{Asked, SMALL, fields_of},
    failure::Failure,
};
use crate::{
    model::{Fields, IdentityTokenSpec, Invalid, Revoked},
    store::Command,
};

pub(super) async fn issue(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    asked.no_query()?;
    let spec = IdentityTokenSpec::from_json(asked.json()?)?;
    // Who was revoked, and what was placed elsewhere, we might not have heard.
    if !context.store.is_following() {
        return Err(Failure::not_following());
    }
    let mut token = context.broker.issue(asked.principal(), &spec)?;
    // What follows a revocation counts as issued in the next whole second, and is given out only then: a second revocation
    // within that one would not reach it.
    let ahead = context.broker.ahead_of(asked.principal(), &token.subject);
    if !ahead.is_zero() {
        tokio::time::sleep(ahead).await;
        token = context.broker.issue(asked.principal(), &spec)?;
    }
    let headers = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::CREATED, headers, Json(token)).into_response())
}

pub(super) async fn revoke(
    State(context): State<Context>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let id = id.parse().map_err(|invalid: Invalid| invalid.in_field("id"))?;
    asked.write_rules(&context, Command::Revoke(Revoked::Token(id))).await
}

pub(super) async fn revoke_all(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let mut fields = Fields::of_body(asked.json()?)?;
    let whose = fields.required("subject", "name whose tokens to revoke, like `host:ci-1` or `node:a`")?;
    fields.finish()?;
    asked.write_rules(&context, Command::Revoke(whose)).await
}

/// The keys, for anybody who checks tokens.
pub(super) async fn keys(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    fields_of(request.uri())?.finish()?;
    let seconds = context.broker.timing().cached().as_secs();
    let headers = [(header::CACHE_CONTROL, format!("public, max-age={seconds}"))];
    Ok((headers, Json(context.broker.published())).into_response())
}
