//! What an instance is answered at the listener in its own namespace: who it is needs no proof there.
//!
//! | | |
//! |---|---|
//! | `POST /v1/identity-tokens` `{"audience":"release-bot"}` | 201, the token that proves to `release-bot` who shows it |
//! | `GET /v1/placed?ip=10.255.1.2&app=release-bot` | 200 `{"placed":true}`: whether that address is of that app |

use std::{
    io,
    net::IpAddr,
    os::unix::net as std_unix,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::Listener,
};
use policy_api::model::Audience;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream, unix::SocketAddr},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::Problem;
use crate::{
    tokens::{Instance, NoToken},
    watch::ApiError,
};

/// Connections that an instance may have open here: they are descriptors of the agent.
const CONNECTIONS: usize = 16;
const LARGEST_BODY: usize = 4 << 10;

/// Serves one instance until it is detached.
pub async fn serve(listener: std_unix::UnixListener, instance: Arc<Instance>) -> io::Result<()> {
    let listener = Few { listener: UnixListener::from_std(listener)?, free: Arc::new(Semaphore::new(CONNECTIONS)) };
    let detached = instance.clone();
    let router = Router::new()
        .route("/v1/identity-tokens", post(issue))
        .route("/v1/placed", get(placed))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method")
        })
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(instance);
    axum::serve(listener, router).with_graceful_shutdown(async move { detached.closed().await }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssueBody {
    audience: String,
}

async fn issue(
    State(instance): State<Arc<Instance>>,
    body: Result<Json<IssueBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(body) = body?;
    let audience: Audience = body.audience.parse().map_err(|error| Problem::field("audience", format!("{error}")))?;
    let token = instance.token(&audience).await?;
    let headers = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::CREATED, headers, Json(token)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlacedQuery {
    ip: IpAddr,
    app: String,
}

#[derive(Serialize)]
struct PlacedAnswer {
    placed: bool,
}

async fn placed(
    State(instance): State<Arc<Instance>>,
    query: Result<Query<PlacedQuery>, QueryRejection>,
) -> Result<Json<PlacedAnswer>, Problem> {
    let Query(PlacedQuery { ip, app }) = query?;
    Ok(Json(PlacedAnswer { placed: instance.is_placed(ip, &app).await? }))
}

impl From<NoToken> for Problem {
    fn from(why: NoToken) -> Self {
        let status = match &why {
            NoToken::Closed => StatusCode::GONE,
            NoToken::TooOften => StatusCode::TOO_MANY_REQUESTS,
            NoToken::Api(ApiError::Problem(problem)) => {
                StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_GATEWAY)
            }
            NoToken::Api(ApiError::Unreachable { .. } | ApiError::Busy { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            NoToken::Api(ApiError::Config(_) | ApiError::Protocol(_)) => StatusCode::BAD_GATEWAY,
        };
        Problem::new(status, why.to_string())
    }
}

/// Accepts so many at a time; the next one waits.
struct Few {
    listener: UnixListener,
    free: Arc<Semaphore>,
}

/// A connection, and its place among the few.
struct Held {
    stream: UnixStream,
    _place: OwnedSemaphorePermit,
}

impl Listener for Few {
    type Io = Held;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Held, SocketAddr) {
        let place = self.free.clone().acquire_owned().await.expect("nobody closes it");
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Held { stream, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Held {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Held {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
