//! What a token says, once its signature was right: for whom, by whom, about whom, and when.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::TokenError;
use crate::model::Timestamp;

/// The claims of a token whose signature is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(Map<String, Value>);

/// What they have to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected<'a> {
    /// Exactly this, in `iss`.
    pub issuer: &'a str,
    /// One of `aud`.
    pub audience: &'a str,
    /// How far the issuer's clock may be from ours.
    pub leeway: Duration,
    /// Whether a beginning (`nbf`) has to stand there.
    pub beginning: Beginning,
}

/// Whether tokens say from when on they are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    Required,
    /// As OpenID has it.
    Optional,
}

/// When a token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// With the leeway added: from then on it is over.
    pub until: Timestamp,
    /// When it was made, if it says so.
    pub issued: Option<Timestamp>,
}

/// Longer names are nobody's.
const LONGEST_SUBJECT: usize = 128;

impl Claims {
    pub(super) fn new(members: Map<String, Value>) -> Self {
        Self(members)
    }

    /// All of them, as somebody's own claims.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, TokenError> {
        serde_json::from_value(Value::Object(self.0)).map_err(|_| TokenError::Claims)
    }

    /// That the token is this issuer's, for this audience, and good now.
    pub fn expect(&self, expected: &Expected<'_>, now: Timestamp) -> Result<Validity, TokenError> {
        if self.text("iss") != Some(expected.issuer) {
            return Err(TokenError::Issuer);
        }
        if !self.is_for(expected.audience) {
            return Err(TokenError::Audience);
        }
        self.validity(expected, now)
    }

    /// Whom it is about: printable, and short enough to be written down.
    pub fn subject(&self) -> Result<&str, TokenError> {
        let subject = self.text("sub").ok_or(TokenError::Subject)?;
        let fits =
            (1..=LONGEST_SUBJECT).contains(&subject.len()) && subject.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(subject) } else { Err(TokenError::Subject) }
    }

    /// A claim that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// The values of a claim: a text of words, or a list of texts; `a.b` is member `b` of `a`. None, where there is nothing
    /// of the kind.
    pub fn values(&self, path: &str) -> Vec<&str> {
        let mut members = path.split('.');
        let first = members.next().and_then(|first| self.0.get(first));
        let claim = first.and_then(|first| members.try_fold(first, |at, member| at.get(member)));
        match claim {
            Some(Value::String(text)) => text.split_ascii_whitespace().collect(),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            Some(_) | None => Vec::new(),
        }
    }

    fn is_for(&self, audience: &str) -> bool {
        match self.0.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(audience)),
            Some(_) | None => false,
        }
    }

    fn validity(&self, expected: &Expected<'_>, now: Timestamp) -> Result<Validity, TokenError> {
        let leeway = i64::try_from(expected.leeway.as_secs()).map_err(|_| TokenError::Times)?;
        let now = now.unix_seconds();
        let end = self.seconds("exp")?.ok_or(TokenError::Times)?;
        if end.saturating_add(leeway) <= now {
            return Err(TokenError::Expired);
        }
        match (self.seconds("nbf")?, expected.beginning) {
            (None, Beginning::Required) => return Err(TokenError::Times),
            (Some(start), _) if start > now.saturating_add(leeway) => return Err(TokenError::NotYet),
            (None, Beginning::Optional) | (Some(_), _) => {}
        }
        let issued = self.seconds("iat")?;
        if issued.is_some_and(|issued| issued > now.saturating_add(leeway)) {
            return Err(TokenError::NotYet);
        }
        let until = at(end.saturating_add(leeway)).ok_or(TokenError::Times)?;
        Ok(Validity { until, issued: issued.and_then(at) })
    }

    /// A claim that is a time; one that is no number is none, and not the same as a missing one.
    fn seconds(&self, name: &str) -> Result<Option<i64>, TokenError> {
        let Some(claim) = self.0.get(name) else { return Ok(None) };
        let seconds = claim.as_u64().or_else(|| whole(claim.as_f64()?)).and_then(|seconds| i64::try_from(seconds).ok());
        seconds.map(Some).ok_or(TokenError::Times)
    }
}

/// Some issuers write times with a fraction.
fn whole(seconds: f64) -> Option<u64> {
    const MOST: f64 = 9_007_199_254_740_992.0;
    // In these bounds nothing is lost but the fraction.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (0.0..MOST).contains(&seconds).then_some(seconds as u64)
}

fn at(seconds: i64) -> Option<Timestamp> {
    Timestamp::of_unix_milliseconds(seconds.checked_mul(1_000)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_000_000;

    fn claims(value: Value) -> Claims {
        match value {
            Value::Object(members) => Claims(members),
            other => panic!("{other} is no object"),
        }
    }

    fn expected(beginning: Beginning) -> Expected<'static> {
        Expected { issuer: "me", audience: "you", leeway: Duration::from_secs(30), beginning }
    }

    fn good_until(mut value: Value, beginning: Beginning) -> Result<i64, TokenError> {
        value["iss"] = json!("me");
        value["aud"] = json!(["somebody", "you"]);
        let now = at(NOW).expect("a time");
        claims(value).expect(&expected(beginning), now).map(|validity| validity.until.unix_seconds())
    }

    #[test]
    fn a_time_that_is_no_number_is_none() {
        let future = NOW + 31;
        let optional = |value| good_until(value, Beginning::Optional);
        assert_eq!(optional(json!({"exp": future})), Ok(future + 30));
        assert_eq!(optional(json!({"exp": 1_000_031.5})), Ok(future + 30));
        assert_eq!(good_until(json!({"exp": future, "nbf": NOW}), Beginning::Required), Ok(future + 30));
        assert_eq!(good_until(json!({"exp": future}), Beginning::Required), Err(TokenError::Times));
        for (value, why) in [
            (json!({}), TokenError::Times),
            (json!({"exp": NOW - 31}), TokenError::Expired),
            (json!({"exp": future.to_string()}), TokenError::Times),
            (json!({"exp": -1}), TokenError::Times),
            (json!({"exp": u64::MAX}), TokenError::Times),
            (json!({"exp": null}), TokenError::Times),
            (json!({"exp": 1e300}), TokenError::Times),
            (json!({"exp": future, "nbf": future}), TokenError::NotYet),
            (json!({"exp": future, "iat": future}), TokenError::NotYet),
            (json!({"exp": future, "nbf": "soon"}), TokenError::Times),
            (json!({"exp": future, "nbf": null}), TokenError::Times),
        ] {
            assert_eq!(optional(value.clone()), Err(why), "{value}");
        }
    }

    #[test]
    fn issuer_and_audience_are_exact() {
        let now = at(NOW).expect("a time");
        let judge = |iss: Value, aud: Value| {
            let token = claims(json!({"iss": iss, "aud": aud, "exp": NOW + 60}));
            token.expect(&expected(Beginning::Optional), now).map(drop)
        };
        assert_eq!(judge(json!("me"), json!("you")), Ok(()));
        for iss in [json!("Me"), json!(["me"]), json!("me/"), json!(null)] {
            assert_eq!(judge(iss, json!("you")), Err(TokenError::Issuer));
        }
        for aud in [json!("You"), json!("you me"), json!([["you"]]), json!({"you": 1}), json!([])] {
            assert_eq!(judge(json!("me"), aud), Err(TokenError::Audience));
        }
    }

    #[test]
    fn a_claim_has_the_values_that_it_lists() {
        let token = claims(json!({"groups": "a b", "realm": {"roles": ["c", 7, "d"]}, "n": 1}));
        assert_eq!(token.values("groups"), ["a", "b"]);
        assert_eq!(token.values("realm.roles"), ["c", "d"]);
        for nothing in ["n", "realm", "realm.none", "", "groups.a"] {
            assert!(token.values(nothing).is_empty(), "{nothing}");
        }
    }
}
