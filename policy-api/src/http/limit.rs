//! How much one caller may ask: so many requests a second, and twice as many at once. Whoever is not known is counted by
//! address and gets far less: enough for a probe and for a node that renews its certificate, too little to guess with.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
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
/// Requests after which those are forgotten that have all of their quota again.
const BETWEEN_FORGETTING: u32 = 1_024;

pub(super) struct Limits {
    known: DefaultKeyedRateLimiter<String>,
    unknown: DefaultKeyedRateLimiter<IpAddr>,
    seen: AtomicU32,
    clock: DefaultClock,
}

impl Limits {
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        let burst = per_second.saturating_mul(NonZeroU32::MIN.saturating_add(1));
        Self {
            known: RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst)),
            unknown: RateLimiter::keyed(Quota::per_second(UNKNOWN).allow_burst(UNKNOWN_BURST)),
            seen: AtomicU32::new(0),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a request of somebody who is known.
    pub(super) fn known(&self, caller: &Principal) -> Result<(), Failure> {
        self.forget();
        let checked = self.known.check_key(&caller.to_string());
        checked.map_err(|not_until| Failure::too_many(not_until.wait_time_from(self.clock.now())))
    }

    /// Counts a request of whoever it is at this address.
    pub(super) fn unknown(&self, address: IpAddr) -> Result<(), Failure> {
        self.forget();
        let checked = self.unknown.check_key(&address);
        checked.map_err(|not_until| Failure::too_many(not_until.wait_time_from(self.clock.now())))
    }

    /// There are as many addresses as one likes, and a provider may vouch for any number of users.
    fn forget(&self) {
        if self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(BETWEEN_FORGETTING) {
            self.known.retain_recent();
            self.unknown.retain_recent();
        }
    }
}
