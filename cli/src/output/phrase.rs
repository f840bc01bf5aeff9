//! How things are said in running text: rules, commands to type, lists, ages.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use policy_api::model::{Action, Mode, OnDeny, Ports, Protocol, Rule, Timestamp, Tuple};

/// `allow appA -> appB tcp/8080`.
pub(crate) fn tuple(tuple: &Tuple) -> String {
    let Tuple { source, destination, protocol, ports, action } = tuple;
    format!("{action} {source} -> {destination} {}", traffic(*protocol, ports))
}

/// A rule's tuple and what it says besides: `allow appA -> appB tcp/8080, audit`.
pub(crate) fn whole(rule: &Rule) -> String {
    format!("{}{}", tuple(&rule.tuple()), besides(rule, Timestamp::now()))
}

/// What a rule says besides its tuple: `audit, expires in 2h, drop`; nothing where it is as most are.
fn besides(rule: &Rule, now: Timestamp) -> String {
    let mode = (rule.mode == Mode::Audit).then(|| "audit".to_owned());
    let end = rule.expires_at.map(|end| format!("expires {}", in_time(end, now)));
    let on_deny = (rule.on_deny() == OnDeny::Drop).then(|| "told to nobody".to_owned());
    [mode, end, on_deny].into_iter().flatten().map(|part| format!(", {part}")).collect()
}

/// `r12 (allow appA -> appB tcp/8080)`.
pub(crate) fn rule(rule: &Rule) -> String {
    format!("{} ({})", rule.id, whole(rule))
}

/// `tcp/8080`, `udp/all`, `icmp`.
pub(crate) fn traffic(protocol: Protocol, ports: &Ports) -> String {
    if protocol.has_ports() { format!("{protocol}/{ports}") } else { protocol.to_string() }
}

/// The line that makes this rule.
pub(crate) fn command_for(rule: &Rule) -> String {
    let mode = (rule.mode != Mode::default()).then(|| format!(" --mode {}", rule.mode));
    let end = rule.expires_at.map(|end| format!(" --ttl {}", ttl(end, Timestamp::now())));
    let on_deny = rule.on_deny.map(|how| format!(" --on-deny {how}"));
    let reason = rule.reason.as_ref().map(|reason| format!(" --reason {}", shell_word(reason.as_str())));
    let flags: String = [mode, end, on_deny, reason].into_iter().flatten().collect();
    format!("{}{flags}", command(rule.action.as_str(), &rule.tuple()))
}

/// The line that brings this rule back where another reason stands now.
pub(crate) fn restoring_command_for(rule: &Rule) -> String {
    let no_reason = if rule.reason.is_none() { " --reason ''" } else { "" };
    command_for(rule) + no_reason
}

/// The line that would allow this.
pub(crate) fn allow_command_for(tuple: &Tuple) -> String {
    command(Action::Allow.as_str(), tuple)
}

fn command(verb: &str, tuple: &Tuple) -> String {
    let Tuple { source, destination, protocol, ports, action: _ } = tuple;
    let mut line = format!("netpol {verb} {source} {destination}");
    if *protocol != Protocol::default() {
        line += &format!(" --protocol {protocol}");
    }
    if !ports.is_all() {
        line += &format!(" --port {ports}");
    }
    line
}

/// `a, b, c`.
pub(crate) fn comma<T: Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// `1 node`, `2 nodes`.
pub(crate) fn count(number: usize, singular: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {singular}{plural}")
}

/// A word as a shell would read it back.
pub(crate) fn shell_word(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''")).into()
}

/// `512 B`, `1.5 kB`, `20 MB`: three digits at most, by thousands.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if number < 1_000 {
        return format!("{number} B");
    }
    let mut unit = UNITS[0];
    let mut tenths = number / 100;
    for next in &UNITS[1..] {
        if tenths < 10_000 {
            break;
        }
        (unit, tenths) = (next, tenths / 1_000);
    }
    if tenths < 100 { format!("{}.{} {unit}", tenths / 10, tenths % 10) } else { format!("{} {unit}", tenths / 10) }
}

/// What is left until then, as a value of `--ttl`: `90s`, `30m`, `2h`, `7d`; a second where nothing is left.
pub(crate) fn ttl(end: Timestamp, now: Timestamp) -> String {
    let seconds = rounded(now.until(end)).max(1);
    for (unit, length) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
        if seconds.is_multiple_of(length) {
            return format!("{}{unit}", seconds / length);
        }
    }
    format!("{seconds}s")
}

/// How long until then: `now`, `in 42s`, `in 5m`.
pub(crate) fn in_time(then: Timestamp, now: Timestamp) -> String {
    match rounded(now.until(then)) {
        0 => "now".to_owned(),
        seconds => format!("in {}", short(seconds)),
    }
}

/// How long ago: `now`, `42s`, `5m`, `3h`, `12d`.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    match u64::try_from(now.unix_seconds().saturating_sub(then.unix_seconds())) {
        Err(_) | Ok(0) => "now".to_owned(),
        Ok(seconds) => short(seconds),
    }
}

fn short(seconds: u64) -> String {
    match seconds {
        ..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        172_800.. => format!("{}d", seconds / 86_400),
    }
}

/// In whole seconds: what was to last two hours a moment ago still lasts two hours.
fn rounded(time: Duration) -> u64 {
    time.saturating_add(Duration::from_millis(500)).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::rule::tests::rule as rule_of;

    #[test]
    fn a_rule_is_said_as_it_is_meant() {
        let said = |text: &str| tuple(&rule_of(1, text).tuple());
        assert_eq!(said("allow appA appB tcp 8080"), "allow appA -> appB tcp/8080");
        assert_eq!(said("deny appA appB udp 80,443"), "deny appA -> appB udp/80,443");
        assert_eq!(said("allow host appB tcp"), "allow host -> appB tcp/all");
        assert_eq!(said("allow appA appB icmp"), "allow appA -> appB icmp");
    }

    #[test]
    fn the_line_that_makes_a_rule_again_says_all_of_it() {
        assert_eq!(command_for(&rule_of(1, "allow appA appB tcp 8080")), "netpol allow appA appB --port 8080");
        assert_eq!(
            command_for(&rule_of(1, "deny appA appB udp 80,443 Bob's ticket")),
            r"netpol deny appA appB --protocol udp --port 80,443 --reason 'Bob'\''s ticket'"
        );
        assert_eq!(command_for(&rule_of(1, "allow appA appB icmp")), "netpol allow appA appB --protocol icmp");
    }

    #[test]
    fn amounts_have_three_digits_at_most() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (1_550, "1.5 kB"),
            (20_400, "20 kB"),
            (999_999, "999 kB"),
            (1_000_000, "1.0 MB"),
            (7_300_000_000, "7.3 GB"),
            (u64::MAX, "18 EB"),
        ];
        for (number, expected) in cases {
            assert_eq!(bytes(number), expected);
        }
    }

    #[test]
    fn what_is_not_as_usual_is_said_of_a_rule() {
        let now = Timestamp::now();
        let mut odd = rule_of(1, "deny appA any any");
        assert_eq!(rule(&odd), "r1 (deny appA -> any any)");
        odd.mode = Mode::Audit;
        odd.on_deny = Some(OnDeny::Drop);
        odd.expires_at = now.after(std::time::Duration::from_secs(3 * 3_600));
        assert_eq!(besides(&odd, now), ", audit, expires in 3h, told to nobody");
    }

    #[test]
    fn ages_are_short() {
        let at = |text: &str| text.parse::<Timestamp>().expect(text);
        let then = at("2026-01-31T12:00:00Z");
        for (now, expected) in [
            ("2026-01-31T12:00:00Z", "now"),
            ("2026-01-31T11:00:00Z", "now"),
            ("2026-01-31T12:00:42Z", "42s"),
            ("2026-01-31T12:05:10Z", "5m"),
            ("2026-01-31T15:00:00Z", "3h"),
            ("2026-02-12T12:00:00Z", "12d"),
        ] {
            assert_eq!(age(then, at(now)), expected, "{now}");
        }
    }
}
