//! The list commands: rules, apps, instances, nodes.

use policy_api::model::{RuleFilter, Selector};

use super::connect;
use super::follow::once_or_always;
use crate::args::{CfListArgs, InstancesArgs, ListArgs, WatchArgs};
use crate::failure::{Exit, Failure};
use crate::output::Listing;
use crate::output::inventory::NodeRow;
use crate::settings::Settings;

pub(crate) async fn rules(args: &ListArgs, settings: &Settings) -> Result<Exit, Failure> {
    let filter =
        RuleFilter { source: args.source.clone(), destination: args.destination.clone(), app: args.app.clone() };
    let client = connect::client(settings)?;
    let printer = settings.printer;
    once_or_always(&client, args.watch, printer, async || {
        let list = client.list_rules(&filter).await?;
        printer.list(&Listing { items: list.items, revision: list.revision.0 })
    })
    .await
}

/// `network-policies`.
pub(crate) async fn cf_rules(args: &CfListArgs, settings: &Settings) -> Result<Exit, Failure> {
    let source = args.source.clone().map(Selector::App);
    rules(&ListArgs { source, ..ListArgs::default() }, settings).await
}

pub(crate) async fn apps(watch: WatchArgs, settings: &Settings) -> Result<Exit, Failure> {
    let client = connect::client(settings)?;
    let printer = settings.printer;
    once_or_always(&client, watch, printer, async || {
        let list = client.apps().await?;
        printer.list(&Listing { items: list.items, revision: list.revision.0 })
    })
    .await
}

pub(crate) async fn instances(args: &InstancesArgs, settings: &Settings) -> Result<Exit, Failure> {
    let client = connect::client(settings)?;
    let printer = settings.printer;
    once_or_always(&client, args.watch, printer, async || {
        let list = client.instances(args.app.as_ref()).await?;
        printer.list(&Listing { items: list.items, revision: list.revision.0 })
    })
    .await
}

pub(crate) async fn nodes(watch: WatchArgs, settings: &Settings) -> Result<Exit, Failure> {
    let client = connect::client(settings)?;
    let printer = settings.printer;
    once_or_always(&client, watch, printer, async || {
        let list = client.nodes().await?;
        let head = list.revision.0;
        let items = list.items.into_iter().map(|view| NodeRow { view, head }).collect();
        printer.list(&Listing { items, revision: head })
    })
    .await
}
