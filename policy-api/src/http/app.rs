//! Apps and isolation over HTTP: their settings, their end.

use axum::{
    Json,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};

use super::{
    Context,
    answer::Page,
    asked::{Asked, SMALL},
    failure::Failure,
    read::behind,
};
use crate::{
    model::{AppName, AppSettings, Invalid, IsolationSpec, Target},
    store::Command,
};

pub(super) async fn set(
    State(context): State<Context>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let name = app_name(&name)?;
    let settings = AppSettings::from_json(asked.json()?)?;
    asked.write_rules(&context, Command::SetApp(name, settings)).await
}

pub(super) async fn remove(
    State(context): State<Context>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    asked.write_rules(&context, Command::DeleteApp(app_name(&name)?)).await
}

pub(super) async fn isolate(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let spec = IsolationSpec::from_json(asked.json()?)?;
    asked.write_rules(&context, Command::Isolate(spec)).await
}

pub(super) async fn isolations(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let mut query = Asked::read(request, SMALL).await?.query()?;
    let page = Page::from_fields(&mut query)?;
    query.finish()?;
    let after: Option<Target> = page.after()?;
    let list = context.store.read(|state| {
        let isolations = state.replica().isolations.range(behind(after)).map(|(_, isolation)| isolation.clone());
        page.of(state.revision(), isolations, |isolation| isolation.target().to_string())
    });
    Ok(Json(list).into_response())
}

pub(super) async fn end_of_app(
    State(context): State<Context>,
    Path(app): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    end(&context, &app, None, request).await
}

pub(super) async fn end_of_instance(
    State(context): State<Context>,
    Path((app, instance)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    end(&context, &app, Some(&instance), request).await
}

async fn end(context: &Context, app: &str, instance: Option<&str>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let app = app.parse().map_err(|invalid: Invalid| invalid.in_field("app"))?;
    let instance = instance.map(number).transpose()?;
    asked.write_rules(context, Command::EndIsolation(Target { app, instance })).await
}

fn number(text: &str) -> Result<u32, Failure> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let refuse = || Invalid::new(text, "is not an instance", "use its number, like `0`").in_field("instance");
    Ok(text.parse().ok().filter(|_| plain).ok_or_else(refuse)?)
}

fn app_name(text: &str) -> Result<AppName, Failure> {
    Ok(text.parse().map_err(|invalid: Invalid| invalid.in_field("name"))?)
}
