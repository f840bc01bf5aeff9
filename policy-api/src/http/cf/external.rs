//! Paths for users: the order of checks is theirs, version, header, token, scope, body, JSON, policies, then the store.

use std::collections::BTreeSet;

use axum::{
    extract::{Path, Query, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    answer::{self, Answer, Refused},
    caller::{self, Scope},
    policy::{Filter, Policy, listed, of_state, tag},
    wire::{self, Version},
};
use crate::{
    http::{Context, asked::Asked},
    model::{AppName, ChangeSet, RuleId},
    store::{Command, Refusal},
};

/// As large as bodies may be in theirs.
const LARGEST: usize = 10 << 20;

pub(super) async fn health(State(context): State<Context>) -> Response {
    match context.store.is_healthy() {
        true => StatusCode::OK.into_response(),
        false => Refused::failed("check database failed").into_response(),
    }
}

pub(super) async fn list(State(context): State<Context>, Path(version): Path<String>, mut request: Request) -> Answer {
    let version = Version::parse(&version)?;
    caller::external(&context, &mut request, Scope::Write).await?;
    let filter = filter(&request);
    let policies = context.store.read(|state| of_state(state, &filter));
    let shown: Vec<Value> = policies.iter().filter_map(|policy| policy.show(version)).collect();
    answer::of(&listed(&shown))
}

/// Of each parameter the first counts; `id` makes the others count for nothing.
fn filter(request: &Request) -> Filter {
    let parameters = Query::<Vec<(String, String)>>::try_from_uri(request.uri()).map(|Query(all)| all);
    let parameters = parameters.unwrap_or_default();
    let ids = |name: &str| {
        let (_, list) = parameters.iter().find(|(known, _)| known == name)?;
        Some(list.split(',').map(str::to_owned).collect::<BTreeSet<_>>())
    };
    match (ids("id"), ids("source_id"), ids("dest_id")) {
        (Some(ids), ..) => Filter::Either(ids),
        (None, None, None) => Filter::All,
        (None, sources, destinations) => Filter::Sides { sources, destinations },
    }
}

pub(super) async fn create(State(context): State<Context>, Path(version): Path<String>, request: Request) -> Answer {
    let (asked, policies) = read(&context, &version, request, "failed reading request body").await?;
    let rules = policies.iter().map(Policy::rule).collect::<Result<_, _>>()?;
    let set = Command::Change(ChangeSet::of_rules(rules, Vec::new()));
    asked.command(&context, set).await.map_err(|refusal| Refused::of_store(&refusal, "database create failed"))?;
    answer::of(&json!({}))
}

/// How often policies are looked for again, because somebody else deleted one of them in between, or wrote one by another API
/// of which this one had not heard.
const ATTEMPTS: usize = 5;

pub(super) async fn delete(State(context): State<Context>, Path(version): Path<String>, request: Request) -> Answer {
    let (asked, policies) = read(&context, &version, request, "invalid request body").await?;
    let mut attempt = 1;
    loop {
        let set = Command::Change(ChangeSet::of_rules(Vec::new(), standing(&context, &policies)?));
        match asked.command(&context, set).await {
            // Also a command of nothing is one of all that was committed before, which by now we have heard of.
            Ok(_) if standing(&context, &policies)?.is_empty() => return answer::of(&json!({})),
            Ok(_) | Err(Refusal::NotFound(..)) if attempt < ATTEMPTS => attempt += 1,
            Ok(_) => return Err(Refused::failed("database delete failed")),
            Err(refusal) => return Err(Refused::of_store(&refusal, "database delete failed")),
        }
    }
}

fn standing(context: &Context, policies: &[Policy]) -> Result<Vec<RuleId>, Refused> {
    let ids: BTreeSet<RuleId> = context.store.read(|state| {
        let of = |policy: &Policy| policy.standing(state);
        Ok::<_, Refused>(policies.iter().map(of).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    })?;
    Ok(ids.into_iter().collect())
}

async fn read(
    context: &Context,
    version: &str,
    mut request: Request,
    unreadable: &str,
) -> Result<(Asked, Vec<Policy>), Refused> {
    let version = Version::parse(version)?;
    caller::external(context, &mut request, Scope::Write).await?;
    let asked = Asked::read(request, LARGEST).await.map_err(|_| Refused::bad(unreadable))?;
    let policies = wire::policies(version, asked.body())?;
    Ok((asked, policies))
}

/// There is nothing to clean up: an app that rules name is there.
pub(super) async fn clean_up(
    State(context): State<Context>,
    Path(version): Path<String>,
    mut request: Request,
) -> Answer {
    Version::parse(&version)?;
    caller::external(&context, &mut request, Scope::Admin).await?;
    answer::of(&listed(&[]))
}

pub(super) async fn tags(State(context): State<Context>, Path(version): Path<String>, mut request: Request) -> Answer {
    Version::parse(&version)?;
    caller::external(&context, &mut request, Scope::Admin).await?;
    let tags: Vec<Value> = context.store.read(|state| {
        let policies = of_state(state, &Filter::All);
        let names: BTreeSet<&AppName> =
            policies.iter().flat_map(|policy| [&policy.source, &policy.destination]).collect();
        let apps = names.into_iter().filter_map(|name| state.app(name));
        apps.map(|app| json!({"id": app.name, "tag": tag(app), "type": "app"})).collect()
    });
    answer::of(&json!({"tags": tags}))
}

pub(super) async fn whoami(
    State(context): State<Context>,
    Path(version): Path<String>,
    mut request: Request,
) -> Answer {
    Version::parse(&version)?;
    let principal = caller::external(&context, &mut request, Scope::Admin).await?;
    answer::of(&json!({"subject": principal.to_string()}))
}
