//! Who is at the other end of a connection, by its certificate: read once, when the connection is made.

use std::{io, pin::Pin};

use axum::{Extension, middleware::AddExtension};
use axum_server::{accept::Accept, tls_rustls::RustlsAcceptor};
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tower_layer::Layer as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::NODE;
use crate::model::{KeyId, NodeName, Timestamp};

/// A node, as its certificate has it: our CA signed that this key was its key, until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub node: NodeName,
    pub key: KeyId,
    pub until: Timestamp,
}

impl Peer {
    /// What a certificate says that was verified already; nothing if it is no node's.
    fn of(certificate: &CertificateDer) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
        Some(Self {
            node: name.strip_prefix(NODE)?.parse().ok()?,
            key: KeyId::of(certificate.public_key().raw),
            until: Timestamp::of_unix_milliseconds(certificate.validity().not_after.timestamp() * 1_000)?,
        })
    }
}

/// TLS, with the node at the other end beside each request.
#[derive(Clone)]
pub struct Identifying<A>(pub RustlsAcceptor<A>);

impl<A, S> Accept<TcpStream, S> for Identifying<A>
where
    RustlsAcceptor<A>: Accept<TcpStream, S, Stream = TlsStream<TcpStream>, Service = S>,
    <RustlsAcceptor<A> as Accept<TcpStream, S>>::Future: Send + 'static,
{
    type Stream = TlsStream<TcpStream>;
    type Service = AddExtension<S, Option<Peer>>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let accepting = self.0.accept(stream, service);
        Box::pin(async move {
            let (stream, service) = accepting.await?;
            let certificates = stream.get_ref().1.peer_certificates();
            let peer = certificates.and_then(<[_]>::first).and_then(Peer::of);
            Ok((stream, Extension(peer).layer(service)))
        })
    }
}
