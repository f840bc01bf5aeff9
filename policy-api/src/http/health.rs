//! Whether we run, and whether we can do our work. Open to everybody: says nothing else.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};

use super::{Context, failure::Failure};

pub(super) async fn alive() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(context): State<Context>) -> Response {
    if context.store.is_healthy() { "ok\n".into_response() } else { Failure::not_ready().into_response() }
}
