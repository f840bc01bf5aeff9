//! Somebody else who decides: one HTTP request with the client's own token, and the status is the answer. What its body says is
//! not read.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, StatusCode, header};
use reqwest::Url;
use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::{Answer, Answering, Authority, Credential, Denial, Outage, Permit, Question, Scheme, Subject};

/// How the question is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `GET URL/resources/ACCOUNT/KIND/RESOURCE?check=true&privilege=PRIVILEGE`, with `Token token="…"`.
    Conjur { account: String, kind: String },
    /// `GET URL`, with the client's `Authorization`, `X-Netpol-Privilege` and `X-Netpol-Resource`: what `auth_request` of nginx
    /// and `ext_authz` of Envoy ask.
    AuthRequest {
        /// The header of its answer that names who the token is for.
        subject: Option<HeaderName>,
    },
}

/// Whom to ask, and how.
pub struct RemoteSettings {
    pub url: Url,
    pub shape: Shape,
    /// How long an allow counts: nothing takes it back sooner.
    pub remember: Duration,
}

/// Asks a service.
pub struct Remote {
    settings: RemoteSettings,
    http: reqwest::Client,
}

impl Remote {
    pub fn new(settings: RemoteSettings, http: reqwest::Client) -> Self {
        Self { settings, http }
    }

    async fn ask(&self, question: Question<'_>) -> Answer {
        let Some(authorization) = self.authorization(question.credential) else {
            return Answer::Deny(Denial::Malformed);
        };
        let request = self.http.get(self.place(&question)).header(header::AUTHORIZATION, authorization);
        let request = match &self.settings.shape {
            Shape::Conjur { .. } => request,
            Shape::AuthRequest { .. } => request
                .header("x-netpol-privilege", question.privilege.as_str())
                .header("x-netpol-resource", question.resource.as_str()),
        };
        match request.send().await {
            Ok(answer) => self.read(&answer, question.credential),
            Err(error) if error.is_timeout() => Answer::Unavailable(Outage::TimedOut),
            Err(_) => Answer::Unavailable(Outage::Unreachable),
        }
    }

    fn read(&self, answer: &reqwest::Response, credential: Credential<'_>) -> Answer {
        match answer.status() {
            status if status.is_success() => {
                let until = Instant::now() + self.settings.remember;
                Answer::Allow(Arc::new(Permit::new(self.subject(answer, credential), None, until)))
            }
            StatusCode::UNAUTHORIZED => Answer::Deny(Denial::Unknown),
            // Conjur tells who may not see a resource that there is none.
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Answer::Deny(Denial::NotPermitted),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Answer::Unavailable(Outage::Busy),
            _ => Answer::Unavailable(Outage::Unintelligible),
        }
    }

    fn place(&self, question: &Question<'_>) -> Url {
        let mut url = self.settings.url.clone();
        if let Shape::Conjur { account, kind } = &self.settings.shape {
            if let Ok(mut path) = url.path_segments_mut() {
                // A resource is one segment: its slashes are escaped.
                path.pop_if_empty().extend(["resources", account, kind, question.resource.as_str()]);
            }
            url.query_pairs_mut().append_pair("check", "true").append_pair("privilege", question.privilege.as_str());
        }
        url
    }

    /// The client's token, in the form in which this authority takes it.
    fn authorization(&self, credential: Credential<'_>) -> Option<HeaderValue> {
        let Credential { scheme, token } = credential;
        let quoted = matches!(self.settings.shape, Shape::Conjur { .. }) || scheme == Scheme::Token;
        if quoted && token.contains(['"', '\\']) {
            return None;
        }
        let text = if quoted { format!("Token token=\"{token}\"") } else { format!("Bearer {token}") };
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Who the token is for: as the answer says, or as the token does that the authority has just believed; else a digest of
    /// it, so that a log tells one from another.
    fn subject(&self, answer: &reqwest::Response, credential: Credential<'_>) -> Subject {
        let named = match &self.settings.shape {
            Shape::Conjur { .. } => conjur_subject(credential.token),
            Shape::AuthRequest { subject } => subject.as_ref().and_then(|name| {
                let name = answer.headers().get(name)?.to_str().ok()?;
                format!("user:remote/{name}").parse().ok()
            }),
        };
        named.unwrap_or_else(|| {
            let digest = digest(&SHA256, credential.token.as_bytes());
            let shown: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            format!("token:{shown}").parse().expect("hexadecimal digits are visible")
        })
    }
}

/// What a token of Conjur says in `sub`: `host/NAME` is a machine, all else a person. Neither can pose as whom our broker knows, as
/// names there have no slash.
fn conjur_subject(token: &str) -> Option<Subject> {
    let token: Value = serde_json::from_slice(&STANDARD.decode(token).ok()?).ok()?;
    let payload = STANDARD.decode(token.get("payload")?.as_str()?).ok()?;
    let payload: Value = serde_json::from_slice(&payload).ok()?;
    let subject = payload.get("sub")?.as_str()?;
    match subject.strip_prefix("host/") {
        Some(host) => format!("host:conjur/{host}").parse().ok(),
        None => format!("user:conjur/{subject}").parse().ok(),
    }
}

impl Authority for Remote {
    fn check<'a>(&'a self, question: Question<'a>) -> Answering<'a> {
        Box::pin(self.ask(question))
    }
}

#[cfg(test)]
mod tests;
