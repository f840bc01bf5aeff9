//! The local agent: HTTP over its unix socket.
//!
//! Only this module knows the socket's paths and bodies. The agent answers for root alone (the socket is 0600), so
//! there is no token here.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use crate::failure::{Exit, Failure, plain};
use crate::netns::Netns;

pub(crate) mod events;

pub(crate) use events::{Event, FlowEnd, Kind, Line, Span};

/// How long the agent may take: an attachment waits for the other nodes, up to its own deadline.
const PATIENCE: Duration = Duration::from_secs(60);

/// What an endpoint shall be.
#[derive(Debug, Serialize)]
pub(crate) struct AttachRequest {
    pub(crate) app: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<u32>,
    pub(crate) ifname: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// What an endpoint has become.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Attached {
    pub(crate) app: String,
    pub(crate) instance: u32,
    pub(crate) identity: u32,
    pub(crate) node: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) interface: String,
    pub(crate) host_interface: String,
    /// The revision that placed it; none while the policy API cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revision: Option<u64>,
    /// Nodes that can already tell this instance's packets from forged ones.
    #[serde(default)]
    pub(crate) in_force: Vec<String>,
    /// Nodes that had not said so when the agent's deadline came.
    #[serde(default)]
    pub(crate) missing: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

/// The endpoint that is no more.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Detached {
    pub(crate) app: String,
    pub(crate) instance: u32,
    #[serde(default)]
    pub(crate) addresses: Vec<IpAddr>,
}

/// What the agent says of itself.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct AgentStatus {
    pub(crate) node: String,
    /// The revision that is in force here; none until the first is.
    #[serde(default)]
    pub(crate) revision: Option<u64>,
    pub(crate) ready: bool,
    /// Whether the agent hears the policy API; without it the last known state is enforced.
    #[serde(default)]
    pub(crate) connected: bool,
    #[serde(default)]
    pub(crate) endpoints: Vec<serde_json::Value>,
    /// What a person is not shown but a program may want.
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// A body together with the descriptor's number in this process.
#[derive(Serialize)]
struct WithNetns<'a, T> {
    #[serde(flatten)]
    body: &'a T,
    netns_fd: i32,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: Option<String>,
    field: Option<String>,
}

/// The agent behind one socket.
#[derive(Debug)]
pub(crate) struct Agent {
    socket: PathBuf,
}

impl Agent {
    pub(crate) fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Gives the namespace an endpoint.
    pub(crate) async fn attach(&self, netns: &Netns, request: &AttachRequest) -> Result<Attached, Failure> {
        self.call(Method::POST, "/v1/attach", with_netns(request, netns)).await
    }

    /// Takes the namespace's endpoint away.
    pub(crate) async fn detach(&self, netns: &Netns) -> Result<Detached, Failure> {
        self.call(Method::POST, "/v1/detach", with_netns(&Nothing {}, netns)).await
    }

    pub(crate) async fn status(&self) -> Result<AgentStatus, Failure> {
        self.call(Method::GET, "/v1/status", Bytes::new()).await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "agent")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| self.unintelligible(&error))?;
        self.in_time(self.exchange(request)).await
    }

    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(Failure::new(Exit::TimedOut, format!("the agent did not answer within {} s", PATIENCE.as_secs())))
            }
        }
    }

    async fn connect(&self) -> Result<UnixStream, Failure> {
        UnixStream::connect(&self.socket).await.map_err(|error| self.no_connection(&error))
    }

    async fn exchange<T: DeserializeOwned>(&self, request: Request<Full<Bytes>>) -> Result<T, Failure> {
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unintelligible(&error))?;
        let answer = async move {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Response::builder().status(status).body(body))
        };
        // The connection makes progress only while it is polled, and ends when `sender`, moved into `answer`, is dropped.
        let (answer, _) = futures_util::future::join(answer, connection).await;
        let response =
            answer.map_err(|error| self.unintelligible(&error))?.map_err(|error| self.unintelligible(&error))?;
        self.understand(&response)
    }

    fn understand<T: DeserializeOwned>(&self, response: &Response<Bytes>) -> Result<T, Failure> {
        if response.status().is_success() {
            return serde_json::from_slice(response.body()).map_err(|error| self.unintelligible(&error));
        }
        Err(refusal(response))
    }

    fn no_connection(&self, error: &io::Error) -> Failure {
        let socket = self.socket.display();
        match error.kind() {
            io::ErrorKind::PermissionDenied => {
                Failure::new(Exit::NotPermitted, format!("the agent's socket {socket} is for root only"))
            }
            _ => Failure::new(Exit::Unreachable, format!("no agent at {socket}: {}", plain(error)))
                .tip("this command works on a node where netpol-agent runs; --socket names another socket"),
        }
    }

    fn unintelligible(&self, error: &dyn std::error::Error) -> Failure {
        Failure::new(
            Exit::Unreachable,
            format!(
                "the agent at {} broke off or answered what this version does not understand: {error}",
                self.socket.display()
            ),
        )
    }
}

/// What an answer that is no success means.
fn refusal(response: &Response<Bytes>) -> Failure {
    let status = response.status().as_u16();
    let problem: Problem = serde_json::from_slice(response.body()).unwrap_or_default();
    Failure::new(Exit::from_status(status), problem.text(status))
}

impl Problem {
    fn text(&self, status: u16) -> String {
        let said = self.detail.as_deref().unwrap_or(&self.title);
        match (&self.field, said) {
            (_, "") => format!("the agent refused with status {status}"),
            (Some(field), said) if !said.contains(field.as_str()) => format!("{field}: {said}"),
            (_, said) => said.to_owned(),
        }
    }
}

fn with_netns<T: Serialize>(body: &T, netns: &Netns) -> Bytes {
    let body = WithNetns { body, netns_fd: netns.number() };
    serde_json::to_vec(&body).expect("strings and numbers always serialise").into()
}
