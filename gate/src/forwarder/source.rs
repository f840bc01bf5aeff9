//! Where tokens come from. An instance asks its node's agent, whose listener in its own namespace knows it by where it is; a
//! machine or a person asks the policy API, with an API token.

use std::{
    net::IpAddr,
    os::{linux::net::SocketAddrExt as _, unix::net as unix},
    sync::Arc,
    time::Duration,
};

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use policy_api::{
    client::{Client, ClientConfig, ClientError, Credentials},
    model::Audience,
};
use serde_json::{Value, json};
use tokio::{net::UnixStream, sync::Mutex, time::timeout};

use super::{
    secret::{SecretError, SecretSource},
    token::Issued,
};

/// The name at which the agent listens in each instance's namespace; it begins with no file.
pub const AGENT_LISTENER: &str = "netpol";

/// Where tokens come from, and who knows where apps are.
pub(super) enum Source {
    /// The agent of this node, at this abstract name.
    Agent(&'static str),
    Api(ApiSource),
}

/// The policy API, and what is shown to it.
pub(super) struct ApiSource {
    urls: Vec<String>,
    ca_pem: Vec<u8>,
    secret: SecretSource,
    /// With the secret that was read last; none before the first request, or when it was not believed.
    client: Mutex<Option<Arc<Client>>>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Api(#[from] ClientError),
    #[error(
        "nobody listens at @{AGENT_LISTENER} in this network namespace ({0}); an instance of netpol's is attached by `netpol attach`, and elsewhere a token is needed: --token-file, NETPOL_TOKEN or --provider"
    )]
    NoAgent(std::io::Error),
    #[error("the agent of this node answers {status}: {detail}")]
    Refused { status: StatusCode, detail: String },
    #[error("the agent of this node does not answer as it should")]
    Unintelligible,
    #[error("the agent of this node took too long")]
    TooSlow,
    #[error("what was answered is no token")]
    NoToken,
}

const AGENT_PATIENCE: Duration = Duration::from_secs(10);
const LARGEST_ANSWER: usize = 64 << 10;

impl Source {
    pub(super) fn api(urls: Vec<String>, ca_pem: Vec<u8>, secret: SecretSource) -> Self {
        Self::Api(ApiSource { urls, ca_pem, secret, client: Mutex::new(None) })
    }

    /// Whether the agent of a node listens here.
    pub(super) fn is_instance() -> bool {
        connect(AGENT_LISTENER).is_ok()
    }

    /// A new token for an audience.
    pub(super) async fn fetch(&self, audience: &Audience) -> Result<Issued, SourceError> {
        match self {
            Self::Agent(name) => {
                let asked = json!({ "audience": audience });
                let answer = ask_agent(name, Method::POST, "/v1/identity-tokens".to_owned(), asked).await?;
                serde_json::from_value(answer).map_err(|_| SourceError::Unintelligible)
            }
            Self::Api(api) => api.fetch(audience).await,
        }
    }

    /// Whether an address is placed as this app, now.
    pub(super) async fn is_placed(&self, address: IpAddr, app: &str) -> Result<bool, SourceError> {
        match self {
            Self::Agent(name) => {
                let answer =
                    ask_agent(name, Method::GET, format!("/v1/placed?ip={address}&app={app}"), Value::Null).await?;
                answer.get("placed").and_then(Value::as_bool).ok_or(SourceError::Unintelligible)
            }
            Self::Api(api) => api.is_placed(address, app).await,
        }
    }
}

impl ApiSource {
    async fn fetch(&self, audience: &Audience) -> Result<Issued, SourceError> {
        let issued = match self.client().await?.identity_token(audience, None, None).await {
            // The secret was replaced since, perhaps.
            Err(error) if error.status() == Some(401) => {
                self.client.lock().await.take();
                self.client().await?.identity_token(audience, None, None).await?
            }
            answered => answered?,
        };
        Ok(Issued { token: issued.token, expires_at: issued.expires_at, renew_at: issued.renew_at })
    }

    async fn is_placed(&self, address: IpAddr, app: &str) -> Result<bool, SourceError> {
        match self.client().await?.lookup(address, None).await {
            Ok(found) => Ok(found.binding.is_live() && found.binding.app.as_str() == app),
            Err(error) if error.status() == Some(404) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn client(&self) -> Result<Arc<Client>, SourceError> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let credentials = Credentials::Token(self.secret.read().await?.reveal().to_owned());
        let (api, ca_pem) = (self.urls.clone(), self.ca_pem.clone());
        let made = Arc::new(Client::new(ClientConfig { api, credentials, ca_pem })?);
        *client = Some(made.clone());
        Ok(made)
    }
}

fn connect(name: &str) -> Result<UnixStream, SourceError> {
    let connect = || {
        let address = unix::SocketAddr::from_abstract_name(name)?;
        // It is there or not: nothing of this waits.
        let stream = unix::UnixStream::connect_addr(&address)?;
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream)
    };
    connect().map_err(SourceError::NoAgent)
}

async fn ask_agent(name: &str, method: Method, path: String, body: Value) -> Result<Value, SourceError> {
    timeout(AGENT_PATIENCE, exchange(name, method, path, body)).await.unwrap_or(Err(SourceError::TooSlow))
}

async fn exchange(name: &str, method: Method, path: String, body: Value) -> Result<Value, SourceError> {
    let broken = |_| SourceError::Unintelligible;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(connect(name)?)).await.map_err(broken)?;
    tokio::spawn(connection);
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).header(header::HOST, "agent");
    let request = request.header(header::CONTENT_TYPE, "application/json").body(Full::new(body));
    let request = request.map_err(|_| SourceError::Unintelligible)?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await;
    let body = body.map_err(|_| SourceError::Unintelligible)?.to_bytes();
    let body: Value = serde_json::from_slice(&body).map_err(|_| SourceError::Unintelligible)?;
    if status.is_success() {
        return Ok(body);
    }
    let detail = body.get("detail").and_then(Value::as_str).unwrap_or_default().to_owned();
    Err(SourceError::Refused { status, detail })
}
