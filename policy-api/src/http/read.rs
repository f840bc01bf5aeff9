//! Reading what stands: apps, instances, bindings, nodes, the API in numbers.

use std::{net::IpAddr, ops::Bound, str::FromStr};

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};

use common::Identity;

use super::{
    Context,
    answer::Page,
    asked::{Asked, SMALL},
    failure::Failure,
    moment::Moment,
};
use crate::{
    model::{AppName, GroupName, NodeName, NodeView, Status, Timestamp},
    store::{Place, Refusal, State as Standing},
    watch::Seen,
};

/// Where a page starts.
pub(super) fn behind<T>(after: Option<T>) -> (Bound<T>, Bound<T>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

pub(super) async fn only_page(request: Request) -> Result<Page, Failure> {
    let mut query = Asked::read(request, SMALL).await?.query()?;
    let page = Page::from_fields(&mut query)?;
    query.finish()?;
    Ok(page)
}

pub(super) async fn apps(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let mut query = asked.query()?;
    let page = Page::from_fields(&mut query)?;
    let moment = Moment::from_fields(&mut query, asked.principal())?;
    query.finish()?;
    let range = behind(page.after::<AppName>()?);
    let look = |state: &Standing| {
        let apps = state.replica().apps.range(range).map(|(_, app)| app.clone());
        page.of(state.revision(), apps, |app| app.name.to_string())
    };
    let list = moment.read(&context, look).await?;
    Ok(Json(list).into_response())
}

pub(super) async fn groups(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let page = only_page(request).await?;
    let range = behind(page.after::<GroupName>()?);
    let list = context.store.read(|state| {
        let groups = state.replica().groups.range(range).map(|(_, group)| group.clone());
        page.of(state.revision(), groups, |group| group.name.to_string())
    });
    Ok(Json(list).into_response())
}

pub(super) async fn bindings(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let page = only_page(request).await?;
    let range = behind(page.after::<IpAddr>()?);
    let list = context.store.read(|state| {
        let bindings = state.replica().bindings.range(range).map(|(_, binding)| binding.clone());
        page.of(state.revision(), bindings, |binding| binding.address.to_string())
    });
    Ok(Json(list).into_response())
}

/// Where an address of an instance is in the list: `web/0/10.255.1.7`.
struct Behind(Place);

impl FromStr for Behind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let parse = || {
            let mut parts = text.splitn(3, '/');
            let (app, number, address) = (parts.next()?, parts.next()?, parts.next()?);
            Some(Self((app.parse().ok()?, number.parse().ok()?, address.parse().ok()?)))
        };
        parse().ok_or(())
    }
}

pub(super) async fn instances(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let mut query = asked.query()?;
    let page = Page::from_fields(&mut query)?;
    let app: Option<AppName> = query.parsed("app")?;
    let moment = Moment::from_fields(&mut query, asked.principal())?;
    query.finish()?;
    let after: Option<Behind> = page.after()?;
    let look = |state: &Standing| {
        if let Some(app) = app.as_ref().filter(|app| state.app(app).is_none()) {
            let known = state.replica().apps.keys().map(AppName::as_str);
            return Err(Refusal::not_found("app", "an app", app.as_str(), known));
        }
        let bindings = state.live_bindings(app.as_ref(), after.as_ref().map(|Behind(place)| place)).cloned();
        Ok(page.of(state.revision(), bindings, |binding| format!("{}/{}", binding.instance_name(), binding.address)))
    };
    let list = moment.read(&context, look).await??;
    Ok(Json(list).into_response())
}

pub(super) async fn nodes(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let page = only_page(request).await?;
    let range = behind(page.after::<NodeName>()?);
    let list = context.store.read(|state| {
        let views = state.replica().nodes.range(range).map(|(name, node)| {
            let capacity = state.capacity(name).unwrap_or(0);
            let applied = context.presence.applied(name);
            NodeView { applied, ..view(crate::model::Node::clone(node), context.presence.seen(name), capacity) }
        });
        page.of(state.revision(), views, |view| view.node.name.to_string())
    });
    Ok(Json(list).into_response())
}

fn view(node: crate::model::Node, seen: Seen, rows_capacity: u64) -> NodeView {
    let connected = seen.is_connected();
    let (report, time) = seen.report.unzip();
    NodeView {
        node,
        connected,
        applied: report.as_ref().map(|report| report.applied),
        last_report: time,
        ready: report.as_ref().is_some_and(|report| report.ready),
        rows_used: report.as_ref().map_or(0, |report| report.rows_used),
        rows_capacity,
        clock: report.as_ref().and_then(|report| report.clock),
        detail: report.and_then(|report| report.detail),
    }
}

pub(super) async fn status(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    Asked::read(request, SMALL).await?.no_query()?;
    Ok(Json(numbers(&context)).into_response())
}

/// The API in numbers.
pub(super) fn numbers(context: &Context) -> Status {
    let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    context.store.read(|state| {
        let replica = state.replica();
        let seen: Vec<Seen> = replica.nodes.keys().map(|name| context.presence.seen(name)).collect();
        let connected = || seen.iter().filter(|seen| seen.is_connected());
        let ready = connected().filter(|seen| seen.report.as_ref().is_some_and(|(report, _)| report.ready));
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now: Timestamp::now(),
            history: state.history().clone(),
            revision: state.revision(),
            overlay: state.overlay(),
            apps: count(replica.apps.len()),
            identities_given: state.identities_given(),
            identities_capacity: Identity::LAST_APP.number() - Identity::FIRST_APP.number() + 1,
            rules: count(replica.rules.len()),
            rows: state.rows(),
            rows_capacity: state.smallest_capacity().map(|(_, rows)| rows),
            instances: count(state.live_instances()),
            nodes: count(replica.nodes.len()),
            nodes_connected: count(connected().count()),
            nodes_ready: count(ready.count()),
            store_healthy: context.store.is_healthy(),
        }
    })
}
