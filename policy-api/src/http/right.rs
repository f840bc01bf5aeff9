//! Who may, over HTTP: teams, tokens, requests, and questions about one's own rights.

use axum::{
    Json,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};

use super::{
    Context,
    asked::{Asked, SMALL},
    failure::Failure,
    read::{behind, only_page},
};
use crate::{
    model::{
        Action, ApiToken, Fields, Invalid, InvalidField, May, MayAnswer, RequestId, RuleSpec, TeamName, TeamSettings,
        Timestamp, TokenName, TokenSpec, TokenView, WhoAmI,
    },
    store::{Answer, Command, Principal, Refusal, Rights, User},
};

pub(super) async fn who_am_i(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    asked.no_query()?;
    let by = asked.principal();
    let answer = context.store.read(|state| {
        let rights = Rights::of(by, state, Timestamp::now())?;
        let expires_at = match by {
            Principal::User(User::Vouched { until, .. }) => Some(*until),
            Principal::User(User::Token(name, _)) => {
                state.replica().tokens.get(name).and_then(|token| token.expires_at)
            }
            Principal::Operator | Principal::Node(_) | Principal::Joining(..) | Principal::Itself => None,
        };
        Ok::<_, Refusal>(WhoAmI { who: by.to_string(), grants: rights.grants().clone(), expires_at })
    })?;
    Ok(Json(answer).into_response())
}

/// What somebody wonders whether they may do it.
enum Verb {
    Write(Action),
    Revoke,
}

pub(super) async fn can_i(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let (verb, spec) = wish(asked.query()?)?;
    let command = match verb {
        Verb::Write(_) => Command::PutRule(spec),
        Verb::Revoke => {
            let id = context.store.read(|state| state.rule_with(&spec.tuple()).map(|rule| rule.id));
            let Some(id) = id else {
                let text =
                    format!("there is no rule that allows just this from {} to {}", spec.source, spec.destination);
                return Ok(Json(MayAnswer { may: May::No, text }).into_response());
            };
            Command::DeleteRule(id)
        }
    };
    let answer = match context.store.preview(&command, asked.principal(), Timestamp::now()) {
        Ok(Answer::Asked(asked)) => {
            let of = asked.request.of.map_or_else(|| "an operator".to_owned(), |team| format!("team {team}"));
            MayAnswer { may: May::Ask, text: format!("not by yourself: {of} has to accept it") }
        }
        Ok(_) => MayAnswer { may: May::Yes, text: "yes".to_owned() },
        Err(refusal) => MayAnswer { may: May::No, text: refusal.to_string() },
    };
    Ok(Json(answer).into_response())
}

fn wish(mut query: Fields) -> Result<(Verb, RuleSpec), Failure> {
    let verb = query.text("verb")?.ok_or_else(|| query.missing("verb", VERBS))?;
    let verb = match verb.as_str() {
        "allow" => Verb::Write(Action::Allow),
        "deny" => Verb::Write(Action::Deny),
        "revoke" => Verb::Revoke,
        _ => return Err(Invalid::new(verb, "is nothing that one may", VERBS).in_field("verb").into()),
    };
    let action = match verb {
        Verb::Write(action) => action,
        Verb::Revoke => Action::Allow,
    };
    Ok((verb, RuleSpec::from_query(query, action)?))
}

const VERBS: &str = "use `allow`, `deny` or `revoke`";

pub(super) async fn teams(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let page = only_page(request).await?;
    let range = behind(page.after::<TeamName>()?);
    let list = context.store.read(|state| {
        let teams = state.replica().teams.range(range).map(|(_, team)| team.clone());
        page.of(state.revision(), teams, |team| team.name.to_string())
    });
    Ok(Json(list).into_response())
}

pub(super) async fn tokens(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let page = only_page(request).await?;
    let range = behind(page.after::<TokenName>()?);
    let used = &context.last_used;
    let list = context.store.read(|state| {
        used.keep(|hash| state.token_with(hash).is_some());
        let view = |token: &ApiToken| TokenView {
            last_used_at: used.of(token.hash.as_ref()),
            known_since: used.known_since().max(token.created_at),
            token: token.without_hash(),
        };
        let tokens = state.replica().tokens.range(range).map(|(_, token)| view(token));
        page.of(state.revision(), tokens, |view| view.token.name.to_string())
    });
    Ok(Json(list).into_response())
}

pub(super) async fn requests(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let page = only_page(request).await?;
    let range = behind(page.after::<RequestId>()?);
    let list = context.store.read(|state| {
        let requests = state.replica().requests.range(range).map(|(_, request)| request.clone());
        page.of(state.revision(), requests, |request| request.id.to_string())
    });
    Ok(Json(list).into_response())
}

pub(super) async fn set_team(
    State(context): State<Context>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let name = named("name", &name)?;
    let settings = TeamSettings::from_json(asked.json()?)?;
    asked.write_rules(&context, Command::SetTeam(name, settings)).await
}

pub(super) async fn delete_team(
    State(context): State<Context>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    asked.write_rules(&context, Command::DeleteTeam(named("name", &name)?)).await
}

pub(super) async fn create_token(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    let spec = TokenSpec::from_json(asked.json()?)?;
    asked.write_rules(&context, Command::CreateToken(spec)).await
}

pub(super) async fn revoke_token(
    State(context): State<Context>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    asked.write_rules(&context, Command::RevokeToken(named("name", &name)?)).await
}

pub(super) async fn accept(
    State(context): State<Context>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    asked.write_rules(&context, Command::Accept(named("id", &id)?)).await
}

pub(super) async fn reject(
    State(context): State<Context>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(request, SMALL).await?;
    asked.write_rules(&context, Command::Reject(named("id", &id)?)).await
}

fn named<T: std::str::FromStr<Err = Invalid>>(field: &'static str, text: &str) -> Result<T, InvalidField> {
    text.parse().map_err(|invalid: Invalid| invalid.in_field(field))
}
