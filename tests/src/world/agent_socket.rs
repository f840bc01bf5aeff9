//! Asks an agent over its local socket, as the node's root may.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// One row of `GET /v1/drops`.
#[derive(Debug, Clone, Deserialize)]
pub struct DropCount {
    pub reason: String,
    pub direction: String,
    pub packets: u64,
}

#[derive(Deserialize)]
struct Drops {
    items: Vec<DropCount>,
}

pub fn get(socket: &Path, path: &str) -> Result<Value> {
    let body = get_text(socket, path)?;
    serde_json::from_str(&body).with_context(|| format!("agent answered GET {path} with `{body}`"))
}

pub fn drops(socket: &Path) -> Result<Vec<DropCount>> {
    let answer: Drops = serde_json::from_value(get(socket, "/v1/drops")?).context("read the agent's drop counts")?;
    Ok(answer.items)
}

/// HTTP/1.0, so that the answer comes whole and the connection ends with it.
pub fn get_text(socket: &Path, path: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: agent\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("read the answer to GET {path}"))?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("agent answered GET {path} with `{answer}`");
    };
    if head.split(' ').nth(1) != Some("200") {
        bail!("agent answered GET {path} with `{}`: {body}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}
