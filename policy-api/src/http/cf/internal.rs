//! Paths for agents, which prove themselves by their node's certificate. A node is told what concerns apps that it may run.

use std::collections::BTreeSet;

use axum::extract::{Query, Request, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    answer::{self, Answer, Refused},
    caller,
    policy::{self, Filter, listed, of_state},
};
use crate::{
    http::{Context, asked},
    model::AppName,
};

/// The version in the path is not looked at, as in theirs.
pub(super) async fn policies(State(context): State<Context>, mut request: Request) -> Answer {
    let node = caller::internal(&context, &mut request).await?;
    let filter = parameter(&request, "id")
        .map_or(Filter::All, |ids| Filter::Either(ids.split(',').map(str::to_owned).collect::<BTreeSet<_>>()));
    let shown: Vec<Value> = context.store.read(|state| {
        let policies = of_state(state, &filter);
        let its = policies.iter().filter(|policy| node.may_run(&policy.source) || node.may_run(&policy.destination));
        its.filter_map(|policy| policy.show_tagged(state)).collect()
    });
    answer::of(&listed(&shown))
}

/// A number that grows when rules change, and then alone: their revision. It is no time, which can go back.
pub(super) async fn last_updated(State(context): State<Context>, mut request: Request) -> Answer {
    caller::internal(&context, &mut request).await?;
    answer::of(&context.store.read(|state| state.etag().revision.0))
}

#[derive(Deserialize)]
struct Tagged {
    id: String,
    r#type: String,
}

/// The tag of an app that is there. Theirs makes one up for what is not; ours come with an app's first rule or instance.
fn tag_of(context: &Context, wanted: &Tagged) -> Answer {
    let name: Result<AppName, _> = wanted.id.parse();
    let app = name.ok().and_then(|name| context.store.read(|state| state.app(&name).cloned()));
    let app = app.ok_or_else(|| Refused::failed("database create failed"))?;
    answer::of(&json!({"id": wanted.id, "type": wanted.r#type, "tag": policy::tag(&app)}))
}

pub(super) async fn tag(State(context): State<Context>, mut request: Request) -> Answer {
    caller::internal(&context, &mut request).await?;
    let unreadable = || Refused::bad("failed parsing request body");
    let body = asked::open_json(request, asked::SMALL).await.map_err(|_| unreadable())?;
    tag_of(&context, &serde_json::from_value(body).map_err(|_| unreadable())?)
}

/// There are none: what leaves the overlay is no matter of these rules.
pub(super) async fn security_groups(State(context): State<Context>, mut request: Request) -> Answer {
    caller::internal(&context, &mut request).await?;
    for name in ["limit", "from"] {
        if parameter(&request, name).is_some_and(|text| text.parse::<i64>().is_err()) {
            return Err(Refused::failed(format!("invalid value for '{name}' parameter")));
        }
    }
    answer::of(&json!({"next": 0, "security_groups": []}))
}

fn parameter(request: &Request, name: &str) -> Option<String> {
    let Query(all) = Query::<Vec<(String, String)>>::try_from_uri(request.uri()).ok()?;
    all.into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}
