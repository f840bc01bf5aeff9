//! `can`, `who-can` and `permissions`: who may do what on which resource, now or at some time.

use policy_api::model::{CanQuery, PermissionRow, WhoCanQuery};

use super::connect;
use super::follow::once_or_always;
use crate::args::{CanArgs, PermissionsArgs, WhoCanArgs};
use crate::failure::{Exit, Failure};
use crate::output::access::{Can, Way};
use crate::output::{Listing, phrase};
use crate::settings::Settings;

/// Asks, prints the answer, and says it in the exit code as well.
pub(crate) async fn can(args: &CanArgs, settings: &Settings) -> Result<Exit, Failure> {
    let CanArgs { who, privilege, resource, past } = args;
    let query = CanQuery { who: who.0.clone(), privilege: privilege.clone(), resource: resource.clone() };
    let client = connect::client(settings)?;
    let at = past.moment();
    let answer = match at {
        Some(at) => client.at(at).can(&query).await?,
        None => client.can(&query).await?,
    };
    settings.printer.answer(&Can(&answer))?;
    if at.is_some() {
        settings.printer.say(&format!("note: as of revision {}", answer.revision));
    }
    Ok(if answer.allowed { Exit::Ok } else { Exit::No })
}

/// Lists everybody who may; nobody is an answer, too.
pub(crate) async fn who_can(args: &WhoCanArgs, settings: &Settings) -> Result<Exit, Failure> {
    let query = WhoCanQuery { privilege: args.privilege.clone(), resource: args.resource.clone() };
    let client = connect::client(settings)?;
    let (printer, at) = (settings.printer, args.past.moment());
    let answer = match at {
        Some(at) => client.at(at).who_can(&query).await?,
        None => client.who_can(&query).await?,
    };
    let nobody = answer.subjects.is_empty();
    let items = answer.subjects.into_iter().map(Way).collect();
    printer.shot(&printer.list(&Listing { items, revision: answer.revision.0 })?)?;
    if nobody && !printer.format.is_document() {
        let roles: Vec<_> = answer.roles.iter().collect();
        printer.say(&match roles.as_slice() {
            [] => format!("no role may {} {}", answer.privilege, answer.resource),
            roles => {
                format!("may {} {}, but nobody is in them: {}", answer.privilege, answer.resource, phrase::comma(roles))
            }
        });
    }
    if at.is_some() {
        printer.say(&format!("note: as of revision {}", answer.revision));
    }
    Ok(if nobody { Exit::No } else { Exit::Ok })
}

pub(crate) async fn permissions(args: &PermissionsArgs, settings: &Settings) -> Result<Exit, Failure> {
    let client = connect::client(settings)?;
    let (printer, at) = (settings.printer, args.past.unwatched(args.watch)?);
    let (resource, subject) = (args.resource.as_ref(), args.subject.as_ref());
    once_or_always(&client, args.watch, printer, async || {
        let list = match at {
            Some(at) => client.at(at).permissions(resource, subject).await?,
            None => client.permissions(resource, subject).await?,
        };
        printer.list(&Listing::<PermissionRow> { items: list.items, revision: list.revision.0 })
    })
    .await
}
