//! How answers leave: JSON, lists by the page.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::failure::Failure;
use crate::{
    model::{API_VERSION, ETag, Fields, Invalid, List, Outcome, Revision},
    store::Answer,
};

pub(super) fn of_write(answer: Answer) -> Response {
    match answer {
        Answer::Rule(rule) => {
            let status = status_of(rule.outcome, rule.dry_run);
            (status, Json(rule)).into_response()
        }
        Answer::Deleted(deleted) => Json(deleted).into_response(),
        Answer::Changes(changes) => Json(changes).into_response(),
        Answer::App(app) => {
            let status = status_of(app.outcome, app.dry_run);
            (status, Json(app)).into_response()
        }
        Answer::AppDeleted(deleted) => Json(deleted).into_response(),
        Answer::Isolation(isolation) => {
            let status = status_of(isolation.outcome, isolation.dry_run);
            (status, Json(isolation)).into_response()
        }
        Answer::IsolationDeleted(deleted) => Json(deleted).into_response(),
        Answer::Joined(joined) => Json(joined).into_response(),
        Answer::Node(answer) => Json(answer).into_response(),
        Answer::NodeDeleted(answer) => Json(answer).into_response(),
        Answer::Claimed(claimed) => (StatusCode::CREATED, Json(claimed)).into_response(),
        Answer::Released(released) => Json(released).into_response(),
        Answer::Team(team) => (status_of(team.outcome, team.dry_run), Json(team)).into_response(),
        Answer::TeamDeleted(deleted) => Json(deleted).into_response(),
        Answer::Token(token) => (status_of(token.outcome, token.dry_run), Json(token)).into_response(),
        Answer::TokenRevoked(revoked) => Json(revoked).into_response(),
        // Whatever came of it: the rule does not stand yet.
        Answer::Asked(asked) => (StatusCode::ACCEPTED, Json(asked)).into_response(),
        Answer::RequestDeleted(deleted) => Json(deleted).into_response(),
        Answer::Revoked(answer) => Json(answer).into_response(),
        Answer::Done => StatusCode::NO_CONTENT.into_response(),
    }
}

fn status_of(outcome: Outcome, dry_run: bool) -> StatusCode {
    match outcome {
        Outcome::Created if !dry_run => StatusCode::CREATED,
        Outcome::Created | Outcome::Updated | Outcome::Unchanged => StatusCode::OK,
    }
}

/// Adds the state of the rules to an answer that was read in it.
pub(super) fn with_etag(etag: &ETag, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    if let Ok(value) = HeaderValue::try_from(etag.to_string()) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

/// The page that a query asks for.
pub(super) struct Page {
    pub(super) limit: usize,
    pub(super) cursor: Option<String>,
}

const MOST: usize = 1000;

impl Page {
    pub(super) fn from_fields(fields: &mut Fields) -> Result<Self, Failure> {
        let remedy = "use a whole number from 1 to 1000";
        let limit = fields.standard("limit", "is not a number of items", remedy)?.unwrap_or(MOST);
        if !(1..=MOST).contains(&limit) {
            return Err(Invalid::new(limit, "is not a number of items", remedy).in_field("limit").into());
        }
        Ok(Self { limit, cursor: fields.text("cursor")? })
    }

    /// The place behind which the page starts.
    pub(super) fn after<T: std::str::FromStr>(&self) -> Result<Option<T>, Failure> {
        let parse = |text: &String| {
            let invalid = || Invalid::new(text, "is not a cursor", "use `next` of the page before");
            text.parse().map_err(|_| Failure::from(invalid().in_field("cursor")))
        };
        self.cursor.as_ref().map(parse).transpose()
    }

    /// The page, of items that start behind its cursor; `place` says where an item is.
    pub(super) fn of<T: Serialize>(
        &self,
        revision: Revision,
        items: impl IntoIterator<Item = T>,
        place: impl Fn(&T) -> String,
    ) -> List<T> {
        let mut items: Vec<T> = items.into_iter().take(self.limit + 1).collect();
        let more = items.len() > self.limit;
        items.truncate(self.limit);
        let next = items.last().filter(|_| more).map(place);
        List { api_version: API_VERSION.to_owned(), items, revision, next }
    }
}
