//! `-w`: print, then print again whenever the watch says that something changed, until Ctrl-C.
//!
//! The watch only says when to look; what is printed always comes from the same call as without `-w`.

use std::time::Duration;

use policy_api::client::{Client, Watch};

use crate::args::WatchArgs;
use crate::failure::{Exit, Failure};
use crate::output::{Printer, Shot};
use crate::signal;

/// Changes that come this close together are shown at once.
const TOGETHER: Duration = Duration::from_millis(50);
/// Pause before a lost watch is opened again.
const RETRY: Duration = Duration::from_secs(1);

/// Prints what `look` finds, once or for as long as the user watches.
pub(crate) async fn once_or_always<F>(
    client: &Client,
    watch: WatchArgs,
    printer: Printer,
    look: F,
) -> Result<Exit, Failure>
where
    F: AsyncFn() -> Result<Shot, Failure>,
{
    if !watch.watch {
        printer.shot(&look().await?)?;
        return Ok(Exit::Ok);
    }
    tokio::select! {
        ended = always(client, printer, look) => ended,
        () = signal::interrupted() => Ok(Exit::Ok),
    }
}

async fn always<F>(client: &Client, printer: Printer, look: F) -> Result<Exit, Failure>
where
    F: AsyncFn() -> Result<Shot, Failure>,
{
    let mut shown = None;
    // What fails at the start is a failure; what fails later is waited out.
    let mut watch = open(client).await?;
    loop {
        match look().await {
            Ok(shot) => show_if_new(printer, &mut shown, shot)?,
            Err(failure) if shown.is_none() => return Err(failure),
            Err(failure) => printer.say(&format!("note: {}; trying again", failure.brief())),
        }
        if let Err(failure) = changed(&mut watch).await {
            printer.say(&format!("note: {}; trying again", failure.brief()));
            watch = reopen(client).await;
        }
    }
}

fn show_if_new(printer: Printer, shown: &mut Option<String>, shot: Shot) -> Result<(), Failure> {
    if shown.as_deref() == Some(shot.content.as_str()) {
        return Ok(());
    }
    printer.again(&shot, shown.is_none())?;
    *shown = Some(shot.content);
    Ok(())
}

/// Opens a watch from now on: subscribe first, read afterwards, so that nothing falls between.
async fn open(client: &Client) -> Result<Watch, Failure> {
    let status = client.status().await?;
    Ok(client.watch(status.revision, Some(&status.history)).await?)
}

async fn reopen(client: &Client) -> Watch {
    loop {
        tokio::time::sleep(RETRY).await;
        if let Ok(watch) = open(client).await {
            return watch;
        }
    }
}

/// Waits for a line, and for those that follow it closely.
async fn changed(watch: &mut Watch) -> Result<(), Failure> {
    watch.next().await?;
    while let Ok(line) = tokio::time::timeout(TOGETHER, watch.next()).await {
        line?;
    }
    Ok(())
}
