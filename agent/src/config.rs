//! What the agent is told: a flag beats `NETPOL_*`, which beats the file.

use std::{env, fs, io, net::IpAddr, path::PathBuf};

use agent::datapath::WantedWay;
use anyhow::{Context as _, Result, bail};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use common::settings::{Lifetimes, Ticks};
use gate::forwarder::ForwarderOptions;
use tracing_subscriber::EnvFilter;

/// The node agent of netpol.
#[derive(Debug, Parser)]
#[command(name = "netpol-agent", version, about, arg_required_else_help = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the agent on this node.
    #[command(
        after_help = "Example:\n  netpol-agent run --api https://192.0.2.10:7443 --node n1 --underlay 192.0.2.1 \\\n    --token-file /etc/netpol/join.token --ca /etc/netpol/ca.pem\n\nStopping the agent, however it ends, leaves everything in force; the next one takes over."
    )]
    Run(Box<RunOptions>),
    /// Stand before an app, and let in who may.
    Gatekeeper(Box<gate::gatekeeper::GatekeeperOptions>),
    /// Run a proxy beside a client that says to destinations who the client is.
    Forwarder(Box<ForwarderOptions>),
}

/// Who wraps what goes to other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tunnel {
    Auto,
    Device,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RunOptions {
    /// URLs of the policy API, in order of preference
    #[arg(long, env = "NETPOL_API", value_delimiter = ',', default_value = "https://127.0.0.1:7443")]
    pub(crate) api: Vec<String>,
    /// This node's name, as its join token was made for
    #[arg(long, env = "NETPOL_NODE")]
    pub(crate) node: String,
    /// This node's address on the underlay
    #[arg(long, env = "NETPOL_UNDERLAY", value_name = "IP")]
    pub(crate) underlay: IpAddr,
    /// File with the token that this node joins with; not looked at once it has
    #[arg(long, env = "NETPOL_TOKEN_FILE", default_value = "/etc/netpol/join.token", value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// File with the certificate of the policy API's CA
    #[arg(long, env = "NETPOL_CA", default_value = "/etc/netpol/ca.pem", value_name = "FILE")]
    pub(crate) ca: PathBuf,
    /// What survives the agent
    #[arg(long, env = "NETPOL_STATE_DIR", default_value = "/var/lib/netpol/agent", value_name = "DIR")]
    pub(crate) state_dir: PathBuf,
    /// The local socket
    #[arg(long, env = "NETPOL_SOCKET", default_value = "/run/netpol/agent.sock", value_name = "PATH")]
    pub(crate) socket: PathBuf,
    /// Pinned maps and links
    #[arg(long, env = "NETPOL_BPFFS", default_value = "/sys/fs/bpf/netpol", value_name = "DIR")]
    pub(crate) bpffs: PathBuf,
    /// UDP port of the overlay, the same on every node
    #[arg(long, env = "NETPOL_OVERLAY_PORT", default_value_t = 4789, value_name = "PORT")]
    pub(crate) overlay_port: u16,
    /// Name of the VXLAN device
    #[arg(long, env = "NETPOL_OVERLAY_DEVICE", default_value = "netpol0", value_name = "NAME")]
    pub(crate) overlay_device: String,
    /// How programs are attached: auto (tcx where the kernel has it), tcx or tc
    #[arg(long, env = "NETPOL_ATTACH", default_value = "auto", value_name = "WAY")]
    pub(crate) attach: WantedWay,
    /// Who wraps what goes to other nodes: auto (our programs, past the node's routing and netfilter, while all nodes are
    /// behind the uplink and no IPsec policy stands), or device (always the VXLAN device, through the node's stack)
    #[arg(long, env = "NETPOL_TUNNEL", default_value = "auto", value_name = "WHO", hide_possible_values = true)]
    pub(crate) tunnel: Tunnel,
    /// Capacity for rows of rules
    #[arg(long, env = "NETPOL_ROWS", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rows: u32,
    /// Capacity for flows
    #[arg(long, env = "NETPOL_FLOWS", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) flows: u32,
    /// Capacity for addresses of instances, on all nodes
    #[arg(long, env = "NETPOL_PLACEMENTS", default_value_t = 131_072, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) placements: u32,
    /// Unanswered flows that one instance may have open
    #[arg(long, env = "NETPOL_UNANSWERED_FLOWS", default_value_t = 8_192, value_name = "N")]
    pub(crate) unanswered_flows: u32,
    /// Answered flows that one instance may have open
    #[arg(long, env = "NETPOL_ANSWERED_FLOWS", default_value_t = 65_536, value_name = "N")]
    pub(crate) answered_flows: u32,
    #[command(flatten, next_help_heading = "How long a silent flow is believed, in seconds")]
    pub(crate) lifetimes: LifetimeOptions,
    /// error, warn, info, debug or trace
    #[arg(long, env = "NETPOL_LOG", default_value = "info", value_name = "LEVEL")]
    pub(crate) log: String,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct LifetimeOptions {
    /// A TCP flow that is answered
    #[arg(long, env = "NETPOL_TCP_LIFETIME", default_value_t = 86_400, value_name = "S")]
    tcp_lifetime: u32,
    /// A TCP flow that one end has closed
    #[arg(long, env = "NETPOL_TCP_HALF_CLOSED_LIFETIME", default_value_t = 120, value_name = "S")]
    tcp_half_closed_lifetime: u32,
    /// A TCP flow that is closed or reset
    #[arg(long, env = "NETPOL_TCP_ENDED_LIFETIME", default_value_t = 4, value_name = "S")]
    tcp_ended_lifetime: u32,
    /// A UDP flow that is answered
    #[arg(long, env = "NETPOL_UDP_LIFETIME", default_value_t = 180, value_name = "S")]
    udp_lifetime: u32,
    /// A TCP or UDP flow that nobody answers
    #[arg(long, env = "NETPOL_UNANSWERED_LIFETIME", default_value_t = 30, value_name = "S")]
    unanswered_lifetime: u32,
    /// An echo
    #[arg(long, env = "NETPOL_ICMP_LIFETIME", default_value_t = 30, value_name = "S")]
    icmp_lifetime: u32,
    /// A datagram whose fragments do not all come
    #[arg(long, env = "NETPOL_FRAGMENTED_LIFETIME", default_value_t = 10, value_name = "S")]
    fragmented_lifetime: u32,
}

impl LifetimeOptions {
    pub(crate) fn lifetimes(&self) -> Lifetimes {
        Lifetimes {
            tcp: Ticks::at_least(self.tcp_lifetime),
            tcp_half_closed: Ticks::at_least(self.tcp_half_closed_lifetime),
            tcp_ended: Ticks::at_least(self.tcp_ended_lifetime),
            udp_answered: Ticks::at_least(self.udp_lifetime),
            unanswered: Ticks::at_least(self.unanswered_lifetime),
            icmp: Ticks::at_least(self.icmp_lifetime),
            fragmented: Ticks::at_least(self.fragmented_lifetime),
        }
    }
}

/// Where settings are read from, unless `NETPOL_CONFIG` names another file.
const FILE: &str = "/etc/netpol/agent.toml";

impl Options {
    /// Reads the command line over the environment over the file.
    pub(crate) fn read() -> Result<Self> {
        let named = env::var_os("NETPOL_CONFIG").map(PathBuf::from);
        let path = named.clone().unwrap_or_else(|| FILE.into());
        let settings = match fs::read_to_string(&path) {
            Ok(text) => text.parse::<toml::Table>().with_context(|| format!("understand {}", path.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => toml::Table::new(),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let command = with_defaults(Self::command(), &settings).with_context(|| path.display().to_string())?;
        Self::from_arg_matches(&command.get_matches()).map_err(|error| error.exit())
    }
}

/// Makes the file's settings the defaults of the flags with the same names.
fn with_defaults(command: clap::Command, settings: &toml::Table) -> Result<clap::Command> {
    let mut defaults = Vec::new();
    for (key, value) in settings {
        let known = command
            .find_subcommand("run")
            .is_some_and(|run| run.get_arguments().any(|argument| argument.get_long() == Some(&key.replace('_', "-"))));
        if !known {
            bail!("`{key}` is no setting; see `netpol-agent run --help`: each flag is one, with _ for -");
        }
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(items) => {
                let texts =
                    items.iter().map(|item| item.as_str().map(str::to_owned).unwrap_or_else(|| item.to_string()));
                texts.collect::<Vec<_>>().join(",")
            }
            other => other.to_string(),
        };
        defaults.push((key.clone(), text));
    }
    Ok(command.mut_subcommand("run", |run| {
        defaults
            .into_iter()
            .fold(run, |run, (key, text)| run.mut_arg(key, |argument| argument.default_value(text).required(false)))
    }))
}

pub(crate) fn start_logging(level: &str) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false).init();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(file: &str, line: &[&str]) -> Result<RunOptions> {
        let command = with_defaults(Options::command(), &file.parse().expect("toml"))?;
        match Options::from_arg_matches(&command.try_get_matches_from(line)?)?.command {
            Command::Run(options) => Ok(*options),
            Command::Gatekeeper(_) | Command::Forwarder(_) => bail!("it is told to be something else"),
        }
    }

    #[test]
    fn a_flag_beats_the_file() {
        let file = "node = 'n1'\nunderlay = '192.0.2.1'\nrows = 1000\napi = ['https://a:1', 'https://b:1']";
        let options = parse(file, &["netpol-agent", "run", "--rows", "2000"]).expect("valid");
        assert_eq!((options.node.as_str(), options.rows), ("n1", 2000));
        assert_eq!(options.api, ["https://a:1", "https://b:1"]);
    }

    #[test]
    fn lifetimes_are_as_documented_unless_set() {
        let line = ["netpol-agent", "run", "--node", "n1", "--underlay", "192.0.2.1"];
        assert_eq!(parse("", &line).expect("valid").lifetimes.lifetimes(), Lifetimes::default());
        let shorter = parse("udp_lifetime = 5", &line).expect("valid").lifetimes.lifetimes();
        assert_eq!(shorter.udp_answered, Ticks::at_least(5));
    }

    #[test]
    fn an_unknown_setting_is_refused_by_name() {
        let error = parse("nodes = 'n1'", &["netpol-agent", "run"]).expect_err("refused");
        assert!(error.to_string().contains("`nodes`"), "{error}");
    }
}
