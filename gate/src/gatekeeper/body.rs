//! Bodies on their way: a request's towards the upstream, held to a length and a pace, and an answer's towards the client,
//! bound to the permit that let the request in.

use std::{
    cell::Cell,
    convert::Infallible,
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use thiserror::Error;

use super::{
    connection::Client,
    record::Record,
    refusal::Refusal,
    upstream::Lease,
    watch::{End, Ending, Watched},
    wire::Notice,
};

/// A request that is being served, as its two bodies share it.
pub(crate) struct Exchange {
    pub(crate) watched: Watched,
    /// Why the request's body broke off.
    broken: Cell<Option<Refusal>>,
    /// There is a body that was not sent to its end.
    uploading: Cell<bool>,
    /// The upstream has begun to answer; from then on it decides how long it waits for the rest of the request.
    answered: Cell<bool>,
}

/// The body of a request.
pub(crate) enum Outgoing {
    Empty,
    Upload(Upload),
}

/// A body that comes in as it goes out.
pub(crate) struct Upload {
    incoming: Incoming,
    exchange: Rc<Exchange>,
    notice: Option<Rc<Notice>>,
    left: u64,
    patience: Duration,
    waiting: bool,
}

/// The body of an answer.
pub(crate) enum Answered {
    Own(Full<Bytes>),
    Passed(Box<Passed>),
}

/// An answer of the upstream, as it comes.
pub(crate) struct Passed {
    /// What of it was here when its head was.
    early: Poll<Piece>,
    incoming: Incoming,
    exchange: Rc<Exchange>,
    record: Record,
    lease: Lease,
    ended: bool,
}

/// Why a body broke off.
#[derive(Debug, Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the other end broke off")]
    Other(#[from] hyper::Error),
}

/// A frame of a body, or its end.
pub(crate) type Piece = Option<Result<Frame<Bytes>, hyper::Error>>;

/// The next frame that holds something. Empty ones say nothing, and whoever gets many over HTTP/2 takes them for an attack and
/// closes the connection, on which others' requests are too.
fn poll_filled(mut poll: impl FnMut() -> Poll<Piece>) -> Poll<Piece> {
    loop {
        match ready!(poll()) {
            Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
            frame => return Poll::Ready(frame),
        }
    }
}

impl Exchange {
    pub(crate) fn new(watched: Watched) -> Rc<Self> {
        Rc::new(Self { watched, broken: Cell::new(None), uploading: Cell::new(false), answered: Cell::new(false) })
    }

    /// Why the request's body broke off, if it did.
    pub(crate) fn broken(&self) -> Option<Refusal> {
        self.broken.get()
    }

    /// The upstream has begun to answer.
    pub(crate) fn answer_begins(&self) {
        self.answered.set(true);
        self.watched.ease(End::Upstream);
        self.watched.ease(End::Client);
    }
}

impl Outgoing {
    pub(crate) fn new(incoming: Incoming, exchange: &Rc<Exchange>, client: &Client) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        exchange.uploading.set(true);
        let (exchange, notice, settings) = (exchange.clone(), client.notice.clone(), &client.worker.settings);
        let (left, patience) = (settings.longest_body.0, settings.patience.body);
        Self::Upload(Upload { incoming, exchange, notice, left, patience, waiting: false })
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Upload(upload) => upload.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Upload(upload) => upload.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Upload(upload) => upload.incoming.size_hint(),
        }
    }
}

impl Upload {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match poll_filled(|| Pin::new(&mut self.incoming).poll_frame(context)) {
            Poll::Ready(Some(Ok(frame))) => self.pass(frame),
            Poll::Ready(Some(Err(error))) => {
                let refusal = self.notice.as_ref().and_then(|notice| notice.body());
                self.exchange.broken.set(refusal);
                Poll::Ready(Some(Err(Broken::Other(error))))
            }
            Poll::Ready(None) => {
                self.exchange.watched.ease(End::Client);
                Poll::Ready(None)
            }
            Poll::Pending => self.wait(context),
        }
    }

    /// Trailers of requests end here: nobody behind would know that they are none of ours.
    fn pass(&mut self, frame: Frame<Bytes>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Ok(data) = frame.into_data() else { return Poll::Ready(None) };
        self.waiting = false;
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let Some(left) = self.left.checked_sub(length) else { return self.break_off(Refusal::BodyTooLarge) };
        self.left = left;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let watched = &self.exchange.watched;
        if !self.waiting && !self.exchange.answered.get() {
            self.waiting = true;
            watched.give(End::Client, self.patience);
        }
        match watched.poll_end(End::Client, context) {
            Poll::Ready(Ending::Late) => self.break_off(Refusal::BodyTimedOut),
            Poll::Ready(Ending::Refused(refusal)) => self.break_off(refusal),
            Poll::Pending => Poll::Pending,
        }
    }

    fn break_off(&mut self, refusal: Refusal) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.exchange.broken.set(Some(refusal));
        Poll::Ready(Some(Err(Broken::Refused(refusal))))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.exchange.uploading.set(false);
    }
}

impl Answered {
    /// An answer of the upstream, whose connection is used again when all of it was taken.
    /// What of it came with its head goes on with the head, in one write; what comes later is not waited for.
    pub(crate) fn passed(mut incoming: Incoming, exchange: Rc<Exchange>, record: Record, mut lease: Lease) -> Self {
        if exchange.uploading.get() {
            lease.let_go();
        }
        if incoming.is_end_stream() {
            lease.give_back();
            drop(record);
            return Self::Own(Full::default());
        }
        // Who waits for the rest looks again with a waker of its own.
        let mut silent = Context::from_waker(Waker::noop());
        let early = poll_filled(|| lease.poll_piece(&mut incoming, &mut silent));
        Self::Passed(Box::new(Passed { early, incoming, exchange, record, lease, ended: false }))
    }

    pub(crate) fn own(text: Bytes) -> Self {
        Self::Own(Full::new(text))
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Own(body) => Pin::new(body).poll_frame(context).map_err(|never: Infallible| match never {}),
            Self::Passed(passed) => passed.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Passed(passed) => passed.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Passed(passed) => passed.size_hint(),
        }
    }
}

impl Passed {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(refusal) = self.exchange.watched.refused() {
            return self.cut(refusal);
        }
        match self.poll_piece(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.record.count(data.len());
                }
                if self.incoming.is_end_stream() {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.record.broke_off();
                Poll::Ready(Some(Err(Broken::Other(error))))
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Pending => match self.exchange.watched.poll_end(End::Upstream, context) {
                Poll::Ready(Ending::Refused(refusal)) => self.cut(refusal),
                Poll::Ready(Ending::Late) | Poll::Pending => Poll::Pending,
            },
        }
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        match mem::replace(&mut self.early, Poll::Pending) {
            Poll::Pending => poll_filled(|| self.lease.poll_piece(&mut self.incoming, context)),
            piece @ Poll::Ready(_) => piece,
        }
    }

    /// All that is to come, whether it is here or not.
    fn size_hint(&self) -> SizeHint {
        let here = match &self.early {
            Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
            Poll::Ready(_) | Poll::Pending => 0,
        };
        let here = u64::try_from(here).unwrap_or(u64::MAX);
        let mut hint = self.incoming.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + here);
        }
        hint.set_lower(hint.lower() + here);
        hint
    }

    fn end(&mut self) {
        self.ended = true;
        self.lease.give_back();
    }

    fn cut(&mut self, refusal: Refusal) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.record.cut(refusal);
        Poll::Ready(Some(Err(Broken::Refused(refusal))))
    }
}
