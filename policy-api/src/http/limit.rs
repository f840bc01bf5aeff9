//! How much one caller may ask: so many requests a second, and twice as many at once. Whoever is not known is counted by
//! address and gets far less: enough for a probe and for a node that renews its certificate, too little to guess with.
//! What gatekeepers have written into the history is counted by line.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};

use super::failure::Failure;
use crate::store::Principal;

/// A second's worth for whoever is not known.
const UNKNOWN: NonZeroU32 = NonZeroU32::new(20).expect("not zero");
const UNKNOWN_BURST: NonZeroU32 = NonZeroU32::new(100).expect("not zero");
/// Lines a second that one gatekeeper may have written into the history, which is kept for long; and at once.
const DECISIONS: NonZeroU32 = NonZeroU32::new(2).expect("not zero");
const DECISIONS_BURST: NonZeroU32 = NonZeroU32::new(600).expect("not zero");
/// Requests after which those are forgotten that have all of their quota again.
const BETWEEN_FORGETTING: u32 = 1_024;

pub(super) struct Limits {
    known: DefaultKeyedRateLimiter<String>,
    unknown: DefaultKeyedRateLimiter<IpAddr>,
    decisions: DefaultKeyedRateLimiter<String>,
    seen: AtomicU32,
    clock: DefaultClock,
}

impl Limits {
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        let burst = per_second.saturating_mul(NonZeroU32::MIN.saturating_add(1));
        Self {
            known: RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst)),
            unknown: RateLimiter::keyed(Quota::per_second(UNKNOWN).allow_burst(UNKNOWN_BURST)),
            decisions: RateLimiter::keyed(Quota::per_second(DECISIONS).allow_burst(DECISIONS_BURST)),
            seen: AtomicU32::new(0),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a request of somebody who is known.
    pub(super) fn known(&self, caller: &Principal) -> Result<(), Failure> {
        self.named(&caller.to_string())
    }

    /// Counts a request of somebody who is known by this name.
    pub(super) fn named(&self, caller: &str) -> Result<(), Failure> {
        self.forget();
        let checked = self.known.check_key(&caller.to_owned());
        checked.map_err(|not_until| Failure::too_many(not_until.wait_time_from(self.clock.now())))
    }

    /// Counts a request of whoever it is at this address.
    pub(super) fn unknown(&self, address: IpAddr) -> Result<(), Failure> {
        self.forget();
        let checked = self.unknown.check_key(&address);
        checked.map_err(|not_until| Failure::too_many(not_until.wait_time_from(self.clock.now())))
    }

    /// Counts lines that a gatekeeper has written into the history.
    pub(super) fn decisions(&self, gate: &Principal, lines: NonZeroU32) -> Result<(), Failure> {
        match self.decisions.check_key_n(&gate.to_string(), lines) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(Failure::too_many(not_until.wait_time_from(self.clock.now()))),
            // No report has so many.
            Err(_) => Err(Failure::too_many(Duration::from_secs(1))),
        }
    }

    /// There are as many addresses as one likes, and a provider may vouch for any number of users.
    fn forget(&self) {
        if self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(BETWEEN_FORGETTING) {
            self.known.retain_recent();
            self.unknown.retain_recent();
            self.decisions.retain_recent();
        }
    }
}
