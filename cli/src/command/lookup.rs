//! `lookup`: which instance has this address?

use std::net::IpAddr;

use policy_api::client::ClientError;
use policy_api::model::{LookupAnswer, Timestamp};
use serde::Serialize;

use super::connect;
use crate::args::LookupArgs;
use crate::failure::{Exit, Failure};
use crate::output::{Answer, Detail, Row, one_row, phrase};
use crate::settings::Settings;
use crate::terminal::Look;

/// Asks and prints. An address that was given back still names who had it.
pub(crate) async fn lookup(args: &LookupArgs, settings: &Settings) -> Result<Exit, Failure> {
    let address = args.address.0;
    let now = Timestamp::now();
    let at = args.at.map(|at| at.before(now));
    let answer = match (connect::client(settings)?.lookup(address, at).await, at) {
        (Err(error), None) if error.status() == Some(404) => return Err(nobody(address)),
        (Err(error), Some(_)) if error.status() == Some(404) => return Err(nobody_then(&error)),
        (answer, _) => answer?,
    };
    settings.printer.answer(&Found { answer: &answer })?;
    let binding = &answer.binding;
    if at.is_none() && !binding.is_live() {
        let since = phrase::age(binding.since, now);
        let name = binding.instance_name();
        settings.printer.say(&format!("note: nobody has it now; {name} gave it back (age {since})"));
    }
    if let (Some(error), false) = (answer.clock_error_ms, answer.or.is_empty()) {
        let others = answer.or.join(" or ");
        settings.printer.say(&format!(
            "note: within {error} ms, by which clocks of nodes may be wrong (`netpol nodes -o wide`), it was also {others}'s"
        ));
    }
    Ok(Exit::Ok)
}

/// The API says who had it before and after; that no field is to blame needs no saying here.
fn nobody_then(error: &ClientError) -> Failure {
    let said = error.problem().map_or_else(|| error.to_string(), |problem| problem.detail.clone());
    let said = said.strip_prefix("field `ip`: ").unwrap_or(&said).replace('`', "");
    Failure::new(Exit::No, said)
}

fn nobody(address: IpAddr) -> Failure {
    Failure::new(Exit::No, format!("no instance has or had {address}")).tip("`netpol instances` shows who has which")
}

#[derive(Serialize)]
struct Found<'a> {
    #[serde(flatten)]
    answer: &'a LookupAnswer,
}

impl Answer for Found<'_> {
    fn text(&self, look: &Look, detail: Detail) -> String {
        if self.answer.at.is_some() {
            one_row(self.answer, look, detail)
        } else {
            one_row(&self.answer.binding, look, detail)
        }
    }

    fn name(&self) -> String {
        self.answer.binding.name()
    }
}
