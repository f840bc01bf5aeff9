//! WebSocket: a connection to the upstream of its own, and when the upstream grants the upgrade a tunnel that lasts as long as
//! both ends and the permit do.

use std::{future::poll_fn, pin::pin, rc::Rc, task::Poll};

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};

use super::{
    body::{Answered, Exchange, Outgoing},
    connection::Client,
    identity_headers::rewrite_answer,
    link::Link,
    proxy::{passed, refuse, within},
    record::Record,
    refusal::Refusal,
    socket::{Prefixed, Socket},
    upstream::{Lease, as_http1},
    watch::{End, Ending},
    worker::Worker,
};

/// A connection to the upstream that has left HTTP, and whom it is for.
pub(crate) struct Tunnel {
    app: Prefixed<Socket>,
    exchange: Rc<Exchange>,
    record: Record,
    worker: Rc<Worker>,
}

/// What the upstream made of it.
enum Granted {
    Upgrade(Response<()>, Prefixed<Socket>),
    No(Response<Incoming>, Box<Link>),
}

/// Passes an upgrade on; when it is granted, the connection becomes the tunnel that is left with the client.
pub(crate) async fn pass(
    client: &Client,
    mut request: Request<Outgoing>,
    exchange: Rc<Exchange>,
    record: Record,
) -> Response<Answered> {
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    request.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    as_http1(&mut request);
    let asking = pin!(ask(&client.worker, request));
    match within(&client.worker, &exchange, asking).await {
        Ok(Granted::No(answer, link)) => passed(answer, Lease::Link(link, None), exchange, record),
        Ok(Granted::Upgrade(answer, app)) => {
            exchange.answer_begins();
            let mut answer = answer.map(|()| Answered::Own(Full::default()));
            rewrite_answer(answer.headers_mut(), record.request_id());
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            answer.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            let tunnel = Tunnel { app, exchange, record, worker: client.worker.clone() };
            client.tunnel.replace(Some(tunnel));
            answer
        }
        Err(refusal) => refuse(refusal, record),
    }
}

async fn ask(worker: &Worker, request: Request<Outgoing>) -> Result<Granted, Refusal> {
    let mut link = worker.upstream.open_http1().await?;
    let answer = link.ask(request).await.map_err(|_| Refusal::UpstreamBroken)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Granted::No(answer, link));
    }
    let app = link.leave_http().await.ok_or(Refusal::UpstreamBroken)?;
    Ok(Granted::Upgrade(answer.map(drop), app))
}

impl Tunnel {
    /// Copies both ways until either end is done, or the permit is.
    pub(crate) async fn run<S: AsyncRead + AsyncWrite + Unpin>(mut self, mut client: Prefixed<S>) {
        self.record.pass(StatusCode::SWITCHING_PROTOCOLS.as_u16());
        self.worker.metrics.all.streams.inc();
        let ending = poll_fn(|context| match self.exchange.watched.poll_end(End::Upstream, context) {
            Poll::Ready(Ending::Refused(refusal)) => Poll::Ready(refusal),
            Poll::Ready(Ending::Late) | Poll::Pending => Poll::Pending,
        });
        tokio::select! {
            copied = copy_bidirectional(&mut client, &mut self.app) => match copied {
                Ok((_, bytes)) => self.record.count(usize::try_from(bytes).unwrap_or(usize::MAX)),
                Err(_broken) => self.record.broke_off(),
            },
            refusal = ending => self.record.cut(refusal),
        }
        self.worker.metrics.all.streams.dec();
    }
}
