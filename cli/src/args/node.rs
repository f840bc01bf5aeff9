//! Flags of the commands that work on a node: attach, detach, run.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use policy_api::model::AppName;

use super::value::{InterfaceName, Label};

/// Who the endpoint shall be.
#[derive(Args, Debug)]
pub(crate) struct EndpointArgs {
    /// The app it is an instance of
    #[arg(long, value_name = "APP")]
    pub(crate) app: AppName,
    /// The instance's number [default: the lowest that is free]
    #[arg(long, value_name = "N")]
    pub(crate) instance: Option<u32>,
    /// Name of the interface inside the namespace
    #[arg(long, value_name = "NAME", default_value = "eth0")]
    pub(crate) ifname: InterfaceName,
    /// A label on the instance; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<Label>,
}

/// Which namespace.
#[derive(Args, Debug)]
pub(crate) struct NetnsArgs {
    /// Path of the network namespace; a bare name is one of `ip netns`
    #[arg(long, value_name = "PATH")]
    pub(crate) netns: PathBuf,
}

/// Flags of `attach`.
#[derive(Args, Debug)]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    pub(crate) endpoint: EndpointArgs,
    #[command(flatten)]
    pub(crate) netns: NetnsArgs,
}

/// Flags of `detach`.
#[derive(Args, Debug)]
pub(crate) struct DetachArgs {
    #[command(flatten)]
    pub(crate) netns: NetnsArgs,
}

/// Flags of `run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) endpoint: EndpointArgs,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}
