//! The list commands: rules, apps, instances, nodes.

use policy_api::client::Client;
use policy_api::model::{AppName, RuleFilter, Selector};

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
        if list.items.is_empty() {
            refuse_unknown_apps(&client, &named(&filter)).await?;
        }
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
        if list.items.is_empty() {
            let named: Vec<Selector> = args.app.iter().cloned().map(Selector::App).collect();
            refuse_unknown_apps(&client, &named).await?;
        }
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

fn named(filter: &RuleFilter) -> Vec<Selector> {
    let app = filter.app.clone().map(|app: AppName| Selector::App(app));
    [filter.source.clone(), filter.destination.clone(), app].into_iter().flatten().collect()
}

/// An empty list because of a misspelt name is not an answer.
async fn refuse_unknown_apps(client: &Client, named: &[Selector]) -> Result<(), Failure> {
    if named.is_empty() {
        return Ok(());
    }
    let apps = client.apps().await?.items;
    let named: Vec<&Selector> = named.iter().collect();
    match connect::unknown_apps(&named, &apps).as_slice() {
        [] => Ok(()),
        unknown => Err(Failure::new(Exit::No, unknown.join("; "))),
    }
}
