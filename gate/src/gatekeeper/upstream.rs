//! The app behind the gatekeeper: connections to it, kept and used again, over TCP or a Unix socket, in HTTP/1.1 or HTTP/2.

use std::{
    cell::RefCell,
    fmt, io,
    path::PathBuf,
    pin::Pin,
    rc::Rc,
    str::FromStr,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Response, Uri, Version, header, uri};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http2,
};
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::counter::Counter;
use thiserror::Error;
use tokio::{
    net::{TcpStream, UnixStream, lookup_host},
    task::spawn_local,
    time::{Instant, timeout},
};
use tracing::debug;

use super::{
    body::{Outgoing, Piece},
    link::Link,
    refusal::Refusal,
    socket::Socket,
    worker::LocalExecutor,
};

/// Where the app listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAddress {
    /// Host and port.
    Tcp(String),
    Unix(PathBuf),
}

/// What the app speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum UpstreamProtocol {
    #[default]
    Http1,
    /// Without TLS, from the first byte: what servers of gRPC take.
    Http2,
}

/// How the app is reached.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    pub address: UpstreamAddress,
    pub protocol: UpstreamProtocol,
    pub connect_timeout: Duration,
    /// A connection that was idle for so long is not used again: apps close theirs at some time, and a request that is sent
    /// just then is lost.
    pub idle: Duration,
    /// Idle connections that each worker keeps.
    pub most_idle: usize,
}

/// Why a text is no address of an upstream.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no upstream; write http://HOST:PORT or unix:PATH")]
pub struct NoUpstream(String);

/// One worker's connections to the app.
pub(crate) struct Upstream {
    settings: UpstreamSettings,
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Option<http2::SendRequest<Outgoing>>>,
    made: Counter,
}

struct Idle {
    link: Box<Link>,
    since: Instant,
}

/// The connection on which an answer comes.
pub(crate) enum Lease {
    /// Driven by whoever takes the answer, and used again by its owner if all of it was taken.
    Link(Box<Link>, Option<Rc<Upstream>>),
    /// Driven elsewhere.
    Other,
}

impl UpstreamSettings {
    /// The usual, for an app at an address.
    pub fn of(address: UpstreamAddress) -> Self {
        Self {
            address,
            protocol: UpstreamProtocol::default(),
            connect_timeout: Duration::from_secs(5),
            idle: Duration::from_secs(4),
            most_idle: 512,
        }
    }
}

impl FromStr for UpstreamAddress {
    type Err = NoUpstream;

    fn from_str(text: &str) -> Result<Self, NoUpstream> {
        let no_upstream = || NoUpstream(text.into());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(no_upstream()) } else { Ok(Self::Unix(path.into())) };
        }
        let uri: Uri = text.parse().map_err(|_| no_upstream())?;
        let bare = uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none();
        match uri.authority() {
            Some(authority) if bare && !authority.as_str().contains('@') => {
                Ok(Self::Tcp(format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80))))
            }
            _ => Err(no_upstream()),
        }
    }
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "http://{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl Upstream {
    pub(crate) fn new(settings: UpstreamSettings, made: Counter) -> Rc<Self> {
        Rc::new(Self { settings, idle: RefCell::default(), shared: RefCell::default(), made })
    }

    /// Sends a request, and waits for the head of its answer. No `async fn`, which would keep room for the request twice.
    pub(crate) fn send(
        self: &Rc<Self>,
        mut request: Request<Outgoing>,
    ) -> impl Future<Output = Result<(Response<Incoming>, Lease), Refusal>> {
        let is_http2 = self.settings.protocol == UpstreamProtocol::Http2;
        async move {
            if is_http2 {
                return Box::pin(self.send_http2(request)).await;
            }
            as_http1(&mut request);
            loop {
                let kept = self.take_idle();
                let is_kept = kept.is_some();
                let mut link = match kept {
                    Some(link) => link,
                    None => Box::pin(self.open_http1()).await?,
                };
                match link.ask(request).await {
                    Ok(answer) => return Ok((answer, Lease::Link(link, Some(self.clone())))),
                    // It had been closed before anything was sent.
                    Err(mut error) => match error.take_message() {
                        Some(unsent) if is_kept => request = unsent,
                        _ => return Err(broken(error.error())),
                    },
                }
            }
        }
    }

    fn take_idle(&self) -> Option<Box<Link>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut kept) = idle.pop() {
            if self.is_good(&mut kept) {
                return Some(kept.link);
            }
        }
        None
    }

    /// Closes connections that were idle for too long, or that the app has closed: nobody else looks at them.
    pub(crate) fn close_idle(&self) {
        self.idle.borrow_mut().retain_mut(|kept| self.is_good(kept));
    }

    fn is_good(&self, kept: &mut Idle) -> bool {
        kept.since.elapsed() < self.settings.idle && kept.link.is_free()
    }

    pub(crate) async fn open_http1(&self) -> Result<Box<Link>, Refusal> {
        Link::over(self.connect().await?).await.map(Box::new).map_err(|error| broken(&error))
    }

    async fn send_http2(
        self: &Rc<Self>,
        mut request: Request<Outgoing>,
    ) -> Result<(Response<Incoming>, Lease), Refusal> {
        as_http2(&mut request)?;
        loop {
            let kept = self.shared.borrow().clone().filter(|sender| !sender.is_closed());
            let is_kept = kept.is_some();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.open_http2().await?,
            };
            match sender.try_send_request(request).await {
                Ok(answer) => return Ok((answer, Lease::Other)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if is_kept => {
                        self.shared.borrow_mut().take();
                        request = unsent;
                    }
                    _ => return Err(broken(error.error())),
                },
            }
        }
    }

    async fn open_http2(&self) -> Result<http2::SendRequest<Outgoing>, Refusal> {
        let socket = self.connect().await?;
        let made = http2::handshake(LocalExecutor, TokioIo::new(socket)).await;
        let (sender, connection) = made.map_err(|error| broken(&error))?;
        spawn_local(async move {
            if let Err(error) = connection.await {
                debug!(%error, "a connection to the upstream ended");
            }
        });
        *self.shared.borrow_mut() = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self) -> Result<Socket, Refusal> {
        self.made.inc();
        match timeout(self.settings.connect_timeout, self.settings.address.connect()).await {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(error)) => {
                debug!(%error, upstream = %self.settings.address, "the upstream takes no connection");
                Err(Refusal::UpstreamUnreachable)
            }
            Err(_late) => Err(Refusal::UpstreamUnreachable),
        }
    }
}

impl UpstreamAddress {
    async fn connect(&self) -> io::Result<Socket> {
        match self {
            Self::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
            Self::Tcp(address) => {
                let socket = TcpStream::connect(lookup_host(address).await?.collect::<Vec<_>>().as_slice()).await?;
                socket.set_nodelay(true)?;
                Ok(Socket::Tcp(socket))
            }
        }
    }
}

fn broken(error: &hyper::Error) -> Refusal {
    debug!(%error, "the upstream broke off");
    Refusal::UpstreamBroken
}

/// Over HTTP/1 the target is a path, and `Host` says who is asked.
pub(crate) fn as_http1<B>(request: &mut Request<B>) {
    *request.version_mut() = Version::HTTP_11;
    if request.uri().authority().is_some() {
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| uri::PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
    }
}

/// Over HTTP/2 the target is whole, and there is no `Host`.
fn as_http2(request: &mut Request<Outgoing>) -> Result<(), Refusal> {
    *request.version_mut() = Version::HTTP_2;
    // Without it servers of gRPC take nobody for a client of theirs; answers' trailers are passed on.
    request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    let host = request.headers_mut().remove(header::HOST).ok_or(Refusal::HostMissing)?;
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(uri::Scheme::HTTP);
    parts.authority = Some(uri::Authority::try_from(host.as_bytes()).map_err(|_| Refusal::HostMalformed)?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Refusal::TargetMalformed)?;
    Ok(())
}

impl Lease {
    /// The next piece of the answer's body.
    pub(crate) fn poll_piece(&mut self, incoming: &mut Incoming, context: &mut Context<'_>) -> Poll<Piece> {
        match self {
            Self::Link(link, _) => link.poll_piece(incoming, context),
            Self::Other => Pin::new(incoming).poll_frame(context),
        }
    }

    /// The connection goes on by itself with what is left to be sent, however slowly the answer is taken.
    pub(crate) fn let_go(&mut self) {
        if let Self::Link(link, _) = std::mem::replace(self, Self::Other) {
            link.let_go();
        }
    }

    /// The answer was taken to its end: the connection can be used again.
    pub(crate) fn give_back(&mut self) {
        if let Self::Link(mut link, Some(upstream)) = std::mem::replace(self, Self::Other)
            && link.is_done()
        {
            let mut idle = upstream.idle.borrow_mut();
            if idle.len() < upstream.settings.most_idle {
                idle.push(Idle { link, since: Instant::now() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_a_host_and_port_or_a_path() {
        assert_eq!("http://127.0.0.1:8080".parse(), Ok(UpstreamAddress::Tcp("127.0.0.1:8080".into())));
        assert_eq!("http://[::1]:8080/".parse(), Ok(UpstreamAddress::Tcp("[::1]:8080".into())));
        assert_eq!("http://app".parse(), Ok(UpstreamAddress::Tcp("app:80".into())));
        assert_eq!("unix:/run/app.sock".parse(), Ok(UpstreamAddress::Unix("/run/app.sock".into())));
        for text in ["", "unix:", "https://a", "http://a/b", "http://a/?b", "http://u@a/", "a:80"] {
            assert!(text.parse::<UpstreamAddress>().is_err(), "{text}");
        }
    }
}
