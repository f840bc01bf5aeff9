//! `identity-token`: a proof of who one is, for one audience; and its end.

use policy_api::client::WriteOptions;
use policy_api::model::{IdentityToken, RevocationAnswer, Revoked, Timestamp};
use serde::Serialize;

use super::connect;
use crate::args::{IdentityTokenArgs, IdentityTokenCommand, RevokeIdentityArgs};
use crate::failure::{Exit, Failure};
use crate::output::{Answer, Detail, phrase};
use crate::settings::Settings;
use crate::terminal::Look;

pub(crate) async fn identity_token(args: &IdentityTokenArgs, settings: &Settings) -> Result<Exit, Failure> {
    match (&args.command, &args.audience) {
        (Some(IdentityTokenCommand::Revoke(args)), _) => revoke(args, settings).await,
        (None, Some(audience)) => {
            let lifetime = args.ttl.map(|ttl| ttl.0);
            let token = connect::client(settings)?.identity_token(audience, None, lifetime).await?;
            let printer = settings.printer;
            printer.answer(&Issued(&token))?;
            if !printer.format.is_document() {
                let within = phrase::in_time(token.expires_at, Timestamp::now());
                printer.say(&format!("{} for {}, ends {within}", token.subject, token.audience));
                printer.say(&format!("undo: netpol identity-token revoke {}", token.id));
            }
            Ok(Exit::Ok)
        }
        (None, None) => Err(Failure::usage("name whom the token is shown to: netpol identity-token AUDIENCE")),
    }
}

async fn revoke(args: &RevokeIdentityArgs, settings: &Settings) -> Result<Exit, Failure> {
    let (client, printer) = (connect::client(settings)?, settings.printer);
    let options = WriteOptions { dry_run: args.dry_run, ..WriteOptions::default() };
    let answer = match &args.what {
        Revoked::Token(id) => client.revoke_identity_token(id, &options).await?,
        whose @ (Revoked::Subject(_) | Revoked::Node(_)) => client.revoke_identity_tokens_of(whose, &options).await?,
    };
    printer.answer(&Ended(&answer))?;
    if args.dry_run && !printer.format.is_document() {
        printer.say("dry run: nothing was changed");
    }
    Ok(Exit::Ok)
}

/// A token that was just made; the only time that it shows itself.
#[derive(Serialize)]
#[serde(transparent)]
struct Issued<'a>(&'a IdentityToken);

impl Answer for Issued<'_> {
    fn text(&self, _: &Look, _: Detail) -> String {
        self.0.token.clone()
    }

    fn name(&self) -> String {
        self.0.id.to_string()
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Ended<'a>(&'a RevocationAnswer);

impl Answer for Ended<'_> {
    fn text(&self, _: &Look, _: Detail) -> String {
        let RevocationAnswer { revocation, dry_run } = self.0;
        let would = if *dry_run { "would be " } else { "" };
        match &revocation.of {
            Revoked::Token(id) => format!("{would}revoked identity token {id}"),
            whose @ (Revoked::Subject(_) | Revoked::Node(_)) => {
                format!("{would}revoked identity tokens of {whose}, issued before {}", revocation.issued_before)
            }
        }
    }

    fn name(&self) -> String {
        self.0.revocation.of.to_string()
    }
}
