//! A client of the policy API, for the agent and the command line.
//!
//! Always TLS, and only the given CA is believed. One kept-alive HTTP/1.1 connection per API; where several APIs are named,
//! the next one is tried when one does not answer. What may have been done is tried again only where that does it once: a
//! read, or a write with a key by which the APIs know it again.

mod access;
mod broker;
mod error;
mod identity;
mod lines;
mod past;
mod right;
mod tls;
mod watch;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::{Method, RequestBuilder, Response, Url, header};
use serde::{Serialize, de::DeserializeOwned};

use crate::model::{
    App, AppAnswer, AppDeleted, AppName, AppSettings, Binding, Certified, ChangeSet, ChangesAnswer, CheckAnswer,
    CheckQuery, Claim, Claimed, Deleted, ETag, Group, History, InForce, Isolation, IsolationAnswer, IsolationDeleted,
    IsolationSpec, Join, Joined, List, LookupAnswer, NodeAnswer, NodeDeleted, NodeName, NodeSettings, NodeView, Reason,
    Receipt, Released, Replica, Report, Revision, RuleAnswer, RuleFilter, RuleId, RuleSpec, RuleView, Status, Target,
    Timestamp, UsageReport, Written, hex::hex,
};

pub use self::{
    broker::GateWatch,
    error::ClientError,
    identity::Identity,
    lines::{LineBuffer, read_line},
    past::Past,
    right::new_secret,
    watch::Watch,
};

/// What a client must be told.
#[derive(Clone)]
pub struct ClientConfig {
    /// URLs like `https://192.168.1.1:7443`, in order of preference.
    pub api: Vec<String>,
    pub credentials: Credentials,
    /// The certificate of the API's own CA.
    pub ca_pem: Vec<u8>,
}

/// How the client says who it is.
#[derive(Clone)]
pub enum Credentials {
    /// That of a user or the operator, or the one that a node joins with.
    Token(String),
    /// A node's certificate.
    Identity(Arc<Identity>),
    /// Not at all.
    None,
}

/// How a write is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Refuse (412) if the rules are not in this state any more.
    pub if_match: Option<ETag>,
    /// The same key with the same request gets the same answer, and the write is made once. Where several APIs are named
    /// and no key is given, one is made up, so that the death of an API does not show.
    pub idempotency_key: Option<String>,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Why it is made, for the history.
    pub reason: Option<Reason>,
}

/// All rules that were asked for, and the state they were read in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleList {
    pub items: Vec<RuleView>,
    pub revision: Revision,
    /// For [`WriteOptions::if_match`].
    pub etag: Option<ETag>,
}

/// A client of the policy API. Cheap to share by reference; all methods take `&self`.
pub struct Client {
    http: reqwest::Client,
    apis: Vec<Url>,
    /// Which of them answered last.
    current: AtomicUsize,
    authorization: Option<header::HeaderValue>,
}

/// Whether a request may be sent to another API.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeatable {
    /// Doing it twice is doing it once.
    Always,
    /// Only if it cannot have arrived.
    IfNotDone,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A peer that acknowledges nothing for so long is gone.
const PEER_TIMEOUT: Duration = Duration::from_secs(15);
const UNAVAILABLE: reqwest::StatusCode = reqwest::StatusCode::SERVICE_UNAVAILABLE;
const PAGE: &str = "1000";

type Parameters = Vec<(&'static str, String)>;

impl Client {
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        if config.api.is_empty() {
            return Err(ClientError::Config("no URL of a policy API is given".to_owned()));
        }
        let apis = config.api.iter().map(|url| parse_url(url)).collect::<Result<_, _>>()?;
        let (authorization, identity) = match config.credentials {
            Credentials::Token(token) => (Some(bearer(&token)?), None),
            Credentials::Identity(identity) => (None, Some(identity)),
            Credentials::None => (None, None),
        };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::config(&config.ca_pem, identity)?)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .tcp_user_timeout(PEER_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("netpol/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ClientError::Config(error::whole(&error)))?;
        Ok(Self { http, apis, current: AtomicUsize::new(0), authorization })
    }

    // What operators do.

    /// Makes a rule stand; for who has only one end of it, it is an error that it was asked for.
    pub async fn put_rule(&self, rule: &RuleSpec, options: &WriteOptions) -> Result<RuleAnswer, ClientError> {
        match self.put_or_ask(rule, options).await? {
            Written::Stands(answer) => Ok(*answer),
            Written::Asked(asked) => {
                let id = asked.request.id;
                Err(ClientError::Protocol(format!("nothing stands yet: {id} waits to be accepted")))
            }
        }
    }

    /// Makes a rule stand, or asks whoever has its other end.
    pub async fn put_or_ask(&self, rule: &RuleSpec, options: &WriteOptions) -> Result<Written, ClientError> {
        self.write(Method::POST, "/v1/rules", Some(rule), options).await
    }

    pub async fn delete_rule(&self, id: RuleId, options: &WriteOptions) -> Result<Deleted, ClientError> {
        self.write(Method::DELETE, &format!("/v1/rules/{id}"), None::<&()>, options).await
    }

    /// Deletes and creates rules, all or nothing.
    pub async fn change(&self, changes: &ChangeSet, options: &WriteOptions) -> Result<ChangesAnswer, ClientError> {
        self.write(Method::POST, "/v1/changes", Some(changes), options).await
    }

    /// Sets an app's mode and groups; creates it if it is new.
    pub async fn set_app(
        &self,
        name: &AppName,
        settings: &AppSettings,
        options: &WriteOptions,
    ) -> Result<AppAnswer, ClientError> {
        self.write(Method::PUT, &format!("/v1/apps/{name}"), Some(settings), options).await
    }

    pub async fn delete_app(&self, name: &AppName, options: &WriteOptions) -> Result<AppDeleted, ClientError> {
        self.write(Method::DELETE, &format!("/v1/apps/{name}"), None::<&()>, options).await
    }

    pub async fn isolate(&self, spec: &IsolationSpec, options: &WriteOptions) -> Result<IsolationAnswer, ClientError> {
        self.write(Method::POST, "/v1/isolations", Some(spec), options).await
    }

    pub async fn end_isolation(
        &self,
        target: &Target,
        options: &WriteOptions,
    ) -> Result<IsolationDeleted, ClientError> {
        self.write(Method::DELETE, &format!("/v1/isolations/{target}"), None::<&()>, options).await
    }

    pub async fn isolations(&self) -> Result<List<Isolation>, ClientError> {
        Ok(self.list("/v1/isolations", Vec::new()).await?.0)
    }

    pub async fn groups(&self) -> Result<List<Group>, ClientError> {
        Ok(self.list("/v1/groups", Vec::new()).await?.0)
    }

    pub async fn rule(&self, id: RuleId) -> Result<RuleView, ClientError> {
        self.get(&format!("/v1/rules/{id}"), Vec::new()).await
    }

    pub async fn list_rules(&self, filter: &RuleFilter) -> Result<RuleList, ClientError> {
        let (list, etag) = self.list("/v1/rules", filter.parameters()).await?;
        Ok(RuleList { items: list.items, revision: list.revision, etag })
    }

    pub async fn check(&self, query: &CheckQuery) -> Result<CheckAnswer, ClientError> {
        self.get("/v1/check", query.parameters()).await
    }

    /// Who has an address or had it last, or who had it at some time.
    pub async fn lookup(&self, address: IpAddr, at: Option<Timestamp>) -> Result<LookupAnswer, ClientError> {
        let at = at.map(|at| ("at", at.to_string()));
        self.get("/v1/lookup", [("ip", address.to_string())].into_iter().chain(at).collect()).await
    }

    pub async fn apps(&self) -> Result<List<App>, ClientError> {
        Ok(self.list("/v1/apps", Vec::new()).await?.0)
    }

    /// Live instances, one item per address.
    pub async fn instances(&self, app: Option<&AppName>) -> Result<List<Binding>, ClientError> {
        let app = app.map(|app| ("app", app.to_string()));
        Ok(self.list("/v1/instances", app.into_iter().collect()).await?.0)
    }

    /// Live and freed bindings.
    pub async fn bindings(&self) -> Result<List<Binding>, ClientError> {
        Ok(self.list("/v1/bindings", Vec::new()).await?.0)
    }

    pub async fn nodes(&self) -> Result<List<NodeView>, ClientError> {
        Ok(self.list("/v1/nodes", Vec::new()).await?.0)
    }

    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status", Vec::new()).await
    }

    /// Waits until the revision is in force on every connected node, at most this long; the answer says how far it came.
    pub async fn wait_in_force(&self, revision: Revision, timeout: Duration) -> Result<InForce, ClientError> {
        let wait = [("wait_ms", timeout.as_millis().to_string())];
        let path = format!("/v1/revisions/{revision}");
        let build = |request: RequestBuilder| request.query(&wait).timeout(REQUEST_TIMEOUT + timeout);
        read(self.send(Method::GET, &path, build).await?).await
    }

    /// Waits until every connected node has said what the revision cut, at most this long; the answer says who has not.
    pub async fn receipt(&self, revision: Revision, timeout: Duration) -> Result<Receipt, ClientError> {
        let parameters = [("revision", revision.to_string()), ("wait_ms", timeout.as_millis().to_string())];
        let build = |request: RequestBuilder| request.query(&parameters).timeout(REQUEST_TIMEOUT + timeout);
        read(self.send(Method::GET, "/v1/receipts", build).await?).await
    }

    /// Sets whether a node takes new instances.
    pub async fn set_node(
        &self,
        name: &NodeName,
        settings: &NodeSettings,
        options: &WriteOptions,
    ) -> Result<NodeAnswer, ClientError> {
        self.write(Method::PUT, &format!("/v1/nodes/{name}"), Some(settings), options).await
    }

    /// Removes a node that is off.
    pub async fn remove_node(&self, name: &NodeName, options: &WriteOptions) -> Result<NodeDeleted, ClientError> {
        self.write(Method::DELETE, &format!("/v1/nodes/{name}"), None::<&()>, options).await
    }

    // What nodes do.

    pub async fn join(&self, name: &NodeName, join: &Join) -> Result<Joined, ClientError> {
        self.post(&format!("/v1/nodes/{name}/join"), join).await
    }

    /// Joins with the token that this client has, and makes what the node proves itself by from then on.
    pub async fn enrol(&self, name: &NodeName, underlay: IpAddr) -> Result<(Arc<Identity>, Joined), ClientError> {
        let identity = Identity::generate()?;
        let joined = self.join(name, &Join { csr: Some(identity.request()?), ..Join::at(underlay) }).await?;
        if let Some(certified) = &joined.certified {
            identity.certify(&certified.certificate)?;
        }
        Ok((Arc::new(identity), joined))
    }

    /// A new certificate for the key that the node is registered with; no other credentials are needed.
    pub async fn certify(&self, name: &NodeName, csr: &str) -> Result<Certified, ClientError> {
        self.post(&format!("/v1/nodes/{name}/certificate"), &serde_json::json!({ "csr": csr })).await
    }

    /// Claims addresses of the node that the token belongs to for one of its instances.
    pub async fn claim(&self, claim: &Claim) -> Result<Claimed, ClientError> {
        self.post("/v1/bindings", claim).await
    }

    pub async fn release(&self, address: IpAddr) -> Result<Released, ClientError> {
        self.write(Method::DELETE, &format!("/v1/bindings/{address}"), None::<&()>, &WriteOptions::default()).await
    }

    pub async fn report(&self, name: &NodeName, report: &Report) -> Result<(), ClientError> {
        let path = format!("/v1/nodes/{name}/report");
        self.send(Method::POST, &path, |request| request.json(report).timeout(REQUEST_TIMEOUT)).await?;
        Ok(())
    }

    pub async fn report_usage(&self, name: &NodeName, report: &UsageReport) -> Result<(), ClientError> {
        let path = format!("/v1/nodes/{name}/usage");
        self.send(Method::PUT, &path, |request| request.json(report).timeout(REQUEST_TIMEOUT)).await?;
        Ok(())
    }

    // What both do.

    /// Opens a watch. It resumes behind `since` if the API still knows that place in that history, else it begins with a
    /// snapshot; without a history it always does.
    pub async fn watch(&self, since: Revision, history: Option<&History>) -> Result<Watch, ClientError> {
        let mut parameters = vec![("since", since.to_string())];
        parameters.extend(history.map(|history| ("history", history.to_string())));
        self.open_watch(parameters).await
    }

    /// Opens a node's watch. It resumes if what the node needs is what it holds already, else it begins with a snapshot.
    pub async fn watch_scope(&self, held: Option<&(History, Replica)>) -> Result<Watch, ClientError> {
        let place = held.into_iter().flat_map(|(history, replica)| {
            let (since, digest) = (replica.revision(), replica.digest());
            [("since", since.to_string()), ("history", history.to_string()), ("digest", digest.to_string())]
        });
        self.open_watch(place.collect()).await
    }

    async fn open_watch(&self, parameters: Vec<(&'static str, String)>) -> Result<Watch, ClientError> {
        let opening = self.send(Method::GET, "/v1/watch", |request| request.query(&parameters));
        let response = tokio::time::timeout(REQUEST_TIMEOUT, opening).await.map_err(|_| self.silent())??;
        Ok(Watch::new(response, self.api_in_use()))
    }

    /// The URL of the API that answered last.
    pub fn api_in_use(&self) -> String {
        let url = &self.apis[self.current.load(Ordering::Relaxed) % self.apis.len()];
        url.as_str().trim_end_matches('/').to_owned()
    }

    // How it is done.

    fn silent(&self) -> ClientError {
        ClientError::Unreachable { api: self.api_in_use(), why: "it does not answer".to_owned() }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, parameters: Parameters) -> Result<T, ClientError> {
        read(self.send(Method::GET, path, |request| request.query(&parameters).timeout(REQUEST_TIMEOUT)).await?).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.write(Method::POST, path, Some(body), &WriteOptions::default()).await
    }

    async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        options: &WriteOptions,
    ) -> Result<T, ClientError> {
        let key = options.idempotency_key.clone().or_else(|| self.new_key());
        let repeatable = if key.is_some() { Repeatable::Always } else { Repeatable::IfNotDone };
        let build = |mut request: RequestBuilder| {
            if let Some(body) = body {
                request = request.json(body);
            }
            if let Some(etag) = &options.if_match {
                request = request.header(header::IF_MATCH, etag.to_string());
            }
            if let Some(key) = &key {
                request = request.header("idempotency-key", key);
            }
            if let Some(reason) = &options.reason {
                request = request.header("netpol-reason", reason.as_str().as_bytes());
            }
            if options.dry_run {
                request = request.query(&[("dry_run", "true")]);
            }
            request.timeout(REQUEST_TIMEOUT)
        };
        read(self.send_to_any(method, path, build, repeatable).await?).await
    }

    /// A key for a write that may have to be sent to another API: none, where there is no other.
    fn new_key(&self) -> Option<String> {
        if self.apis.len() < 2 {
            return None;
        }
        let mut bytes = [0_u8; 16];
        getrandom::fill(&mut bytes).ok()?;
        Some(hex(&bytes))
    }

    /// All pages of a list, and the state its first page was read in.
    async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        mut parameters: Parameters,
    ) -> Result<(List<T>, Option<ETag>), ClientError> {
        parameters.push(("limit", PAGE.to_owned()));
        let mut response =
            self.send(Method::GET, path, |request| request.query(&parameters).timeout(REQUEST_TIMEOUT)).await?;
        let etag =
            response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).and_then(|tag| tag.parse().ok());
        let mut whole: List<T> = read(response).await?;
        while let Some(cursor) = whole.next.take() {
            let page = |request: RequestBuilder| {
                request.query(&parameters).query(&[("cursor", &cursor)]).timeout(REQUEST_TIMEOUT)
            };
            response = self.send(Method::GET, path, page).await?;
            let page: List<T> = read(response).await?;
            whole.items.extend(page.items);
            whole.next = page.next;
        }
        Ok((whole, etag))
    }

    /// Sends a request that does nothing, or nothing more when it is repeated.
    async fn send(
        &self,
        method: Method,
        path: &str,
        build: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, ClientError> {
        self.send_to_any(method, path, build, Repeatable::Always).await
    }

    /// Sends a request to the first API that answers, beginning with the one that answered last.
    async fn send_to_any(
        &self,
        method: Method,
        path: &str,
        build: impl Fn(RequestBuilder) -> RequestBuilder,
        repeatable: Repeatable,
    ) -> Result<Response, ClientError> {
        let first = self.current.load(Ordering::Relaxed);
        let mut failure = self.silent();
        for turn in 0..self.apis.len() {
            let index = (first + turn) % self.apis.len();
            let api = &self.apis[index];
            let url = api.join(path).map_err(|_| ClientError::Config(format!("{api} does not take a path")))?;
            let mut request = self.http.request(method.clone(), url);
            if let Some(authorization) = &self.authorization {
                request = request.header(header::AUTHORIZATION, authorization.clone());
            }
            let request = build(request);
            match request.send().await {
                // This one cannot reach the store; another one may.
                Ok(response) if response.status() == UNAVAILABLE && repeatable == Repeatable::Always => {
                    match refuse_problem(response).await {
                        Ok(response) => return Ok(response),
                        Err(problem) => failure = problem,
                    }
                }
                Ok(response) => {
                    self.current.store(index, Ordering::Relaxed);
                    return refuse_problem(response).await;
                }
                Err(error) => {
                    let may_have_been_done = !error.is_connect();
                    failure = ClientError::unreachable(api, &error);
                    if may_have_been_done && repeatable == Repeatable::IfNotDone {
                        break;
                    }
                }
            }
        }
        Err(failure)
    }
}

fn bearer(token: &str) -> Result<header::HeaderValue, ClientError> {
    let mut value = header::HeaderValue::try_from(format!("Bearer {}", token.trim()))
        .map_err(|_| ClientError::Config("the token has characters that no token has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn parse_url(text: &str) -> Result<Url, ClientError> {
    let refuse = |why| ClientError::Config(format!("`{text}` {why}; use a URL like `https://192.168.1.1:7443`"));
    let url = Url::parse(text.trim()).map_err(|_| refuse("is not a URL"))?;
    if url.scheme() != "https" || url.host().is_none() {
        return Err(refuse("is not an https URL"));
    }
    if url.path() != "/" || url.query().is_some() {
        return Err(refuse("has a path"));
    }
    Ok(url)
}

async fn refuse_problem(response: Response) -> Result<Response, ClientError> {
    if response.status().is_success() {
        return Ok(response);
    }
    let (status, retry_after) = (response.status(), retry_after(response.headers()));
    let body = response.bytes().await.map_err(|error| ClientError::Protocol(error::whole(&error)))?;
    match serde_json::from_slice(&body).map(Box::new) {
        Ok(problem) if [UNAVAILABLE, reqwest::StatusCode::TOO_MANY_REQUESTS].contains(&status) => {
            Err(ClientError::Busy { problem, retry_after })
        }
        Ok(problem) => Err(ClientError::Problem(problem)),
        Err(_) => Err(ClientError::Protocol(format!("status {status} without a problem description"))),
    }
}

/// In seconds, as our APIs say it; what is no number of seconds says nothing.
fn retry_after(headers: &header::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let body = response.bytes().await.map_err(|error| ClientError::Protocol(error::whole(&error)))?;
    serde_json::from_slice(&body).map_err(|error| ClientError::Protocol(format!("unreadable answer: {error}")))
}
