//! Tokens of an OpenID provider, or of whoever else publishes the keys that it signs with: believed by those, and mapped to a
//! person and to privileges by claims, or by the permissions that the policy API pushed for that person.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use policy_api::{
    jose::{Algorithm, Beginning, Claims, Expected, KeySet, Unverified, claimed_issuer},
    model::Timestamp,
};

use super::{Answer, Answering, Authority, Denial, Grounds, Outage, Permit, Privilege, Question, Subject, feed::Feed};

/// What to believe of whom.
pub struct OidcSettings {
    /// Exactly what tokens say in `iss`.
    pub issuer: String,
    /// What they must be for: one of `aud`.
    pub audience: String,
    /// In these ways, and no others.
    pub algorithms: Vec<Algorithm>,
    /// The claim that names somebody; the subject is `user:oidc/` and this, so that nobody poses as whom another authority knows.
    pub subject: String,
    pub rights: Rights,
    /// How long an allow counts at most.
    pub remember: Duration,
}

/// What gives somebody privileges.
pub enum Rights {
    Claims(Vec<ClaimGrant>),
    /// What the policy API says of the subject.
    Pushed(Arc<Feed>),
}

/// Privileges, and the value of a claim that gives them.
pub struct ClaimGrant {
    pub claim: String,
    pub value: String,
    pub privileges: Vec<Privilege>,
}

/// Judges what one issuer signed.
pub struct Oidc {
    settings: OidcSettings,
    keys: KeySet,
}

/// How far the issuer's clock may be from ours.
const LEEWAY: Duration = Duration::from_secs(30);

impl Oidc {
    pub fn new(settings: OidcSettings, keys: KeySet) -> Self {
        Self { settings, keys }
    }

    async fn judge(&self, question: Question<'_>, now: Timestamp) -> Answer {
        if claimed_issuer(question.credential.token).as_ref() != Some(&self.settings.issuer) {
            return Answer::NotMine;
        }
        let token = match Unverified::read(question.credential.token) {
            Ok(token) => token,
            Err(why) => return Answer::Deny(why.into()),
        };
        // What could never be believed is no reason to ask anybody for a key.
        if !self.settings.algorithms.contains(&token.algorithm()) {
            return Answer::Deny(Denial::Algorithm);
        }
        let key = match self.keys.key(token.key_id()).await {
            Ok(Some(key)) => key,
            Ok(None) => return Answer::Deny(Denial::Key),
            Err(_) => return Answer::Unavailable(Outage::Unreachable),
        };
        let claims = token.verify(&key, &self.settings.algorithms).map_err(Denial::from);
        match claims.and_then(|claims| Ok((self.permit(&claims, now)?, claims))) {
            Ok((permit, claims)) => self.answer(permit, &claims, question.privilege),
            Err(denial) => Answer::Deny(denial),
        }
    }

    fn permit(&self, claims: &Claims, now: Timestamp) -> Result<Permit, Denial> {
        let OidcSettings { issuer, audience, subject, rights, remember, .. } = &self.settings;
        let expected = Expected { issuer, audience, leeway: LEEWAY, beginning: Beginning::Optional };
        let validity = claims.expect(&expected, now)?;
        let name = claims.text(subject).filter(|name| name.len() <= LONGEST_NAME).ok_or(Denial::Malformed)?;
        let subject: Subject = format!("user:oidc/{name}").parse().map_err(|_| Denial::Malformed)?;
        let until = Instant::now() + now.until(validity.until).min(*remember);
        let permit = Permit::new(subject, None, until).issued_at(validity.issued);
        Ok(match rights {
            Rights::Claims(_) => permit,
            Rights::Pushed(_) => {
                let token = claims.text("jti").map(str::to_owned);
                permit.standing_on(Grounds { token, ..Grounds::default() })
            }
        })
    }

    fn answer(&self, permit: Permit, claims: &Claims, privilege: &Privilege) -> Answer {
        let may = match &self.settings.rights {
            Rights::Claims(grants) => grants.iter().any(|grant| grant.gives(claims, privilege)),
            Rights::Pushed(feed) => {
                let Some(state) = feed.current() else { return Answer::Unavailable(Outage::Stale) };
                if state.has_revoked(&permit) {
                    return Answer::Deny(Denial::Revoked);
                }
                state.may(permit.subject.as_str(), privilege)
            }
        };
        let permit = Arc::new(permit);
        if may { Answer::Allow(permit) } else { Answer::Forbid(permit) }
    }
}

/// Longer names are nobody's.
const LONGEST_NAME: usize = 128;

impl ClaimGrant {
    fn gives(&self, claims: &Claims, privilege: &Privilege) -> bool {
        self.privileges.contains(privilege) && claims.values(&self.claim).contains(&self.value.as_str())
    }
}

impl Authority for Oidc {
    fn check<'a>(&'a self, question: Question<'a>) -> Answering<'a> {
        Box::pin(self.judge(question, Timestamp::now()))
    }
}

#[cfg(test)]
mod tests;
