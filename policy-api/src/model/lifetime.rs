//! How long something lasts, as people write it.

use std::{str::FromStr, time::Duration};

use super::invalid::Invalid;

/// How long something lasts: a whole number with `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(pub Duration);

const LONGEST_SECONDS: u64 = 3_650 * 86_400;
const REMEDY: &str = "write 90s, 30m, 2h or 7d";

impl FromStr for Lifetime {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = || Invalid::new(text, "is no lifetime", REMEDY);
        let digits = text.chars().take_while(char::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(bad()),
        };
        match number.checked_mul(seconds).ok_or_else(bad)? {
            0 => Err(Invalid::new(text, "is no time at all", REMEDY)),
            seconds @ 1..=LONGEST_SECONDS => Ok(Self(Duration::from_secs(seconds))),
            _ => Err(Invalid::new(text, "is too long", "write at most 3650d, or leave it out for ever")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_read_with_their_unit_and_are_not_nothing() {
        for (text, seconds) in [("90s", 90), ("30m", 1_800), ("2h", 7_200), ("7d", 604_800)] {
            assert_eq!(text.parse::<Lifetime>().expect(text).0, Duration::from_secs(seconds));
        }
        for text in ["", "2", "h", "0s", "-1h", "1.5h", "2w", "500ms", "4000d", "99999999999999999999d"] {
            let error = text.parse::<Lifetime>().expect_err(text);
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
