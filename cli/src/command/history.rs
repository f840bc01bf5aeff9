//! `history`: who did what, when, from where and why; and whether all of it is what was written.

use std::time::Duration;

use policy_api::client::Client;
use policy_api::model::{At, EntryKind, HistoryItem, HistoryQuery, KnownSeal, Revision, Timestamp, Verified};
use serde::Serialize;

use super::connect;
use crate::args::{HistoryArgs, HistoryCommand, HistoryListArgs, VerifyArgs};
use crate::failure::{Exit, Failure};
use crate::output::history::Told;
use crate::output::table::{Tone, paint};
use crate::output::{Answer, Detail, Format, Listing, Printer, phrase};
use crate::settings::Settings;
use crate::signal;
use crate::terminal::Look;

/// Entries of one request.
const PAGE: usize = 1_000;
/// How often somebody who watches looks for more.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn history(args: &HistoryArgs, settings: &Settings) -> Result<Exit, Failure> {
    match &args.command {
        Some(HistoryCommand::Verify(verify)) => prove(verify, settings).await,
        None => match args.list.revision {
            Some(revision) => tell(revision, settings).await,
            None => list(&args.list, settings).await,
        },
    }
}

/// One revision, with all that is known of it.
async fn tell(revision: Revision, settings: &Settings) -> Result<Exit, Failure> {
    let at = Some(At::Revision(revision));
    let query =
        HistoryQuery { kinds: EntryKind::ALL.into(), since: at, until: at, nodes: true, ..HistoryQuery::default() };
    let page = connect::client(settings)?.history(&query, true, None, PAGE).await?;
    let Some(item) = page.items.into_iter().find(|item| item.entry.is_revision()) else {
        let problem = format!("the history has no revision {revision}");
        return Err(Failure::new(Exit::No, problem).tip("`netpol history` lists those that are known"));
    };
    settings.printer.answer(&Told(item))?;
    Ok(Exit::Ok)
}

async fn list(args: &HistoryListArgs, settings: &Settings) -> Result<Exit, Failure> {
    let client = connect::client(settings)?;
    let query = query(args, settings.printer.format != Format::Table);
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let (mut items, revision) = newest(&client, &query, limit).await?;
    if !args.watch.watch {
        settings.printer.shot(&settings.printer.list(&Listing { items, revision })?)?;
        return Ok(Exit::Ok);
    }
    // What comes is told below what was.
    items.reverse();
    let last = items.last().map(|item| item.entry.number);
    print_more(&settings.printer, items, revision)?;
    tokio::select! {
        ended = follow(&client, &query, last, settings.printer) => ended,
        () = signal::interrupted() => Ok(Exit::Ok),
    }
}

fn query(args: &HistoryListArgs, is_wide: bool) -> HistoryQuery {
    let now = Timestamp::now();
    HistoryQuery {
        nodes: is_wide,
        kinds: args.kinds(),
        who: args.who.clone(),
        app: args.app.clone(),
        rule: args.rule,
        since: args.since.map(|since| since.at(now)),
        until: args.until.map(|until| until.at(now)),
    }
}

/// The newest entries, so many at most, newest first; and the head.
async fn newest(client: &Client, query: &HistoryQuery, limit: usize) -> Result<(Vec<HistoryItem>, u64), Failure> {
    let (mut items, mut behind) = (Vec::new(), None);
    loop {
        let page = client.history(query, false, behind, PAGE.min(limit - items.len())).await?;
        items.extend(page.items);
        behind = page.next.as_deref().and_then(|next| next.parse().ok());
        if behind.is_none() || items.len() >= limit {
            return Ok((items, page.revision.0));
        }
    }
}

/// Tells what comes, for as long as somebody watches.
async fn follow(
    client: &Client,
    query: &HistoryQuery,
    mut last: Option<u64>,
    printer: Printer,
) -> Result<Exit, Failure> {
    loop {
        tokio::time::sleep(PAUSE).await;
        match client.history(query, true, last, PAGE).await {
            Ok(page) => {
                let next = page.next.as_deref().and_then(|next| next.parse().ok());
                last = page.items.last().map(|item| item.entry.number).max(next).max(last);
                print_more(&printer, page.items, page.revision.0)?;
            }
            Err(error) => printer.say(&format!("note: {}; trying again", Failure::from(error).brief())),
        }
    }
}

/// Each time with its own head line, if people read it and there is something to read.
fn print_more(printer: &Printer, items: Vec<HistoryItem>, revision: u64) -> Result<(), Failure> {
    if items.is_empty() && matches!(printer.format, Format::Table | Format::Wide) {
        return Ok(());
    }
    printer.shot(&printer.list(&Listing { items, revision })?)
}

async fn prove(args: &VerifyArgs, settings: &Settings) -> Result<Exit, Failure> {
    let verified = connect::client(settings)?.verify_history(args.known).await?;
    settings.printer.answer(&Proven { verified: &verified })?;
    if verified.misfit.is_none() {
        let seal = KnownSeal { number: verified.number, seal: verified.seal };
        settings
            .printer
            .say("keep this line elsewhere: with it nobody can change what is up to here without being seen");
        settings.printer.say(&format!("  netpol history verify --known {seal}"));
    }
    Ok(if verified.misfit.is_none() { Exit::Ok } else { Exit::No })
}

#[derive(Serialize)]
struct Proven<'a> {
    #[serde(flatten)]
    verified: &'a Verified,
}

impl Answer for Proven<'_> {
    fn text(&self, look: &Look, _detail: Detail) -> String {
        let Verified { first, number, revision, bytes, misfit, .. } = self.verified;
        match misfit {
            None => {
                let fits = paint("fits", Tone::Good, look);
                let size = phrase::bytes(*bytes);
                format!("history {fits}: entries {first} to {number}, up to revision {revision}, {size}")
            }
            Some(misfit) => {
                let broken = paint("does not fit", Tone::Bad, look);
                let (problem, revision) = (&misfit.problem, misfit.revision);
                format!("history {broken}: {problem}; from revision {revision} on nothing is proven")
            }
        }
    }

    fn name(&self) -> String {
        KnownSeal { number: self.verified.number, seal: self.verified.seal }.to_string()
    }
}
