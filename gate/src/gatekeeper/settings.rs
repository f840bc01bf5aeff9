//! What a gatekeeper goes by, parsed and whole: everything that a worker reads and nobody changes while it runs.

use std::{sync::Arc, time::Duration};

use rustls::ServerConfig;

use super::{
    access_log::LogTarget, admit::LongestBody, privilege::PrivilegeTable, upstream::UpstreamSettings, wire::Limits,
};
use crate::authority::Resource;

/// The settings of a gatekeeper.
#[derive(Clone, Debug)]
pub struct Settings {
    pub resource: Resource,
    pub privileges: PrivilegeTable,
    pub upstream: UpstreamSettings,
    pub limits: Limits,
    pub longest_body: LongestBody,
    pub patience: Patience,
    /// Whether the upstream sees the token too.
    pub pass_authorization: bool,
    pub access_log: LogTarget,
    /// TLS towards clients.
    pub tls: Option<Arc<ServerConfig>>,
    pub threads: u32,
    /// Whether the app is ready at once; where it is not, `Gatekeeper::set_ready` says when.
    pub ready: bool,
}

/// How long others may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A client, for a head once its first byte has come, and for the handshake of TLS.
    pub head: Duration,
    /// A client, between requests.
    pub idle: Duration,
    /// A client, for the next piece of a body that the upstream waits for.
    pub body: Duration,
    /// A client, to take something of what is written to it.
    pub write: Duration,
    /// The upstream, until it begins to answer.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body: Duration::from_secs(30),
            write: Duration::from_secs(60),
            answer: Duration::from_secs(60),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: 16_384, fields: 100 }
    }
}
