//! Rules over HTTP.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};

use super::{
    Context,
    answer::{Page, with_etag},
    asked::{Asked, LARGE, SMALL},
    failure::Failure,
    moment::Moment,
};
use crate::{
    check,
    model::{ChangeSet, CheckQuery, Invalid, NodeName, Rule, RuleFilter, RuleId, RuleSpec, RuleView, Selector, Usage},
    store::{Command, Refusal, State as Standing},
};

pub(super) async fn create(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let spec = RuleSpec::from_json(asked.json()?)?;
    asked.write_rules(&context, Command::PutRule(spec)).await
}

pub(super) async fn change(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(request, LARGE).await?;
    let set = ChangeSet::from_json(asked.json()?)?;
    asked.write_rules(&context, Command::Change(set)).await
}

pub(super) async fn remove(
    State(context): State<Context>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    asked.write_rules(&context, Command::DeleteRule(rule_id(&id)?)).await
}

pub(super) async fn show(
    State(context): State<Context>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    Asked::read(request, SMALL).await?.no_query()?;
    let id = rule_id(&id)?;
    let (rule, etag) = context.store.read(|state| (state.rule(id).cloned(), state.etag()));
    let rule = rule.ok_or_else(|| Refusal::not_found("id", "a rule", &id.to_string(), []))?;
    let view = views(&context, vec![rule]).next();
    Ok(with_etag(&etag, Json(view)))
}

pub(super) async fn list(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let mut query = Asked::read(request, SMALL).await?.query()?;
    let page = Page::from_fields(&mut query)?;
    let filter = RuleFilter::from_fields(&mut query)?;
    let moment = Moment::from_fields(&mut query)?;
    query.finish()?;
    let after: Option<RuleId> = page.after()?;
    let look = |state: &Standing| {
        refuse_unknown(state, &filter)?;
        let rules = state.rules_matching(&filter, after, page.limit + 1);
        Ok::<_, Refusal>((rules, state.revision(), state.etag()))
    };
    let (rules, revision, etag) = moment.read(&context, look).await??;
    let place = |view: &RuleView| view.rule.id.to_string();
    match moment {
        Moment::Now => Ok(with_etag(&etag, Json(page.of(revision, views(&context, rules), place)))),
        // Nothing can be bound to what is past, and what rules were used for until then nobody wrote down.
        Moment::Past(_) => {
            let views = rules.into_iter().map(|rule| RuleView { rule: Rule::clone(&rule), usage: Usage::default() });
            Ok(Json(page.of(revision, views, place)).into_response())
        }
    }
}

/// Rules with what they are used for.
fn views(context: &Context, rules: Vec<Arc<Rule>>) -> impl Iterator<Item = RuleView> {
    let registered: Vec<NodeName> = context.store.read(|state| state.replica().nodes.keys().cloned().collect());
    let connected: BTreeSet<NodeName> =
        registered.into_iter().filter(|node| context.presence.seen(node).is_connected()).collect();
    let usage = context.store.usage(rules.iter().map(|rule| rule.id), |node| connected.contains(node));
    rules.into_iter().zip(usage).map(|(rule, usage)| RuleView { rule: Rule::clone(&rule), usage })
}

/// A list for a mistyped name would be empty, and look as if there were no rules.
fn refuse_unknown(state: &Standing, filter: &RuleFilter) -> Result<(), Refusal> {
    for (field, side) in [("source", &filter.source), ("destination", &filter.destination)] {
        match side {
            Some(Selector::App(name)) => drop(state.known_app(name, field)?),
            Some(Selector::Group(name)) => drop(state.known_group(name, field)?),
            Some(Selector::Any | Selector::Host) | None => {}
        }
    }
    filter.app.as_ref().map_or(Ok(()), |name| state.known_app(name, "app").map(drop))
}

pub(super) async fn check(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let mut fields = Asked::read(request, SMALL).await?.query()?;
    let moment = Moment::from_fields(&mut fields)?;
    let query = CheckQuery::from_fields(fields)?;
    let answer = moment.read(&context, |state| check::check(state, &query)).await??;
    Ok(Json(answer).into_response())
}

fn rule_id(text: &str) -> Result<RuleId, Failure> {
    Ok(text.parse().map_err(|invalid: Invalid| invalid.in_field("id"))?)
}
