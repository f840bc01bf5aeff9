//! `lookup`: which instance has this address?

use std::net::IpAddr;

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
    let answer = match connect::client(settings)?.lookup(address).await {
        Err(error) if error.status() == Some(404) => return Err(nobody(address)),
        answer => answer?,
    };
    settings.printer.answer(&Found { answer: &answer })?;
    let binding = &answer.binding;
    if !binding.is_live() {
        let since = phrase::age(binding.since, Timestamp::now());
        let name = binding.instance_name();
        settings.printer.say(&format!("note: nobody has it now; {name} gave it back (age {since})"));
    }
    Ok(Exit::Ok)
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
        one_row(&self.answer.binding, look, detail)
    }

    fn name(&self) -> String {
        self.answer.binding.name()
    }
}
