//! A client's connection from its first byte to its last: TLS, which HTTP it speaks, requests one after the other, and what
//! follows an upgrade.

use std::{cell::RefCell, future::poll_fn, io, net::SocketAddr, pin::Pin, rc::Rc, time::Duration};

use http::HeaderValue;
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    task::spawn_local,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::{
    identity_headers::Peer,
    listen::Listener,
    proxy,
    socket::{Prefixed, Socket},
    upgrade::Tunnel,
    wire::{Guard, Notice},
    worker::{LocalExecutor, Open, Phase, Worker},
};

/// What requests of one connection have in common.
pub(crate) struct Client {
    pub(crate) worker: Rc<Worker>,
    pub(crate) peer: Rc<Peer>,
    /// What stood in the way of a request over HTTP/1.
    pub(crate) notice: Option<Rc<Notice>>,
    /// What the connection becomes when an upgrade is granted.
    pub(crate) tunnel: RefCell<Option<Tunnel>>,
}

/// With what a client begins that speaks HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const MOST_STREAMS: u32 = 256;

/// Takes connections in until the gatekeeper leaves.
pub(crate) async fn accept(worker: Rc<Worker>, listener: Listener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = worker.reach(Phase::Leaving) => return,
        };
        match accepted {
            Ok((socket, address)) => {
                let open = worker.opened();
                spawn_local(serve(worker.clone(), socket, address, open));
            }
            Err(error) => {
                // Descriptors may have run out: they come back when connections end.
                warn!(%error, "a connection cannot be taken in");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(worker: Rc<Worker>, socket: Socket, address: Option<SocketAddr>, _open: Open) {
    let address = match address {
        Some(address) => {
            HeaderValue::from_str(&address.ip().to_canonical().to_string()).expect("an address fits a header")
        }
        None => HeaderValue::from_static("unix"),
    };
    let Some(tls) = worker.settings.tls.clone() else {
        let peer = Peer { address, protocol: HeaderValue::from_static("http") };
        return serve_either(worker, socket, Rc::new(peer)).await;
    };
    let peer = Rc::new(Peer { address, protocol: HeaderValue::from_static("https") });
    match timeout(worker.settings.patience.head, TlsAcceptor::from(tls).accept(socket)).await {
        Ok(Ok(socket)) => match socket.get_ref().1.alpn_protocol() {
            // What TLS takes is not kept ready for connections without.
            Some(b"h2") => Box::pin(serve_http2(worker, socket, peer)).await,
            _ => Box::pin(serve_http1(worker, socket, &[], peer)).await,
        },
        Ok(Err(error)) => debug!(%error, "no TLS"),
        Err(_late) => debug!("no TLS in time"),
    }
}

/// Without TLS the first bytes say which HTTP it is.
async fn serve_either(worker: Rc<Worker>, mut socket: Socket, peer: Rc<Peer>) {
    let mut come = [0; 1_024];
    let mut length = 0;
    let begins = async {
        while length < PREFACE.len() && PREFACE.starts_with(&come[..length]) {
            match socket.read(&mut come[length..]).await? {
                0 => return Ok(false),
                more => length += more,
            }
        }
        Ok::<_, io::Error>(true)
    };
    match timeout(worker.settings.patience.idle, begins).await {
        Ok(Ok(true)) if come[..length].starts_with(PREFACE) => {
            serve_http2(worker, Prefixed::new(come[..length].to_vec(), socket), peer).await;
        }
        Ok(Ok(true)) => serve_http1(worker, socket, &come[..length], peer).await,
        Ok(Ok(false) | Err(_)) | Err(_) => {}
    }
}

async fn serve_http1<S>(worker: Rc<Worker>, socket: S, come: &[u8], peer: Rc<Peer>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let settings = &worker.settings;
    let guard = Guard::new(socket, come, settings.limits, settings.patience, worker.watch.begin());
    let notice = Some(guard.notice());
    let client = Rc::new(Client { worker: worker.clone(), peer, notice, tunnel: RefCell::default() });
    let serving = client.clone();
    let service = service_fn(move |request| {
        // Taken at once: while this request is answered, the guard may come upon the next one.
        let stands_in_for = serving.notice.as_ref().and_then(|notice| notice.take_head());
        proxy::answer(serving.clone(), request, stands_in_for)
    });
    let mut connection = http1::Builder::new().half_close(false).serve_connection(guard, service);
    let ended = poll_fn(|context| Pin::new(&mut connection).poll(context)).await;
    if let Err(error) = ended {
        debug!(%error, "a connection broke off");
        return;
    }
    let parts = connection.into_parts();
    let (socket, come) = parts.io.into_parts();
    match client.tunnel.take() {
        Some(tunnel) => tunnel.run(Prefixed::new([parts.read_buf.to_vec(), come].concat(), socket)).await,
        None => linger(socket).await,
    }
}

/// Reads on for a moment what a client sends that was refused: closing with bytes unread resets the connection, and a reset
/// overtakes the answer.
async fn linger(mut socket: impl AsyncRead + Unpin) {
    const LONGEST: Duration = Duration::from_secs(1);
    const MOST: usize = 64;
    let mut unread = vec![0; 8_192];
    let reading = async {
        for _ in 0..MOST {
            if !matches!(socket.read(&mut unread).await, Ok(1..)) {
                return;
            }
        }
    };
    let _late = timeout(LONGEST, reading).await;
}

async fn serve_http2<S>(worker: Rc<Worker>, socket: S, peer: Rc<Peer>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let client = Rc::new(Client { worker: worker.clone(), peer, notice: None, tunnel: RefCell::default() });
    let service = service_fn(move |request| proxy::answer(client.clone(), request, None));
    let limits = worker.settings.limits;
    let connection = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .keep_alive_interval(worker.settings.patience.idle)
        .keep_alive_timeout(worker.settings.patience.head)
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(u32::try_from(limits.head).unwrap_or(u32::MAX))
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = worker.reach(Phase::Leaving) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke off");
    }
}
