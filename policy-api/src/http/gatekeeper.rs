//! What gatekeepers ask over HTTP: to be told what they have to know, and to have written down what they decided. And the
//! question that other people's gatekeepers ask, each time, as Conjur answers it.

use std::{
    collections::HashSet,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
};

use axum::{
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::{
    Context,
    asked::{Asked, SMALL, fields_of},
    failure::Failure,
    gate::{self, RequestId, address},
    watch::{LINES, body_of, over},
};
use crate::{
    model::{
        Audience, Decision, GateNote, GateReport, GateVerdict, IdentityClaims, Invalid, Member, Origin, Privilege,
        ResourceId, Subject, Timestamp,
    },
    store::{Principal, Refusal, Rights},
    tls::Peer,
    watch::feed_gate,
};

pub(super) async fn watch(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let peer = request.extensions().get::<Option<Peer>>().cloned().flatten();
    let asked = Asked::read(request, SMALL).await?;
    let mut query = asked.query()?;
    let resource: ResourceId = query.required("resource", "name the resource that the gatekeeper stands before")?;
    let audience: Option<Audience> = query.parsed("audience")?;
    query.finish()?;
    if !context.store.is_following() {
        return Err(Failure::not_following());
    }
    let by = asked.principal();
    let over = over(&context, by);
    // Listened to before it is looked at, so that neither a removal nor a revocation falls between.
    match (by, peer) {
        (Principal::Node(_), Some(peer)) => drop(gate::known(&context, &peer)?),
        _ => context.store.read(|state| Rights::of(by, state, Timestamp::now()).map(drop))?,
    }
    debug!(who = %by, %resource, audience = audience.as_ref().map(Audience::as_str), "a gatekeeper watches");
    let (sender, receiver) = mpsc::channel(LINES);
    let feed = feed_gate(
        context.store.clone(),
        context.broker.clone(),
        resource,
        sender,
        context.timing,
        context.stop.clone(),
    );
    // Owned by the answer's body: it ends when its receiver is dropped with the connection, or when we stop.
    tokio::spawn(async move {
        tokio::select! {
            () = feed => {}
            () = over => {}
        }
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body_of(receiver)).into_response())
}

pub(super) async fn report(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    asked.no_query()?;
    let report = GateReport::from_json(asked.json()?)?;
    let lines = report.notes().count();
    if let Some(lines) = u32::try_from(lines).ok().and_then(NonZeroU32::new) {
        context.limits.decisions(asked.principal(), lines)?;
        let who = asked.principal().to_string();
        context.store.note_decisions(&who, asked.origin(), report.notes()).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Who was refused, where the gate in front of the endpoint does not know.
#[derive(Clone, Debug)]
pub(super) struct Asker(pub(super) String);

/// Whether whoever has this identity token may do something: 204, 403, or 401 where it proves nothing.
pub(super) async fn check(
    State(context): State<Context>,
    Path((_account, kind, resource)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let mut query = fields_of(request.uri())?;
    let check = query.standard("check", "is not `true`", "say `true`: this answers checks alone")?;
    let privilege: Privilege = query.required("privilege", "name what would be done, like `create`")?;
    let audience: Option<Audience> = query.parsed("audience")?;
    query.finish()?;
    if check != Some(true) {
        let invalid = Invalid::of("the parameter", "is not `true`", "say `true`: this answers checks alone");
        return Err(invalid.in_field("check").into());
    }
    let resource: ResourceId = resource.parse().map_err(|invalid: Invalid| invalid.in_field("resource"))?;
    if !context.store.is_following() {
        return Err(Failure::not_following());
    }
    let claims = prove(&context, &request, &resource, audience.as_ref())?;
    let subject = claims.sub.to_string();
    context.limits.named(&subject)?;
    let answer = decide(&context, &claims, &kind, &privilege, &resource);
    if answer.is_ok() && context.allowed_before.is_new(&claims.sub, &privilege, &resource) {
        let (origin, note) = first(&request, &subject, &privilege, &resource);
        if let Err(failure) = context.store.note_decisions(&subject, &origin, [note]).await {
            warn!(error = %failure, subject, %resource, "cannot write down that somebody was allowed something");
        }
    }
    let mut response = answer.map_or_else(IntoResponse::into_response, |()| StatusCode::NO_CONTENT.into_response());
    response.extensions_mut().insert(Asker(subject));
    Ok(response)
}

/// What the token says, if it is ours, good, and for this resource, or for whom the asker says it has to be.
fn prove(
    context: &Context,
    request: &Request,
    resource: &ResourceId,
    audience: Option<&Audience>,
) -> Result<IdentityClaims, Failure> {
    let proven = shown(request.headers()).and_then(|token| match context.broker.verify(&token) {
        Ok(claims) => Some(claims),
        Err(why) => {
            debug!(%why, "an identity token proves nothing");
            None
        }
    });
    let is_for = |claims: &IdentityClaims| match audience {
        Some(audience) => claims.aud == *audience,
        None => claims.aud.is_resource(resource),
    };
    proven.filter(is_for).ok_or_else(|| {
        // Who guesses is soon told nothing more.
        let from = address(request.extensions());
        from.and_then(|from| context.limits.unknown(from).err()).unwrap_or_else(Failure::unknown_caller)
    })
}

fn decide(
    context: &Context,
    claims: &IdentityClaims,
    kind: &str,
    privilege: &Privilege,
    resource: &ResourceId,
) -> Result<(), Failure> {
    if kind != "webservice" {
        return Err(Refusal::not_found("kind", "a kind of resource", kind, ["webservice"]).into());
    }
    context.store.read(|state| {
        state.known_resource(resource, "resource")?;
        let may = state.access().can(&Member::Subject(claims.sub.clone()), privilege, resource).is_some();
        if may {
            return Ok(());
        }
        let problem = format!("may not {privilege} on {resource}: no role of theirs has it");
        let remedy = "have somebody put them into one that has; `netpol who-can` shows which";
        Err(Refusal::forbidden("Authorization", &claims.sub, problem, remedy).into())
    })
}

/// Who was allowed what since we run, as far as it is remembered: only what is new is written down.
#[derive(Default)]
pub(super) struct AllowedBefore(Mutex<HashSet<(Subject, Privilege, ResourceId)>>);

impl AllowedBefore {
    const MOST: usize = 10_000;

    fn is_new(&self, subject: &Subject, privilege: &Privilege, resource: &ResourceId) -> bool {
        let mut before = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if before.len() >= Self::MOST {
            // What is forgotten is written down once more.
            before.clear();
        }
        before.insert((subject.clone(), privilege.clone(), resource.clone()))
    }
}

/// What the history is told of somebody who was allowed something for the first time.
fn first(request: &Request, who: &str, privilege: &Privilege, resource: &ResourceId) -> (Origin, GateNote) {
    let decision = Decision {
        at: Timestamp::now(),
        subject: Some(who.to_owned()),
        privilege: Some(privilege.clone()),
        method: request.method().to_string(),
        path: request.uri().path().chars().take(LONGEST_PATH).collect(),
        verdict: GateVerdict::Allow,
        reason: "for the first time".to_owned(),
        status: Some(StatusCode::NO_CONTENT.as_u16()),
        request_id: None,
        count: 1,
    };
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone());
    let origin = Origin { from: address(request.extensions()), request: id, reason: None };
    (origin, GateNote { resource: resource.clone(), decision: Some(decision), lost: 0 })
}

/// So much of a path as is kept for good.
const LONGEST_PATH: usize = 256;

/// The token, as `Bearer JWT`, or as Conjur's clients write it: `Token token="JWT"`, the JWT maybe in Base64. Nothing, where
/// there is more than one.
fn shown(headers: &HeaderMap) -> Option<String> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else { return None };
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    let quoted = rest.trim().strip_prefix("token=").filter(|_| scheme.eq_ignore_ascii_case("token"))?;
    let token = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if token.contains('.') {
        return Some(token.to_owned());
    }
    String::from_utf8(STANDARD.decode(token).ok()?).ok()
}
