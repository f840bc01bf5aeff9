//! What operators and orchestrators ask: whether it lives, whether it is ready, and what it counted. An address of its own, so
//! that clients of the app cannot ask.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tracing::warn;

use super::metrics::Metrics;

/// What is told.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) metrics: Metrics,
    pub(crate) ready: Arc<AtomicBool>,
}

/// What Prometheus calls the text that it reads.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers for ever.
pub(crate) async fn serve(admin: Admin, listener: TcpListener) {
    loop {
        let (socket, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection to --admin cannot be taken in");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let admin = admin.clone();
        let service = service_fn(move |request| {
            let answer = admin.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        tokio::spawn(async move {
            let mut builder = http1::Builder::new();
            // Who breaks off is answered by nothing.
            let _ended = builder.timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

impl Admin {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET is answered here\n".into());
        }
        match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "lives\n".into()),
            "/readyz" if self.ready.load(Ordering::Relaxed) => text(StatusCode::OK, "ready\n".into()),
            "/readyz" => {
                text(StatusCode::SERVICE_UNAVAILABLE, "not ready: the file of --ready-file is not there\n".into())
            }
            "/metrics" => {
                let mut answer = text(StatusCode::OK, self.metrics.text());
                answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(METRICS_TYPE));
                answer
            }
            _ => text(StatusCode::NOT_FOUND, "/healthz, /readyz and /metrics are answered here\n".into()),
        }
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}
