//! Points in time, as the wire writes them: RFC 3339, UTC.

use std::{fmt, str::FromStr, time::Duration};

use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use super::invalid::{Invalid, text_serde};

/// A point in time, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(OffsetDateTime);

impl Timestamp {
    pub fn now() -> Self {
        Self::from(OffsetDateTime::now_utc())
    }

    /// How long from here to the other, which is nothing if that is past.
    pub fn until(self, other: Self) -> Duration {
        Duration::try_from(other.0 - self.0).unwrap_or_default()
    }

    /// The point so much later, if there is one.
    pub fn after(self, time: Duration) -> Option<Self> {
        self.0.checked_add(time.try_into().ok()?).map(Self::from)
    }

    /// The point so much earlier, if there is one.
    pub fn before(self, time: Duration) -> Option<Self> {
        self.0.checked_sub(time.try_into().ok()?).map(Self::from)
    }

    pub fn unix_milliseconds(self) -> i64 {
        self.0.unix_timestamp() * 1_000 + i64::from(self.0.millisecond())
    }

    pub fn of_unix_milliseconds(milliseconds: i64) -> Option<Self> {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000).ok()?;
        Some(Self::from(time))
    }

    /// Seconds since 1970.
    pub fn unix_seconds(self) -> i64 {
        self.0.unix_timestamp()
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(time: OffsetDateTime) -> Self {
        let utc = time.to_offset(UtcOffset::UTC);
        Self(utc.replace_millisecond(utc.millisecond()).unwrap_or(utc))
    }
}

impl FromStr for Timestamp {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        OffsetDateTime::parse(text, &Rfc3339)
            .map(Self::from)
            .map_err(|_| Invalid::new(text, "is not a time", "use RFC 3339, like `2026-01-31T12:00:00Z`"))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.0;
        let (year, month, day) = t.to_calendar_date();
        let (hour, minute, second, milli) = t.to_hms_milli();
        write!(f, "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z", u8::from(month))
    }
}

text_serde!(Timestamp);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_past_is_no_time_away() {
        let now = Timestamp::now();
        let later = now.after(Duration::from_millis(1_500)).expect("a time");
        assert_eq!((now.until(later), later.until(now)), (Duration::from_millis(1_500), Duration::ZERO));
        assert_eq!(now.after(Duration::MAX), None);
        assert_eq!(later.before(Duration::from_millis(1_500)), Some(now));
        assert_eq!(Timestamp::of_unix_milliseconds(now.unix_milliseconds()), Some(now));
    }

    #[test]
    fn a_time_reads_back_what_it_wrote() {
        let now = Timestamp::now();
        assert_eq!(now.to_string().parse(), Ok(now));
        assert_eq!(
            "2026-01-31T13:00:00+01:00".parse::<Timestamp>().expect("offset").to_string(),
            "2026-01-31T12:00:00.000Z"
        );
    }
}
