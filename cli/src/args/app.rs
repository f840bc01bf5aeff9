//! Flags of the commands that speak about apps and instances: app set, app delete, isolate, release.

use clap::{Args, Subcommand};
use policy_api::model::{AppName, AppSettings, GroupName, GroupWish, Lifetime, Mode, Reason, Target};

use super::rule::{ReceiptArgs, WaitArgs, WhyArgs};
use crate::failure::Failure;

/// What `app` does.
#[derive(Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// Set an app's mode and groups; the app is created if it is new
    #[command(after_help = super::help::APP_SET)]
    Set(AppSetArgs),
    /// Delete an app that has no running instance and that no rule names
    #[command(after_help = super::help::APP_DELETE)]
    Delete(AppDeleteArgs),
}

/// Flags of `app set`.
#[derive(Args, Debug)]
#[group(id = "settings", required = true, multiple = true, args = ["mode", "group", "add_group", "remove_group"])]
pub(crate) struct AppSetArgs {
    /// The app
    #[arg(value_name = "APP")]
    pub(crate) app: AppName,
    /// enforce, or audit: what its own end would deny passes there, and is reported
    #[arg(long, value_name = "MODE")]
    mode: Option<Mode>,
    /// Be in these groups and no others; may be repeated, '' is none
    #[arg(long, value_name = "G", value_parser = group_or_none, conflicts_with_all = ["add_group", "remove_group"])]
    group: Vec<NamedGroup>,
    /// Be in this group too; may be repeated
    #[arg(long, value_name = "G")]
    add_group: Vec<GroupName>,
    /// Be in this group no longer; may be repeated
    #[arg(long, value_name = "G")]
    remove_group: Vec<GroupName>,
    #[command(flatten)]
    pub(crate) why: WhyArgs,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// Say what would happen, and change nothing
    #[arg(long, conflicts_with = "wait")]
    pub(crate) dry_run: bool,
}

/// A group, or the word for none.
#[derive(Clone, Debug)]
struct NamedGroup(Option<GroupName>);

fn group_or_none(text: &str) -> Result<NamedGroup, policy_api::model::Invalid> {
    if text.is_empty() { Ok(NamedGroup(None)) } else { text.parse().map(|group| NamedGroup(Some(group))) }
}

impl AppSetArgs {
    /// Returns the settings, refused by the model before anything is sent.
    pub(crate) fn settings(&self) -> Result<AppSettings, Failure> {
        let groups = if self.group.is_empty() {
            GroupWish::Edit {
                add_groups: self.add_group.iter().cloned().collect(),
                remove_groups: self.remove_group.iter().cloned().collect(),
            }
        } else {
            GroupWish::These { groups: self.group.iter().filter_map(|group| group.0.clone()).collect() }
        };
        let settings = AppSettings { mode: self.mode, groups };
        let json = serde_json::to_value(&settings).map_err(|error| Failure::usage(error.to_string()))?;
        Ok(AppSettings::from_json(json)?)
    }
}

/// Flags of `app delete`.
#[derive(Args, Debug)]
pub(crate) struct AppDeleteArgs {
    /// The app
    #[arg(value_name = "APP")]
    pub(crate) app: AppName,
    #[command(flatten)]
    pub(crate) why: WhyArgs,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Flags of `isolate`.
#[derive(Args, Debug)]
pub(crate) struct IsolateArgs {
    /// An app, or one of its running instances
    #[arg(value_name = "APP[/N]")]
    pub(crate) target: Target,
    /// End by itself after this long: 90s, 30m, 2h, 7d
    #[arg(long, value_name = "TIME")]
    pub(crate) ttl: Option<Lifetime>,
    /// Why, for whoever reads the list later
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<Reason>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    #[command(flatten)]
    pub(crate) receipt: ReceiptArgs,
    /// Say what would happen, and change nothing
    #[arg(long, conflicts_with = "wait")]
    pub(crate) dry_run: bool,
}

/// Flags of `release`.
#[derive(Args, Debug)]
pub(crate) struct ReleaseArgs {
    /// What was isolated: an app, or one of its instances
    #[arg(value_name = "APP[/N]")]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) why: WhyArgs,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}
