//! What an authority says, and what an allow leaves behind: a permit, to which streams that are open stay bound.

use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use http::HeaderValue;
use policy_api::model::Timestamp;
use tokio::sync::watch;

use super::question::Malformed;

/// What an authority says to a question.
#[derive(Clone, Debug)]
#[must_use]
pub enum Answer {
    Allow(Arc<Permit>),
    Deny(Denial),
    /// The token is good, and whose it is may not do this here: as `Denial::NotPermitted`, and known who.
    Forbid(Arc<Permit>),
    /// The credential is none of this authority's; the next one is asked.
    NotMine,
    /// It cannot be known now: nothing new is allowed.
    Unavailable(Outage),
}

/// Who was let in, until when, and whether that was taken back since.
#[derive(Debug)]
pub struct Permit {
    pub subject: Subject,
    /// The app that an instance is of; none for hosts and users.
    pub source_app: Option<SourceApp>,
    /// From then on the authority has to be asked again: the end of the token, or sooner.
    pub until: Instant,
    /// When the token was issued, where it says so.
    pub issued: Option<Timestamp>,
    /// What it stands on, where that can be taken back by push.
    pub grounds: Option<Grounds>,
    used: AtomicBool,
    revoked: watch::Sender<bool>,
}

/// What a permit stands on beside its subject: each can be taken back before the token ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grounds {
    /// The id of the token (`jti`).
    pub token: Option<String>,
    /// The key that signed it.
    pub key: Option<String>,
    /// The node that asked for it.
    pub node: Option<String>,
}

/// Who a token is for, `app:NAME`, `host:NAME` or `user:NAME`: visible ASCII, so that it fits a header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject(HeaderValue);

/// The name of an app, as a header says it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceApp(HeaderValue);

/// Why somebody is not let in. All but `NotPermitted` are about the token, and answered 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denial {
    /// No authority knows such a token.
    Unknown,
    /// It cannot be read as what it says it is.
    Malformed,
    /// It is signed by an algorithm that is not taken here, `none` among them.
    Algorithm,
    /// It names a key that the issuer does not have.
    Key,
    /// It is not signed by that key.
    Signature,
    /// It is for somebody else.
    Audience,
    /// It is from somebody else.
    Issuer,
    Expired,
    NotYetValid,
    Revoked,
    /// The token is good; who it is for may not do this here: 403.
    NotPermitted,
}

/// Why an authority cannot answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outage {
    /// It cannot be reached.
    Unreachable,
    /// It took too long.
    TimedOut,
    /// It said something that is no answer.
    Unintelligible,
    /// What it last told is too old to rely on (`security.md` 37).
    Stale,
    /// It is asked too much already.
    Busy,
}

impl Denial {
    /// The word for it in logs, metrics and answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "token-unknown",
            Self::Malformed => "token-malformed",
            Self::Algorithm => "token-algorithm",
            Self::Key => "token-key",
            Self::Signature => "token-signature",
            Self::Audience => "token-audience",
            Self::Issuer => "token-issuer",
            Self::Expired => "token-expired",
            Self::NotYetValid => "token-not-yet-valid",
            Self::Revoked => "token-revoked",
            Self::NotPermitted => "not-permitted",
        }
    }

    /// What is wrong, for whoever asked.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Unknown => "nobody who is asked here knows this token",
            Self::Malformed => "the token cannot be read",
            Self::Algorithm => "the token is signed by an algorithm that is not taken here",
            Self::Key => "the token names a key that its issuer does not have",
            Self::Signature => "the token is not signed by the key that it names",
            Self::Audience => "the token is for somebody else",
            Self::Issuer => "the token is from somebody else",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token does not hold yet",
            Self::Revoked => "the token was revoked",
            Self::NotPermitted => "whose token this is does not have the privilege that this request takes",
        }
    }
}

impl Outage {
    /// The word for it in logs, metrics and answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unreachable => "authority-unreachable",
            Self::TimedOut => "authority-timed-out",
            Self::Unintelligible => "authority-unintelligible",
            Self::Stale => "authority-stale",
            Self::Busy => "authority-busy",
        }
    }

    /// What is wrong, for whoever asked.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Unreachable => "who decides cannot be reached, and nobody new is let in meanwhile",
            Self::TimedOut => "who decides did not answer in time",
            Self::Unintelligible => "who decides gave no answer that is one",
            Self::Stale => "what is known here is too old to let anybody new in by it",
            Self::Busy => "who decides is asked too much already",
        }
    }
}

impl Permit {
    pub fn new(subject: Subject, source_app: Option<SourceApp>, until: Instant) -> Self {
        Self {
            subject,
            source_app,
            until,
            issued: None,
            grounds: None,
            used: AtomicBool::new(false),
            revoked: watch::Sender::new(false),
        }
    }

    /// The same, by a token that was issued then.
    pub fn issued_at(self, issued: Option<Timestamp>) -> Self {
        Self { issued, ..self }
    }

    /// The same, and it is taken back when these grounds are.
    pub fn standing_on(self, grounds: Grounds) -> Self {
        Self { grounds: Some(grounds), ..self }
    }

    /// Whether it is used for the first time, which it is once.
    pub fn is_new(&self) -> bool {
        !self.used.load(Ordering::Relaxed) && !self.used.swap(true, Ordering::Relaxed)
    }

    /// Takes it back: whatever stream is bound to it ends.
    pub fn revoke(&self) {
        self.revoked.send_replace(true);
    }

    pub fn is_revoked(&self) -> bool {
        *self.revoked.borrow()
    }

    /// Waits until it is taken back.
    pub async fn revoked(&self) {
        let mut revoked = self.revoked.subscribe();
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ended = revoked.wait_for(|revoked| *revoked).await;
    }
}

impl Subject {
    pub fn as_header(&self) -> &HeaderValue {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        as_text(&self.0)
    }
}

impl SourceApp {
    pub fn as_header(&self) -> &HeaderValue {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        as_text(&self.0)
    }
}

impl FromStr for Subject {
    type Err = Malformed;

    fn from_str(word: &str) -> Result<Self, Malformed> {
        visible(word, "subject").map(Self)
    }
}

impl FromStr for SourceApp {
    type Err = Malformed;

    fn from_str(word: &str) -> Result<Self, Malformed> {
        visible(word, "app").map(Self)
    }
}

fn visible(word: &str, what: &'static str) -> Result<HeaderValue, Malformed> {
    let malformed = || Malformed { word: word.into(), what, remedy: "visible ASCII without blanks is one" };
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(malformed());
    }
    HeaderValue::from_str(word).map_err(|_| malformed())
}

fn as_text(value: &HeaderValue) -> &str {
    value.to_str().expect("it was made of visible ASCII")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_subject_that_would_break_a_header_is_none() {
        for word in ["", "host:a b", "host:a\r\nX-Netpol-Subject: user:root", "user:\u{e9}"] {
            assert!(word.parse::<Subject>().is_err(), "{word:?}");
        }
    }

    #[tokio::test]
    async fn whoever_holds_a_permit_hears_that_it_is_taken_back() {
        let subject = "host:ci-1".parse().expect("a subject");
        let permit = Arc::new(Permit::new(subject, None, Instant::now() + Duration::from_secs(60)));
        let held = permit.clone();
        let stream = tokio::spawn(async move { held.revoked().await });
        permit.revoke();
        stream.await.expect("the stream ends");
        permit.revoked().await;
    }
}
