//! A request on its way: who asks is let in, where it wants to go is looked up, it gets a token if that is a destination, and what
//! comes back is passed on as it comes. Bodies stream, and connections may change to other protocols.

use std::{convert::Infallible, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, uri::Scheme};
use http_body_util::{Either, Full};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use policy_api::model::Audience;
use ring::digest::{SHA256, digest};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::TcpStream,
};
use tracing::debug;

use super::{
    destination::{Destination, Destinations, Place, Proof, Way, place_of_request},
    hop,
    refusal::Refusal,
    secret::Secret,
    token::Tokens,
    upstream::Upstream,
};

/// What all requests share.
pub(super) struct Forwarder {
    pub(super) destinations: Arc<Destinations>,
    pub(super) tokens: Tokens,
    pub(super) upstream: Upstream,
    pub(super) door: Door,
    pub(super) own_authorization: OwnAuthorization,
}

/// Who is let in.
pub(super) enum Door {
    /// Whoever can connect: a socket of the user's own, or a namespace.
    Open,
    /// Who knows the secret.
    Secret(Secret),
}

/// What becomes of an `Authorization` of the client's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnAuthorization {
    Kept,
    Replaced,
}

/// How requests are written where a client connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As for a proxy: `GET http://host/path`.
    Absolute,
    /// Or as for a server, with the host in `Host`: what `curl --unix-socket` sends.
    AbsoluteOrOrigin,
}

type Body = Either<Incoming, Full<Bytes>>;

/// A client that does not get its head written in this time is not waited for.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
const LARGEST_HEAD: usize = 64 << 10;

/// Serves one connection to its end, or until it has to end.
pub(super) async fn serve<S>(forwarder: Arc<Forwarder>, stream: S, form: Form, stop: impl Future<Output = ()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let forwarder = forwarder.clone();
        async move { Ok::<_, Infallible>(forwarder.answer(request, form).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE).max_buf_size(LARGEST_HEAD);
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let served = tokio::select! {
        served = &mut connection => served,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(%error, "a client's connection ended");
    }
}

impl Forwarder {
    async fn answer(&self, request: Request<Incoming>, form: Form) -> Response<Body> {
        match self.forward(request, form).await {
            Ok(answer) => answer,
            Err(refusal) => {
                debug!(%refusal, "a request is not passed on");
                refusal.answer().map(Either::Right)
            }
        }
    }

    async fn forward(&self, mut request: Request<Incoming>, form: Form) -> Result<Response<Body>, Refusal> {
        self.door.admit(request.headers())?;
        if request.method() == Method::CONNECT {
            return self.tunnel(request).await;
        }
        let place = target(&request, form)?;
        let way = self.destinations.way(&place);
        let destination = match way {
            Way::Nowhere => return Err(Refusal::Nowhere { place: place.to_string() }),
            Way::Passed => None,
            Way::Token(destination) => Some(destination),
        };
        if request.uri().scheme() == Some(&Scheme::HTTPS) && destination.is_none_or(|to| to.proof != Proof::Tls) {
            return Err(Refusal::BadRequest(
                "TLS to where no token goes is spoken by clients themselves: CONNECT HOST:PORT",
            ));
        }
        let client_upgrade = hyper::upgrade::on(&mut request);
        let upgrade = hop::strip(request.headers_mut());
        let upgrades = upgrade.is_wanted();
        upgrade.restore(request.headers_mut());
        let showed = self.authorize(&mut request, destination).await?;
        rewrite_target(&mut request, destination.map_or(&place, |destination| &destination.place), destination)?;
        let mut answer = self.upstream.send(request, upgrades).await?;
        if let (StatusCode::UNAUTHORIZED, Some(audience)) = (answer.status(), showed) {
            self.tokens.doubt(audience);
        }
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            pass_on_upgraded(client_upgrade, hyper::upgrade::on(&mut answer));
        }
        let upgraded = hop::strip(answer.headers_mut());
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            upgraded.restore(answer.headers_mut());
        }
        *answer.version_mut() = Version::HTTP_11;
        Ok(answer.map(Either::Left))
    }

    /// Puts the token on; returns whose it is, if one was.
    async fn authorize<'a>(
        &self,
        request: &mut Request<Incoming>,
        destination: Option<&'a Destination>,
    ) -> Result<Option<&'a Audience>, Refusal> {
        let Some(Destination { audience, .. }) = destination else { return Ok(None) };
        let has_own = request.headers().contains_key(header::AUTHORIZATION);
        if has_own && self.own_authorization == OwnAuthorization::Kept {
            return Ok(None);
        }
        let token = self.tokens.token(audience).await;
        let token = token.map_err(|why| Refusal::NoToken { audience: audience.to_string(), why })?;
        request.headers_mut().insert(header::AUTHORIZATION, token.authorization);
        Ok(Some(audience))
    }

    /// Connects a client with a place that may be passed to, and reads nothing of what they say.
    async fn tunnel(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        const NO_HOST: Refusal = Refusal::BadRequest("a tunnel takes a host and a port: CONNECT HOST:PORT");
        let authority = request.uri().authority().filter(|authority| authority.port_u16().is_some()).ok_or(NO_HOST)?;
        let place = Place::of(authority, 0).ok_or(NO_HOST)?;
        match self.destinations.way(&place) {
            Way::Nowhere => return Err(Refusal::Nowhere { place: place.to_string() }),
            Way::Token(_) => return Err(Refusal::TunnelToDestination { place: place.to_string() }),
            Way::Passed => {}
        }
        let stream = self.upstream.tunnel(&place).await?;
        let client = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(client) = client.await {
                splice(TokioIo::new(client), stream).await;
            }
        });
        Ok(Response::new(Either::Right(Full::default())))
    }
}

impl Door {
    /// The secret is the password of any user (`Basic`), as URLs of proxies carry it.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Self::Secret(secret) = self else { return Ok(()) };
        let mut shown = headers.get_all(header::PROXY_AUTHORIZATION).iter();
        let (Some(shown), None) = (shown.next(), shown.next()) else { return Err(Refusal::ProxySecret) };
        let password = password(shown).ok_or(Refusal::ProxySecret)?;
        // Digests, so that how long it takes says nothing about the secret.
        let same = digest(&SHA256, &password).as_ref() == digest(&SHA256, secret.reveal().as_bytes()).as_ref();
        if same { Ok(()) } else { Err(Refusal::ProxySecret) }
    }
}

fn password(shown: &HeaderValue) -> Option<Vec<u8>> {
    let (scheme, credentials) = shown.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credentials = STANDARD.decode(credentials.trim()).ok()?;
    let colon = credentials.iter().position(|byte| *byte == b':')?;
    Some(credentials[colon + 1..].to_vec())
}

/// Where a request wants to go.
fn target(request: &Request<Incoming>, form: Form) -> Result<Place, Refusal> {
    if request.uri().scheme().is_some() {
        return place_of_request(request.uri()).ok_or(Refusal::BadRequest("its target is no http URL of a host"));
    }
    if form == Form::Absolute {
        return Err(Refusal::BadRequest(
            "this is a proxy: ask it for `http://HOST/PATH`, as clients do by `http_proxy`",
        ));
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Refusal::BadRequest("it takes one `Host` to say where it wants to go"));
    };
    let authority = host.to_str().ok().and_then(|host| host.parse().ok());
    authority.and_then(|authority| Place::of(&authority, 80)).ok_or(Refusal::BadRequest("its `Host` is no host"))
}

/// Has the request name its destination, and nothing else, wherever it is looked for.
fn rewrite_target(
    request: &mut Request<Incoming>,
    place: &Place,
    destination: Option<&Destination>,
) -> Result<(), Refusal> {
    let tls = destination.is_some_and(|destination| destination.proof == Proof::Tls);
    let (scheme, default_port) = if tls { (Scheme::HTTPS, 443) } else { (Scheme::HTTP, 80) };
    let authority = place.authority(default_port);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme(scheme).authority(authority.as_str()).path_and_query(path).build();
    *request.uri_mut() = uri.map_err(|_| Refusal::BadRequest("its target is no URL"))?;
    let host = HeaderValue::try_from(authority).map_err(|_| Refusal::BadRequest("its target is no URL"))?;
    request.headers_mut().insert(header::HOST, host);
    *request.version_mut() = Version::HTTP_11;
    Ok(())
}

fn pass_on_upgraded(client: OnUpgrade, upstream: OnUpgrade) {
    tokio::spawn(async move {
        if let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) {
            let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
            let _ended = copy_bidirectional(&mut client, &mut upstream).await;
        }
    });
}

async fn splice<S: AsyncRead + AsyncWrite + Unpin>(mut client: S, mut upstream: TcpStream) {
    let _ended = copy_bidirectional(&mut client, &mut upstream).await;
}

#[cfg(test)]
mod tests;
