//! The face of Cloud Foundry's policy server, for its command line and its agents: its paths, statuses, messages and quirks
//! over our rules. Off unless asked for.
//!
//! A policy of theirs is an enforced allow rule from app to app over tcp or udp, for one range of ports. Who asks is found
//! out by our own gate, and what may be done is decided by our own planner; nothing here knows more about policy than how
//! they spell it. `docs/cf-compat.md` has what differs from theirs, and why.

mod answer;
mod caller;
mod external;
mod internal;
mod policy;
mod wire;

use std::{sync::Arc, time::Instant};

use axum::{
    Extension, Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post, put},
};

use self::caller::Asker;
use super::{Context, failure::Told, gate, refused::Attempted};

/// What is asked for with the face.
#[derive(Clone, Debug, Default)]
pub struct Compat {
    /// Origins that browsers may ask from; `*` is all.
    pub origins: Vec<String>,
}

/// What its handlers share besides the context.
#[derive(Clone)]
struct Face {
    origins: Arc<[String]>,
    began: Instant,
}

/// Their paths.
pub(super) fn router(compat: &Compat, context: &Context) -> Router<Context> {
    let face = Face { origins: compat.origins.clone().into(), began: Instant::now() };
    Router::new()
        .route("/", to_get(get(up)))
        .route("/health", to_get(get(external::health)))
        .nest("/networking", networking().route("/", to_get(get(up))))
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(context.clone(), dress))
        .layer(Extension(face))
}

fn networking() -> Router<Context> {
    let policies = get(external::list).post(external::create);
    Router::new()
        .route("/{version}/external/policies", policies.options(|| async { options("POST,GET,OPTIONS") }))
        .route("/{version}/external/policies/delete", to_post(post(external::delete)))
        .route("/{version}/external/policies/cleanup", to_post(post(external::clean_up)))
        .route("/{version}/external/tags", to_get(get(external::tags)))
        .route("/{version}/external/whoami", to_get(get(external::whoami)))
        .route("/{version}/internal/policies", get(internal::policies))
        .route("/{version}/internal/policies_last_updated", get(internal::last_updated))
        .route("/{version}/internal/security_groups", get(internal::security_groups))
        .route("/v1/internal/tags", put(internal::tag))
        .method_not_allowed_fallback(no_method)
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
}

fn to_get(path: MethodRouter<Context>) -> MethodRouter<Context> {
    path.options(|| async { options("GET,OPTIONS") })
}

fn to_post(path: MethodRouter<Context>) -> MethodRouter<Context> {
    path.options(|| async { options("POST,OPTIONS") })
}

async fn no_method() -> (StatusCode, &'static str) {
    (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
}

async fn up(Extension(face): Extension<Face>) -> String {
    format!("Network policy server, up for {:?}\n", face.began.elapsed())
}

fn options(methods: &'static str) -> Response {
    let headers =
        [(header::ACCESS_CONTROL_ALLOW_METHODS, methods), (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization")];
    (headers, ()).into_response()
}

/// Headers that every answer of theirs has.
const ALWAYS: [(HeaderName, &str); 5] = [
    (header::X_XSS_PROTECTION, "1; mode=block"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "deny"),
    (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
];

/// What every path of theirs has besides its answer: headers, and its refusals in our history.
async fn dress(
    State(context): State<Context>,
    Extension(face): Extension<Face>,
    mut request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    gate::name_request(&mut request);
    let (asked, asker) = (Attempted::of(&request), Asker::of(&mut request));
    let mut response = next.run(request).await;
    if let Some(Told(detail)) = response.extensions_mut().remove() {
        asked.note(&context, asker.name(), detail).await;
    }
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(allowed) = origin.and_then(|origin| face.allowed(&origin)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    }
    response
}

impl Face {
    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        let named = self.origins.iter().find(|allowed| *allowed == "*" || allowed.as_bytes() == origin.as_bytes());
        named.and_then(|allowed| HeaderValue::from_str(allowed).ok())
    }
}
