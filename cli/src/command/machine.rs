//! `node drain`, `node undrain` and `node remove`.

use policy_api::client::WriteOptions;
use policy_api::model::{Node, NodeDeleted, NodeSettings, Outcome};
use serde::Serialize;

use super::connect;
use crate::args::NodeArgs;
use crate::failure::{Exit, Failure};
use crate::output::{Answer, Detail};
use crate::settings::Settings;
use crate::terminal::Look;

pub(crate) async fn drain(args: &NodeArgs, draining: bool, settings: &Settings) -> Result<Exit, Failure> {
    let (client, printer) = (connect::client(settings)?, settings.printer);
    let answer = client.set_node(&args.node, &NodeSettings { draining }, &options(args)).await?;
    let (outcome, dry_run) = (answer.outcome, answer.dry_run);
    let back = if draining { "undrain" } else { "drain" };
    let undo = (outcome == Outcome::Updated && !dry_run).then(|| format!("netpol node {back} {}", args.node));
    printer.answer(&Drained { node: &answer.node, outcome, dry_run, undo: undo.as_deref() })?;
    if !printer.format.is_document() {
        undo.iter().for_each(|line| printer.say(&format!("undo: {line}")));
        remark(args, &printer);
    }
    Ok(Exit::Ok)
}

pub(crate) async fn remove(args: &NodeArgs, settings: &Settings) -> Result<Exit, Failure> {
    let (client, printer) = (connect::client(settings)?, settings.printer);
    let removed = client.remove_node(&args.node, &options(args)).await?;
    printer.answer(&Removed(&removed))?;
    if !printer.format.is_document() {
        if !removed.dry_run {
            let join = "to let it join again, remove its token's file and run `netpol-api init --node`";
            printer.say(&format!("switch {} off: it goes on as it was for itself; {join}", args.node));
        }
        remark(args, &printer);
    }
    Ok(Exit::Ok)
}

fn options(args: &NodeArgs) -> WriteOptions {
    WriteOptions { dry_run: args.dry_run, reason: args.why.reason.clone(), ..WriteOptions::default() }
}

fn remark(args: &NodeArgs, printer: &crate::output::Printer) {
    if args.dry_run {
        printer.say("dry run: nothing was changed");
    }
}

#[derive(Serialize)]
struct Drained<'a> {
    #[serde(flatten)]
    node: &'a Node,
    outcome: Outcome,
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    undo: Option<&'a str>,
}

impl Answer for Drained<'_> {
    fn text(&self, _: &Look, _: Detail) -> String {
        let Node { name, draining, revision, .. } = self.node;
        let is = if *draining { "is draining: it takes no new instances" } else { "takes new instances" };
        match (self.outcome, self.dry_run) {
            (Outcome::Unchanged, _) => format!("unchanged, {name} {is}"),
            (_, true) => format!("would be updated, {name} {is}"),
            (_, false) => format!("{name} {is}  revision {revision}"),
        }
    }

    fn name(&self) -> String {
        self.node.name.to_string()
    }
}

#[derive(Serialize)]
struct Removed<'a>(&'a NodeDeleted);

impl Answer for Removed<'_> {
    fn text(&self, _: &Look, _: Detail) -> String {
        let NodeDeleted { node, instances, revision, dry_run } = self.0;
        let gone = match instances.as_slice() {
            [] => "no instance was live there".to_owned(),
            live => format!("gone with it: {}", live.join(", ")),
        };
        if *dry_run {
            return format!("would be removed {}, {gone}", node.name);
        }
        format!("removed {}, {gone}  revision {revision}", node.name)
    }

    fn name(&self) -> String {
        self.0.node.name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::rule::tests::PIPE;
    use crate::output::{Format, render_answer};

    fn removed(instances: &[&str], dry_run: bool) -> NodeDeleted {
        let node = serde_json::json!({
            "name": "n1", "underlay": "192.168.1.1", "slice_v4": "10.255.1.0/24", "slice_v6": "fd00:0:0:1::/64",
            "revision": 3,
        });
        let instances = instances.iter().map(ToString::to_string).collect();
        let node = serde_json::from_value(node).expect("a node");
        NodeDeleted { revision: policy_api::model::Revision(9), node, instances, dry_run }
    }

    #[test]
    fn a_removal_says_what_went_with_the_node() {
        let said = |deleted: &NodeDeleted| render_answer(&Removed(deleted), Format::Table, &PIPE).expect("text");
        assert_eq!(said(&removed(&[], false)), "removed n1, no instance was live there  revision 9");
        assert_eq!(said(&removed(&["web/0", "web/2"], true)), "would be removed n1, gone with it: web/0, web/2");
    }
}
