//! The command line of a gatekeeper: a flag beats `NETPOL_*`. What is a table rather than a word stands in `--config`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::{access_log::LogTarget, listen::ListenAddress, upstream::UpstreamAddress};
use crate::authority::Resource;

/// What a gatekeeper is told.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Example:\n  netpol-agent gatekeeper --app release-bot --resource production/release-bot \\\n    --listen 0.0.0.0:8443 --tls-cert gate.pem --tls-key gate.key --upstream unix:/run/release-bot.sock \\\n    --config /etc/netpol/gatekeeper.toml --handover /run/netpol/release-bot.handover\n\nStarting another one with the same --handover takes over: nobody who connects is refused meanwhile, and the older one\nends when what is open has ended."
)]
pub struct GatekeeperOptions {
    /// The app that stands behind
    #[arg(long, env = "NETPOL_APP", value_name = "NAME")]
    pub app: String,
    /// What is asked for: privileges on this resource let in
    #[arg(long, env = "NETPOL_RESOURCE", value_name = "ID")]
    pub resource: Resource,
    /// Where clients connect: IP:PORT or unix:PATH
    #[arg(long, env = "NETPOL_LISTEN", value_name = "ADDR")]
    pub listen: ListenAddress,
    /// Where the app listens: http://HOST:PORT or unix:PATH
    #[arg(long, env = "NETPOL_UPSTREAM", value_name = "URL")]
    pub upstream: UpstreamAddress,
    /// The app speaks HTTP/2 without TLS, as servers of gRPC do
    #[arg(long, env = "NETPOL_UPSTREAM_HTTP2")]
    pub upstream_http2: bool,
    /// File with authorities, privileges and limits, in TOML
    #[arg(long, env = "NETPOL_GATEKEEPER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// URLs of the policy API, in order of preference
    #[arg(long, env = "NETPOL_API", value_delimiter = ',', value_name = "URL")]
    pub api: Vec<String>,
    /// File with the certificate of the policy API's CA
    #[arg(long, env = "NETPOL_CA", default_value = "/etc/netpol/ca.pem", value_name = "FILE")]
    pub ca: PathBuf,
    /// File with the API token (role `gate`) by which the policy API knows this gatekeeper
    #[arg(long, env = "NETPOL_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// File with the certificate, and its chain, that clients are shown; without it there is no TLS
    #[arg(long, env = "NETPOL_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// File with its key
    #[arg(long, env = "NETPOL_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Until this file is there, requests are told to come again (503)
    #[arg(long, env = "NETPOL_READY_FILE", value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Where /healthz, /readyz and /metrics are answered
    #[arg(long, env = "NETPOL_ADMIN", value_name = "IP:PORT")]
    pub admin: Option<SocketAddr>,
    /// Threads that serve
    #[arg(long, env = "NETPOL_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,
    /// Where each request is told of, as a line of JSON: stdout, off or a file
    #[arg(long, env = "NETPOL_ACCESS_LOG", default_value = "stdout", value_name = "FILE", value_parser = log_target)]
    pub access_log: LogTarget,
    /// Let the app see the token too
    #[arg(long, env = "NETPOL_PASS_AUTHORIZATION")]
    pub pass_authorization: bool,
    /// Socket by which the next gatekeeper takes over from this one
    #[arg(long, env = "NETPOL_HANDOVER", value_name = "PATH")]
    pub handover: Option<PathBuf>,
    /// Seconds that what is open may take to end after SIGTERM
    #[arg(long, env = "NETPOL_DRAIN", default_value_t = 30, value_name = "S")]
    pub drain: u64,
    /// error, warn, info, debug or trace
    #[arg(long, env = "NETPOL_LOG", default_value = "info", value_name = "LEVEL")]
    pub log: String,
}

fn log_target(text: &str) -> Result<LogTarget, std::convert::Infallible> {
    Ok(match text {
        "stdout" => LogTarget::Stdout,
        "off" => LogTarget::Off,
        path => LogTarget::File(path.into()),
    })
}
