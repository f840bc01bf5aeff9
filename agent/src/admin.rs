//! The agent's local socket: attach and detach, and what the node sees. HTTP with JSON; root's alone (mode 0600).

pub mod instance;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{
        ConnectInfo, Query, State,
        connect_info::Connected,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::IncomingStream,
};
use common::{Direction, DropReason, event::Counter};
use futures_util::{StreamExt as _, stream};
use policy_api::model::{AppName, Labels, NodeName};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio_stream::wrappers::BroadcastStream;

use crate::{
    attach::{AttachError, AttachRequest, Attached, Attacher},
    endpoint::Endpoint,
    flow::{self, FlowLog},
    link::{LinkError, netns::Netns},
    node::{NodeError, NodeHandle, Status},
    tokens::{Listeners, Told},
    watch::Api,
};

/// What the socket serves from.
#[derive(Clone)]
pub struct Admin {
    pub attacher: Arc<Attacher>,
    pub node: NodeHandle,
    pub flows: FlowLog,
    pub api: Arc<Api>,
    pub listeners: Arc<Listeners>,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
struct Peer {
    pid: Option<i32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { pid: stream.io().peer_cred().ok().and_then(|peer| peer.pid()) }
    }
}

/// Serves until the future ends, then removes the socket.
pub async fn serve(admin: Admin, socket: PathBuf, until: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let listener = bind(&socket)?;
    let router = Router::new()
        .route("/v1/attach", post(attach))
        .route("/v1/detach", post(detach))
        .route("/v1/status", get(status))
        .route("/v1/drops", get(drops))
        .route("/v1/events", get(events))
        .route("/metrics", get(metrics))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .with_state(admin);
    let service = router.into_make_service_with_connect_info::<Peer>();
    let served = axum::serve(listener, service).with_graceful_shutdown(until).await;
    // The next agent removes what is left, should this fail.
    let _ = fs::remove_file(&socket);
    served
}

/// Binds in a directory that nobody else may enter, so that the socket is never open to others, not even at first.
fn bind(socket: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = socket.parent() {
        fs::create_dir_all(directory)?;
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(socket);
    nix::sys::stat::umask(before);
    let listener = bound?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttachBody {
    app: String,
    #[serde(default)]
    instance: Option<u32>,
    #[serde(default = "default_interface")]
    ifname: String,
    #[serde(default)]
    labels: Labels,
    netns_fd: i32,
}

fn default_interface() -> String {
    "eth0".into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DetachBody {
    netns_fd: i32,
}

#[derive(Serialize)]
struct AttachAnswer {
    #[serde(flatten)]
    endpoint: EndpointAnswer,
    revision: Option<u64>,
    in_force: Vec<NodeName>,
    missing: Vec<NodeName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Serialize)]
struct EndpointAnswer {
    app: String,
    instance: u32,
    identity: u32,
    addresses: Vec<std::net::IpAddr>,
    interface: String,
    host_interface: String,
    ifindex: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<NodeName>,
}

impl From<&Endpoint> for EndpointAnswer {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            app: endpoint.app.to_string(),
            instance: endpoint.instance,
            identity: endpoint.identity,
            addresses: endpoint.addresses(),
            interface: endpoint.interface.clone(),
            host_interface: endpoint.host_interface.clone(),
            ifindex: endpoint.ifindex,
            node: None,
        }
    }
}

async fn attach(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Json<AttachBody>, JsonRejection>,
) -> Result<(StatusCode, Json<AttachAnswer>), Problem> {
    let Json(body) = body?;
    let app: AppName = body.app.parse().map_err(|error| Problem::field("app", format!("{error}")))?;
    if !is_interface_name(&body.ifname) {
        let detail =
            format!("`{}` is not an interface name; use 1 to 15 letters, digits, `-`, `_` or `.`", body.ifname);
        return Err(Problem::field("ifname", detail));
    }
    let netns = peer_netns(peer, body.netns_fd)?;
    let request = AttachRequest { app, instance: body.instance, interface: body.ifname, labels: body.labels, netns };
    let node = admin.node.status().await?.node;
    // A task of its own: a client that hangs up must not leave half an endpoint.
    let attached = tokio::spawn(async move { admin.attacher.attach(request).await });
    let Attached { endpoint, in_force, missing, note } = attached.await.map_err(Problem::crashed)??;
    let revision = endpoint.placed.map(|revision| revision.0);
    let endpoint = EndpointAnswer { node: Some(node), ..EndpointAnswer::from(&endpoint) };
    Ok((StatusCode::CREATED, Json(AttachAnswer { endpoint, revision, in_force, missing, note })))
}

async fn detach(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Json<DetachBody>, JsonRejection>,
) -> Result<Json<EndpointAnswer>, Problem> {
    let Json(body) = body?;
    let netns = peer_netns(peer, body.netns_fd)?;
    let detached = tokio::spawn(async move { admin.attacher.detach(&netns).await });
    Ok(Json(EndpointAnswer::from(&detached.await.map_err(Problem::crashed)??)))
}

fn peer_netns(peer: Peer, descriptor: i32) -> Result<Netns, Problem> {
    let pid = peer.pid.ok_or_else(|| Problem::new(StatusCode::FORBIDDEN, "the caller's process is not known"))?;
    Netns::from_process(pid, descriptor).map_err(|error| Problem::field("netns_fd", error.to_string()))
}

fn is_interface_name(name: &str) -> bool {
    let fits = (1..=15).contains(&name.len()) && !matches!(name, "." | ".." | "lo" | "all" | "default");
    fits && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[derive(Serialize)]
struct StatusAnswer {
    node: NodeName,
    revision: Option<u64>,
    epoch: u32,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    connected: bool,
    rows_used: usize,
    rows_capacity: u32,
    repairs: u64,
    tunnel: &'static str,
    closed: Vec<std::net::Ipv4Addr>,
    endpoints: Vec<EndpointAnswer>,
    token_listeners: ListenersAnswer,
}

/// Where instances get tokens.
#[derive(Serialize)]
struct ListenersAnswer {
    open: usize,
    /// Instances in whose namespace somebody else has the name.
    taken: Vec<String>,
}

async fn status(State(admin): State<Admin>) -> Result<Json<StatusAnswer>, Problem> {
    let status: Status = admin.node.status().await?;
    let Told { open, taken, taken_total: _ } = admin.listeners.told();
    Ok(Json(StatusAnswer {
        token_listeners: ListenersAnswer { open, taken },
        revision: status.revision.map(|revision| revision.0),
        epoch: status.epoch,
        ready: status.ready,
        detail: status.detail.or_else(|| admin.api.trouble()),
        connected: admin.api.is_connected(),
        rows_used: status.rows_used,
        rows_capacity: status.rows_capacity,
        repairs: status.repairs,
        tunnel: status.tunnel,
        closed: status.closed,
        endpoints: status.endpoints.iter().map(EndpointAnswer::from).collect(),
        node: status.node,
    }))
}

#[derive(Serialize)]
struct DropsAnswer {
    items: Vec<DropCount>,
    /// By endpoint: what happened at least once.
    endpoints: Vec<EndpointDrops>,
    events_lost: u64,
}

#[derive(Serialize)]
struct EndpointDrops {
    instance: String,
    items: Vec<DropCount>,
    events_lost: u64,
}

#[derive(Serialize)]
struct DropCount {
    reason: &'static str,
    direction: &'static str,
    packets: u64,
    bytes: u64,
}

/// Every reason, also those that never happened: what is absent would have to be guessed.
async fn drops(State(admin): State<Admin>) -> Result<Json<DropsAnswer>, Problem> {
    let counted = admin.node.counters().await?;
    let status = admin.node.status().await?;
    let endpoints = status.endpoints.iter().map(|endpoint| EndpointDrops {
        instance: endpoint.name(),
        items: counted
            .outcomes
            .iter()
            .filter(|outcome| outcome.slot == endpoint.slot && outcome.counter.packets > 0)
            .filter_map(|outcome| Some(DropCount::new(outcome.direction, outcome.dropped?, outcome.counter)))
            .collect(),
        events_lost: counted.lost.drops.get(&endpoint.slot).copied().unwrap_or(0),
    });
    let items = counted
        .totals()
        .into_iter()
        .filter_map(|(direction, dropped, counter)| Some(DropCount::new(direction, dropped?, counter)));
    Ok(Json(DropsAnswer { items: items.collect(), endpoints: endpoints.collect(), events_lost: counted.lost.total() }))
}

impl DropCount {
    fn new(direction: Direction, reason: DropReason, counter: Counter) -> Self {
        let (reason, direction) = (reason.name(), direction.name());
        Self { reason, direction, packets: counter.packets, bytes: counter.bytes }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    #[serde(default)]
    follow: bool,
}

async fn events(
    State(admin): State<Admin>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let (kept, live) = admin.flows.read();
    let kept = stream::iter(kept).map(|told| json_line(&told));
    let body = if query.follow {
        let live = BroadcastStream::new(live).map(|told| match told {
            Ok(told) => json_line(&told),
            // Said where it happened, so that a reader knows what he did not see.
            Err(tokio_stream::wrappers::errors::BroadcastStreamRecvError::Lagged(lost)) => {
                json_line(&flow::Told::Lost(lost))
            }
        });
        Body::from_stream(kept.chain(live))
    } else {
        Body::from_stream(kept)
    };
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], body).into_response())
}

fn json_line(told: &flow::Told) -> io::Result<String> {
    let line = match told {
        flow::Told::Event(seen) => serde_json::to_string(&seen.describe()),
        flow::Told::Lost(events) => serde_json::to_string(&serde_json::json!({ "kind": "lost", "events": events })),
    };
    line.map(|line| line + "\n").map_err(io::Error::other)
}

async fn metrics(State(admin): State<Admin>) -> Result<Response, Problem> {
    let status = admin.node.status().await?;
    let counted = admin.node.counters().await?;
    let mut text = String::new();
    type Field = fn(&Counter) -> u64;
    let families: [(&str, &str, Field); 2] = [
        ("netpol_datapath_packets_total", "Packets by outcome and direction.", |counter| counter.packets),
        (
            "netpol_datapath_bytes_total",
            "Bytes by outcome and direction, of frames as instances send and get them.",
            |counter| counter.bytes,
        ),
    ];
    for (family, help, field) in families {
        text.push_str(&format!("# HELP {family} {help}\n# TYPE {family} counter\n"));
        for (direction, dropped, counter) in counted.totals() {
            let name = dropped.map_or("passed", DropReason::name);
            let (direction, count) = (direction.name(), field(&counter));
            text.push_str(&format!("{family}{{outcome=\"{name}\",direction=\"{direction}\"}} {count}\n"));
        }
    }
    let listeners = admin.listeners.told();
    let gauges: BTreeMap<&str, u64> = BTreeMap::from([
        ("netpol_node_token_listeners", listeners.open as u64),
        ("netpol_node_token_listeners_taken_total", listeners.taken_total),
        ("netpol_datapath_events_lost_total", counted.lost.total()),
        ("netpol_node_attachment_repairs_total", status.repairs),
        ("netpol_node_ready", u64::from(status.ready)),
        ("netpol_node_connected", u64::from(admin.api.is_connected())),
        ("netpol_node_endpoints", status.endpoints.len() as u64),
        ("netpol_node_rows_used", status.rows_used as u64),
        ("netpol_node_rows_capacity", u64::from(status.rows_capacity)),
        ("netpol_node_applied_revision", status.revision.map_or(0, |revision| revision.0)),
    ]);
    for (name, value) in gauges {
        text.push_str(&format!("{name} {value}\n"));
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

/// A refusal, as `application/problem+json`.
#[derive(Debug, Serialize)]
struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("error");
        Self { kind: "about:blank", title, status: status.as_u16(), detail: detail.into(), field: None }
    }

    fn field(field: &'static str, detail: impl Into<String>) -> Self {
        Self { field: Some(field), ..Self::new(StatusCode::BAD_REQUEST, detail) }
    }

    fn crashed(error: tokio::task::JoinError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, "application/problem+json")], serde_json::to_string(&self).unwrap_or_default())
            .into_response()
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        let too_large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
        let status = if too_large { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
        Self::new(status, rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

impl From<NodeError> for Problem {
    fn from(error: NodeError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl From<AttachError> for Problem {
    fn from(error: AttachError) -> Self {
        let status = match &error {
            AttachError::Invalid(_) | AttachError::Link(LinkError::Refused(_)) => StatusCode::BAD_REQUEST,
            AttachError::Conflict(_) | AttachError::SliceFull(_) => StatusCode::CONFLICT,
            AttachError::NotFound(_) => StatusCode::NOT_FOUND,
            AttachError::Refused(refusal) => {
                refusal.status().and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::BAD_GATEWAY)
            }
            AttachError::Unknown(_) => StatusCode::SERVICE_UNAVAILABLE,
            AttachError::Random(_) | AttachError::Link(_) | AttachError::Node(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}
