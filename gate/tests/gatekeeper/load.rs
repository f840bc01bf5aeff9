//! Clients that ask all the time, over connections that they keep as long as they may; an answer that is missing or wrong is a
//! panic.

use std::{
    error::Error as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use http_body_util::BodyExt as _;

use crate::{grpc, raw::Raw};

/// Clients that ask until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(clients: usize, ask: impl Fn(&AtomicBool, &AtomicUsize) + Clone + Send + 'static) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients = (0..clients).map(|_| {
            let (stop, answered, ask) = (stop.clone(), answered.clone(), ask.clone());
            thread::spawn(move || ask(&stop, &answered))
        });
        Self { clients: clients.collect(), stop, answered }
    }

    /// Waits until so many more were answered.
    pub(crate) fn go_on_for(&self, more: usize) {
        let wanted = self.answered.load(Ordering::SeqCst) + more;
        while self.answered.load(Ordering::SeqCst) < wanted {
            assert!(!self.clients.iter().any(JoinHandle::is_finished), "a request failed");
            thread::yield_now();
        }
    }

    pub(crate) fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().expect("no request failed");
        }
    }
}

/// Asks over connections that are kept until the gatekeeper says that it closes them.
pub(crate) fn ask_http1(address: SocketAddr, stop: &AtomicBool, answered: &AtomicUsize) {
    while !stop.load(Ordering::SeqCst) {
        let mut connection = Raw::connect(address);
        loop {
            connection.send("GET /a HTTP/1.1\r\nHost: app\r\nAuthorization: Bearer ci-token\r\n\r\n");
            let answer = connection.answer();
            assert_eq!(answer.status, 200, "{answer:?}");
            answered.fetch_add(1, Ordering::SeqCst);
            if answer.field("connection").is_some() || stop.load(Ordering::SeqCst) {
                break;
            }
        }
    }
}

/// The same over HTTP/2, where the gatekeeper says that it takes no more streams.
pub(crate) async fn ask_http2(address: SocketAddr, stop: &AtomicBool, answered: &AtomicUsize) {
    let mut client = grpc::connect(address).await;
    while !stop.load(Ordering::SeqCst) {
        let (pieces, body) = grpc::stream();
        drop(pieces);
        match client.try_send_request(grpc::call(address, body)).await {
            Ok(answer) => {
                assert_eq!(answer.status(), 200);
                answer.into_body().collect().await.expect("a whole answer");
                answered.fetch_add(1, Ordering::SeqCst);
            }
            Err(mut error) => {
                let is_unsent = error.take_message().is_some();
                let error = error.into_error();
                assert!(is_unsent || was_not_taken(&error), "a request failed: {error:?}");
                // The connection takes no more.
                client = grpc::connect(address).await;
            }
        }
    }
}

/// Whether a connection was said to end in order before the request became a stream of it. A stream that was taken and broke
/// off would say so otherwise.
fn was_not_taken(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR))
}
