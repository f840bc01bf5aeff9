//! Who asks, in their words: their scopes by our principals, which our own gate knows.

use std::sync::{Arc, OnceLock};

use axum::{
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    routing::any,
};

use super::answer::Refused;
use crate::{
    http::{
        Context,
        endpoint::{Access, Endpoint},
        gate::{Gate, Shown},
    },
    model::Timestamp,
    store::{NodeGrant, Principal, Rights},
};

/// What theirs calls the right to change policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Admin,
    Write,
}

/// Who asks, for whoever writes refusals down: known once the check of it had its turn.
#[derive(Clone, Default)]
pub(super) struct Asker(Arc<OnceLock<String>>);

impl Asker {
    /// Of a request that is still to be looked at.
    pub(super) fn of(request: &mut Request) -> Self {
        let asker = Self::default();
        request.extensions_mut().insert(asker.clone());
        asker
    }

    pub(super) fn name(&self) -> &str {
        self.0.get().map_or("nobody known", String::as_str)
    }

    fn is(&self, who: &Principal) {
        self.0.get_or_init(|| who.to_string());
    }
}

/// What a request shows of its asker, and where he is made known.
struct Knock {
    shown: Shown,
    asker: Asker,
}

impl Knock {
    fn of(request: &Request) -> Self {
        Self { shown: Shown::of(request), asker: request.extensions().get().cloned().unwrap_or_default() }
    }
}

/// Anybody who is known may knock.
static DOOR: Endpoint = Endpoint {
    method: "any",
    path: "/networking",
    access: Access::Known,
    summary: "Cloud Foundry's policy server",
    query: &[],
    body: &[],
    answers: &[],
    handler: || any(|| async {}),
};

/// Who asks an external path, if they have this scope.
pub(super) async fn external(context: &Context, request: &mut Request, wanted: Scope) -> Result<Principal, Refused> {
    let value = request.headers().get(header::AUTHORIZATION).ok_or_else(|| unknown("missing authorization header"))?;
    let refuse = || unknown(NO_TOKEN);
    let text = value.to_str().map_err(|_| refuse())?;
    let token = text.strip_prefix("Bearer ").or_else(|| text.strip_prefix("bearer ")).unwrap_or(text);
    let value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| refuse())?;
    request.headers_mut().insert(header::AUTHORIZATION, value);
    let principal = admit(context, Knock::of(request), NO_TOKEN).await?.ok_or_else(refuse)?;
    check(context, &principal, wanted)?;
    request.extensions_mut().insert(principal.clone());
    Ok(principal)
}

/// The node that asks an internal path, by its certificate.
pub(super) async fn internal(context: &Context, request: &mut Request) -> Result<NodeGrant, Refused> {
    let refuse = || unknown(NO_CERTIFICATE);
    if request.headers().contains_key(header::AUTHORIZATION) {
        return Err(refuse());
    }
    match admit(context, Knock::of(request), NO_CERTIFICATE).await? {
        Some(Principal::Node(grant)) => Ok(grant),
        Some(Principal::Operator | Principal::User(_) | Principal::Joining(..) | Principal::Itself) | None => {
            Err(refuse())
        }
    }
}

const NO_TOKEN: &str = "failed to verify token with uaa";
const NO_CERTIFICATE: &str = "a node's certificate is required";

fn unknown(text: &str) -> Refused {
    Refused::new(StatusCode::UNAUTHORIZED, text)
}

async fn admit(context: &Context, knock: Knock, not_known: &str) -> Result<Option<Principal>, Refused> {
    let gate = Gate { context: context.clone(), endpoint: &DOOR, index: 0 };
    let admitted = gate.admit(knock.shown).await;
    if let Ok(Some(who)) | Err((_, Some(who))) = &admitted {
        knock.asker.is(who);
    }
    admitted.map_err(|(failure, _)| match failure.status() {
        StatusCode::TOO_MANY_REQUESTS => Refused::new(StatusCode::TOO_MANY_REQUESTS, "too many requests"),
        StatusCode::FORBIDDEN => no_scope(Scope::Write, &[]),
        _ => unknown(not_known),
    })
}

/// Whether our roles are worth this scope; which apps they are good for, the planner says.
fn check(context: &Context, principal: &Principal, wanted: Scope) -> Result<(), Refused> {
    let rights = context.store.read(|state| Rights::of(principal, state, Timestamp::now()));
    let rights = rights.map_err(|_| unknown(NO_TOKEN))?;
    let scopes: &[&str] = match (rights.is_operator(), rights.writes_for_some()) {
        (true, _) => &["network.admin", "network.write"],
        (false, true) => &["network.write"],
        (false, false) => &[],
    };
    if scopes.iter().any(|scope| wanted.allowed().contains(scope)) { Ok(()) } else { Err(no_scope(wanted, scopes)) }
}

fn no_scope(wanted: Scope, scopes: &[&str]) -> Refused {
    let (has, allowed) = (scopes.join(" "), wanted.allowed().join(" "));
    Refused::new(StatusCode::FORBIDDEN, format!("provided scopes [{has}] do not include allowed scopes [{allowed}]"))
}

impl Scope {
    fn allowed(self) -> &'static [&'static str] {
        match self {
            Self::Admin => &["network.admin"],
            Self::Write => &["network.admin", "network.write"],
        }
    }
}
