//! The way to a destination: names are resolved here, addresses proven before anything is sent to them, TLS spoken where the
//! destination proves itself by it. Connections are kept and used again, for the destination that they were proven for.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use policy_api::jose::believing_nobody;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower_service::Service;

use super::{
    destination::{Destination, Destinations, Place, Proof, Way, place_of_request},
    refusal::Refusal,
    source::Source,
};

/// Connections to all destinations.
pub(super) struct Upstream {
    /// Speaks HTTP/2 where TLS offers it.
    any: Client<Connector, Incoming>,
    /// HTTP/1.1 alone, for what becomes another protocol on its way.
    http1: Client<Connector, Incoming>,
}

/// Whom certificates have to be of.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) any: Arc<ClientConfig>,
    pub(super) http1: Arc<ClientConfig>,
}

/// Makes connections.
#[derive(Clone)]
pub(super) struct Connector {
    destinations: Arc<Destinations>,
    source: Arc<Source>,
    tls: Arc<ClientConfig>,
}

/// A connection, in the clear or by TLS.
pub(super) enum Link {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// Servers close idle connections at some time, and a request that is sent just then is lost.
const IDLE: Duration = Duration::from_secs(15);
const MOST_IDLE: usize = 64;

impl Tls {
    /// Believes nobody: for who has no destination that TLS proves.
    pub(super) fn of_nobody() -> Self {
        Self::believing(&believing_nobody())
    }

    /// Believes servers by these roots.
    pub(super) fn believing(config: &ClientConfig) -> Self {
        let speaking = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        Self { any: speaking(&[b"h2", b"http/1.1"]), http1: speaking(&[b"http/1.1"]) }
    }
}

impl Upstream {
    pub(super) fn new(destinations: Arc<Destinations>, source: Arc<Source>, tls: Tls) -> Self {
        let connector = |tls| Connector { destinations: destinations.clone(), source: source.clone(), tls };
        let client = |tls| {
            let mut builder = Client::builder(TokioExecutor::new());
            builder.pool_idle_timeout(IDLE).pool_max_idle_per_host(MOST_IDLE).pool_timer(TokioTimer::new());
            builder.build(connector(tls))
        };
        Self { any: client(tls.any), http1: client(tls.http1) }
    }

    /// Sends a request whose URI is absolute; redirects come back like any answer.
    pub(super) async fn send(&self, request: Request<Incoming>, upgrades: bool) -> Result<Response<Incoming>, Refusal> {
        let place = place_of_request(request.uri()).ok_or(Refusal::BadRequest("the request names no host"))?;
        let client = if upgrades { &self.http1 } else { &self.any };
        client.request(request).await.map_err(|error| explain(&place, &error))
    }

    /// A connection of TCP, for a tunnel.
    pub(super) async fn tunnel(&self, place: &Place) -> Result<TcpStream, Refusal> {
        let unreachable = |why: String| Refusal::Unreachable { place: place.to_string(), why };
        let addresses = resolve(place).await.map_err(unreachable)?;
        dial(place, &addresses).await.map_err(unreachable)
    }
}

/// What the connector said, if it was the one.
fn explain(place: &Place, error: &hyper_util::client::legacy::Error) -> Refusal {
    let mut below: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut why = error.to_string();
    while let Some(error) = below {
        if let Some(NotConnected(refused)) = error.downcast_ref::<NotConnected>() {
            return refused.clone();
        }
        why = error.to_string();
        below = error.source();
    }
    Refusal::Unreachable { place: place.to_string(), why }
}

/// A refusal on its way through the client.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotConnected(Refusal);

impl Service<Uri> for Connector {
    type Response = TokioIo<Link>;
    type Error = NotConnected;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Link>, NotConnected>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NotConnected>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let place = place_of_request(&uri).ok_or(NotConnected(Refusal::BadRequest("the request names no host")))?;
            connector.connect(&place).await.map(TokioIo::new).map_err(NotConnected)
        })
    }
}

impl Connector {
    async fn connect(&self, place: &Place) -> Result<Link, Refusal> {
        let unreachable = |why: String| Refusal::Unreachable { place: place.to_string(), why };
        let addresses = resolve(place).await.map_err(unreachable)?;
        match self.destinations.way(place) {
            Way::Nowhere => Err(Refusal::Nowhere { place: place.to_string() }),
            Way::Passed | Way::Token(Destination { proof: Proof::Unproven, .. }) => {
                dial(place, &addresses).await.map(Link::Plain).map_err(unreachable)
            }
            Way::Token(destination @ Destination { proof: Proof::Placed, .. }) => {
                let proven = self.placed(destination, &addresses).await?;
                dial(place, &proven).await.map(Link::Plain).map_err(unreachable)
            }
            Way::Token(destination @ Destination { proof: Proof::Tls, .. }) => {
                let stream = dial(place, &addresses).await.map_err(unreachable)?;
                self.speak_tls(destination, stream).await
            }
        }
    }

    /// Those of the addresses that are placed as the audience's app.
    async fn placed(&self, destination: &Destination, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>, Refusal> {
        let Destination { place, audience, .. } = destination;
        let unproven =
            |why: String| Refusal::Unproven { place: place.to_string(), audience: audience.to_string(), why };
        let mut proven = Vec::new();
        for address in addresses {
            let placed = self.source.is_placed(address.ip(), audience.as_str()).await;
            if placed.map_err(|error| unproven(error.to_string()))? {
                proven.push(*address);
            }
        }
        if proven.is_empty() {
            let listed: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            return Err(unproven(format!("{} is no address of that app", listed.join(", "))));
        }
        Ok(proven)
    }

    async fn speak_tls(&self, destination: &Destination, stream: TcpStream) -> Result<Link, Refusal> {
        let Destination { place, audience, .. } = destination;
        let unproven =
            |why: String| Refusal::Unproven { place: place.to_string(), audience: audience.to_string(), why };
        let name = ServerName::try_from(place.host.clone()).map_err(|error| unproven(error.to_string()))?;
        let shaken = timeout(CONNECT_PATIENCE, TlsConnector::from(self.tls.clone()).connect(name, stream)).await;
        let shaken = shaken.map_err(|_| Refusal::TimedOut { place: place.to_string() })?;
        shaken.map(|stream| Link::Tls(Box::new(stream))).map_err(|error| unproven(error.to_string()))
    }
}

/// The addresses of a place.
async fn resolve(place: &Place) -> Result<Vec<SocketAddr>, String> {
    if let Ok(ip) = place.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, place.port)]);
    }
    let found = timeout(CONNECT_PATIENCE, tokio::net::lookup_host((place.host.as_str(), place.port))).await;
    let found = found.map_err(|_| "its name is not resolved in time".to_owned())?;
    let found: Vec<SocketAddr> = found.map_err(|error| error.to_string())?.collect();
    if found.is_empty() { Err("its name has no address".to_owned()) } else { Ok(found) }
}

/// Connects to the first address that answers.
async fn dial(place: &Place, addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut why = format!("{place} has no address");
    for address in addresses {
        match timeout(CONNECT_PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(|error| error.to_string())?;
                return Ok(stream);
            }
            Ok(Err(error)) => why = format!("{address}: {error}"),
            Err(_) => why = format!("{address} does not answer"),
        }
    }
    Err(why)
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        let speaks_http2 = match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        };
        if speaks_http2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
