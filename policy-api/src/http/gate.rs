//! In front of every endpoint: who asks, whether they may, and the count of what came of it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{Extensions, HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::{debug, error, warn};

use super::{
    Context,
    endpoint::{Access, Endpoint},
    failure::{Failure, Told},
    gatekeeper::Asker,
    refused::Attempted,
};
use crate::{
    model::{Grant, Timestamp, TokenHash},
    store::{NodeGrant, Principal, Refusal, Rights, User},
    tls::Peer,
};

/// An endpoint's gate.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) context: Context,
    pub(super) endpoint: &'static Endpoint,
    /// Its place in the table, which is its place in the metrics.
    pub(super) index: usize,
}

/// What a request is called, for whoever writes down where a change came from.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

/// What a caller shows of himself.
pub(super) struct Shown {
    address: IpAddr,
    proof: Proof,
}

enum Proof {
    Certificate(Peer),
    Token(String),
    /// Nothing, or nothing that can be read.
    None,
}

/// What is asked of who wants to be told what gatekeepers are told.
const A_GATES: &str = "a token of role `gate`, or a node's certificate";
/// What an answer is called, in logs on both sides.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(super) async fn pass(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = name_request(&mut request);
    let asked = Attempted::of(&request);
    let (admitted, who) = match gate.admit(Shown::of(&request)).await {
        Ok(Some(principal)) => {
            let who = principal.to_string();
            request.extensions_mut().insert(principal);
            (Ok(()), who)
        }
        Ok(None) => (Ok(()), "anybody".to_owned()),
        Err((failure, who)) => (Err(failure), who.map_or_else(|| "nobody known".to_owned(), |who| who.to_string())),
    };
    let mut response = match admitted {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    };
    let who = response.extensions_mut().remove().map_or(who, |Asker(asker)| asker);
    if let Some(Told(detail)) = response.extensions_mut().remove() {
        asked.note(&gate.context, &who, detail).await;
    }
    let status = response.status();
    gate.context.metrics.count(gate.index, status);
    let (method, path, id_text) = (gate.endpoint.method, gate.endpoint.path, id.to_str().unwrap_or_default());
    let took = began.elapsed();
    if status.is_server_error() {
        warn!(request = id_text, who, method, path, status = status.as_u16(), ?took, "a request failed");
    } else {
        debug!(request = id_text, who, method, path, status = status.as_u16(), ?took, "answered");
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Gives a request the name that it goes by in logs and in the history.
pub(super) fn name_request(request: &mut Request) -> HeaderValue {
    let id = request_id(request.headers());
    request.extensions_mut().insert(RequestId(id.to_str().unwrap_or_default().to_owned()));
    id
}

/// The caller's own, if it can be one; else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    const LONGEST: usize = 64;
    let fits = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=LONGEST).contains(&bytes.len()) && bytes.iter().all(|byte| byte.is_ascii_graphic())
    };
    let random = || {
        let mut bytes = [0; 8];
        // Without random numbers requests go without a name.
        getrandom::fill(&mut bytes).ok()?;
        HeaderValue::try_from(format!("{:016x}", u64::from_ne_bytes(bytes))).ok()
    };
    headers.get(REQUEST_ID).filter(fits).cloned().or_else(random).unwrap_or_else(|| HeaderValue::from_static("none"))
}

impl Shown {
    pub(super) fn of(request: &Request) -> Self {
        let address = address(request.extensions());
        let peer = request.extensions().get::<Option<Peer>>().cloned().flatten();
        let proof = match (request.headers().get(header::AUTHORIZATION), peer) {
            (None, Some(peer)) => Proof::Certificate(peer),
            (None, None) => Proof::None,
            (Some(value), _) => token(value).map_or(Proof::None, |token| Proof::Token(token.to_owned())),
        };
        Self { address: address.unwrap_or(IpAddr::from([0, 0, 0, 0])), proof }
    }
}

/// Where a request comes from.
pub(super) fn address(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(from)| from.ip())
}

fn token(authorization: &HeaderValue) -> Option<&str> {
    let (scheme, token) = authorization.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

impl Gate {
    /// Who asks, if that matters here and they may; else who it was that may not, if that is known.
    pub(super) async fn admit(&self, shown: Shown) -> Result<Option<Principal>, (Failure, Option<Principal>)> {
        let limits = &self.context.limits;
        let address = shown.address;
        let unknown = || limits.unknown(address);
        if self.endpoint.access == Access::Shown {
            return Ok(None);
        }
        if self.endpoint.access == Access::Open {
            return unknown().map(|()| None).map_err(|failure| (failure, None));
        }
        let principal = match self.principal(shown.proof).await {
            Ok(principal) => principal,
            // Who guesses is soon told nothing more.
            Err(failure) => return Err((unknown().err().unwrap_or(failure), None)),
        };
        let permitted =
            limits.known(&principal).and_then(|()| self.permit_role(&principal)).and_then(|()| self.permit(&principal));
        match permitted {
            Ok(()) => Ok(Some(principal)),
            Err(failure) => Err((failure, Some(principal))),
        }
    }

    async fn principal(&self, proof: Proof) -> Result<Principal, Failure> {
        match proof {
            Proof::Certificate(peer) => known(&self.context, &peer).map(Principal::Node),
            Proof::Token(token) => self.bearer(&token).await,
            Proof::None => Err(Failure::unknown_caller()),
        }
    }

    /// A token that is for one purpose alone is good for nothing else, not even to read.
    fn permit_role(&self, principal: &Principal) -> Result<(), Failure> {
        let rights = self.context.store.read(|state| Rights::of(principal, state, Timestamp::now()))?;
        let refuse = |wanted: &str| Err(Failure::not_permitted(&principal.to_string(), wanted));
        match (self.endpoint.access, rights.sole()) {
            (Access::Known | Access::User, Some(sole)) => {
                refuse(&format!("a token of a role that reads policy; this one's is `{sole}`"))
            }
            (Access::Identity, Some(Grant::Gate)) => refuse("the token of a machine, a user or the operator"),
            (Access::Gate, Some(Grant::Gate)) => Ok(()),
            (Access::Gate, _) if !matches!(principal, Principal::Node(_)) => refuse(A_GATES),
            (
                Access::Known
                | Access::User
                | Access::Identity
                | Access::Gate
                | Access::Open
                | Access::Shown
                | Access::Node
                | Access::Joining,
                _,
            ) => Ok(()),
        }
    }

    fn permit(&self, principal: &Principal) -> Result<(), Failure> {
        let who = principal.to_string();
        match (self.endpoint.access, principal) {
            // Who has no role here may have one in front of a gatekeeper.
            (access, Principal::User(User::Vouched { grants, .. }))
                if grants.is_empty() && access != Access::Identity =>
            {
                Err(Failure::not_permitted(&who, "a claim of the provider that gives a role"))
            }
            (
                Access::Open | Access::Shown | Access::Known,
                Principal::Operator | Principal::User(_) | Principal::Node(_),
            )
            | (Access::User, Principal::Operator | Principal::User(_))
            | (Access::Identity, Principal::Operator | Principal::User(_) | Principal::Node(_))
            | (Access::Gate, Principal::User(_) | Principal::Node(_))
            | (Access::Node | Access::Joining, Principal::Node(_))
            | (Access::Joining, Principal::Joining(..)) => Ok(()),
            (Access::User, Principal::Node(_) | Principal::Joining(..)) => {
                Err(Failure::not_permitted(&who, "the token of a user or of the operator"))
            }
            (Access::Gate, Principal::Operator) => Err(Failure::not_permitted(&who, A_GATES)),
            (
                Access::Open | Access::Shown | Access::Known | Access::Node | Access::Identity | Access::Gate,
                Principal::Joining(..),
            ) => Err(Failure::not_permitted(&who, "the certificate that the node got when it joined")),
            (Access::Node, Principal::Operator | Principal::User(_)) => {
                Err(Failure::not_permitted(&who, "the node's own certificate"))
            }
            (Access::Joining, Principal::Operator | Principal::User(_)) => {
                Err(Failure::not_permitted(&who, "the node's join token"))
            }
            // It never asks.
            (_, Principal::Itself) => Err(Failure::unknown_caller()),
        }
    }

    /// Who has the token.
    async fn bearer(&self, token: &str) -> Result<Principal, Failure> {
        if let Some(user) = self.user(token).await {
            return Ok(Principal::User(user));
        }
        match self.context.store.tokens().principal(token) {
            Ok(Some(principal)) => Ok(principal),
            Ok(None) => Err(Failure::unknown_caller()),
            Err(failure) => {
                error!(error = %failure, "cannot look a token up");
                Err(Refusal::Store(failure.to_string()).into())
            }
        }
    }
}

impl Gate {
    /// Whom a token of ours or of the provider lets in.
    async fn user(&self, token: &str) -> Option<User> {
        match &self.context.provider {
            // Ours are hexadecimal.
            Some(provider) if token.contains('.') => provider.user(token, Timestamp::now()).await,
            Some(_) | None => self.holder(token),
        }
    }

    fn holder(&self, token: &str) -> Option<User> {
        let (hash, now) = (TokenHash::of(token), Timestamp::now());
        let name = self.context.store.read(|state| {
            let token = state.token_with(&hash).filter(|token| !token.is_over(now))?;
            Some(token.name.clone())
        })?;
        self.context.last_used.note(&hash, now);
        Some(User::Token(name, hash))
    }
}

/// The node at the other end, if the key that it has proven to hold is still the one that it is registered with.
pub(super) fn known(context: &Context, peer: &Peer) -> Result<NodeGrant, Failure> {
    if peer.until < Timestamp::now() {
        return Err(Failure::certificate_over(&peer.node, "has expired since the connection was made"));
    }
    let registered = context.store.read(|state| state.replica().nodes.get(&peer.node).cloned());
    let node = registered.ok_or_else(|| Failure::certificate_over(&peer.node, "is of a node that was removed"))?;
    if node.key != Some(peer.key) {
        return Err(Failure::certificate_over(&peer.node, "is for a key that the node had before"));
    }
    Ok(NodeGrant { name: node.name.clone(), apps: node.apps.clone() })
}
