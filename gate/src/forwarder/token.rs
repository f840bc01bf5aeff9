//! The tokens that a forwarder has: one for each audience, fetched before anybody asks and renewed ahead of its end, so that no
//! request waits for one. Where that fails the old one goes on until it ends.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderValue;
use policy_api::model::{Audience, Timestamp};
use serde::Deserialize;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use tracing::{debug, warn};

use super::source::{Source, SourceError};

/// What a source answers, as `POST /v1/identity-tokens` does.
#[derive(Clone, Deserialize)]
pub(super) struct Issued {
    pub(super) token: String,
    pub(super) expires_at: Timestamp,
    pub(super) renew_at: Timestamp,
}

/// The tokens of all audiences.
pub(super) struct Tokens(BTreeMap<Audience, Kept>);

struct Kept {
    held: watch::Receiver<Held>,
    doubted: Arc<Notify>,
}

/// What there is for one audience.
#[derive(Clone, Default)]
struct Held {
    token: Option<Token>,
    /// Why there is no newer one.
    trouble: Option<String>,
}

/// A token, ready to be shown.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) authorization: HeaderValue,
    until: Instant,
}

/// Between attempts: from the first failure to the last.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A token that somebody did not believe is replaced, but never sooner after the last one.
const DOUBT_PAUSE: Duration = Duration::from_secs(5);
/// A request waits so long for the first token.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before its end a token is not shown any more: it has to get there.
const MARGIN: Duration = Duration::from_secs(1);

impl Tokens {
    /// Begins to keep a token for each of these, until the tasks end.
    pub(super) fn keep(
        audiences: impl IntoIterator<Item = Audience>,
        source: &Arc<Source>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let keep = |audience: Audience| {
            let (sender, held) = watch::channel(Held::default());
            let doubted = Arc::new(Notify::new());
            tasks.spawn(keep_one(audience.clone(), source.clone(), sender, doubted.clone()));
            (audience, Kept { held, doubted })
        };
        Self(audiences.into_iter().map(keep).collect())
    }

    /// The token for an audience; waits for the first one, for a while. Else why there is none.
    pub(super) async fn token(&self, audience: &Audience) -> Result<Token, String> {
        let kept = self.0.get(audience).ok_or_else(|| "nobody keeps tokens for it".to_owned())?;
        if let Some(token) = kept.held.borrow().good() {
            return Ok(token);
        }
        let mut held = kept.held.clone();
        let waited = tokio::time::timeout(PATIENCE, held.wait_for(|held| held.good().is_some())).await;
        let found = match waited {
            Ok(Ok(held)) => held.good(),
            Ok(Err(_)) | Err(_) => None,
        };
        let trouble = || kept.held.borrow().trouble.clone().unwrap_or_else(|| "its source does not answer".to_owned());
        found.ok_or_else(trouble)
    }

    /// Says that a token was not believed, so that another one is fetched soon.
    pub(super) fn doubt(&self, audience: &Audience) {
        if let Some(kept) = self.0.get(audience) {
            kept.doubted.notify_one();
        }
    }
}

impl Held {
    fn good(&self) -> Option<Token> {
        self.token.clone().filter(|token| Instant::now() + MARGIN < token.until)
    }
}

async fn keep_one(audience: Audience, source: Arc<Source>, held: watch::Sender<Held>, doubted: Arc<Notify>) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let fetched = source.fetch(&audience).await.and_then(|issued| Token::of(&issued, Timestamp::now()));
        let wait = match fetched {
            Ok((token, renew_in)) => {
                debug!(%audience, renew_in_s = renew_in.as_secs(), "a token was fetched");
                held.send_replace(Held { token: Some(token), trouble: None });
                pause = SHORTEST_PAUSE;
                renew_in
            }
            Err(error) => {
                warn!(%audience, %error, "no new token; trying again");
                held.send_modify(|held| held.trouble = Some(error.to_string()));
                pause = (pause * 2).min(LONGEST_PAUSE);
                scattered(pause)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = doubted.notified() => tokio::time::sleep(DOUBT_PAUSE.min(wait)).await,
        }
    }
}

impl Token {
    /// The token, and in how long the next one is due: by the issuer's clock, whatever ours says.
    fn of(issued: &Issued, now: Timestamp) -> Result<(Self, Duration), SourceError> {
        let Issued { token, expires_at, renew_at } = issued;
        let since = issued_at(token).unwrap_or(now);
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| SourceError::NoToken)?;
        authorization.set_sensitive(true);
        let lasts = since.until(*expires_at);
        let token = Self { authorization, until: Instant::now() + lasts };
        Ok((token, scattered(since.until(*renew_at).max(SHORTEST_PAUSE))))
    }
}

/// When a token says that it was made. Whoever made it has just handed it over, so this is its clock's now.
fn issued_at(token: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Claims {
        iat: i64,
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    Timestamp::of_unix_milliseconds(claims.iat.checked_mul(1_000)?)
}

/// Up to a tenth sooner, so that those who began together do not come back together.
fn scattered(time: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness they do.
    let _ = getrandom::fill(&mut random);
    time - time * u32::from(random[0]) / 2_560
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(iat: i64, lasts: i64, renew: i64) -> Issued {
        let at = |seconds: i64| Timestamp::of_unix_milliseconds(seconds * 1_000).expect("a time");
        let claims = URL_SAFE_NO_PAD.encode(format!("{{\"iat\":{iat}}}"));
        Issued { token: format!("e30.{claims}.AAAA"), expires_at: at(iat + lasts), renew_at: at(iat + renew) }
    }

    #[test]
    fn a_token_is_renewed_by_its_issuers_clock_also_where_ours_is_wrong() {
        let ours = Timestamp::now();
        for iat in [0, ours.unix_seconds() - 86_400, ours.unix_seconds() + 86_400] {
            let (token, renew_in) = Token::of(&issued(iat, 300, 200), ours).expect("a token");
            let left = token.until - Instant::now();
            assert!((299..=300).contains(&left.as_secs()), "{left:?}");
            assert!((180..=200).contains(&renew_in.as_secs()), "{renew_in:?}");
        }
    }

    #[test]
    fn a_token_that_ends_is_not_shown_any_more() {
        let (token, _) = Token::of(&issued(100, 1, 1), Timestamp::now()).expect("a token");
        assert!(Held { token: Some(token), trouble: None }.good().is_none());
    }
}
