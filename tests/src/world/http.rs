//! Raw requests to the policy API, for what no well-behaved client would send.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::control::Control;

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

impl Control {
    /// Sends a request as the operator.
    pub fn request(&self, request: &Request<'_>) -> Result<Answer> {
        let token = fs::read_to_string(self.operator_token()).context("read the operator's token")?;
        self.request_as(Some(token.trim()), request)
    }

    /// Sends a request with whatever token, from the control host.
    pub fn request_as(&self, token: Option<&str>, request: &Request<'_>) -> Result<Answer> {
        let (url, ca) = (format!("{}{}", self.url(), request.path), fs::read(self.ca()).context("read the CA")?);
        self.namespace.inside(|| {
            // Its sockets are opened by this very thread, so they belong to the namespace.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(send(&url, &ca, token, request))
        })
    }
}

async fn send(url: &str, ca: &[u8], token: Option<&str>, request: &Request<'_>) -> Result<Answer> {
    // Somebody else in this process may have been first with the same provider.
    rustls::crypto::ring::default_provider().install_default().unwrap_or_default();
    let certificate = reqwest::Certificate::from_pem(ca).context("the API's CA")?;
    let client = reqwest::Client::builder()
        .tls_certs_only([certificate])
        .no_proxy()
        .timeout(Duration::from_secs(20))
        .build()
        .context("set up HTTP")?;
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
