//! The policy API's clock as this node knows it: what expires does so by that clock, and this node's own wall clock may say
//! anything. Between two readings the time since boot goes on.

use std::{fs, path::Path, time::Duration};

use nix::time::{ClockId, clock_gettime};
use policy_api::model::{ClockReading, Timestamp};
use serde::{Deserialize, Serialize};

use crate::state::{self, StateError};

/// A reading of the API's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiClock {
    /// What it showed.
    api: Timestamp,
    /// The time since boot at which it did.
    at_millis: u64,
    /// How long ago it may have shown that by then.
    #[serde(default)]
    late_millis: u64,
    /// Which boot that was.
    boot: String,
}

impl ApiClock {
    /// The clock shows this right now, or showed it so long ago at most.
    pub fn shows(api: Timestamp, late: Duration) -> Self {
        Self { api, at_millis: millis(since_boot()), late_millis: millis(late), boot: boot_id() }
    }

    /// How this node's own clock stands to it.
    pub fn reading(&self) -> ClockReading {
        self.reading_at(Timestamp::now(), since_boot())
    }

    fn reading_at(&self, own: Timestamp, since_boot: Duration) -> ClockReading {
        let passed = millis(since_boot).saturating_sub(self.at_millis);
        let passed = i64::try_from(passed + self.late_millis / 2).unwrap_or(i64::MAX);
        let api = self.api.unix_milliseconds().saturating_add(passed);
        ClockReading { ahead_ms: own.unix_milliseconds() - api, error_ms: self.late_millis.div_ceil(2) }
    }

    /// The last reading that was kept, if it was of this boot: after another one nobody knows how long the machine was off.
    pub fn resume(directory: &Path) -> Result<Option<Self>, StateError> {
        let kept: Option<Self> = state::load(&directory.join(FILE))?;
        Ok(kept.filter(|clock| clock.boot == boot_id()))
    }

    pub fn keep(&self, directory: &Path) -> Result<(), StateError> {
        state::save(&directory.join(FILE), self)
    }

    /// How long until the API's clock shows this; nothing if that is past.
    pub fn until(&self, then: Timestamp) -> Duration {
        self.until_at(then, since_boot())
    }

    fn until_at(&self, then: Timestamp, since_boot: Duration) -> Duration {
        let passed = since_boot.saturating_sub(Duration::from_millis(self.at_millis));
        self.api.until(then).saturating_sub(passed)
    }
}

const FILE: &str = "clock.json";

fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Different for each boot of the machine.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_expires_does_so_by_the_time_that_passed_here() {
        let now = Timestamp::now();
        let clock = ApiClock { api: now, at_millis: 1_000, late_millis: 0, boot: String::new() };
        let then = now.after(Duration::from_secs(10)).expect("in range");
        assert_eq!(clock.until_at(then, Duration::from_secs(1)), Duration::from_secs(10));
        assert_eq!(clock.until_at(then, Duration::from_secs(7)), Duration::from_secs(4));
        assert_eq!(clock.until_at(then, Duration::from_secs(70)), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_was_set_since_is_seen_to_be_wrong() {
        let api = Timestamp::now();
        let clock = ApiClock { api, at_millis: 1_000, late_millis: 20, boot: String::new() };
        let later = |seconds| api.after(Duration::from_secs(seconds)).expect("in range");
        let right = clock.reading_at(later(5), Duration::from_secs(6));
        assert_eq!(right, ClockReading { ahead_ms: -10, error_ms: 10 });
        assert_eq!(clock.reading_at(later(65), Duration::from_secs(6)).ahead_ms, 59_990);
    }

    #[test]
    fn a_reading_of_another_boot_is_worth_nothing() {
        let home = tempfile::tempdir().expect("temporary directory");
        let clock = ApiClock::shows(Timestamp::now(), Duration::ZERO);
        clock.keep(home.path()).expect("kept");
        assert_eq!(ApiClock::resume(home.path()).expect("read"), Some(clock.clone()));
        ApiClock { boot: "another".into(), ..clock }.keep(home.path()).expect("kept");
        assert_eq!(ApiClock::resume(home.path()).expect("read"), None);
    }
}
