//! Flags of `identity-token`: proofs of who one is, and their end.

use clap::{Args, Subcommand};
use policy_api::model::{Audience, Lifetime, Revoked};

use super::value::BadValue;

/// Flags of `identity-token`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct IdentityTokenArgs {
    #[command(subcommand)]
    pub(crate) command: Option<IdentityTokenCommand>,
    /// Whom it is shown to: the app or the resource that is called
    #[arg(value_name = "AUDIENCE", required = true)]
    pub(crate) audience: Option<Audience>,
    /// Good for so long: 30s to 1h [default: 5m]
    #[arg(long, value_name = "TIME")]
    pub(crate) ttl: Option<Lifetime>,
}

/// What `identity-token` does besides asking for one.
#[derive(Debug, Subcommand)]
pub(crate) enum IdentityTokenCommand {
    /// Let nobody in by this token any more, or by any that somebody has by now
    #[command(after_help = super::help::IDENTITY_TOKEN_REVOKE)]
    Revoke(RevokeIdentityArgs),
}

/// Flags of `identity-token revoke`.
#[derive(Args, Debug)]
pub(crate) struct RevokeIdentityArgs {
    /// The id of a token (its `jti`), or app:NAME, host:NAME, user:NAME or node:NAME: all that they have
    #[arg(value_name = "ID|SUBJECT", value_parser = revoked)]
    pub(crate) what: Revoked,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

fn revoked(text: &str) -> Result<Revoked, BadValue> {
    if let Ok(id) = text.parse() {
        return Ok(Revoked::Token(id));
    }
    let remedy = "write the 32 hexadecimal digits of a token's id, or app:NAME, host:NAME, user:NAME or node:NAME";
    text.parse().map_err(|_| BadValue::new(format!("`{text}` is neither an id nor a subject; {remedy}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_or_a_subject_is_revoked_and_nothing_else() {
        let id = "00112233445566778899aabbccddeeff";
        assert!(matches!(revoked(id), Ok(Revoked::Token(_))));
        assert!(matches!(revoked("host:ci-1"), Ok(Revoked::Subject(_))));
        assert!(matches!(revoked("node:a"), Ok(Revoked::Node(_))));
        for text in ["", "ci-1", "role:publisher", "00"] {
            assert!(revoked(text).is_err(), "{text} was taken");
        }
    }
}
