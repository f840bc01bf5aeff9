//! TLS towards clients: which HTTP is spoken inside is what the handshake says.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{app::App, command_line::serve};

/// A gatekeeper with a certificate, and who believes it.
struct Gate {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    app: App,
}

impl Gate {
    fn start(directory: &Path) -> Self {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let (chain, key) = (directory.join("gate.pem"), directory.join("gate.key"));
        fs::write(&chain, cert.pem()).expect("a file");
        fs::write(&key, signing_key.serialize_pem()).expect("a file");
        let app = App::start();
        let flags = ["--tls-cert", &chain.display().to_string(), "--tls-key", &key.display().to_string()];
        let address = serve(&format!("http://{}", app.address), &flags);
        Self { address, certificate: cert.der().clone(), app }
    }

    /// Connects, offering these protocols.
    async fn connect(&self, offered: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("TLS");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let socket = TcpStream::connect(self.address).await.expect("it listens");
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").expect("a name"), socket).await
    }
}

fn agreed(socket: &TlsStream<TcpStream>) -> Option<&[u8]> {
    socket.get_ref().1.alpn_protocol()
}

fn request(uri: &str) -> Request<Empty<Bytes>> {
    let request = Request::get(uri).header("authorization", "Bearer ci-token");
    request.body(Empty::new()).expect("a request")
}

/// What the app got of a request over HTTP/2.
async fn seen_over_http2(socket: TlsStream<TcpStream>) -> String {
    let made = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await;
    let (mut sender, connection) = made.expect("HTTP/2");
    tokio::spawn(connection);
    let answer = sender.send_request(request("https://localhost/a")).await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
    let seen = answer.into_body().collect().await.expect("whole").to_bytes();
    String::from_utf8_lossy(&seen).into_owned()
}

/// The same over HTTP/1.1.
async fn seen_over_http1(socket: TlsStream<TcpStream>) -> String {
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    let mut request = request("/a");
    request.headers_mut().insert("host", "localhost".parse().expect("a name"));
    let answer = sender.send_request(request).await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_11));
    let seen = answer.into_body().collect().await.expect("whole").to_bytes();
    String::from_utf8_lossy(&seen).into_owned()
}

#[track_caller]
fn assert_is_plain(seen: &str) {
    assert!(seen.starts_with("GET /a HTTP/1.1\r\n") && seen.contains("host: localhost\r\n"), "{seen}");
    assert!(seen.contains("x-forwarded-proto: https\r\n"), "{seen}");
}

#[tokio::test]
async fn whichever_http_is_agreed_on_is_spoken() {
    let directory = tempfile::tempdir().expect("a directory");
    let gate = Gate::start(directory.path());
    for offered in [["h2", "http/1.1"].as_slice(), &["http/1.1", "h2"], &["h2"]] {
        let socket = gate.connect(offered).await.expect("TLS");
        assert_eq!(agreed(&socket), Some(b"h2".as_slice()), "{offered:?}");
        assert_is_plain(&seen_over_http2(socket).await);
    }
    let socket = gate.connect(&["http/1.1"]).await.expect("TLS");
    assert_eq!(agreed(&socket), Some(b"http/1.1".as_slice()));
    assert_is_plain(&seen_over_http1(socket).await);
    let socket = gate.connect(&[]).await.expect("TLS");
    assert_eq!(agreed(&socket), None);
    assert_is_plain(&seen_over_http1(socket).await);
}

#[tokio::test]
async fn who_speaks_neither_or_no_tls_gets_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let gate = Gate::start(directory.path());
    assert!(gate.connect(&["spdy/3"]).await.is_err());
    let plain = http1::handshake(TokioIo::new(TcpStream::connect(gate.address).await.expect("it listens"))).await;
    let (mut sender, connection) = plain.expect("a connection");
    tokio::spawn(connection);
    assert!(sender.send_request(request("/a")).await.is_err());
    assert_eq!(gate.app.requests(), 0);
}
