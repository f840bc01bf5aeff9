//! What somebody may do at this moment, by the state at this moment.

use super::{
    principal::{Principal, User},
    refusal::Refusal,
    state::State,
};
use crate::model::{Grant, Grants, Rule, TeamName, Timestamp};

/// What somebody may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights(Grants);

impl Rights {
    /// Whatever there is.
    pub(super) fn all() -> Self {
        Self(Grants::from([Grant::Admin]))
    }

    /// Of whoever asks. A token that was revoked since it was shown is nobody's.
    pub fn of(by: &Principal, state: &State, now: Timestamp) -> Result<Self, Refusal> {
        match by {
            Principal::Operator => Ok(Self::all()),
            // What nodes do has its own checks, and is no matter of roles.
            Principal::Node(_) | Principal::Joining(..) | Principal::Itself => Ok(Self::default()),
            Principal::User(User::Vouched { until, .. }) if *until <= now => Err(over(by)),
            Principal::User(User::Vouched { grants, .. }) => Ok(Self(grants.clone())),
            Principal::User(User::Token(name, hash)) => {
                let token = state.replica().tokens.get(name).filter(|token| token.hash.as_ref() == Some(hash));
                let token = token.filter(|token| !token.is_over(now)).ok_or_else(|| over(by))?;
                Ok(Self(token.grants.clone()))
            }
        }
    }

    pub fn grants(&self) -> &Grants {
        &self.0
    }

    /// What it is good for, if that is one purpose alone.
    pub fn sole(&self) -> Option<&Grant> {
        self.0.iter().find(|grant| grant.stands_alone())
    }

    pub(super) fn is_admin(&self) -> bool {
        self.0.contains(&Grant::Admin)
    }

    pub fn is_operator(&self) -> bool {
        self.is_admin() || self.0.contains(&Grant::Operator)
    }

    pub(super) fn writes_for(&self, team: &TeamName) -> bool {
        self.is_wide_for(team) || self.0.contains(&Grant::Writer(team.clone()))
    }

    /// Whether there is any team that this writes for.
    pub fn writes_for_some(&self) -> bool {
        self.0.iter().any(|grant| grant.team().is_some())
    }

    pub(super) fn is_wide_for(&self, team: &TeamName) -> bool {
        self.0.contains(&Grant::Wide(team.clone()))
    }

    /// Whether a rule was written for a team that this is a writer of.
    pub(super) fn wrote(&self, rule: &Rule) -> bool {
        rule.team.as_ref().is_some_and(|team| self.writes_for(team))
    }
}

fn over(by: &Principal) -> Refusal {
    Refusal::forbidden("Authorization", by, "is no longer let in".to_owned(), "show a token that is good")
}
