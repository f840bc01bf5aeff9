//! Flags of `history`, and of those commands that can ask about the past.

use clap::{Args, Subcommand};
use policy_api::model::{AppName, At, EntryKind, KnownSeal, Revision, RuleId, Timestamp};

use super::value::{BadValue, PastTime};
use super::view::WatchArgs;
use crate::failure::Failure;

/// A moment of the past: a revision, a time, or how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Revision(Revision),
    Time(PastTime),
}

impl std::str::FromStr for Moment {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if let Ok(revision) = text.parse() {
            return Ok(Self::Revision(revision));
        }
        text.parse().map(Self::Time).map_err(|_: BadValue| {
            let remedy = "write a revision such as 1207, a time such as 2026-01-31T12:00:00Z, or how long ago: 2h, 7d";
            BadValue::new(format!("`{text}` is neither a revision nor a time; {remedy}"))
        })
    }
}

impl Moment {
    pub(crate) fn at(self, now: Timestamp) -> At {
        match self {
            Self::Revision(revision) => At::Revision(revision),
            Self::Time(time) => At::Time(time.before(now)),
        }
    }
}

/// Whether to ask about the past.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct AtArgs {
    /// As it was: a revision, a time (RFC 3339, by the policy API's clock), or how long ago, like 2h
    #[arg(long, value_name = "REV|TIME")]
    pub(crate) at: Option<Moment>,
}

impl AtArgs {
    pub(crate) fn moment(self) -> Option<At> {
        self.at.map(|moment| moment.at(Timestamp::now()))
    }

    /// The same, of what cannot be watched then.
    pub(crate) fn unwatched(self, watch: WatchArgs) -> Result<Option<At>, Failure> {
        if self.at.is_some() && watch.watch {
            return Err(Failure::usage("--at: what is past does not change; leave --watch out"));
        }
        Ok(self.moment())
    }
}

/// Flags of `history`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct HistoryArgs {
    #[command(subcommand)]
    pub(crate) command: Option<HistoryCommand>,
    #[command(flatten)]
    pub(crate) list: HistoryListArgs,
}

/// What else can be done with the history.
#[derive(Debug, Subcommand)]
pub(crate) enum HistoryCommand {
    /// Prove that the history is what was written. Exit code 1: it is not
    #[command(after_help = super::help::HISTORY_VERIFY)]
    Verify(VerifyArgs),
}

/// Which entries to list.
#[derive(Args, Debug)]
pub(crate) struct HistoryListArgs {
    /// Tell all of this revision: also when each node had it in force
    #[arg(value_name = "REVISION", conflicts_with_all = ["app", "rule", "who", "since", "until", "kinds", "limit", "watch"])]
    pub(crate) revision: Option<Revision>,
    /// Entries that changed something of this app
    #[arg(long, value_name = "APP")]
    pub(crate) app: Option<AppName>,
    /// Entries that changed this rule
    #[arg(long, value_name = "RULE-ID")]
    pub(crate) rule: Option<RuleId>,
    /// Entries of this caller: operator, node/n1, expiry; or about this subject of a gatekeeper: host:ci-1
    #[arg(long, value_name = "WHO")]
    pub(crate) who: Option<String>,
    /// From this revision or time on: 1207, 2026-01-31T12:00:00Z, 2h
    #[arg(long, value_name = "REV|TIME")]
    pub(crate) since: Option<Moment>,
    /// Up to this revision or time
    #[arg(long, value_name = "REV|TIME")]
    pub(crate) until: Option<Moment>,
    /// intent, node, placement, refused, in-force, restored, signer, gate, or all; may be repeated [default: all but
    /// placement, in-force and signer]
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',', value_parser = kinds)]
    kinds: Vec<Kinds>,
    /// The newest so many entries; 0 is all
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

impl HistoryListArgs {
    pub(crate) fn kinds(&self) -> std::collections::BTreeSet<EntryKind> {
        self.kinds.iter().flat_map(|kinds| kinds.0.iter().copied()).collect()
    }
}

/// One kind, or all of them.
#[derive(Clone, Debug)]
struct Kinds(Vec<EntryKind>);

fn kinds(text: &str) -> Result<Kinds, BadValue> {
    match text {
        "all" => Ok(Kinds(EntryKind::ALL.to_vec())),
        text => text
            .parse()
            .map(|kind| Kinds(vec![kind]))
            .map_err(|invalid: policy_api::model::Invalid| BadValue::new(invalid.to_string())),
    }
}

/// Flags of `history verify`.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// Also hold it against what an earlier `verify` printed: the number of an entry and its seal
    #[arg(long, value_name = "NUMBER:SEAL")]
    pub(crate) known: Option<KnownSeal>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_revision_a_time_or_how_long_ago() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().expect("a time");
        let at = |text: &str| text.parse::<Moment>().expect(text).at(now);
        assert_eq!(at("1207"), At::Revision(Revision(1207)));
        assert_eq!(at("2026-01-30T12:00:00Z"), at("1d"));
        for bad in ["", "yesterday", "-1"] {
            let error = bad.parse::<Moment>().expect_err(bad).to_string();
            assert!(error.contains("neither a revision nor a time"), "{error}");
        }
    }
}
