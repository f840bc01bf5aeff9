//! Who may do what on which resource, over HTTP: what stands of it, and the questions. It is written by change sets.

use std::str::FromStr;

use axum::{
    Json,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{
    Context,
    answer::Page,
    asked::{Asked, SMALL},
    failure::Failure,
    moment::Moment,
    read::behind,
};
use crate::{
    model::{CanQuery, Fields, Invalid, InvalidField, LayerName, List, ResourceId, RoleName, Subject, WhoCanQuery},
    store::{Refusal, State as Standing},
};

pub(super) async fn layers(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    listed(&context, request, |state, page| {
        let layers = state.access().layers().range(behind(page.after::<LayerName>()?));
        Ok(page.of(state.revision(), layers.map(|(_, layer)| layer.clone()), |layer| layer.name.to_string()))
    })
    .await
}

pub(super) async fn roles(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    listed(&context, request, |state, page| {
        let roles = state.access().roles().range(behind(page.after::<RoleName>()?));
        Ok(page.of(state.revision(), roles.map(|(_, role)| role.clone()), |role| role.name.to_string()))
    })
    .await
}

pub(super) async fn resources(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    listed(&context, request, |state, page| {
        let resources = state.access().resources().range(behind(page.after::<ResourceId>()?));
        Ok(page.of(state.revision(), resources.map(|(_, it)| it.clone()), |resource| resource.id.to_string()))
    })
    .await
}

async fn listed<T: Serialize>(
    context: &Context,
    request: Request,
    look: impl FnOnce(&Standing, &Page) -> Result<List<T>, Failure>,
) -> Result<Response, Failure> {
    let (page, moment, query) = paged(request).await?;
    query.finish()?;
    let list = moment.read(context, |state| look(state, &page)).await??;
    Ok(Json(list).into_response())
}

async fn paged(request: Request) -> Result<(Page, Moment, Fields), Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let mut query = asked.query()?;
    let page = Page::from_fields(&mut query)?;
    let moment = Moment::from_fields(&mut query, asked.principal())?;
    Ok((page, moment, query))
}

pub(super) async fn layer(
    State(context): State<Context>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let name: LayerName = named("layer", &name)?;
    shown(&context, request, |state| Ok(state.known_layer(&name, "layer")?.clone())).await
}

pub(super) async fn role(
    State(context): State<Context>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let name: RoleName = named("role", &name)?;
    shown(&context, request, |state| Ok(state.known_role(&name, "role")?.clone())).await
}

pub(super) async fn resource(
    State(context): State<Context>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let id: ResourceId = named("resource", &id)?;
    shown(&context, request, |state| Ok(state.known_resource(&id, "resource")?.clone())).await
}

async fn shown<T: Serialize>(
    context: &Context,
    request: Request,
    look: impl FnOnce(&Standing) -> Result<T, Refusal>,
) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let mut query = asked.query()?;
    let moment = Moment::from_fields(&mut query, asked.principal())?;
    query.finish()?;
    Ok(Json(moment.read(context, look).await??).into_response())
}

pub(super) async fn can(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let mut fields = asked.query()?;
    let moment = Moment::from_fields(&mut fields, asked.principal())?;
    let query = CanQuery::from_fields(fields)?;
    Ok(Json(moment.read(&context, |state| state.can(&query)).await??).into_response())
}

pub(super) async fn who_can(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let mut fields = asked.query()?;
    let moment = Moment::from_fields(&mut fields, asked.principal())?;
    let query = WhoCanQuery::from_fields(fields)?;
    Ok(Json(moment.read(&context, |state| state.who_can(&query)).await??).into_response())
}

/// Where a row of the report is: `production/release-bot host:ci-1`. Neither part has a space in it.
struct Place((ResourceId, Subject));

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (resource, subject) = text.split_once(' ').ok_or(())?;
        Ok(Self((resource.parse().map_err(|_| ())?, subject.parse().map_err(|_| ())?)))
    }
}

pub(super) async fn permissions(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let (page, moment, mut query) = paged(request).await?;
    let resource: Option<ResourceId> = query.parsed("resource")?;
    let subject: Option<Subject> = query.parsed("subject")?;
    query.finish()?;
    let after = page.after::<Place>()?.map(|place| place.0);
    let look = |state: &Standing| {
        let rows = state.permissions(resource.as_ref(), subject.as_ref(), after.as_ref())?;
        Ok::<_, Refusal>(page.of(state.revision(), rows, |row| format!("{} {}", row.resource, row.subject)))
    };
    let list = moment.read(&context, look).await??;
    Ok(Json(list).into_response())
}

fn named<T: FromStr<Err = Invalid>>(field: &'static str, text: &str) -> Result<T, InvalidField> {
    text.parse().map_err(|invalid: Invalid| invalid.in_field(field))
}
