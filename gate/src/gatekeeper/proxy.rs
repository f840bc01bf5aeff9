//! A request's way: is it well-formed, which privilege does it take, may who asks have it, and then on to the upstream. The
//! stages say why not; here it becomes an answer.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Instant,
};

use http::{HeaderValue, Request, Response, Version, header, request::Parts};
use hyper::body::Incoming;
use policy_api::model::Timestamp;

use super::{
    admit::{Admitted, admit},
    body::{Answered, Exchange, Outgoing},
    connection::Client,
    identity_headers::{Told, join_cookies, rewrite, rewrite_answer},
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

/// What lets a request in.
struct LetIn {
    exchange: Rc<Exchange>,
    websocket: bool,
}

/// Answers a request, or what it stands in for.
///
/// Each connection keeps room for one, and each request's is moved into it: so it is small, and what is rare is put elsewhere
/// when it comes. No `async fn`, which would keep room for the request twice.
pub(crate) fn answer(
    client: Rc<Client>,
    request: Request<Incoming>,
    stands_in_for: Option<Refusal>,
) -> impl Future<Output = Result<Response<Answered>, Infallible>> {
    let (mut head, incoming) = request.into_parts();
    let request_id = client.worker.names.borrow_mut().request_id();
    let mut record = Record::begin(&client.worker, &client.peer, &head, request_id);
    async move {
        let worker = &client.worker;
        let has_upgrade = head.headers.contains_key(header::UPGRADE);
        let is_http1 = head.version != Version::HTTP_2;
        let admitted = match stands_in_for {
            Some(refusal) => Err(refusal),
            None => let_in(&client, &mut head, &mut record).await,
        };
        let mut answer = match admitted {
            Err(refusal) => refuse(refusal, record),
            Ok(LetIn { exchange, websocket }) => {
                let request = Request::from_parts(head, Outgoing::new(incoming, &exchange, &client));
                if websocket {
                    Box::pin(upgrade::pass(&client, request, exchange, record)).await
                } else {
                    let answering = pin!(worker.upstream.send(request));
                    match within(worker, &exchange, answering).await {
                        Ok((answer, lease)) => passed(answer, lease, exchange, record),
                        // What the upstream made of a body that broke off is not what went wrong.
                        Err(refusal) => refuse(exchange.broken().unwrap_or(refusal), record),
                    }
                }
            }
        };
        // Whoever asked for an upgrade may take what follows for what it is not; whoever stays on goes to who comes after us.
        let closes = (has_upgrade && !is_switched(&answer)) || worker.is_leaving();
        if is_http1 && closes {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(answer)
    }
}

fn is_switched(answer: &Response<Answered>) -> bool {
    answer.status() == http::StatusCode::SWITCHING_PROTOCOLS
}

/// Turns a refusal into what the client is told.
pub(crate) fn refuse(refusal: Refusal, mut record: Record) -> Response<Answered> {
    record.refuse(refusal);
    let mut answer = refusal.answer().map(Answered::own);
    answer.headers_mut().insert(super::identity_headers::REQUEST_ID, record.request_id().0.clone());
    answer
}

/// Everything that may stand in a request's way, in this order. If nothing does, its head is then as the upstream is to see it.
async fn let_in(client: &Client, head: &mut Parts, record: &mut Record) -> Result<LetIn, Refusal> {
    let worker = &client.worker;
    if !worker.is_ready() {
        return Err(Refusal::NotReady);
    }
    let settings = &worker.settings;
    let admitted = admit(head, settings.longest_body)?;
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
        request_id: record.request_id(),
        peer: &client.peer,
    };
    rewrite(&mut head.headers, &told, &mut worker.names.borrow_mut());
    join_cookies(&mut head.headers);
    Ok(LetIn { exchange, websocket })
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
        None => Box::pin(ask(worker, question)).await,
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

/// An answer of the upstream, as the client gets it.
pub(crate) fn passed(
    answer: Response<Incoming>,
    lease: Lease,
    exchange: Rc<Exchange>,
    mut record: Record,
) -> Response<Answered> {
    exchange.answer_begins();
    let (mut head, incoming) = answer.into_parts();
    rewrite_answer(&mut head.headers, record.request_id());
    record.pass(head.status.as_u16());
    Response::from_parts(head, Answered::passed(incoming, exchange, record, lease))
}

/// Waits for an upstream as long as the permit holds and patience lasts.
pub(crate) async fn within<T>(
    worker: &Worker,
    exchange: &Exchange,
    mut answering: Pin<&mut impl Future<Output = Result<T, Refusal>>>,
) -> Result<T, Refusal> {
    exchange.watched.give(End::Upstream, worker.settings.patience.answer);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_answering<F>(_: impl FnOnce(Rc<Client>, Request<Incoming>, Option<Refusal>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_a_connection_keeps_while_it_waits_is_small() {
        assert!(size_of_answering(answer) <= 2_048, "{}", size_of_answering(answer));
    }
}
