//! A moment of the past, by its revision or by its time.

use std::{fmt, str::FromStr};

use super::{
    history::Revision,
    invalid::{Invalid, text_serde},
    time::Timestamp,
};

/// When something is asked about that is past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// As it was when this revision was the last one.
    Revision(Revision),
    /// As it was then, by the policy API's clock.
    Time(Timestamp),
}

impl FromStr for At {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refuse = || {
            let remedy = "use a revision, like `1207`, or a time, like `2026-01-31T12:00:00Z`";
            Invalid::new(text, "is neither a revision nor a time", remedy)
        };
        let revision = || text.parse().map(Self::Revision);
        let time = || text.parse().map(Self::Time);
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let read = if is_number { revision() } else { time() };
        read.map_err(|_: Invalid| refuse())
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revision(revision) => revision.fmt(f),
            Self::Time(time) => time.fmt(f),
        }
    }
}

text_serde!(At);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_revision_or_a_time() {
        assert_eq!("1207".parse(), Ok(At::Revision(Revision(1207))));
        let time = "2026-01-31T12:00:00.000Z";
        assert_eq!(time.parse(), Ok(At::Time(time.parse().expect("a time"))));
        for at in ["1207", time] {
            assert_eq!(at.parse::<At>().expect(at).to_string(), at);
        }
        for bad in ["", "-1", "yesterday", "99999999999999999999"] {
            assert!(bad.parse::<At>().is_err(), "{bad}");
        }
    }
}
