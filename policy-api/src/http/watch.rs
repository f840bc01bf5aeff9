//! Watches over HTTP, and waiting until a revision is in force.

use std::{pin::Pin, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use tokio::{sync::mpsc, time::Instant};

use super::{
    Context,
    asked::{Asked, SMALL},
    failure::Failure,
    gate,
};
use crate::{
    model::{Digest, Fields, History, InForce, Invalid, Key, NodeName, Revision, Timestamp},
    store::{Principal, Refusal, Rights, User},
    tls::Peer,
    watch::{Line, Place, feed, feed_scope, stopped},
};

/// Lines that may wait for a reader before its feed waits too.
pub(super) const LINES: usize = 16;

pub(super) async fn open(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let peer = request.extensions().get::<Option<Peer>>().cloned().flatten();
    let asked = Asked::read(request, SMALL).await?;
    let mut query = asked.query()?;
    let since: Option<Revision> = query.parsed("since")?;
    let history: Option<History> = query.parsed("history")?;
    let digest: Option<Digest> = query.parsed("digest")?;
    query.finish()?;
    if !context.store.is_following() {
        return Err(Failure::not_following());
    }
    if let Some(since) = since {
        context.store.reach(since).await;
    }
    let since = since.zip(history);
    let (sender, receiver) = mpsc::channel(LINES);
    let (timing, stop) = (context.timing, context.stop.clone());
    // Owned by the answer's body: a feed ends when its receiver is dropped with the connection, or when we stop.
    match asked.principal() {
        Principal::Node(grant) => {
            let expelled = context.store.expulsion(Key::Node(grant.name.clone()));
            // Listened to before it is looked at, so that no removal falls between.
            peer.map_or(Ok(()), |peer| gate::known(&context, &peer).map(drop))?;
            context.store.check_place(since.as_ref())?;
            let place = since.zip(digest).filter(|((revision, _), _)| *revision > Revision::default());
            let place = place.map(|((revision, history), digest)| Place { revision, history, digest });
            let (node, succeeds) = (grant.name.clone(), context.store.succeeds());
            let connection = context.presence.connect(node.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = feed_scope(context.planner, node, place, succeeds, sender, timing, stop) => {}
                    () = expelled => {}
                }
                drop(connection);
            });
        }
        by @ (Principal::Operator | Principal::User(_) | Principal::Joining(..) | Principal::Itself) => {
            let over = over(&context, by);
            // Listened to before it is looked at, so that no revocation falls between.
            context.store.read(|state| Rights::of(by, state, Timestamp::now()).map(drop))?;
            let feed = feed(context.store.subscribe(since)?, sender, timing, stop);
            tokio::spawn(async move {
                tokio::select! {
                    () = feed => {}
                    () = over => {}
                }
            });
        }
    }
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body_of(receiver)).into_response())
}

/// Returns when what somebody showed is good no longer: what they began by it ends.
pub(super) fn over(context: &Context, by: &Principal) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    match by {
        Principal::User(User::Token(name, _)) => Box::pin(context.store.expulsion(Key::Token(name.clone()))),
        Principal::User(User::Vouched { until, .. }) => Box::pin(tokio::time::sleep(Timestamp::now().until(*until))),
        Principal::Node(grant) => Box::pin(context.store.expulsion(Key::Node(grant.name.clone()))),
        Principal::Operator | Principal::Joining(..) | Principal::Itself => Box::pin(std::future::pending()),
    }
}

pub(super) fn body_of(receiver: mpsc::Receiver<Line>) -> Body {
    Body::from_stream(stream::unfold(receiver, |mut receiver| async {
        let line = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(line), receiver))
    }))
}

/// The longest wait: below what proxies and clients commonly allow.
const LONGEST_WAIT_MS: u64 = 60_000;

pub(super) async fn in_force(
    State(context): State<Context>,
    Path(revision): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let mut query = Asked::read(request, SMALL).await?.query()?;
    let deadline = deadline(&mut query)?;
    query.finish()?;
    let revision: Revision = revision.parse().map_err(|invalid: Invalid| invalid.in_field("revision"))?;
    refuse_later(&context, revision).await?;
    Ok(Json(wait_in_force(context, revision, deadline).await).into_response())
}

/// What a revision cut, as soon as it is in force on every connected node: no node reports it without what it cut.
pub(super) async fn receipt(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let mut query = Asked::read(request, SMALL).await?.query()?;
    let deadline = deadline(&mut query)?;
    let revision = query.required("revision", "name the revision that a change answered")?;
    query.finish()?;
    refuse_later(&context, revision).await?;
    wait_in_force(context.clone(), revision, deadline).await;
    let registered: Vec<NodeName> = context.store.read(|state| state.replica().nodes.keys().cloned().collect());
    Ok(Json(context.presence.receipt(revision, &registered)).into_response())
}

fn deadline(query: &mut Fields) -> Result<Instant, Failure> {
    let remedy = "use a whole number up to 60000";
    let wait: u64 = query.standard("wait_ms", "is not a number of milliseconds", remedy)?.unwrap_or(0);
    Ok(Instant::now() + Duration::from_millis(wait.min(LONGEST_WAIT_MS)))
}

async fn refuse_later(context: &Context, revision: Revision) -> Result<(), Refusal> {
    context.store.reach(revision).await;
    if context.store.read(|state| state.revision() < revision) {
        return Err(Refusal::not_found("revision", "a revision", &revision.to_string(), []));
    }
    Ok(())
}

async fn wait_in_force(mut context: Context, revision: Revision, deadline: Instant) -> InForce {
    // Listened to before it is looked at, so that no report falls between.
    let mut changes = context.presence.changes();
    let mut missing: Vec<NodeName> = Vec::new();
    loop {
        changes.mark_unchanged();
        // Reports come by the thousand, and only the last one that is waited for changes the answer.
        if !context.presence.misses_some(revision, &mut missing) {
            let answer = in_force_now(&context, revision);
            if answer.complete {
                return answer;
            }
            missing = answer.missing;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { break },
            () = stopped(&mut context.stop) => break,
            () = tokio::time::sleep_until(deadline) => break,
        }
    }
    in_force_now(&context, revision)
}

fn in_force_now(context: &Context, revision: Revision) -> InForce {
    let registered: Vec<NodeName> = context.store.read(|state| state.replica().nodes.keys().cloned().collect());
    context.presence.in_force(revision, &registered)
}
