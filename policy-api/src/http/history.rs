//! The history over HTTP: who did what, and whether all of it is what was written.

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};

use super::{
    Context,
    answer::Page,
    asked::{Asked, SMALL},
    failure::Failure,
};
use crate::{
    model::{API_VERSION, HistoryQuery, Invalid, KnownSeal, List},
    store::{DatabaseError, Listing, Refusal, Store},
};

pub(super) async fn list(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let mut query = Asked::read(request, SMALL).await?.query()?;
    let page = Page::from_fields(&mut query)?;
    let oldest_first = is_oldest_first(query.text("order")?)?;
    let wanted = HistoryQuery::from_fields(&mut query)?;
    query.finish()?;
    let behind: Option<u64> = page.after()?;
    let listing = if oldest_first { Listing::OldestFirst(behind) } else { Listing::NewestFirst(behind) };
    let limit = page.limit;
    let found = read(&context, move |store| store.history(&wanted, listing, limit)).await?;
    let revision = context.store.read(crate::store::State::revision);
    let next = found.next.map(|number| number.to_string());
    Ok(Json(List { api_version: API_VERSION.to_owned(), items: found.items, revision, next }).into_response())
}

fn is_oldest_first(order: Option<String>) -> Result<bool, Failure> {
    match order.as_deref() {
        None | Some("newest") => Ok(false),
        Some("oldest") => Ok(true),
        Some(other) => Err(Invalid::new(other, "is not an order", "use `newest` or `oldest`").in_field("order").into()),
    }
}

pub(super) async fn verify(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let mut query = Asked::read(request, SMALL).await?.query()?;
    let known: Option<KnownSeal> = query.parsed("known")?;
    query.finish()?;
    let verified = read(&context, move |store| store.verify_history(known)).await?;
    Ok(Json(verified).into_response())
}

/// Reading waits for the disk or the network.
async fn read<T: Send + 'static>(
    context: &Context,
    read: impl FnOnce(&Store) -> Result<T, DatabaseError> + Send + 'static,
) -> Result<T, Failure> {
    let store = context.store.clone();
    let done = tokio::task::spawn_blocking(move || read(&store)).await;
    Ok(done.map_err(|error| Refusal::Store(error.to_string()))?.map_err(Refusal::from)?)
}
