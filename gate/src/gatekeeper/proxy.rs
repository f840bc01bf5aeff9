//! A request's way: is it well-formed, which privilege does it take, may who asks have it, and then on to the upstream. The
//! stages say why not; here it becomes an answer.

use std::{future::poll_fn, pin::pin, rc::Rc, sync::Arc, task::Poll, time::Instant};

use http::{HeaderValue, Request, Response, Version, header, request::Parts};
use hyper::body::Incoming;
use policy_api::model::Timestamp;

use super::{
    admit::{Admitted, admit},
    body::{Answered, Exchange, Outgoing},
    connection::Client,
    identity_headers::{RequestId, Told, join_cookies, rewrite, rewrite_answer},
    record::Record,
    refusal::Refusal,
    upgrade,
    upstream::Lease,
    watch::{Bond, End, Ending},
    worker::Worker,
};
use crate::{
    authority::{Denial, Permit, Privilege, Question},
    verdict_cache::Verdict,
};

/// A request that was let in, with what has to be told of it.
pub(crate) struct LetIn {
    pub(crate) request: Request<Outgoing>,
    pub(crate) exchange: Rc<Exchange>,
    pub(crate) websocket: bool,
    pub(crate) request_id: RequestId,
}

/// Answers a request, or what it stands in for.
pub(crate) async fn answer(
    client: &Rc<Client>,
    request: Request<Incoming>,
    stands_in_for: Option<Refusal>,
) -> Response<Answered> {
    let worker = &client.worker;
    let (head, incoming) = request.into_parts();
    let request_id = worker.names.borrow_mut().request_id();
    let mut record = Record::begin(worker, &client.peer, &head, request_id.clone());
    let has_upgrade = head.headers.contains_key(header::UPGRADE);
    let is_http1 = head.version != Version::HTTP_2;
    let admitted = match stands_in_for {
        Some(refusal) => Err(refusal),
        None => let_in(client, head, incoming, &request_id, &mut record).await,
    };
    let mut answer = match admitted {
        Ok(let_in) if let_in.websocket => upgrade::pass(client, let_in, record).await,
        Ok(let_in) => pass(worker, let_in, record).await,
        Err(refusal) => refuse(refusal, record, &request_id),
    };
    // Whoever asked for an upgrade may take what follows for what it is not; whoever stays on goes to who comes after us.
    let closes = (has_upgrade && !is_switched(&answer)) || worker.is_leaving();
    if is_http1 && closes {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

fn is_switched(answer: &Response<Answered>) -> bool {
    answer.status() == http::StatusCode::SWITCHING_PROTOCOLS
}

/// Turns a refusal into what the client is told.
pub(crate) fn refuse(refusal: Refusal, mut record: Record, request_id: &RequestId) -> Response<Answered> {
    record.refuse(refusal);
    let mut answer = refusal.answer().map(Answered::own);
    answer.headers_mut().insert(super::identity_headers::REQUEST_ID, request_id.0.clone());
    answer
}

/// Everything that may stand in a request's way, in this order.
async fn let_in(
    client: &Client,
    mut head: Parts,
    incoming: Incoming,
    request_id: &RequestId,
    record: &mut Record,
) -> Result<LetIn, Refusal> {
    let worker = &client.worker;
    if !worker.is_ready() {
        return Err(Refusal::NotReady);
    }
    let settings = &worker.settings;
    let admitted = admit(&head, settings.longest_body)?;
    let privilege = settings.privileges.privilege(&head.method, admitted.path).ok_or(Refusal::NoPrivilege)?;
    record.asked_for(privilege);
    let permit = permit(worker, &admitted, privilege, record).await?;
    record.is_of(&permit);
    let exchange = Exchange::new(worker.watch.begin());
    exchange.watched.bind(Bond {
        permit: permit.clone(),
        authorization: admitted.authorization.clone(),
        privilege: privilege.clone(),
    });
    let Admitted { websocket, strip, host, .. } = admitted;
    let from_target = (!head.headers.contains_key(header::HOST)).then(|| HeaderValue::from_str(host));
    if let Some(host) = from_target {
        head.headers.insert(header::HOST, host.map_err(|_| Refusal::HostMalformed)?);
    }
    let told = Told {
        strip: &strip,
        pass_authorization: settings.pass_authorization,
        permit: &permit,
        request_id,
        peer: &client.peer,
    };
    rewrite(&mut head.headers, &told, &mut worker.names.borrow_mut());
    join_cookies(&mut head.headers);
    let outgoing =
        Outgoing::new(incoming, &exchange, client.notice.clone(), settings.longest_body, settings.patience.body);
    let request = Request::from_parts(head, outgoing);
    Ok(LetIn { request, exchange, websocket, request_id: request_id.clone() })
}

async fn permit(
    worker: &Worker,
    admitted: &Admitted<'_>,
    privilege: &Privilege,
    record: &mut Record,
) -> Result<Arc<Permit>, Refusal> {
    let question = Question { credential: admitted.credential, privilege, resource: &worker.settings.resource };
    let verdict = match worker.judge.known(question) {
        Some(verdict) => {
            worker.metrics.remembered.inc();
            verdict
        }
        None => ask(worker, question).await,
    };
    match verdict {
        Verdict::Allow(permit) => Ok(permit),
        Verdict::Deny(denial) => Err(Refusal::Denied(denial)),
        Verdict::Forbid(permit) => {
            record.is_of(&permit);
            Err(Refusal::Denied(Denial::NotPermitted))
        }
        Verdict::Unavailable(outage) => Err(Refusal::Unavailable(outage)),
    }
}

async fn ask(worker: &Worker, question: Question<'_>) -> Verdict {
    let began = Instant::now();
    let verdict = worker.judge.ask(question).await;
    worker.metrics.asked.inc();
    worker.metrics.all.check_seconds.observe(began.elapsed().as_secs_f64());
    if let Verdict::Allow(permit) = &verdict {
        let left = permit.until.saturating_duration_since(Instant::now());
        worker.metrics.all.permit_seconds.observe(left.as_secs_f64());
        if let Some(issued) = permit.issued {
            worker.metrics.token_age.observe(issued.until(Timestamp::now()).as_secs_f64());
        }
    }
    verdict
}

/// Passes a request on, and its answer back.
async fn pass(worker: &Rc<Worker>, let_in: LetIn, record: Record) -> Response<Answered> {
    let LetIn { request, exchange, request_id, .. } = let_in;
    exchange.watched.give(End::Upstream, worker.settings.patience.answer);
    let sent = within(&exchange, worker.upstream.send(request)).await;
    match sent {
        Ok((answer, lease)) => passed(answer, lease, exchange, record, &request_id).await,
        // What the upstream made of a body that broke off is not what went wrong.
        Err(refusal) => refuse(exchange.broken().unwrap_or(refusal), record, &request_id),
    }
}

/// An answer of the upstream, as the client gets it.
pub(crate) async fn passed(
    answer: Response<Incoming>,
    lease: Lease,
    exchange: Rc<Exchange>,
    mut record: Record,
    request_id: &RequestId,
) -> Response<Answered> {
    exchange.answer_begins();
    let (mut head, incoming) = answer.into_parts();
    rewrite_answer(&mut head.headers, request_id);
    record.pass(head.status.as_u16());
    Response::from_parts(head, Answered::passed(incoming, exchange, record, lease).await)
}

/// Waits for an upstream as long as the permit holds and patience lasts.
pub(crate) async fn within<T>(
    exchange: &Exchange,
    answering: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let mut answering = pin!(answering);
    poll_fn(|context| {
        if let Poll::Ready(answer) = answering.as_mut().poll(context) {
            return Poll::Ready(answer);
        }
        match exchange.watched.poll_end(End::Upstream, context) {
            Poll::Ready(Ending::Late) => Poll::Ready(Err(Refusal::UpstreamTimedOut)),
            Poll::Ready(Ending::Refused(refusal)) => Poll::Ready(Err(refusal)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
