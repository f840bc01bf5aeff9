//! Who is given which token: pure, by the state at that moment.
//!
//! An app's token is for the agent of the node where an instance of it is, and for nobody else; what nodes say of apps is not
//! believed but looked up.

use std::time::Duration;

use crate::{
    model::{
        IdentityClaims, IdentityToken, IdentityTokenId, IdentityTokenSpec, NodeName, Revoked, Subject, Target,
        Timestamp, TokenIssuer, TokenName,
    },
    store::{NodeGrant, Principal, Refusal, Rights, State, User},
};

/// A token that somebody is to have, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) claims: IdentityClaims,
    expires_at: Timestamp,
    renew_at: Timestamp,
}

/// Who a token is about, how that is known, and until when at most.
struct Proven {
    subject: Subject,
    place: Option<(Target, NodeName)>,
    token: Option<TokenName>,
    until: Option<Timestamp>,
}

/// What the asker is to have.
pub(super) fn grant(
    state: &State,
    by: &Principal,
    spec: &IdentityTokenSpec,
    id: IdentityTokenId,
    now: Timestamp,
) -> Result<Granted, Refusal> {
    let proven = match (by, &spec.instance) {
        (Principal::Node(node), Some(instance)) => placed(state, node, instance)?,
        (Principal::Node(node), None) => return Err(no_instance(node)),
        (_, Some(instance)) => {
            let problem = "is an instance, and only the agent of its node asks for it".to_owned();
            return Err(Refusal::forbidden("instance", instance, problem, "leave it out: the token is for who asks"));
        }
        (_, None) => bearer(state, by, now)?,
    };
    claims(state, proven, spec, id, now)
}

/// An instance that is on the node that asks. Where it is, if not there, is not told.
fn placed(state: &State, node: &NodeGrant, instance: &Target) -> Result<Proven, Refusal> {
    let Target { app, instance: number } = instance;
    let live = number.and_then(|number| state.instance(app, number)).filter(|live| live.node == node.name);
    if live.is_none() {
        let problem = format!("is not on node {}", node.name);
        return Err(Refusal::forbidden("instance", instance, problem, "ask for an instance that is live there"));
    }
    let whole = Target { app: app.clone(), instance: None };
    if [&whole, instance].into_iter().any(|target| state.isolation(target).is_some()) {
        let problem = "is isolated, and speaks with nobody".to_owned();
        return Err(Refusal::forbidden("instance", instance, problem, "end the isolation first"));
    }
    let place = Some((instance.clone(), node.name.clone()));
    Ok(Proven { subject: Subject::App(app.clone()), place, token: None, until: None })
}

fn no_instance(node: &NodeGrant) -> Refusal {
    let problem = "has no identity of its own".to_owned();
    Refusal::forbidden("instance", &node.name, problem, "name one of the node's instances, like `web/0`")
}

fn bearer(state: &State, by: &Principal, now: Timestamp) -> Result<Proven, Refusal> {
    let subject = by.subject(&Rights::of(by, state, now)?)?;
    let (token, until) = match by {
        Principal::User(User::Token(name, _)) => {
            (Some(name.clone()), state.replica().tokens.get(name).and_then(|token| token.expires_at))
        }
        Principal::User(User::Vouched { until, .. }) => (None, Some(*until)),
        Principal::Operator | Principal::Node(_) | Principal::Joining(..) | Principal::Itself => (None, None),
    };
    Ok(Proven { subject, place: None, token, until })
}

fn claims(
    state: &State,
    proven: Proven,
    spec: &IdentityTokenSpec,
    id: IdentityTokenId,
    now: Timestamp,
) -> Result<Granted, Refusal> {
    let no_time = || Refusal::Exhausted("points in time");
    let wanted = now.after(spec.lifetime).ok_or_else(no_time)?;
    let end = proven.until.map_or(wanted, |until| until.min(wanted)).unix_seconds();
    let begin = now.unix_seconds();
    let left = u64::try_from(end - begin).ok().filter(|left| *left > 0).ok_or_else(|| over(&proven.subject))?;
    let at = |seconds: i64| Timestamp::of_unix_milliseconds(seconds.saturating_mul(1_000)).ok_or_else(no_time);
    let expires_at = at(end)?;
    // A third of its life is left to get the next one.
    let renew_at = at(begin)?.after(Duration::from_secs(left) * 2 / 3).ok_or_else(no_time)?;
    let (instance, node) = proven.place.map(|(instance, node)| (instance.to_string(), node)).unzip();
    let claims = IdentityClaims {
        iss: TokenIssuer::of(state.history()),
        iat: now.unix_seconds().max(behind_revocations(state, &proven.subject, node.as_ref())),
        sub: proven.subject,
        aud: spec.audience.clone(),
        nbf: begin,
        exp: end,
        jti: id,
        instance,
        node,
        token: proven.token,
    };
    Ok(Granted { claims, expires_at, renew_at })
}

/// The first second that is behind all revocations of the subject and the node. What is issued when they are known is not revoked by them, though
/// the clock of another API may be ahead, and seconds are counted.
pub(super) fn behind_revocations(state: &State, subject: &Subject, node: Option<&NodeName>) -> i64 {
    let of = [Some(Revoked::Subject(subject.clone())), node.cloned().map(Revoked::Node)];
    let known = of.into_iter().flatten().filter_map(|of| state.replica().revocations.get(&of));
    let behind = known.map(|known| known.issued_before.unix_milliseconds().saturating_add(999) / 1_000);
    behind.max().unwrap_or(i64::MIN)
}

fn over(subject: &Subject) -> Refusal {
    let problem = "is vouched for no longer".to_owned();
    Refusal::forbidden("Authorization", subject, problem, "log in again, or show a token that is good for longer")
}

impl Granted {
    /// The answer, with this signed.
    pub(super) fn with(self, token: String) -> IdentityToken {
        let Self { claims, expires_at, renew_at } = self;
        IdentityToken { token, subject: claims.sub, audience: claims.aud, expires_at, renew_at, id: claims.jti }
    }
}
