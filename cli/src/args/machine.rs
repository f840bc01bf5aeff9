//! Flags of the commands that speak about a node: node drain, undrain, remove.

use clap::{Args, Subcommand};
use policy_api::model::NodeName;

use super::rule::WhyArgs;

/// What `node` does.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Let a node take no new instances; those that run there stay
    #[command(after_help = super::help::NODE_DRAIN)]
    Drain(NodeArgs),
    /// Let it take instances again
    #[command(after_help = super::help::NODE_UNDRAIN)]
    Undrain(NodeArgs),
    /// Remove a node that is off: nobody believes its packets, certificate or token any more
    #[command(after_help = super::help::NODE_REMOVE)]
    Remove(NodeArgs),
}

/// Which node.
#[derive(Args, Debug)]
pub(crate) struct NodeArgs {
    /// The node
    #[arg(value_name = "NODE")]
    pub(crate) node: NodeName,
    #[command(flatten)]
    pub(crate) why: WhyArgs,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
