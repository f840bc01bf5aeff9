//! A connection as hyper reads it: bytes come through as `Framing` lets them. Instead of a head that is refused comes a plain
//! one, whose request is answered with what was noted; so a refusal waits for its turn behind what was asked before it.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    super::{
        refusal::Refusal,
        settings::Patience,
        watch::{End, Watched},
    },
    framing::{Framing, Limits, Step},
};

/// Stands in for a head that is refused.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

const SMALLEST: usize = 4_096;
const LARGEST: usize = 65_536;

/// How long a client may be idle once nobody new is taken in: long enough to come with another request, and be told to close.
const LEAVING: Duration = Duration::from_secs(5);

/// What the guard noted for who answers.
#[derive(Default)]
pub(crate) struct Notice {
    head: Cell<Option<Refusal>>,
    body: Cell<Option<Refusal>>,
}

/// A connection over HTTP/1.
pub(crate) struct Guard<S> {
    socket: S,
    framing: Framing,
    buffer: Vec<u8>,
    /// What has come and was not handed on.
    start: usize,
    end: usize,
    /// Of that, what may be handed on.
    released: usize,
    stand_in: &'static [u8],
    notice: Rc<Notice>,
    watched: Watched,
    waiting: Waiting,
    /// Whether a write waits for its client.
    writing: Cell<bool>,
    patience: Patience,
}

/// What the deadline of reading is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Nothing,
    Request,
    LastRequest,
    RestOfHead,
}

impl Notice {
    /// Why the head was refused that the request to be answered stands in for.
    pub(crate) fn take_head(&self) -> Option<Refusal> {
        self.head.take()
    }

    /// Why the body broke off.
    pub(crate) fn body(&self) -> Option<Refusal> {
        self.body.get()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guard<S> {
    /// Guards a connection of which some bytes were read already.
    pub(crate) fn new(socket: S, come: &[u8], limits: Limits, patience: Patience, watched: Watched) -> Self {
        let mut buffer = vec![0; SMALLEST.max(come.len())];
        buffer[..come.len()].copy_from_slice(come);
        Self {
            socket,
            framing: Framing::new(limits),
            buffer,
            start: 0,
            end: come.len(),
            released: 0,
            stand_in: &[],
            notice: Rc::default(),
            watched,
            waiting: Waiting::Nothing,
            writing: Cell::new(false),
            patience,
        }
    }

    pub(crate) fn notice(&self) -> Rc<Notice> {
        self.notice.clone()
    }

    /// The connection, and what has come over it and was not handed on.
    pub(crate) fn into_parts(mut self) -> (S, Vec<u8>) {
        let rest = self.buffer[self.start..self.end].to_vec();
        self.buffer = Vec::new();
        (self.socket, rest)
    }

    fn hand_on(&mut self, cursor: &mut ReadBufCursor<'_>) {
        if !self.stand_in.is_empty() {
            let (now, later) = self.stand_in.split_at(self.stand_in.len().min(cursor.remaining()));
            cursor.put_slice(now);
            self.stand_in = later;
            return;
        }
        let here = self.released.min(cursor.remaining());
        cursor.put_slice(&self.buffer[self.start..self.start + here]);
        self.start += here;
        self.released -= here;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Notes why nothing more is read, and hands on the stand-in if it was a head.
    fn refuse(&mut self, refusal: Refusal, in_body: bool) -> io::Result<()> {
        if in_body {
            self.notice.body.set(Some(refusal));
            return Err(io::Error::other(refusal));
        }
        self.notice.head.set(Some(refusal));
        self.stand_in = STAND_IN;
        Ok(())
    }

    /// Reads what has come; whether anything has.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.make_room();
        let mut room = ReadBuf::new(&mut self.buffer[self.end..]);
        let read = Pin::new(&mut self.socket).poll_read(context, &mut room);
        let come = room.filled().len();
        match read {
            Poll::Ready(Ok(())) => {
                self.end += come;
                Poll::Ready(Ok(come > 0))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn make_room(&mut self) {
        if self.end < self.buffer.len() {
            return;
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        } else {
            let length = (self.buffer.len() * 2).min(LARGEST.max(self.buffer.len() + SMALLEST));
            self.buffer.resize(length, 0);
        }
    }

    /// Sets the deadline that what is waited for has.
    fn wait_for(&mut self, waiting: Waiting) {
        if self.waiting == waiting {
            return;
        }
        self.waiting = waiting;
        match waiting {
            Waiting::Nothing => self.watched.ease(End::Client),
            Waiting::LastRequest => self.watched.give(End::Client, LEAVING),
            Waiting::Request => self.watched.give(End::Client, self.patience.idle),
            Waiting::RestOfHead => self.watched.give(End::Client, self.patience.head),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Read for Guard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        loop {
            if guard.released > 0 || !guard.stand_in.is_empty() {
                guard.hand_on(&mut cursor);
                return Poll::Ready(Ok(()));
            }
            let in_body = !guard.framing.is_between() && !guard.framing.in_head();
            match guard.framing.advance(&guard.buffer[guard.start..guard.end]) {
                Step::Release(length) => {
                    guard.released = length;
                    guard.wait_for(Waiting::Nothing);
                    continue;
                }
                Step::Refuse(refusal) => {
                    guard.refuse(refusal, in_body)?;
                    continue;
                }
                // Whoever asks for more while a request is answered, or after the last: there is none.
                Step::Hold => return Poll::Pending,
                Step::More => {}
            }
            match guard.poll_fill(context) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let in_head = guard.framing.in_head();
                    guard.wait_for(match in_body {
                        true => Waiting::Nothing,
                        false if in_head => Waiting::RestOfHead,
                        false if guard.watched.is_leaving() => Waiting::LastRequest,
                        false => Waiting::Request,
                    });
                    if guard.waiting == Waiting::Nothing {
                        return Poll::Pending;
                    }
                    ready!(guard.watched.poll_end(End::Client, context));
                    guard.watched.ease(End::Client);
                    if !in_head {
                        return Poll::Ready(Ok(()));
                    }
                    guard.framing.stop();
                    guard.refuse(Refusal::HeadTimedOut, false)?;
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guard<S> {
    /// Who does not take what is written to it holds what was read for it.
    fn patiently<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.writing.replace(false) {
                self.watched.ease(End::Upstream);
            }
            return written;
        }
        if !self.writing.replace(true) {
            self.watched.give(End::Upstream, self.patience.write);
        }
        ready!(self.watched.poll_end(End::Upstream, context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Write for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        let written = Pin::new(&mut guard.socket).poll_write(context, bytes);
        guard.patiently(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        let written = Pin::new(&mut guard.socket).poll_write_vectored(context, parts);
        guard.patiently(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}
