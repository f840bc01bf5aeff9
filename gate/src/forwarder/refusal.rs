//! What a client is told that is not helped: `application/problem+json`, and what would help.

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use serde::Serialize;

/// Why a request did not get to where it wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0}")]
    BadRequest(&'static str),
    #[error("this proxy is for who knows its secret; send it as the password of any user")]
    ProxySecret,
    #[error(
        "{place} is none of this forwarder's destinations; `--to {place}=AUDIENCE` sends it tokens, `--pass {place}` lets it pass without one"
    )]
    Nowhere { place: String },
    #[error(
        "a tunnel to {place} would be closed to its tokens; ask for http://{place}, and the forwarder speaks TLS itself"
    )]
    TunnelToDestination { place: String },
    #[error("there is no token for {audience} yet: {why}")]
    NoToken { audience: String, why: String },
    #[error("{place} does not prove to be {audience}, so it gets no token: {why}")]
    Unproven { place: String, audience: String, why: String },
    #[error("{place} cannot be reached: {why}")]
    Unreachable { place: String, why: String },
    #[error("{place} took too long to answer")]
    TimedOut { place: String },
}

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::ProxySecret => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            Self::Nowhere { .. } | Self::TunnelToDestination { .. } => StatusCode::FORBIDDEN,
            Self::NoToken { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unproven { .. } | Self::Unreachable { .. } => StatusCode::BAD_GATEWAY,
            Self::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    pub(super) fn answer(&self) -> Response<Full<Bytes>> {
        let status = self.status();
        let problem = Problem {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("error"),
            status: status.as_u16(),
            detail: &self.to_string(),
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut answer = Response::new(Full::new(Bytes::from(body)));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        // The client should tell this proxy's word from that of whom it asked for.
        headers.insert("proxy-status", HeaderValue::from_static("netpol-forwarder; error=proxy_internal_response"));
        if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            let wanted = HeaderValue::from_static("Basic realm=\"netpol-forwarder\"");
            headers.insert(header::PROXY_AUTHENTICATE, wanted);
        }
        answer
    }
}
