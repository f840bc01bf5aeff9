//! A connection to the upstream over HTTP/1, driven by whoever has it: what it does for a request it does in the task of that
//! request, which then waits for no other task's turn.
//!
//! So nothing of hyper's that waits for the connection has to wake anybody, and is looked at with a waker that does not: who
//! drives the connection is woken by its socket, and looks again.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use http::{Request, Response};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use tokio::task::{spawn_local, unconstrained};

use super::{
    body::{Outgoing, Piece},
    socket::{Prefixed, Socket},
};

type Connection = http1::Connection<TokioIo<Socket>, Outgoing>;

/// One connection, for one request at a time.
pub(crate) struct Link {
    sender: http1::SendRequest<Outgoing>,
    /// Gone when it has ended and something still waited for it.
    connection: Option<Connection>,
    ended: bool,
}

fn silent() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Link {
    pub(crate) async fn over(socket: Socket) -> Result<Self, hyper::Error> {
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        Ok(Self { sender, connection: Some(connection), ended: false })
    }

    /// Whether it takes a request, as far as is known here.
    pub(crate) fn is_free(&mut self) -> bool {
        self.drive(&mut silent());
        !self.ended && self.sender.is_ready()
    }

    /// Whether it takes a request, if nothing has come from the upstream since it was driven.
    pub(crate) fn is_done(&mut self) -> bool {
        !self.ended && self.sender.is_ready() || self.is_free()
    }

    /// Sends a request, and waits for the head of its answer.
    pub(crate) async fn ask(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Outgoing>>> {
        // Not held to a budget: who is out of it is woken, and here nobody would be.
        let mut answering = pin!(unconstrained(self.sender.try_send_request(request)));
        poll_fn(|context| self.poll_for(context, |silent| answering.as_mut().poll(silent))).await
    }

    /// The next piece of an answer's body.
    pub(crate) fn poll_piece(&mut self, incoming: &mut Incoming, context: &mut Context<'_>) -> Poll<Piece> {
        self.poll_for(context, |silent| Pin::new(&mut *incoming).poll_frame(silent))
    }

    /// Goes on by itself until the request has been sent and the answer was taken.
    pub(crate) fn let_go(self) {
        let Self { sender, connection, ended } = self;
        // With nobody who could ask again it ends then.
        drop(sender);
        if let Some(mut connection) = connection
            && !ended
        {
            spawn_local(async move { drop(poll_fn(|context| connection.poll_without_shutdown(context)).await) });
        }
    }

    /// The socket, when both ends have left HTTP, with what has come over it since.
    pub(crate) async fn leave_http(mut self) -> Option<Prefixed<Socket>> {
        let mut connection = self.connection.take()?;
        if !self.ended {
            poll_fn(|context| connection.poll_without_shutdown(context)).await.ok()?;
        }
        let parts = connection.into_parts();
        Some(Prefixed::new(parts.read_buf.to_vec(), parts.io.into_inner()))
    }

    /// Looks for what only this connection brings, and drives it as long as it is not there.
    fn poll_for<T>(&mut self, context: &mut Context<'_>, mut look: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        // Also what says that more is wanted.
        if let found @ Poll::Ready(_) = look(&mut silent()) {
            return found;
        }
        self.drive(context);
        match look(&mut silent()) {
            Poll::Pending if self.ended => {
                // Whatever waits for it is told by its end.
                self.connection = None;
                look(&mut silent())
            }
            found => found,
        }
    }

    fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && !self.ended
        {
            // Why it ended is told to whoever waits for it.
            self.ended = connection.poll_without_shutdown(context).is_ready();
        }
    }
}
