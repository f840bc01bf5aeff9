//! Flags of `observe`: which events, and for how long.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use common::DropReason;
use policy_api::model::Selector;

use super::value::BadValue;
use crate::agent::{Event, FlowEnd, Kind, Span};
use crate::failure::Failure;

/// Flags of `observe`.
#[derive(Args, Debug)]
pub(crate) struct ObserveArgs {
    /// Go on with what happens from now on, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Of the events that the agent has kept only the last N
    #[arg(long, value_name = "N")]
    pub(crate) last: Option<usize>,
    #[command(flatten)]
    pub(crate) filter: EventFilter,
}

impl ObserveArgs {
    pub(crate) fn span(&self) -> Span {
        if self.follow { Span::Endless } else { Span::Kept }
    }
}

/// Which events are wanted: those that every flag holds for.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct EventFilter {
    /// Events with this app at either end
    #[arg(long, value_name = "APP")]
    pub(crate) app: Option<Selector>,
    /// Events with this source
    #[arg(long, value_name = "SRC")]
    pub(crate) source: Option<Selector>,
    /// Events with this destination
    #[arg(long, value_name = "DST")]
    pub(crate) destination: Option<Selector>,
    /// start, end, denied, would-deny, would-allow or cut; several with commas, or the flag repeated
    #[arg(long, value_name = "KIND", value_enum, value_delimiter = ',', hide_possible_values = true)]
    pub(crate) kind: Vec<Kind>,
    /// Denials for this reason, such as no-rule
    #[arg(long, value_name = "REASON", value_parser = reasons(), hide_possible_values = true)]
    pub(crate) reason: Option<DropReason>,
}

/// Reads a reason by the name that operators see; clap knows all names, so it can complete and suggest them.
fn reasons() -> impl TypedValueParser<Value = DropReason> {
    let names = DropReason::ALL.iter().map(|reason| reason.name());
    PossibleValuesParser::new(names).try_map(|name| {
        let found = DropReason::ALL.iter().copied().find(|reason| reason.name() == name);
        found.ok_or_else(|| BadValue::new(format!("`{name}` is no reason for a drop")))
    })
}

impl EventFilter {
    /// Refuses what no event can be.
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        let sides = [("--app", &self.app), ("--source", &self.source), ("--destination", &self.destination)];
        if let Some((flag, Some(group))) = sides.iter().find(|(_, side)| matches!(side, Some(Selector::Group(_)))) {
            return Err(Failure::usage(format!(
                "{flag}: an event does not say who was in `{group}`; name an app, `any` or `host`"
            )));
        }
        let may_be_denied = self.kind.is_empty() || self.kind.iter().any(|kind| kind.is_denial());
        match self.reason.filter(|_| !may_be_denied) {
            Some(reason) => Err(Failure::usage(format!(
                "--reason: `{}` is why something is denied; leave --reason away, or name --kind denied",
                reason.name()
            ))),
            None => Ok(()),
        }
    }

    /// True if every flag holds for this event.
    pub(crate) fn takes(&self, event: &Event) -> bool {
        let is = |wanted: &Option<Selector>, ends: &[&FlowEnd]| {
            wanted.as_ref().is_none_or(|app| ends.iter().any(|end| is_named(end, app)))
        };
        is(&self.app, &[&event.source, &event.destination])
            && is(&self.source, &[&event.source])
            && is(&self.destination, &[&event.destination])
            && (self.kind.is_empty() || self.kind.contains(&event.kind))
            && self.reason.is_none_or(|reason| event.reason.as_deref() == Some(reason.name()))
    }
}

/// No two apps differ in case alone, so whoever types another case means this one.
fn is_named(end: &FlowEnd, wanted: &Selector) -> bool {
    let Some(app) = &end.app else { return false };
    match wanted {
        Selector::Any => app != "host",
        Selector::App(_) | Selector::Host | Selector::Group(_) => app.eq_ignore_ascii_case(&wanted.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::events::tests::{ALLOWED, DENIED, FROM_NOBODY, event};
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn filter(flags: &str) -> EventFilter {
        let words = ["netpol", "observe"].into_iter().chain(flags.split_whitespace());
        match Cli::try_parse_from(words).expect(flags).command {
            Command::Observe(args) => args.filter,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_event_passes_if_every_flag_holds_for_it() {
        let events = [DENIED, ALLOWED, FROM_NOBODY].map(event);
        for (flags, expected) in [
            ("", [true, true, true]),
            ("--app appB", [true, true, true]),
            ("--app APPA", [true, false, false]),
            ("--source appA", [true, false, false]),
            ("--source appB", [false, false, false]),
            ("--source host", [false, true, false]),
            ("--source any", [true, false, false]),
            ("--destination appB", [true, true, true]),
            ("--destination appA", [false, false, false]),
            ("--kind denied", [true, false, true]),
            ("--kind denied,start", [true, true, true]),
            ("--kind cut --kind start", [false, true, false]),
            ("--kind start", [false, true, false]),
            ("--reason no-rule", [true, false, false]),
            ("--reason unknown-source", [false, false, true]),
            ("--kind denied --app appA --reason no-rule", [true, false, false]),
            ("--source appA --reason deny-rule", [false, false, false]),
        ] {
            let filter = filter(flags);
            assert_eq!([0, 1, 2].map(|at| filter.takes(&events[at])), expected, "{flags}");
        }
    }

    #[test]
    fn every_reason_of_the_datapath_can_be_asked_for_and_none_of_what_passes() {
        for reason in DropReason::ALL {
            let filter = filter(&format!("--reason {}", reason.name()));
            assert_eq!(filter.reason, Some(*reason));
            filter.validate().expect("a reason alone is fine");
        }
        let failure = filter("--kind start,end --reason no-rule").validate().expect_err("never").to_string();
        assert!(failure.contains("--reason") && failure.contains("no-rule"), "{failure}");
    }
}
