//! Deadlines of whatever is open on a worker, and the permits that it is bound to: one task looks over all of it every few
//! milliseconds. A timer and a subscription for each request would cost more than the rest of its way.
//!
//! Knows no HTTP: who waits is told that it took too long, or that the permit does not hold any more, and decides what follows.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use http::HeaderValue;
use slab::Slab;
use tokio::task::spawn_local;

use super::{admit, judge::Judge, refusal::Refusal};
use crate::{
    authority::{Denial, Permit, Privilege, Question, Resource},
    verdict_cache::Verdict,
};

/// How often everything is looked over: deadlines are seconds, and a revocation has to be felt in less than one.
const EVERY: Duration = Duration::from_millis(50);

/// Whatever is open on one worker.
pub(crate) struct Watch {
    open: RefCell<Slab<Weak<Entry>>>,
    /// How often it was looked over.
    tick: Cell<u32>,
    /// No new connections come: those that are open end when they can.
    leaving: Cell<bool>,
    judge: Arc<dyn Judge>,
    resource: Resource,
}

/// The place of something that is open; it is left when this is dropped.
pub(crate) struct Watched {
    watch: Rc<Watch>,
    key: usize,
    entry: Rc<Entry>,
}

/// Who waits: each end has a deadline of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Towards the client: its bytes on a connection, its body in a request.
    Client,
    /// Towards the upstream: its answer; on a connection what is written to the client.
    Upstream,
}

/// Why something that is open has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Late,
    Refused(Refusal),
}

struct Entry {
    /// The tick at which each end is late; 0 where it may take its time.
    deadline: [Cell<u32>; 2],
    late: [Cell<bool>; 2],
    waker: [RefCell<Option<Waker>>; 2],
    bond: RefCell<Option<Bond>>,
    refused: Cell<Option<Refusal>>,
}

/// The permit that something is bound to, and what it takes to ask for it anew.
#[derive(Clone)]
pub(crate) struct Bond {
    pub(crate) permit: Arc<Permit>,
    pub(crate) authorization: HeaderValue,
    pub(crate) privilege: Privilege,
}

impl Watch {
    pub(crate) fn new(judge: Arc<dyn Judge>, resource: Resource) -> Rc<Self> {
        Rc::new(Self { open: RefCell::default(), tick: Cell::new(1), leaving: Cell::new(false), judge, resource })
    }

    /// Begins to watch over something.
    pub(crate) fn begin(self: &Rc<Self>) -> Watched {
        let entry = Rc::new(Entry {
            deadline: Default::default(),
            late: Default::default(),
            waker: Default::default(),
            bond: RefCell::new(None),
            refused: Cell::new(None),
        });
        let key = self.open.borrow_mut().insert(Rc::downgrade(&entry));
        Watched { watch: self.clone(), key, entry }
    }

    /// Says to everything that is open that it should end when it can.
    pub(crate) fn leave(&self) {
        self.leaving.set(true);
        for (_, entry) in self.open.borrow().iter() {
            if let Some(entry) = entry.upgrade() {
                entry.wake(End::Client);
            }
        }
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.get()
    }

    /// Looks over everything for ever.
    pub(crate) async fn run(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.tick.set(self.tick.get().wrapping_add(1).max(1));
            self.look_over(Instant::now());
        }
    }

    fn look_over(self: &Rc<Self>, now: Instant) {
        let tick = self.tick.get();
        // Whoever is woken runs later, so that nothing is entered or left meanwhile.
        for (_, entry) in self.open.borrow().iter() {
            let Some(entry) = entry.upgrade() else { continue };
            entry.look_at_deadlines(tick);
            self.look_at_bond(&entry, now);
        }
    }

    fn look_at_bond(self: &Rc<Self>, entry: &Rc<Entry>, now: Instant) {
        let ask_again =
            entry.bond.borrow().as_ref().is_some_and(|bond| bond.permit.is_revoked() || bond.permit.until <= now);
        if !ask_again {
            return;
        }
        // Put back by who asks, so that it is asked once.
        if let Some(bond) = entry.bond.take() {
            spawn_local(ask_again_for(self.clone(), Rc::downgrade(entry), bond));
        }
    }

    /// Ticks in a while, and one for the one that has begun.
    fn tick_after(&self, time: Duration) -> u32 {
        let ticks = time.as_millis() / EVERY.as_millis() + 1;
        self.tick.get().saturating_add(u32::try_from(ticks).unwrap_or(u32::MAX))
    }
}

/// A permit that ran out may be given anew, to a token that has not; what stays open is bound to the new one.
async fn ask_again_for(watch: Rc<Watch>, entry: Weak<Entry>, bond: Bond) {
    let Ok(credential) = admit::credential(&bond.authorization) else {
        unreachable!("it was a credential when it was let in")
    };
    let question = Question { credential, privilege: &bond.privilege, resource: &watch.resource };
    let verdict = watch.judge.ask(question).await;
    let Some(entry) = entry.upgrade() else { return };
    match verdict {
        Verdict::Allow(permit) => drop(entry.bond.replace(Some(Bond { permit, ..bond }))),
        Verdict::Deny(denial) => entry.refuse(Refusal::Denied(denial)),
        Verdict::Forbid(_) => entry.refuse(Refusal::Denied(Denial::NotPermitted)),
        Verdict::Unavailable(outage) => entry.refuse(Refusal::Unavailable(outage)),
    }
}

impl Entry {
    fn look_at_deadlines(&self, tick: u32) {
        for end in [End::Client, End::Upstream] {
            let deadline = self.deadline[end.index()].get();
            if deadline != 0 && deadline <= tick {
                self.deadline[end.index()].set(0);
                self.late[end.index()].set(true);
                self.wake(end);
            }
        }
    }

    fn refuse(&self, refusal: Refusal) {
        self.refused.set(Some(refusal));
        self.wake(End::Client);
        self.wake(End::Upstream);
    }

    fn wake(&self, end: End) {
        if let Some(waker) = self.waker[end.index()].borrow_mut().take() {
            waker.wake();
        }
    }
}

impl End {
    fn index(self) -> usize {
        match self {
            Self::Client => 0,
            Self::Upstream => 1,
        }
    }
}

impl Watched {
    /// From now on an end has so long.
    pub(crate) fn give(&self, end: End, time: Duration) {
        self.entry.deadline[end.index()].set(self.watch.tick_after(time));
    }

    /// From now on an end may take its time.
    pub(crate) fn ease(&self, end: End) {
        self.entry.deadline[end.index()].set(0);
        self.entry.late[end.index()].set(false);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.watch.is_leaving()
    }

    /// Binds what is open to a permit.
    pub(crate) fn bind(&self, bond: Bond) {
        *self.entry.bond.borrow_mut() = Some(bond);
    }

    /// Why it has to end because of the permit it is bound to.
    pub(crate) fn refused(&self) -> Option<Refusal> {
        self.entry.refused.get()
    }

    /// Whether it has to end, as seen from one end; wakes who asked when it has.
    pub(crate) fn poll_end(&self, end: End, context: &mut Context<'_>) -> Poll<Ending> {
        if let Some(refusal) = self.entry.refused.get() {
            return Poll::Ready(Ending::Refused(refusal));
        }
        if self.entry.late[end.index()].get() {
            return Poll::Ready(Ending::Late);
        }
        let mut waker = self.entry.waker[end.index()].borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.open.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::future::BoxFuture;

    use super::*;

    const SOON: Duration = Duration::from_millis(60);

    /// Allows until it is told to deny.
    struct Says(std::sync::Mutex<Verdict>);

    impl Judge for Says {
        fn known(&self, _question: Question<'_>) -> Option<Verdict> {
            None
        }

        fn ask<'a>(&'a self, _question: Question<'a>) -> BoxFuture<'a, Verdict> {
            let verdict = self.0.lock().expect("nobody panics").clone();
            Box::pin(async move { verdict })
        }
    }

    fn permit(until: Duration) -> Arc<Permit> {
        Arc::new(Permit::new("host:ci-1".parse().expect("a subject"), None, Instant::now() + until))
    }

    fn watch(verdict: Verdict) -> Rc<Watch> {
        Watch::new(Arc::new(Says(verdict.into())), "release-bot".parse().expect("a resource"))
    }

    fn bond(permit: Arc<Permit>) -> Bond {
        let authorization = HeaderValue::from_static("Bearer token");
        Bond { permit, authorization, privilege: "read".parse().expect("a privilege") }
    }

    fn locally(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        runtime.expect("a runtime starts").block_on(test);
    }

    #[test]
    fn an_end_that_takes_too_long_is_told_so_and_the_other_is_not() {
        locally(async {
            let watch = watch(Verdict::Deny(Denial::Unknown));
            spawn_local(watch.clone().run());
            let open = watch.begin();
            open.give(End::Client, SOON);
            assert_eq!(poll_fn(|context| open.poll_end(End::Client, context)).await, Ending::Late);
            let other = poll_fn(|context| Poll::Ready(open.poll_end(End::Upstream, context))).await;
            assert_eq!(other, Poll::Pending);
        });
    }

    #[test]
    fn what_is_bound_to_a_permit_ends_when_it_is_taken_back() {
        locally(async {
            let watch = watch(Verdict::Deny(Denial::Revoked));
            spawn_local(watch.clone().run());
            let (open, permit) = (watch.begin(), permit(Duration::from_secs(60)));
            open.bind(bond(permit.clone()));
            permit.revoke();
            let ending = poll_fn(|context| open.poll_end(End::Upstream, context)).await;
            assert_eq!(ending, Ending::Refused(Refusal::Denied(Denial::Revoked)));
        });
    }

    #[test]
    fn a_permit_that_ran_out_is_asked_for_again_and_the_stream_goes_on() {
        locally(async {
            let renewed = permit(Duration::from_secs(60));
            let watch = watch(Verdict::Allow(renewed.clone()));
            spawn_local(watch.clone().run());
            let open = watch.begin();
            open.bind(bond(permit(Duration::ZERO)));
            while Arc::strong_count(&renewed) < 3 {
                tokio::task::yield_now().await;
            }
            let ending = poll_fn(|context| Poll::Ready(open.poll_end(End::Client, context))).await;
            assert_eq!(ending, Poll::Pending);
        });
    }
}
