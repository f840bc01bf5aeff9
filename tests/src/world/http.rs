//! Raw requests to the policy API, for what no well-behaved client would send.

use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use policy_api::client::{Client, ClientConfig, ClientError, Credentials, Identity};
use policy_api::model::{CHALLENGE_PORT, Join, Joined};
use serde_json::Value;

use super::control::Control;
use super::node::Node;
use super::patience::PATIENCE;

#[derive(Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// With the query, such as `/v1/lookup?ip=10.255.1.2`.
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: Vec<u8>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    /// The state that was read, for `If-Match`.
    pub etag: String,
    /// Null if the answer is not JSON.
    pub body: Value,
}

/// A node's key and certificate, PEM.
#[derive(Debug)]
pub struct Proof(pub(super) String);

impl Control {
    /// Sends a request as the operator.
    pub fn request(&self, request: &Request<'_>) -> Result<Answer> {
        let token = fs::read_to_string(self.operator_token()).context("read the operator's token")?;
        self.request_as(Some(token.trim()), request)
    }

    /// Sends a request with whatever token, from the control host.
    pub fn request_as(&self, token: Option<&str>, request: &Request<'_>) -> Result<Answer> {
        self.request_by(token, None, request)
    }

    /// Sends a request as a node, from the control host.
    pub fn request_of(&self, node: &Proof, request: &Request<'_>) -> Result<Answer> {
        self.request_by(None, Some(node), request)
    }

    /// Registers a node with its join token and without an agent, with a proof received where the node is.
    pub fn enrol(&self, node: &Node) -> Result<Proof> {
        let identity = Identity::generate()?;
        let mut join = Join { csr: Some(identity.request()?), ..Join::at(node.underlay.into()) };
        let socket = node.namespace.inside(|| Ok(UdpSocket::bind((node.underlay, CHALLENGE_PORT))?))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let Err(unproven) = self.join(&node.name, &join)? else { bail!("{} was believed to be anywhere", node.name) };
        let mut received = [0; 128];
        let length = socket.recv(&mut received).with_context(|| format!("a proof, after {unproven}"))?;
        join.proof = Some(std::str::from_utf8(&received[..length])?.parse().context("a proof")?);
        let certified = self.join(&node.name, &join)??.certified.context("a certificate")?;
        Ok(Proof(identity.key_pem() + &certified.certificate))
    }

    /// Asks with a node's join token to register it.
    pub fn join(&self, node: &str, join: &Join) -> Result<std::result::Result<Joined, ClientError>> {
        let config = ClientConfig {
            api: vec![self.url()],
            credentials: Credentials::Token(fs::read_to_string(self.join_token(node))?),
            ca_pem: fs::read(self.ca())?,
        };
        let name = node.parse().context("the name")?;
        self.namespace.inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let client = Client::new(config)?;
            Ok(runtime.block_on(client.join(&name, join)))
        })
    }

    fn request_by(&self, token: Option<&str>, node: Option<&Proof>, request: &Request<'_>) -> Result<Answer> {
        let (url, ca) = (format!("{}{}", self.url(), request.path), fs::read(self.ca()).context("read the CA")?);
        self.namespace.inside(|| {
            // Its sockets are opened by this very thread, so they belong to the namespace.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(send(&url, &ca, token, node, request))
        })
    }
}

async fn send(
    url: &str,
    ca: &[u8],
    token: Option<&str>,
    node: Option<&Proof>,
    request: &Request<'_>,
) -> Result<Answer> {
    // Somebody else in this process may have been first with the same provider.
    rustls::crypto::ring::default_provider().install_default().unwrap_or_default();
    let certificate = reqwest::Certificate::from_pem(ca).context("the API's CA")?;
    let mut client =
        reqwest::Client::builder().tls_certs_only([certificate]).no_proxy().timeout(Duration::from_secs(20));
    if let Some(Proof(pem)) = node {
        client = client.identity(reqwest::Identity::from_pem(pem.as_bytes()).context("the node's certificate")?);
    }
    let client = client.build().context("set up HTTP")?;
    let method = request.method.parse().context("the method")?;
    let mut builder = client.request(method, url).header("content-type", "application/json");
    if let Some(token) = token {
        builder = builder.bearer_auth(token);
    }
    for (name, value) in request.headers {
        builder = builder.header(*name, *value);
    }
    let response =
        builder.body(request.body.clone()).send().await.with_context(|| format!("{} {url}", request.method))?;
    let status = response.status().as_u16();
    let header =
        |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (content_type, etag) = (header("content-type"), header("etag"));
    let body = response.bytes().await.context("read the answer")?;
    Ok(Answer { status, content_type, etag, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}
