//! Values that only the command line has: durations, addresses with a port, labels.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use policy_api::model::{Lifetime, Timestamp};

/// A value that is none, with what would be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadValue(String);

impl BadValue {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// How long to wait: a whole number with `ms`, `s`, `m` or `h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience(pub(crate) Duration);

impl FromStr for Patience {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || BadValue::new(format!("`{text}` is no duration; write 500ms, 5s, 2m or 1h"));
        let digits = text.chars().take_while(char::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(bad()),
        };
        let millis = number.checked_mul(millis).ok_or_else(bad)?;
        if millis > LONGEST_WAIT_MS {
            return Err(BadValue::new(format!("`{text}` is too long; at most 24h")));
        }
        Ok(Self(Duration::from_millis(millis)))
    }
}

const LONGEST_WAIT_MS: u64 = 24 * 3_600_000;

impl fmt::Display for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis.is_multiple_of(1_000) { write!(f, "{} s", millis / 1_000) } else { write!(f, "{millis} ms") }
    }
}

/// A time that is past, as people say it: as a log writes it, or how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PastTime {
    At(Timestamp),
    Ago(Duration),
}

impl FromStr for PastTime {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if let Ok(Lifetime(ago)) = text.parse() {
            return Ok(Self::Ago(ago));
        }
        text.parse().map(Self::At).map_err(|_| {
            BadValue::new(format!(
                "`{text}` is no time; write 2026-01-31T12:00:00Z, or how long ago: 90s, 30m, 2h or 7d"
            ))
        })
    }
}

impl PastTime {
    pub(crate) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(ago) => now.before(ago).unwrap_or(now),
        }
    }
}

/// An address as people paste it: alone, or with the port of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddressPort(pub(crate) IpAddr);

impl FromStr for AddressPort {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address));
        }
        if let Ok(both) = text.parse::<SocketAddr>() {
            return Ok(Self(both.ip()));
        }
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(address) = bracketed.and_then(|inner| inner.parse().ok()) {
            return Ok(Self(address));
        }
        Err(BadValue::new(format!(
            "`{text}` is no IP address; write 10.255.1.2, 10.255.1.2:8080, fd00::2 or [fd00::2]:8080"
        )))
    }
}

/// A label on an instance, `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Label {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self { key: key.to_owned(), value: value.to_owned() }),
            _ => Err(BadValue::new(format!("`{text}` is no label; write KEY=VALUE, such as version=1.4"))),
        }
    }
}

/// The name of a network interface inside an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InterfaceName(pub(crate) String);

impl FromStr for InterfaceName {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let fits = (1..=15).contains(&text.len());
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        // `all` and `default` are the kernel's own words where interfaces are configured.
        if fits && plain && !matches!(text, "." | ".." | "lo" | "all" | "default") {
            return Ok(Self(text.to_owned()));
        }
        Err(BadValue::new(format!(
            "`{text}` is no name for an interface; write 1 to 15 letters, digits, `-`, `_` or `.`, such as eth0"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        let cases = [("500ms", 500), ("5s", 5_000), ("2m", 120_000), ("1h", 3_600_000), ("0s", 0)];
        for (text, millis) in cases {
            let patience: Patience = text.parse().expect(text);
            assert_eq!(patience.0, Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn a_duration_without_a_unit_or_a_number_is_refused() {
        for text in ["", "5", "s", "-5s", "5 s", "5d", "1.5s", "25h", "99999999999999999999s"] {
            let error = text.parse::<Patience>().expect_err(text);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn an_address_is_found_with_and_without_port() {
        for (text, address) in [
            ("10.255.1.2", "10.255.1.2"),
            ("10.255.1.2:8080", "10.255.1.2"),
            ("fd00::2", "fd00::2"),
            ("[fd00::2]", "fd00::2"),
            ("[fd00::2]:8080", "fd00::2"),
        ] {
            let found: AddressPort = text.parse().expect(text);
            assert_eq!(found.0.to_string(), address);
        }
        for text in ["", "web", "10.255.1", "10.255.1.2:70000", "10.255.1.2/24", "[fd00::2"] {
            text.parse::<AddressPort>().expect_err(text);
        }
    }

    #[test]
    fn labels_have_a_key() {
        let label: Label = "k=v=w".parse().expect("a label");
        assert_eq!((label.key.as_str(), label.value.as_str()), ("k", "v=w"));
        assert!("k=".parse::<Label>().is_ok());
        assert!("=v".parse::<Label>().is_err());
        assert!("k".parse::<Label>().is_err());
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        assert!("eth0".parse::<InterfaceName>().is_ok());
        for text in ["", "lo", "a/b", "a b", "sixteen-letters!", ".."] {
            assert!(text.parse::<InterfaceName>().is_err(), "{text}");
        }
    }
}
