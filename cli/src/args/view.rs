//! Flags of the commands that only look.

use clap::Args;
use clap_complete::Shell;
use policy_api::model::AppName;

use super::history::AtArgs;
use super::value::{AddressPort, PastTime};

/// Whether to go on after the first answer.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WatchArgs {
    /// Print again on every change, until Ctrl-C
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// Flags of `apps`.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct AppsArgs {
    #[command(flatten)]
    pub(crate) past: AtArgs,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// Flags of `instances`.
#[derive(Args, Debug)]
pub(crate) struct InstancesArgs {
    /// Only this app's instances
    #[arg(value_name = "APP")]
    pub(crate) app: Option<AppName>,
    #[command(flatten)]
    pub(crate) past: AtArgs,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// Flags of `lookup`.
#[derive(Args, Debug)]
pub(crate) struct LookupArgs {
    /// An overlay address; a port, as copied from a log, is ignored
    #[arg(value_name = "IP[:PORT]")]
    pub(crate) address: AddressPort,
    /// Who had it at this time, by the policy API's clock: RFC 3339, or how long ago, like 2h
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<PastTime>,
}

/// Flags of `completion`.
#[derive(Args, Debug)]
pub(crate) struct CompletionArgs {
    /// The shell to write for
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Flags of `help`.
#[derive(Args, Debug)]
pub(crate) struct HelpArgs {
    /// A command, or `connection` [default: all commands in short]
    #[arg(value_name = "TOPIC")]
    pub(crate) topic: Option<String>,
}
