//! Tokens of our own broker, believed offline: by keys, permissions and revocations that were pushed before they came.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use policy_api::{
    jose::{Algorithm, Beginning, Expected, TokenError, Unverified, claimed_issuer},
    model::Timestamp,
};

use super::{
    Answer, Answering, Authority, Denial, Grounds, Outage, Permit, Question, SourceApp,
    feed::{Feed, State},
};

/// Judges what the broker issued.
pub struct Broker {
    feed: Arc<Feed>,
    /// Whom its tokens must be for: the app behind this gatekeeper, or its resource.
    audiences: Vec<String>,
    /// How long an allow counts at most, if nothing is pushed against it.
    remember: Duration,
}

/// What all issuers of ours begin with; behind it is the store's history.
const OURS: &str = "netpol:";
/// How far the clock of the API that issued may be from ours.
const LEEWAY: Duration = Duration::from_secs(5);

impl Broker {
    pub fn new(feed: Arc<Feed>, audiences: Vec<String>, remember: Duration) -> Self {
        Self { feed, audiences, remember }
    }

    fn judge(&self, question: &Question<'_>, now: Timestamp) -> Answer {
        let token = question.credential.token;
        let issuer = claimed_issuer(token);
        let Some(issuer) = issuer.filter(|issuer| issuer.starts_with(OURS)) else { return Answer::NotMine };
        let Some(state) = self.feed.current() else { return Answer::Unavailable(Outage::Stale) };
        if state.issuer != issuer {
            return Answer::NotMine;
        }
        match self.believe(token, &state, now) {
            Ok(permit) if !state.may(permit.subject.as_str(), question.privilege) => Answer::Forbid(Arc::new(permit)),
            Ok(permit) => Answer::Allow(Arc::new(permit)),
            Err(denial) => Answer::Deny(denial),
        }
    }

    /// Who the token is for, if it is good.
    fn believe(&self, token: &str, state: &State, now: Timestamp) -> Result<Permit, Denial> {
        let token = Unverified::read(token)?;
        let key_id = token.key_id().to_owned();
        let key = state.key(&key_id).ok_or(Denial::Key)?;
        let claims = token.verify(key, &[Algorithm::EdDsa])?;
        let expect = |audience: &String| {
            let beginning = Beginning::Required;
            claims.expect(&Expected { issuer: &state.issuer, audience, leeway: LEEWAY, beginning }, now)
        };
        // Any of them will do; if none does, why the last did not.
        let mut judged = Err(TokenError::Audience);
        for audience in &self.audiences {
            judged = expect(audience);
            if judged != Err(TokenError::Audience) {
                break;
            }
        }
        let validity = judged?;
        let subject = claims.subject()?;
        let id = claims.text("jti").ok_or(Denial::Malformed)?.to_owned();
        let issued = validity.issued.ok_or(Denial::Malformed)?;
        let node = claims.text("node").map(str::to_owned);
        let grounds = Grounds { token: Some(id), key: Some(key_id), node };
        let malformed = |_| Denial::Malformed;
        let app = subject.strip_prefix("app:").map(str::parse::<SourceApp>).transpose().map_err(malformed)?;
        let until = Instant::now() + now.until(validity.until).min(self.remember);
        let permit = Permit::new(subject.parse().map_err(malformed)?, app, until);
        let permit = permit.issued_at(Some(issued)).standing_on(grounds);
        if state.has_revoked(&permit) { Err(Denial::Revoked) } else { Ok(permit) }
    }
}

impl Authority for Broker {
    fn check<'a>(&'a self, question: Question<'a>) -> Answering<'a> {
        let answer = self.judge(&question, Timestamp::now());
        Box::pin(std::future::ready(answer))
    }
}

impl From<TokenError> for Denial {
    fn from(why: TokenError) -> Self {
        match why {
            TokenError::Oversized
            | TokenError::Malformed
            | TokenError::Header
            | TokenError::Claims
            | TokenError::Critical
            | TokenError::Type
            | TokenError::Subject
            | TokenError::Times => Self::Malformed,
            TokenError::Algorithm | TokenError::OtherWay => Self::Algorithm,
            TokenError::NoKeyId | TokenError::UnknownKey => Self::Key,
            TokenError::Signature => Self::Signature,
            TokenError::Issuer => Self::Issuer,
            TokenError::Audience => Self::Audience,
            TokenError::Expired => Self::Expired,
            TokenError::NotYet => Self::NotYetValid,
        }
    }
}

#[cfg(test)]
mod tests;
