//! Would this flow pass? Asks the engine that runs in the kernel, over the rules of the model.
//!
//! A question may be about many flows at once: every app of a group, every protocol, every port. It has an answer if all of
//! them have the same; else it is refused with two that differ. Time is saved by asking once for all that must be alike: of
//! the apps one of each kind ([`side`]), of the ports one on each side of every range's end.

mod rows;
mod side;
mod words;

use std::collections::BTreeSet;

use common::{Answer, Decision, Identity, Question, decide, decide::decide_with_audit};

use self::{rows::PairRows, side::Side};
use crate::{
    model::{Cause, CheckAnswer, CheckQuery, Invalid, Isolation, VerdictWord},
    store::{Refusal, State},
};

/// Pairs of apps that one question may be about: bounds how long nobody can write.
const MOST_PAIRS: usize = 10_000;

/// Answers a question about policy, as the nodes would.
pub fn check(state: &State, query: &CheckQuery) -> Result<CheckAnswer, Refusal> {
    let sources = side::all(state, &query.source, "source")?;
    let destinations = side::all(state, &query.destination, "destination")?;
    if sources.len().saturating_mul(destinations.len()) > MOST_PAIRS {
        let whole = format!("{} -> {}", query.source, query.destination);
        return Err(Invalid::new(whole, "stands for too many pairs of apps", "name one app").in_field("source").into());
    }
    let mut answers = Answers::default();
    for source in &sources {
        for destination in &destinations {
            answers.of_pair(state, query, source, destination)?;
        }
    }
    let Some((_, fate)) = answers.told else {
        return Err(Invalid::new(&query.source, "stands for nobody", "name an app").in_field("source").into());
    };
    Ok(words::answer(state, query, fate))
}

/// One flow of those that a question is about.
#[derive(Clone, Copy)]
struct Case<'a> {
    source: &'a Side,
    destination: &'a Side,
    protocol: common::Protocol,
    port: u16,
}

/// What becomes of a flow, and what would otherwise.
#[derive(Clone, Debug)]
struct Fate {
    passes: bool,
    cause: Cause,
    /// The rule that decides.
    rule: common::RuleId,
    would: Option<Decision>,
    /// Isolations of either end, or of some of its instances.
    isolations: Vec<Isolation>,
}

/// The answers so far, which must all be the same.
#[derive(Default)]
struct Answers<'a> {
    told: Option<(Case<'a>, Fate)>,
}

impl<'a> Answers<'a> {
    fn of_pair(
        &mut self,
        state: &State,
        query: &CheckQuery,
        source: &'a Side,
        destination: &'a Side,
    ) -> Result<(), Refusal> {
        for protocol in query.protocol.wire() {
            let rows = PairRows::new(state, source, destination, *protocol);
            let ports = match query.port {
                Some(port) => [port].into(),
                None if protocol.has_ports() => rows.telling_ports(),
                None => BTreeSet::from([0]),
            };
            for port in ports {
                let case = Case { source, destination, protocol: *protocol, port };
                self.add(query, case, fate(state, &rows, &case))?;
            }
        }
        Ok(())
    }

    fn add(&mut self, query: &CheckQuery, case: Case<'a>, fate: Fate) -> Result<(), Refusal> {
        match &self.told {
            Some((other, told)) if told.passes != fate.passes => {
                Err(words::differing(query, (other, told.passes), (&case, fate.passes)).into())
            }
            // Of flows that fare the same, the one that would fare otherwise is the one to tell of.
            Some((_, told)) if told.would.is_some() || fate.would.is_none() => Ok(()),
            Some(_) | None => {
                self.told = Some((case, fate));
                Ok(())
            }
        }
    }
}

/// What the nodes at both ends together do with a flow.
fn fate(state: &State, rows: &PairRows, case: &Case<'_>) -> Fate {
    let isolations = [case.source, case.destination].map(|side| side.isolations(state));
    let is_cut_off = isolations.iter().any(|(is_whole, _)| *is_whole);
    let isolations = isolations.into_iter().flat_map(|(_, isolations)| isolations).collect();
    if is_cut_off {
        let rule = common::RuleId::NONE;
        return Fate { passes: false, cause: Cause::Isolated, rule, would: None, isolations };
    }
    let (source, destination) = (case.source.identity(), case.destination.identity());
    let decision = decide(rows, &Question { source, destination, protocol: case.protocol, port: case.port });
    let is_softened = is_softened(case.source, case.destination);
    let cause = match decision.answer {
        Answer::Allow => Cause::AllowRule,
        _ if is_softened => Cause::Audit,
        Answer::Deny | Answer::DenySilently => Cause::DenyRule,
        Answer::NoRule => Cause::NoRule,
    };
    let would = would(rows, case, decision, is_softened);
    let passes = decision.is_allow() || is_softened;
    Fate { passes, cause, rule: decision.rule, would, isolations }
}

/// What would be decided otherwise, if apps and rules in audit were enforced: as the datapath reports it.
fn would(rows: &PairRows, case: &Case<'_>, decision: Decision, is_softened: bool) -> Option<Decision> {
    if is_softened && !decision.is_allow() {
        return Some(decision);
    }
    let (source, destination): (Identity, Identity) = (case.source.identity(), case.destination.identity());
    let question = Question { source, destination, protocol: case.protocol, port: case.port };
    let audited = decide_with_audit(rows, &question, decision);
    (audited.is_allow() != decision.is_allow()).then_some(audited)
}

/// Whether what is denied passes nevertheless. Each end softens for itself, so between apps it takes both; the node at the
/// other end of a flow has nothing to soften, so there only what the app begins passes.
fn is_softened(source: &Side, destination: &Side) -> bool {
    match (source, destination) {
        (Side::Host, _) => false,
        (_, Side::Host) => source.is_audited(),
        (_, _) => source.is_audited() && destination.is_audited(),
    }
}

fn word(passes: bool) -> VerdictWord {
    if passes { VerdictWord::Allow } else { VerdictWord::Deny }
}

#[cfg(test)]
mod tests;
