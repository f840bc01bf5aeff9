//! What nodes ask for and say, each with its own token and for itself only.

use std::net::IpAddr;

use axum::{
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    Context,
    asked::{Asked, LARGE, SMALL},
    failure::Failure,
};
use crate::{
    model::{Claim, Invalid, Join, NodeName, Report, Timestamp, UsageReport},
    store::{Command, Refusal, State as Standing, Write},
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
    asked.write(&context, Command::Join(join), false).await
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
