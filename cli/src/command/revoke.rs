//! `revoke`: finds the rules that are meant, removes them, and says what still allows the pair.

use std::time::Instant;

use policy_api::client::{Client, WriteOptions};
use policy_api::model::{Action, ChangeSet, Deleted, Mode, Receipt, Revision, Rule, RuleFilter, RuleId, Selector};

use super::{connect, receipt, wait};
use crate::args::{CfPolicyArgs, ReceiptArgs, RevokeArgs, RevokeTarget, WaitArgs};
use crate::failure::{Exit, Failure};
use crate::output::rule::{Revoked, Waited, still_allowing};
use crate::output::{Printer, phrase};
use crate::settings::Settings;

mod choose;

use choose::{Choice, Wanted, choose, nearest};

pub(crate) async fn revoke(args: &RevokeArgs, settings: &Settings) -> Result<Exit, Failure> {
    let target = args.target()?;
    let client = connect::client(settings)?;
    let options = WriteOptions { reason: args.why.reason.clone(), ..WriteOptions::default() };
    remove(&client, target, &options, (args.wait, args.receipt), settings.printer).await
}

/// `remove-network-policy`.
pub(crate) async fn cf_remove(args: &CfPolicyArgs, settings: &Settings) -> Result<Exit, Failure> {
    let (source, destination) = args.pair()?;
    let traffic = args.traffic();
    let target = RevokeTarget::Exact {
        source,
        destination,
        protocol: traffic.protocol,
        ports: traffic.ports()?,
        action: Some(Action::Allow),
    };
    let client = connect::client(settings)?;
    let waiting = (WaitArgs::default(), ReceiptArgs::default());
    remove(&client, target, &WriteOptions::default(), waiting, settings.printer).await
}

async fn remove(
    client: &Client,
    target: RevokeTarget,
    options: &WriteOptions,
    waiting: (WaitArgs, ReceiptArgs),
    printer: Printer,
) -> Result<Exit, Failure> {
    let ids = match target {
        RevokeTarget::Rule(id) => vec![id],
        RevokeTarget::Pair { source, destination } => all_of_pair(client, source, destination).await?,
        RevokeTarget::Exact { source, destination, protocol, ports, action } => {
            let wanted = Wanted { source, destination, protocol, ports, action };
            vec![exactly_one(client, &wanted).await?]
        }
    };
    let sent = Instant::now();
    let removal = delete(client, ids, options).await?;
    removal.report(client, waiting, sent, printer).await
}

async fn all_of_pair(client: &Client, source: Selector, destination: Selector) -> Result<Vec<RuleId>, Failure> {
    let rules = rules_of_pair(client, &source, &destination).await?;
    if rules.is_empty() {
        let wanted = Wanted::pair(source, destination);
        let nothing = Failure::new(Exit::No, format!("no rule from {} to {}", wanted.source, wanted.destination));
        return Err(with_nearest(client, &wanted, nothing).await?);
    }
    Ok(rules.iter().map(|rule| rule.id).collect())
}

async fn exactly_one(client: &Client, wanted: &Wanted) -> Result<RuleId, Failure> {
    let rules = rules_of_pair(client, &wanted.source, &wanted.destination).await?;
    match choose(&rules, wanted) {
        Choice::One(rule) => Ok(rule.id),
        Choice::Both { allow, deny } => Err(Failure::new(
            Exit::Conflict,
            format!("two rules fit: {} and {}", phrase::rule(allow), phrase::rule(deny)),
        )
        .tip(format!("netpol revoke {}   removes the allow", allow.id))
        .tip(format!("netpol revoke {}   removes the deny", deny.id))),
        Choice::None => {
            let nothing = Failure::new(Exit::No, format!("no such rule: {wanted}"));
            Err(match nearest(&rules, wanted) {
                Some(rule) => nothing.tip(nearest_line(rule, wanted)),
                None => with_nearest(client, wanted, nothing).await?,
            })
        }
    }
}

async fn rules_of_pair(client: &Client, source: &Selector, destination: &Selector) -> Result<Vec<Rule>, Failure> {
    let filter = RuleFilter { source: Some(source.clone()), destination: Some(destination.clone()), app: None };
    connect::rules(client, &filter).await
}

/// Looks beyond the pair: names that were misspelt, and rules that share an end with what was wanted.
async fn with_nearest(client: &Client, wanted: &Wanted, mut nothing: Failure) -> Result<Failure, Failure> {
    for unknown in connect::unknown_apps(&[&wanted.source, &wanted.destination], &client.apps().await?.items) {
        nothing = nothing.tip(unknown);
    }
    let mut around = Vec::new();
    for app in [wanted.source.app(), wanted.destination.app()].into_iter().flatten() {
        let filter = RuleFilter { app: Some(app.clone()), ..RuleFilter::default() };
        around.extend(connect::rules(client, &filter).await?);
    }
    Ok(nothing.maybe_tip(nearest(&around, wanted).map(|rule| nearest_line(rule, wanted))))
}

/// Names the nearest rule; how to remove it only if it is about the same pair, as a line that can be typed will be.
fn nearest_line(rule: &Rule, wanted: &Wanted) -> String {
    let line = format!("the nearest is {}", phrase::rule(rule));
    if (&rule.source, &rule.destination) == (&wanted.source, &wanted.destination) {
        return format!("{line}; to remove it: netpol revoke {}", rule.id);
    }
    line
}

/// What is gone, and since when.
struct Removal {
    revision: Revision,
    deleted: Vec<Deleted>,
}

async fn delete(client: &Client, ids: Vec<RuleId>, options: &WriteOptions) -> Result<Removal, Failure> {
    if let [id] = ids.as_slice() {
        let deleted = client.delete_rule(*id, options).await?;
        return Ok(Removal { revision: deleted.revision, deleted: vec![deleted] });
    }
    let answer = client.change(&ChangeSet::of_rules(Vec::new(), ids), options).await?;
    Ok(Removal { revision: answer.revision, deleted: answer.deleted })
}

impl Removal {
    async fn report(
        &self,
        client: &Client,
        (wait, counting): (WaitArgs, ReceiptArgs),
        sent: Instant,
        printer: Printer,
    ) -> Result<Exit, Failure> {
        let rules: Vec<Rule> = self.deleted.iter().map(|one| one.rule.clone()).collect();
        let left = still_allowing(&self.deleted);
        let undo: Vec<String> = rules.iter().map(phrase::command_for).collect();
        let print = |cut: Option<&Receipt>, waited: Option<&Waited>| {
            printer.answer(&Revoked {
                revision: self.revision.0,
                revoked: &rules,
                still_allowed_by: &left,
                undo: &undo,
                receipt: cut,
                wait: waited,
            })
        };
        if !printer.format.is_document() {
            print(None, None)?;
        }
        let waited = match wait.wait {
            Some(patience) => Some(wait::until_in_force(client, self.revision, patience, sent).await),
            None => None,
        };
        let cut = self.cut(client, counting).await;
        if printer.format.is_document() {
            let waited = waited.as_ref().and_then(|waited| waited.as_ref().ok());
            print(cut.as_ref().ok().and_then(Option::as_ref), waited)?;
        } else {
            let cut = cut.as_ref().ok().and_then(Option::as_ref);
            cut.map_or(Ok(()), |cut| printer.result_line(&receipt::line(cut)))?;
            undo.iter().for_each(|line| printer.say(&format!("undo: {line}")));
        }
        let gone = "the revocation stands";
        cut.map_err(|failure| failure.during(gone))?;
        if let Some(waited) = waited {
            let waited = waited.map_err(|failure| failure.during(gone))?;
            printer.result_line(&wait::verdict(&waited, gone)?)?;
        }
        Ok(Exit::Ok)
    }
}

impl Removal {
    /// What the removal cut, if it can have cut anything: only what an enforced rule allowed.
    async fn cut(&self, client: &Client, args: ReceiptArgs) -> Result<Option<Receipt>, Failure> {
        let allowed = |rule: &Rule| rule.action == Action::Allow && rule.mode == Mode::Enforce;
        if self.deleted.iter().any(|one| allowed(&one.rule)) {
            return receipt::of(client, self.revision, args).await;
        }
        Ok(None)
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let traffic = phrase::traffic(self.protocol, &self.ports);
        if let Some(action) = self.action {
            write!(f, "{action} ")?;
        }
        write!(f, "{} -> {} {traffic}", self.source, self.destination)
    }
}

impl Wanted {
    fn pair(source: Selector, destination: Selector) -> Self {
        Self { source, destination, protocol: Default::default(), ports: Default::default(), action: None }
    }
}
