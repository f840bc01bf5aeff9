//! Awaits conditions instead of sleeping through guesses.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Long enough for a loaded two-core machine; a healthy one never waits that long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks: short beside anything a person would notice, long beside a look.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Looks until there is something to see, and fails with the last reason why there was not.
pub fn await_some<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        let seen = look();
        if let Ok(Some(value)) = seen {
            return Ok(value);
        }
        if started.elapsed() >= patience {
            match seen {
                Err(error) => return Err(error.context(format!("waited {patience:?} for {what}"))),
                Ok(_) => bail!("waited {patience:?} in vain for {what}"),
            }
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// Looks until it holds.
pub fn await_that(what: &str, patience: Duration, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    await_some(what, patience, || look().map(|holds| holds.then_some(())))
}
