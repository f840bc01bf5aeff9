//! The list commands: rules, apps, instances, nodes.

use std::time::Duration;

use policy_api::model::{RuleFilter, RuleView, Selector, Timestamp};

use super::connect;
use super::follow::once_or_always;
use crate::args::{AppsArgs, CfListArgs, InstancesArgs, ListArgs, WatchArgs};
use crate::failure::{Exit, Failure};
use crate::output::Listing;
use crate::output::inventory::NodeRow;
use crate::settings::Settings;

pub(crate) async fn rules(args: &ListArgs, settings: &Settings) -> Result<Exit, Failure> {
    let filter =
        RuleFilter { source: args.source.clone(), destination: args.destination.clone(), app: args.app.clone() };
    let client = connect::client(settings)?;
    let printer = settings.printer;
    if let Some(at) = args.past.unwatched(args.watch)? {
        if args.unused.is_some() {
            return Err(Failure::usage("--unused: what rules had been used for by then is not known; leave --at out"));
        }
        let list = client.at(at).rules(&filter).await?;
        printer.shot(&printer.list(&Listing { items: list.items, revision: list.revision.0 })?)?;
        printer
            .say(&format!("note: as of revision {}; what rules had been used for by then is not known", list.revision));
        return Ok(Exit::Ok);
    }
    once_or_always(&client, args.watch, printer, async || {
        let mut list = client.list_rules(&filter).await?;
        if let Some(span) = args.unused {
            // By the API's clock, which the counts were made by.
            let now = client.status().await?.now;
            list.items.retain(|view| is_unused(view, now, span.0));
        }
        printer.list(&Listing { items: list.items, revision: list.revision.0 })
    })
    .await
}

/// Whether the rule has stood so long, and decided about nothing for so long.
fn is_unused(view: &RuleView, now: Timestamp, span: Duration) -> bool {
    let last = view.usage.last_hit.unwrap_or(view.rule.created_at).max(view.rule.created_at);
    last.until(now) >= span
}

pub(crate) async fn isolations(watch: WatchArgs, settings: &Settings) -> Result<Exit, Failure> {
    let client = connect::client(settings)?;
    let printer = settings.printer;
    once_or_always(&client, watch, printer, async || {
        let list = client.isolations().await?;
        printer.list(&Listing { items: list.items, revision: list.revision.0 })
    })
    .await
}

/// `network-policies`.
pub(crate) async fn cf_rules(args: &CfListArgs, settings: &Settings) -> Result<Exit, Failure> {
    let source = args.source.clone().map(Selector::App);
    rules(&ListArgs { source, ..ListArgs::default() }, settings).await
}

pub(crate) async fn apps(args: AppsArgs, settings: &Settings) -> Result<Exit, Failure> {
    let client = connect::client(settings)?;
    let (printer, at) = (settings.printer, args.past.unwatched(args.watch)?);
    once_or_always(&client, args.watch, printer, async || {
        let list = match at {
            Some(at) => client.at(at).apps().await?,
            None => client.apps().await?,
        };
        printer.list(&Listing { items: list.items, revision: list.revision.0 })
    })
    .await
}

pub(crate) async fn instances(args: &InstancesArgs, settings: &Settings) -> Result<Exit, Failure> {
    let client = connect::client(settings)?;
    let (printer, at) = (settings.printer, args.past.unwatched(args.watch)?);
    once_or_always(&client, args.watch, printer, async || {
        let app = args.app.as_ref();
        let list = match at {
            Some(at) => client.at(at).instances(app).await?,
            None => client.instances(app).await?,
        };
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

#[cfg(test)]
mod tests {
    use policy_api::model::Usage;

    use super::*;
    use crate::output::rule::tests::rule;

    #[test]
    fn a_rule_is_unused_if_it_had_the_time_to_be_used() {
        let then: Timestamp = "2026-01-31T12:00:00Z".parse().expect("a time");
        let now = then.after(Duration::from_secs(10_000)).expect("a time");
        let ago = |seconds: u64| then.after(Duration::from_secs(10_000 - seconds)).expect("a time");
        let span = Duration::from_secs(3_600);
        let unused = |created: u64, hit: Option<u64>| {
            let mut view = RuleView { rule: rule(1, "allow appA appB tcp"), usage: Usage::default() };
            view.rule.created_at = ago(created);
            view.usage.last_hit = hit.map(ago);
            is_unused(&view, now, span)
        };
        assert!(unused(7_200, None) && unused(9_000, Some(7_200)));
        assert!(!unused(60, None) && !unused(9_000, Some(60)));
    }
}
