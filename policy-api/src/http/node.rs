//! What nodes ask for and say, each by its own certificate and for itself only; and what operators do with nodes.

use std::net::IpAddr;

use axum::{
    Json,
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};

use tracing::{debug, error};

use super::{
    Context, Issuer, answer,
    asked::{Asked, LARGE, SMALL, open_json},
    failure::Failure,
};
use crate::{
    model::{Certified, Claim, Fields, Invalid, Join, Joined, NodeName, NodeSettings, Report, Timestamp, UsageReport},
    store::{Answer, Command, Refusal, Registration, State as Standing, Write},
    tls::ProvenKey,
};

pub(super) async fn join(
    State(context): State<Context>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    asked.node(&name)?;
    asked.no_query()?;
    let join = Join::from_json(asked.json()?)?;
    let key = join.csr.as_deref().map(proven).transpose()?;
    prove_place(&context, &node_name(&name)?, &join)?;
    let registration = Registration { underlay: join.underlay, key: key.as_ref().map(ProvenKey::id) };
    let answer = asked.do_write(&context, Command::Join(registration), false).await?;
    match (answer, key) {
        (Answer::Joined(joined), Some(key)) => {
            let certified = Some(certificate(&context, &joined.node.name, &key)?);
            Ok(answer::of_write(Answer::Joined(Joined { certified, ..joined })))
        }
        (answer, _) => Ok(answer::of_write(answer)),
    }
}

/// Challenges a node that would be known at another address than before, until it shows what it received there.
fn prove_place(context: &Context, node: &NodeName, join: &Join) -> Result<(), Failure> {
    let (challenger, underlay) = (&context.issuer.challenger, join.underlay);
    let stands = !context.store.read(|state| state.is_unproven(underlay));
    if stands || challenger.believes(node, underlay, join.proof.as_ref()) {
        return Ok(());
    }
    challenger.challenge(node, underlay).map_err(|error| {
        debug!(%error, %node, %underlay, "a challenge cannot be sent");
        Failure::beyond_reach(underlay, &error)
    })?;
    Err(Failure::unproven(underlay))
}

/// A new certificate for a node that holds the key it is registered with, whatever became of the one it had. Who else sends
/// such a request gets what is of no use without the key.
pub(super) async fn certify(
    State(context): State<Context>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let name = node_name(&name)?;
    let mut fields = Fields::of_body(open_json(request, CSR).await?)?;
    let csr = fields.text("csr")?.ok_or_else(|| fields.missing("csr", CSR_REMEDY))?;
    fields.finish()?;
    let key = proven(&csr)?;
    let known = context.store.read(|state| state.replica().nodes.get(&name).and_then(|node| node.key));
    if known != Some(key.id()) {
        return Err(Failure::not_the_key(&name));
    }
    Ok(Json(certificate(&context, &name, &key)?).into_response())
}

/// How large a request for a certificate may be, from whoever it comes.
const CSR: usize = 16 << 10;
const CSR_REMEDY: &str = "send a certificate signing request (PKCS #10, PEM) that is signed by the node's key";

fn proven(csr: &str) -> Result<ProvenKey, Failure> {
    let invalid = || Invalid::of("the request", "cannot be read or is not signed by its key", CSR_REMEDY);
    ProvenKey::of_request(csr).ok_or_else(|| invalid().in_field("csr").into())
}

fn certificate(context: &Context, node: &NodeName, key: &ProvenKey) -> Result<Certified, Failure> {
    let Issuer { authority, lifetime, .. } = &*context.issuer;
    let made = authority.node(node, key, time::OffsetDateTime::now_utc(), *lifetime);
    // At half of it: an API that is away for the other half stops no node.
    let certified = made.map(|certificate| Certified { certificate, renew_in: lifetime.as_secs() / 2 });
    certified.map_err(|failure| {
        error!(error = %failure, %node, "cannot make a certificate");
        Refusal::Store(failure.to_string()).into()
    })
}

pub(super) async fn set(
    State(context): State<Context>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let name = node_name(&name)?;
    let settings = NodeSettings::from_json(asked.json()?)?;
    asked.write_rules(&context, Command::SetNode(name, settings)).await
}

pub(super) async fn remove(
    State(context): State<Context>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let name = node_name(&name)?;
    let command = Command::RemoveNode(name.clone());
    // Who may not remove it must not void anything of it either.
    let may = context.store.preview(&command, asked.principal(), Timestamp::now()).is_ok();
    if may && !asked.is_dry_run()? {
        // First: without the node's record nothing says that the token was used.
        let store = context.store.clone();
        let voided = tokio::task::spawn_blocking(move || store.void_token(&name)).await;
        let failed = |failure: String| Refusal::Store(failure);
        voided.map_err(|panic| failed(panic.to_string()))?.map_err(|failure| failed(failure.to_string()))?;
    }
    asked.write_rules(&context, command).await
}

pub(super) async fn claim(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    asked.no_query()?;
    let claim = Claim::from_json(asked.json()?)?;
    asked.write(&context, Command::Claim(claim), false).await
}

pub(super) async fn release(
    State(context): State<Context>,
    Path(address): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    asked.no_query()?;
    let address: IpAddr = address.parse().map_err(|_| {
        Invalid::new(&address, "is not an address", "use an address of the node's slice").in_field("address")
    })?;
    asked.write(&context, Command::Release(address.to_canonical()), false).await
}

pub(super) async fn report(
    State(context): State<Context>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let name = asked.node(&name)?.name.clone();
    asked.no_query()?;
    let report = Report::from_json(asked.json()?)?;
    context.store.reach(report.applied).await;
    let known_capacity = context.store.read(|state| fits(state, &name, &report).map(|()| state.capacity(&name)))?;
    let rows = report.rows_capacity;
    // Whoever waits for this node hears of it before the disk does: the capacity below has no part in it.
    context.presence.report(&name, report, Timestamp::now());
    if known_capacity != Some(rows) {
        context.store.write(Write::new(Command::SetCapacity(rows), asked.principal().clone())).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn usage(
    State(context): State<Context>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(request, LARGE).await?;
    let name = asked.node(&name)?.name.clone();
    asked.no_query()?;
    let report = UsageReport::from_json(asked.json()?)?;
    context.store.note_usage(&name, &report)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The name of a node, as a path has it.
pub(super) fn node_name(text: &str) -> Result<NodeName, Failure> {
    Ok(text.parse().map_err(|invalid: Invalid| invalid.in_field("name"))?)
}

/// Whether the report can be about what stands here.
fn fits(state: &Standing, name: &NodeName, report: &Report) -> Result<(), Refusal> {
    if !state.replica().nodes.contains_key(name) {
        return Err(Refusal::conflict("name", name, "has not joined".to_owned(), "join first"));
    }
    if report.history != *state.history() {
        let problem = format!("is not the history of this store, {}", state.history());
        return Err(Refusal::conflict("history", &report.history, problem, "watch this store before reporting to it"));
    }
    if report.applied > state.revision() {
        let problem = format!("is behind the end of this store, {}", state.revision());
        return Err(Refusal::conflict("applied", report.applied, problem, "report revisions of this store"));
    }
    Ok(())
}
