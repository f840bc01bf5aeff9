//! Their JSON: versions, policies in requests, and the checks that theirs makes, in its order and its words.

use serde::Deserialize;

use super::{answer::Refused, policy::Policy};
use crate::model::{AppName, Invalid, Protocol};

/// A version of their API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// One port to a policy.
    V0,
    /// A range of ports.
    V1,
}

impl Version {
    pub(super) fn parse(text: &str) -> Result<Self, Refused> {
        match text {
            "v0" => Ok(Self::V0),
            "v1" => Ok(Self::V1),
            other => {
                let status = axum::http::StatusCode::NOT_ACCEPTABLE;
                Err(Refused::new(status, format!("api version '{other}' not supported")))
            }
        }
    }
}

/// What is absent or null is as if it were empty. Unknown members are theirs to ignore.
#[derive(Deserialize)]
struct Policies {
    policies: Option<Vec<Asked>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    source: Option<Source>,
    destination: Option<Destination>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Source {
    id: Option<String>,
    tag: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Destination {
    id: Option<String>,
    tag: Option<String>,
    protocol: Option<String>,
    /// Of v0.
    port: Option<i64>,
    /// Of v1.
    ports: Option<Ports>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Ports {
    start: i64,
    end: i64,
}

/// The policies of a request's body.
pub(super) fn policies(version: Version, body: &[u8]) -> Result<Vec<Policy>, Refused> {
    let asked: Policies =
        serde_json::from_slice(body).map_err(|error| Refused::bad(format!("mapper: unmarshal json: {error}")))?;
    let asked = asked.policies.unwrap_or_default();
    let refuse = |text: String| Refused::bad(format!("mapper: validate policies: {text}"));
    if asked.is_empty() {
        return Err(refuse("missing policies".to_owned()));
    }
    asked.into_iter().map(|one| validate(version, one).map_err(refuse)).collect()
}

fn validate(version: Version, asked: Asked) -> Result<Policy, String> {
    let (source, destination) = (asked.source.unwrap_or_default(), asked.destination.unwrap_or_default());
    let from = app("source", source.id.as_deref().unwrap_or_default())?;
    let to = app("destination", destination.id.as_deref().unwrap_or_default())?;
    let protocol = match destination.protocol.as_deref() {
        Some("tcp") => Protocol::Tcp,
        Some("udp") => Protocol::Udp,
        _ => return Err("invalid destination protocol, specify either udp or tcp".to_owned()),
    };
    let (start, end) = match version {
        Version::V0 => port(destination.port.unwrap_or_default())?,
        Version::V1 => range(destination.ports.unwrap_or_default())?,
    };
    let tagged = |tag: &Option<String>| tag.as_ref().is_some_and(|tag| !tag.is_empty());
    if tagged(&source.tag) || tagged(&destination.tag) {
        return Err("tags may not be specified".to_owned());
    }
    Ok(Policy { source: from, destination: to, protocol, start, end })
}

fn app(side: &str, id: &str) -> Result<AppName, String> {
    if id.is_empty() {
        return Err(format!("missing {side} id"));
    }
    id.parse().map_err(|invalid: Invalid| format!("invalid {side} id: {invalid}"))
}

fn range(Ports { start, end }: Ports) -> Result<(u16, u16), String> {
    if start > end {
        return Err(format!("invalid port range {start}-{end}, start must be less than or equal to end"));
    }
    match (u16::try_from(start), u16::try_from(end)) {
        (Ok(0), _) => Err("missing start port".to_owned()),
        (Ok(start), Ok(end)) => Ok((start, end)),
        (Err(_), _) => Err(format!("invalid start port {start}, must be in range 1-65535")),
        (_, Err(_)) => Err(format!("invalid end port {end}, must be in range 1-65535")),
    }
}

fn port(port: i64) -> Result<(u16, u16), String> {
    match u16::try_from(port) {
        Ok(0) => Err("missing port".to_owned()),
        Ok(port) => Ok((port, port)),
        Err(_) => Err(format!("invalid port {port}, must be in range 1-65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_port_above_the_last_one_is_named_before_the_end() {
        let text = range(Ports { start: 70_000, end: 70_001 }).expect_err("too large");
        assert_eq!(text, "invalid start port 70000, must be in range 1-65535");
    }
}
