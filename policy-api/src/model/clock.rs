//! How far a node's clock is from the policy API's, as far as a node can know.

use serde::{Deserialize, Serialize};

use super::{
    fields::Fields,
    invalid::{Invalid, InvalidField},
};

/// A node's clock beside the policy API's: so far ahead, give or take the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ClockReading {
    /// Negative where it is behind.
    pub ahead_ms: i64,
    /// Half of the time that the question took.
    pub error_ms: u64,
}

impl ClockReading {
    /// How far a time that the node wrote down can be from what the policy API's clock showed then.
    pub fn most_ms(self) -> u64 {
        self.ahead_ms.unsigned_abs().saturating_add(self.error_ms)
    }

    /// Whether the other says something that this does not say already.
    pub fn differs_from(self, other: Self) -> bool {
        const JITTER_MS: u64 = 50;
        self.ahead_ms.abs_diff(other.ahead_ms) > self.error_ms.max(other.error_ms).max(JITTER_MS)
    }

    pub(super) fn from_fields(mut fields: Fields) -> Result<Self, InvalidField> {
        let remedy = "give a whole number of milliseconds";
        let number = |name| Invalid::of("the value", "is missing", remedy).in_field(name);
        let reading = Self {
            ahead_ms: fields.signed("ahead_ms")?.ok_or_else(|| number(fields.path("ahead_ms")))?,
            error_ms: fields.number("error_ms", u64::MAX)?.ok_or_else(|| number(fields.path("error_ms")))?,
        };
        fields.finish()?;
        Ok(reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_says_how_wrong_a_time_may_be_and_is_told_again_when_that_changes() {
        let slow = ClockReading { ahead_ms: -300, error_ms: 20 };
        assert_eq!(slow.most_ms(), 320);
        assert!(!slow.differs_from(ClockReading { ahead_ms: -260, error_ms: 3 }));
        assert!(slow.differs_from(ClockReading { ahead_ms: -200, error_ms: 3 }));
        assert!(!slow.differs_from(ClockReading { ahead_ms: 700, error_ms: 5_000 }));
    }
}
