//! Flags of the commands that speak about rules: allow, deny, revoke, list, check.

use clap::{Args, ValueEnum};
use policy_api::model::{Action, AppName, Invalid, Lifetime, Mode, OnDeny, Ports, Protocol, Reason, RuleId, Selector};

use super::history::AtArgs;
use super::value::{BadValue, Patience};
use super::view::WatchArgs;
use crate::failure::Failure;

/// Which packets of a pair are meant.
#[derive(Args, Clone, Debug)]
pub(crate) struct TrafficArgs {
    /// Port, range or list (8080, 8000-8010, 80,443); may be repeated [default: all ports]
    #[arg(short, long = "port", value_name = "PORT")]
    port: Vec<Ports>,
    /// tcp, udp, sctp, icmp or any
    #[arg(long, value_name = "PROTOCOL", default_value_t)]
    pub(crate) protocol: Protocol,
}

impl TrafficArgs {
    pub(crate) fn new(protocol: Protocol, ports: Ports) -> Self {
        Self { port: vec![ports], protocol }
    }

    /// Joins all `--port` flags into one set; none is all ports.
    pub(crate) fn ports(&self) -> Result<Ports, Failure> {
        if self.port.is_empty() {
            return Ok(Ports::All);
        }
        if !self.protocol.has_ports() {
            let problem = format!("--port: {} has no ports; leave --port out", self.protocol);
            return Err(Failure::usage(problem));
        }
        let ranges = self.port.iter().flat_map(|ports| ports.ranges().iter().copied());
        Ports::list(ranges).map_err(|invalid: Invalid| Failure::usage(format!("--port: {invalid}")))
    }
}

/// Whether and how long to wait until a change is in force.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct WaitArgs {
    /// Wait until every connected node has it in force, at most this long [default: 5s]
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "5s")]
    pub(crate) wait: Option<Patience>,
}

/// Whether to wait for the count of what a change cut.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct ReceiptArgs {
    /// Do not wait for the count of live flows that were cut (at most 2s)
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// Why a change is made that leaves nothing behind to say so.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct WhyArgs {
    /// Why, for whoever reads the history later
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<Reason>,
}

/// Flags of `deny`.
#[derive(Args, Debug)]
pub(crate) struct DenyArgs {
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    /// reset: the sender is told at once; drop: the sender is told nothing [default: reset]
    #[arg(long, value_name = "HOW")]
    pub(crate) on_deny: Option<OnDeny>,
    #[command(flatten)]
    pub(crate) receipt: ReceiptArgs,
}

/// Flags of `allow`, and of `deny` too.
#[derive(Args, Debug)]
pub(crate) struct WriteArgs {
    /// Who opens the connection: an app, group:NAME, any (every app), or host
    #[arg(value_name = "SRC")]
    pub(crate) source: Selector,
    /// Who is reached: an app, group:NAME, any (every app), or host
    #[arg(value_name = "DST")]
    pub(crate) destination: Selector,
    #[command(flatten)]
    pub(crate) traffic: TrafficArgs,
    /// enforce, or audit: report what the rule would change, and change nothing
    #[arg(long, value_name = "MODE", default_value_t)]
    pub(crate) mode: Mode,
    /// End by itself after this long: 90s, 30m, 2h, 7d [default: never]
    #[arg(long, value_name = "TIME")]
    pub(crate) ttl: Option<Lifetime>,
    /// Why, for whoever reads the list later; '' removes it
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<Reason>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// Say what would happen, and change nothing
    #[arg(long, conflicts_with = "wait")]
    pub(crate) dry_run: bool,
}

impl WriteArgs {
    /// A rule with nothing but its tuple.
    pub(crate) fn plain(source: Selector, destination: Selector, traffic: TrafficArgs) -> Self {
        Self {
            source,
            destination,
            traffic,
            mode: Mode::default(),
            ttl: None,
            reason: None,
            wait: WaitArgs::default(),
            dry_run: false,
        }
    }
}

/// Which of two rules with the same tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ActionArg {
    Allow,
    Deny,
}

impl From<ActionArg> for Action {
    fn from(action: ActionArg) -> Self {
        match action {
            ActionArg::Allow => Action::Allow,
            ActionArg::Deny => Action::Deny,
        }
    }
}

/// Flags of `revoke`.
#[derive(Args, Debug)]
pub(crate) struct RevokeArgs {
    /// Source of the rule, or the id of a rule
    #[arg(value_name = "SRC|RULE-ID")]
    first: String,
    /// Destination of the rule
    #[arg(value_name = "DST")]
    destination: Option<Selector>,
    /// Port, range or list, exactly as the rule has them; may be repeated [default: a rule for all ports]
    #[arg(short, long = "port", value_name = "PORT", requires = "destination")]
    port: Vec<Ports>,
    /// tcp, udp, sctp, icmp or any [default: tcp]
    #[arg(long, value_name = "PROTOCOL", requires = "destination")]
    protocol: Option<Protocol>,
    /// Which one, where an allow and a deny both stand
    #[arg(long, value_name = "ACTION", value_enum, requires = "destination")]
    action: Option<ActionArg>,
    /// Every rule from SRC to DST
    #[arg(long, requires = "destination", conflicts_with_all = ["port", "protocol", "action"])]
    all: bool,
    #[command(flatten)]
    pub(crate) why: WhyArgs,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    #[command(flatten)]
    pub(crate) receipt: ReceiptArgs,
}

/// What `revoke` is asked to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RevokeTarget {
    Rule(RuleId),
    Pair { source: Selector, destination: Selector },
    Exact { source: Selector, destination: Selector, protocol: Protocol, ports: Ports, action: Option<Action> },
}

impl RevokeArgs {
    /// Tells the three forms apart.
    pub(crate) fn target(&self) -> Result<RevokeTarget, Failure> {
        let Some(destination) = self.destination.clone() else {
            return self.first.parse().map(RevokeTarget::Rule).map_err(|_| self.neither_id_nor_pair());
        };
        let source = self.first.parse().map_err(|invalid| Failure::usage(format!("SRC: {invalid}")))?;
        if self.all {
            return Ok(RevokeTarget::Pair { source, destination });
        }
        let protocol = self.protocol.unwrap_or_default();
        let ports = TrafficArgs { port: self.port.clone(), protocol }.ports()?;
        Ok(RevokeTarget::Exact { source, destination, protocol, ports, action: self.action.map(Action::from) })
    }

    fn neither_id_nor_pair(&self) -> Failure {
        Failure::usage(format!("`{}` is no rule id such as r12", self.first))
            .tip(format!("name a pair with its destination: netpol revoke {} DST --port PORT", self.first))
            .tip("`netpol list` shows the ids")
    }
}

/// Flags of `list`.
#[derive(Args, Debug, Default)]
pub(crate) struct ListArgs {
    /// Rules that name this app on either side
    #[arg(long, value_name = "APP")]
    pub(crate) app: Option<AppName>,
    /// Rules with exactly this source
    #[arg(long, value_name = "SRC")]
    pub(crate) source: Option<Selector>,
    /// Rules with exactly this destination
    #[arg(long, value_name = "DST")]
    pub(crate) destination: Option<Selector>,
    /// Rules that are older than this and decided about nothing since then: 12h, 30d
    #[arg(long, value_name = "TIME")]
    pub(crate) unused: Option<Lifetime>,
    #[command(flatten)]
    pub(crate) past: AtArgs,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// Flags of `check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Who opens the connection: an app, group:NAME, any (every app), or host
    #[arg(value_name = "SRC")]
    pub(crate) source: Selector,
    /// Who is reached: an app, group:NAME, any (every app), or host
    #[arg(value_name = "DST")]
    pub(crate) destination: Selector,
    /// One port [default: all ports, if the answer is the same for all]
    #[arg(short, long, value_name = "PORT", value_parser = single_port)]
    pub(crate) port: Option<u16>,
    /// tcp, udp, sctp, icmp or any
    #[arg(long, value_name = "PROTOCOL", default_value_t)]
    pub(crate) protocol: Protocol,
    #[command(flatten)]
    pub(crate) past: AtArgs,
}

impl CheckArgs {
    /// Refuses a port where there is none.
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        match self.port {
            Some(_) if !self.protocol.has_ports() => {
                Err(Failure::usage(format!("--port: {} has no ports; leave --port out", self.protocol)))
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn single_port(text: &str) -> Result<u16, BadValue> {
    match text.parse::<Ports>() {
        Ok(ports) => match ports.ranges() {
            [range] if range.first() == range.last() => Ok(range.first()),
            _ => Err(BadValue::new(format!("`{text}` is more than one port; a check is for one, such as 8080"))),
        },
        Err(invalid) => Err(BadValue::new(invalid.to_string())),
    }
}
