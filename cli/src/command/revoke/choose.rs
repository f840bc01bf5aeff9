//! Which rule a tuple means. Pure, as a wrong choice removes somebody's rule.
//!
//! A tuple means a rule only if it is exactly that rule's; "nearest" is for messages alone.

use policy_api::model::{Action, Ports, Protocol, Rule, Selector};

/// The tuple that is to be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) source: Selector,
    pub(super) destination: Selector,
    pub(super) protocol: Protocol,
    pub(super) ports: Ports,
    /// Either one, if it is not named.
    pub(super) action: Option<Action>,
}

/// What the tuple means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice<'a> {
    One(&'a Rule),
    /// Two rules have it, and nothing says which is meant.
    Both {
        allow: &'a Rule,
        deny: &'a Rule,
    },
    None,
}

/// Finds the rule that has exactly this tuple.
pub(super) fn choose<'a>(rules: &'a [Rule], wanted: &Wanted) -> Choice<'a> {
    let with = |action| rules.iter().find(|rule| rule.action == action && wanted.has_same_packets(rule));
    let (allow, deny) = match wanted.action {
        Some(Action::Allow) => (with(Action::Allow), None),
        Some(Action::Deny) => (None, with(Action::Deny)),
        None => (with(Action::Allow), with(Action::Deny)),
    };
    match (allow, deny) {
        (Some(allow), Some(deny)) => Choice::Both { allow, deny },
        (Some(rule), None) | (None, Some(rule)) => Choice::One(rule),
        (None, None) => Choice::None,
    }
}

/// Finds the rule that comes nearest: it shares an end with what is wanted, or is the same pair the other way round.
pub(super) fn nearest<'a>(rules: &'a [Rule], wanted: &Wanted) -> Option<&'a Rule> {
    let distances = rules.iter().filter_map(|rule| Some((wanted.distance(rule)?, rule)));
    distances.min_by_key(|(distance, rule)| (*distance, rule.id)).map(|(_, rule)| rule)
}

impl Wanted {
    fn has_same_packets(&self, rule: &Rule) -> bool {
        rule.source == self.source
            && rule.destination == self.destination
            && rule.protocol == self.protocol
            && rule.ports == self.ports
    }

    /// How far a rule is from this tuple, the ends counting most; `None` if they have no end in common.
    fn distance(&self, rule: &Rule) -> Option<u8> {
        let ends = match (rule.source == self.source, rule.destination == self.destination) {
            (true, true) => 0,
            (true, false) | (false, true) => 10,
            (false, false) if rule.source == self.destination && rule.destination == self.source => 20,
            (false, false) => return None,
        };
        let protocol = if rule.protocol == self.protocol { 0 } else { 5 };
        let ports = match (rule.ports == self.ports, overlap(&rule.ports, &self.ports)) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        };
        let action = u8::from(self.action.is_some_and(|action| action != rule.action));
        Some(ends + protocol + ports + action)
    }
}

fn overlap(a: &Ports, b: &Ports) -> bool {
    a.ranges().iter().any(|x| b.ranges().iter().any(|y| x.first() <= y.last() && y.first() <= x.last()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::rule::tests::rule;

    /// `wanted("appA appB tcp 8080")`.
    fn wanted(text: &str, action: Option<Action>) -> Wanted {
        let rule = rule(0, &format!("allow {text}"));
        let Rule { source, destination, protocol, ports, .. } = rule;
        Wanted { source, destination, protocol, ports, action }
    }

    fn standing() -> Vec<Rule> {
        vec![
            rule(1, "allow appA appB tcp 8080"),
            rule(2, "deny appA appB tcp 8080"),
            rule(3, "allow appA appB tcp 8000-8010"),
            rule(4, "allow appA appB udp 53"),
            rule(5, "deny appA appB tcp"),
        ]
    }

    #[track_caller]
    fn chosen(text: &str, action: Option<Action>) -> u32 {
        match choose(&standing(), &wanted(text, action)) {
            Choice::One(rule) => rule.id.0,
            other => panic!("{text} means {other:?}"),
        }
    }

    #[test]
    fn a_tuple_means_the_rule_that_has_exactly_it() {
        assert_eq!(chosen("appA appB tcp 8000-8010", None), 3);
        assert_eq!(chosen("appA appB tcp 8000-8005,8006-8010", None), 3);
        assert_eq!(chosen("appA appB udp 53", None), 4);
        assert_eq!(chosen("appA appB tcp", None), 5);
    }

    #[test]
    fn a_part_of_a_rule_is_never_revoked() {
        for text in
            ["appA appB tcp 8005", "appA appB tcp 8080,9000", "appA appB udp", "appB appA udp 53", "appA appC udp 53"]
        {
            assert_eq!(choose(&standing(), &wanted(text, None)), Choice::None, "{text}");
        }
    }

    #[test]
    fn allow_and_deny_on_one_tuple_need_to_be_told_apart() {
        let rules = standing();
        let both = choose(&rules, &wanted("appA appB tcp 8080", None));
        assert_eq!(both, Choice::Both { allow: &rules[0], deny: &rules[1] });
        assert_eq!(chosen("appA appB tcp 8080", Some(Action::Allow)), 1);
        assert_eq!(chosen("appA appB tcp 8080", Some(Action::Deny)), 2);
    }

    #[test]
    fn a_named_action_never_means_the_other_one() {
        assert_eq!(choose(&standing(), &wanted("appA appB udp 53", Some(Action::Deny))), Choice::None);
    }

    #[test]
    fn the_nearest_shares_the_pair_before_the_protocol_before_the_ports() {
        let near = |text: &str, action| nearest(&standing(), &wanted(text, action)).map(|rule| rule.id.0);
        assert_eq!(near("appA appB tcp 8005", None), Some(3));
        assert_eq!(near("appA appB udp 54", None), Some(4));
        assert_eq!(near("appA appB tcp 8081", Some(Action::Deny)), Some(5));
        assert_eq!(near("appB appA udp 53", None), Some(4));
        assert_eq!(near("appA appC udp 53", None), Some(4));
        assert_eq!(near("x y tcp 80", None), None);
    }
}
