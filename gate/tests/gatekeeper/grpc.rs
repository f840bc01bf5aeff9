//! gRPC at its barest: a service that says back what it is told, and a client that calls it.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use futures_util::{TryStreamExt as _, future::ready};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, BodyStream, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;

/// Takes calls of a client.
pub(crate) type Sender = hyper::client::conn::http2::SendRequest<BoxBody<Bytes, Infallible>>;

pub(crate) async fn connect(address: SocketAddr) -> Sender {
    let socket = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await;
    let (sender, connection) = made.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// A server as servers of gRPC are: says back each piece as it comes, and then a status in the trailer.
pub(crate) async fn echo_service() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("it listens");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                let te = request.headers().get("te").cloned();
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                // Servers of gRPC send no empty pieces.
                let pieces = BodyStream::new(request.into_body())
                    .try_filter(|frame| ready(frame.data_ref().is_none_or(|data| !data.is_empty())));
                let body = StreamBody::new(pieces).with_trailers(async { Some(Ok(trailers)) });
                let mut answer = Response::new(body);
                answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
                if let Some(te) = te {
                    answer.headers_mut().insert("seen-te", te);
                }
                Ok::<_, Infallible>(answer)
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service);
            tokio::spawn(connection);
        }
    });
    address
}

/// What a call says, piece by piece; it has said all when the sender is dropped.
pub(crate) fn stream() -> (mpsc::Sender<&'static str>, BoxBody<Bytes, Infallible>) {
    let (sender, mut pieces) = mpsc::channel::<&'static str>(8);
    let stream = futures_util::stream::poll_fn(move |context| pieces.poll_recv(context));
    let frames = futures_util::StreamExt::map(stream, |piece| Ok(Frame::data(Bytes::from(piece))));
    (sender, BoxBody::new(StreamBody::new(frames)))
}

/// A call by who may do everything.
pub(crate) fn call(address: SocketAddr, body: BoxBody<Bytes, Infallible>) -> Request<BoxBody<Bytes, Infallible>> {
    let request = Request::post(format!("http://{address}/echo.Echo/Say")).header("te", "trailers");
    let request = request.header("content-type", "application/grpc").header("authorization", "Bearer ci-token");
    request.body(body).expect("a request")
}
