//! Ports as rules name them: all, or a normalised list of ranges.

use std::{fmt, str::FromStr};

use common::PortRange;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::invalid::{Invalid, InvalidField};

/// Destination ports of a rule. "No list" and "an empty list" are two things: the first is all ports, the second no rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ports {
    /// Every port; also what a protocol without ports has.
    #[default]
    All,
    /// These ranges.
    List(PortList),
}

/// At least one range; ascending, and no two overlap or touch, so that equal sets of ports are equal lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortList(Vec<PortRange>);

/// More ranges than anybody writes by hand; bounds what one rule costs.
const MOST_RANGES: usize = 1024;

impl Ports {
    /// Normalises a list of ranges: sorted, overlapping and adjacent ones joined. An empty one is an error.
    pub fn list(ranges: impl IntoIterator<Item = PortRange>) -> Result<Self, Invalid> {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        if ranges.is_empty() {
            return Err(empty_list());
        }
        if ranges.len() > MOST_RANGES {
            return Err(Invalid::new(
                format!("{} entries", ranges.len()),
                "are too many",
                format!("use at most {MOST_RANGES}"),
            ));
        }
        if let Some(range) = ranges.iter().find(|range| range.first() == 0) {
            return Err(Invalid::new(show(*range), "is not a port or range of ports", REMEDY));
        }
        ranges.sort_unstable();
        let mut joined: Vec<PortRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match joined.last_mut().and_then(|last| join(*last, range).map(|union| (last, union))) {
                Some((last, union)) => *last = union,
                None => joined.push(range),
            }
        }
        Ok(Self::List(PortList(joined)))
    }

    /// Parses entries like `8080` and `8000-8010`; an error names the entry's place in the list.
    pub fn from_entries<T: AsRef<str>>(field: &str, entries: &[T]) -> Result<Self, InvalidField> {
        let ranges: Result<Vec<_>, _> = entries
            .iter()
            .enumerate()
            .map(|(i, entry)| parse_range(entry.as_ref()).map_err(|invalid| invalid.in_field(format!("{field}[{i}]"))))
            .collect();
        Self::list(ranges?).map_err(|invalid| invalid.in_field(field))
    }

    pub fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// The ranges, for whoever makes rows of them.
    pub fn ranges(&self) -> &[PortRange] {
        match self {
            Self::All => &[PortRange::ALL],
            Self::List(PortList(ranges)) => ranges,
        }
    }

    pub fn contains(&self, port: u16) -> bool {
        self.ranges().iter().any(|range| range.contains(port))
    }

    /// How many rows of a map a rule with these ports costs.
    pub fn rows(&self) -> u64 {
        self.ranges().iter().flat_map(|range| range.prefixes()).map(|_| 1).sum()
    }

    /// As a rule's JSON lists them; nothing for [`Ports::All`].
    pub fn entries(&self) -> Vec<String> {
        match self {
            Self::All => Vec::new(),
            Self::List(PortList(ranges)) => ranges.iter().copied().map(show).collect(),
        }
    }
}

const REMEDY: &str = "use a port from 1 to 65535, or a range like `8000-8010`";

fn parse_range(text: &str) -> Result<PortRange, Invalid> {
    let Some((first, last)) = text.split_once('-') else {
        let port = parse_port(text, text)?;
        return PortRange::new(port, port).ok_or_else(|| Invalid::new(text, "is not a port", REMEDY));
    };
    let (first, last) = (parse_port(first, text)?, parse_port(last, text)?);
    PortRange::new(first, last)
        .ok_or_else(|| Invalid::new(text, "runs backwards", format!("write the smaller port first: `{last}-{first}`")))
}

fn parse_port(text: &str, whole: &str) -> Result<u16, Invalid> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: Option<u16> = text.parse().ok().filter(|number| *number > 0);
    match (plain, number) {
        (true, Some(number)) => Ok(number),
        (true, None) => Err(Invalid::new(whole, "is out of range", REMEDY)),
        (false, _) => Err(Invalid::new(whole, "is not a port or range of ports", REMEDY)),
    }
}

/// The union of two ranges, the second of which does not start before the first, if they overlap or touch.
fn join(earlier: PortRange, later: PortRange) -> Option<PortRange> {
    let touches = later.first() <= earlier.last().saturating_add(1);
    touches.then(|| PortRange::new(earlier.first(), earlier.last().max(later.last())))?
}

fn show(range: PortRange) -> String {
    if range.first() == range.last() {
        range.first().to_string()
    } else {
        format!("{}-{}", range.first(), range.last())
    }
}

fn empty_list() -> Invalid {
    Invalid::of("an empty list of ports", "means no port at all", "leave it out for all ports, or name some")
}

/// Parses `80,443,8000-8010`, as command lines have it.
impl FromStr for Ports {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let ranges: Result<Vec<_>, _> = text.split(',').map(|entry| parse_range(entry.trim())).collect();
        Self::list(ranges?)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.pad("all"),
            Self::List(_) => f.pad(&self.entries().join(",")),
        }
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_none(),
            Self::List(_) => serializer.collect_seq(self.entries()),
        }
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<Vec<String>>::deserialize(deserializer)? {
            None => Ok(Self::All),
            Some(entries) => Self::from_entries("ports", &entries).map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ports(text: &str) -> String {
        text.parse::<Ports>().expect(text).to_string()
    }

    #[test]
    fn a_list_is_sorted_merged_and_adjacent_ranges_are_joined() {
        assert_eq!(ports("443,80"), "80,443");
        assert_eq!(ports("80,80"), "80");
        assert_eq!(ports("81,80"), "80-81");
        assert_eq!(ports("8000-8010,8005-8020,8021"), "8000-8021");
        assert_eq!(ports("1-65535,65535"), "1-65535");
    }

    #[test]
    fn bad_ports_are_refused_and_the_message_says_what_would_be_right() {
        for text in [
            "",
            "0",
            "70000",
            "65536",
            "-1",
            "+80",
            "80-",
            "-",
            "a",
            "80-443-8080",
            "0-80",
            "8080 ",
            "99999999999999999999",
            "80,,81",
        ] {
            let refused = Ports::from_entries("ports", &[text]);
            assert!(refused.is_err(), "{text} was taken");
        }
        let backwards = "8010-8000".parse::<Ports>().expect_err("backwards").to_string();
        assert_eq!(backwards, "`8010-8000` runs backwards; write the smaller port first: `8000-8010`");
        let outside = Ports::from_entries("ports", &["80", "70000"]).expect_err("outside").to_string();
        assert_eq!(
            outside,
            "field `ports[1]`: `70000` is out of range; use a port from 1 to 65535, or a range like `8000-8010`"
        );
    }

    #[test]
    fn an_empty_list_is_never_all_ports() {
        assert!(serde_json::from_str::<Ports>("[]").is_err());
        assert!(Ports::list([]).is_err());
        assert_eq!(serde_json::from_str::<Ports>("null").expect("null"), Ports::All);
    }

    #[test]
    fn rows_are_counted_as_the_maps_will_hold_them() {
        assert_eq!(Ports::All.rows(), 1);
        assert_eq!("8080".parse::<Ports>().expect("port").rows(), 1);
        assert_eq!("8000-8010".parse::<Ports>().expect("range").rows(), 3);
    }

    fn any_range() -> impl Strategy<Value = PortRange> {
        (1_u16..=200, 0_u16..8).prop_map(|(first, length)| PortRange::new(first, first + length).expect("ordered"))
    }

    proptest! {
        #[test]
        fn normalising_keeps_exactly_the_ports_and_leaves_gaps_between_ranges(ranges in prop::collection::vec(any_range(), 1..20)) {
            let ports = Ports::list(ranges.clone()).expect("not empty");
            for port in 0..=220 {
                prop_assert_eq!(ports.contains(port), ranges.iter().any(|range| range.contains(port)));
            }
            for pair in ports.ranges().windows(2) {
                prop_assert!(pair[0].last() + 1 < pair[1].first());
            }
        }

        #[test]
        fn the_order_of_a_list_does_not_matter(mut ranges in prop::collection::vec(any_range(), 1..20)) {
            let forwards = Ports::list(ranges.clone());
            ranges.reverse();
            prop_assert_eq!(forwards, Ports::list(ranges));
        }

        #[test]
        fn text_and_json_read_back_what_they_wrote(ranges in prop::collection::vec(any_range(), 1..20)) {
            let ports = Ports::list(ranges).expect("not empty");
            prop_assert_eq!(ports.to_string().parse::<Ports>(), Ok(ports.clone()));
            let json = serde_json::to_string(&ports).expect("json");
            prop_assert_eq!(serde_json::from_str::<Ports>(&json).expect("own json"), ports);
        }
    }
}
