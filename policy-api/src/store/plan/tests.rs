//! What requests change, told as short stories over a state in memory.

use super::*;
use crate::model::{Mode, Outcome, Overlay, Prefix, Protocol, Selector};

fn prefix(text: &str) -> Prefix {
    text.parse().expect("prefix")
}

/// A state, an operator and two nodes, and what came of asking.
pub(super) struct Story(pub(super) State);

impl Story {
    pub(super) fn new() -> Self {
        let overlay = Overlay { v4: prefix("10.255.0.0/16"), v6: prefix("fd00:1:2::/48") };
        Self(State::empty("00ff00ff00ff00ff".parse().expect("history"), overlay))
    }

    fn with_nodes() -> Self {
        let mut story = Self::new();
        for (name, underlay) in [("n1", "192.168.1.1"), ("n2", "192.168.1.2")] {
            story.ask_as(&node(name), Command::Join(Registration { underlay: ip(underlay), key: None })).expect("join");
        }
        story
    }

    fn ask_as(&mut self, by: &Principal, command: Command) -> Result<Answer, Refusal> {
        self.ask_when(None, by, command)
    }

    /// Asks when every node has acknowledged this revision.
    fn ask_when(
        &mut self,
        acknowledged: Option<Revision>,
        by: &Principal,
        command: Command,
    ) -> Result<Answer, Refusal> {
        let plan = plan(&self.0, &command, by, Timestamp::now(), acknowledged)?;
        if let Some((node, rows)) = plan.capacity {
            self.0.set_capacity(node, rows);
        }
        if !plan.changes.is_empty() {
            self.0.apply(self.0.revision().next(), &plan.changes);
        }
        Ok(plan.answer)
    }

    pub(super) fn ask(&mut self, command: Command) -> Result<Answer, Refusal> {
        self.ask_as(&Principal::Operator, command)
    }

    pub(super) fn rule(&mut self, spec: RuleSpec) -> Result<RuleAnswer, Refusal> {
        match self.ask(Command::PutRule(spec))? {
            Answer::Rule(rule) => Ok(rule),
            other => panic!("not a rule: {other:?}"),
        }
    }

    fn claim(&mut self, name: &str, app: &str, instance: Option<u32>, addresses: &[&str]) -> Result<Claimed, Refusal> {
        let claim = Claim {
            app: app.parse().expect("name"),
            instance,
            addresses: addresses.iter().map(|address| ip(address)).collect(),
            labels: Default::default(),
        };
        match self.ask_as(&node(name), Command::Claim(claim))? {
            Answer::Claimed(claimed) => Ok(claimed),
            other => panic!("not a claim: {other:?}"),
        }
    }

    fn release(&mut self, name: &str, address: &str) -> Result<Answer, Refusal> {
        self.ask_as(&node(name), Command::Release(ip(address)))
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn node(name: &str) -> Principal {
    node_for(name, "*")
}

fn node_for(name: &str, apps: &str) -> Principal {
    Principal::Node(NodeGrant { name: name.parse().expect("name"), apps: vec![apps.parse().expect("pattern")] })
}

/// `allow web db 5432`
fn spec(text: &str) -> RuleSpec {
    let words: Vec<&str> = text.split(' ').collect();
    let selector = |word: &str| word.parse::<Selector>().expect("selector");
    let action = words[0].parse().expect("action");
    RuleSpec::new(selector(words[1]), selector(words[2]), Protocol::Tcp, words[3].parse().expect("ports"), action)
}

#[test]
fn apps_get_ascending_identities_when_they_are_first_named() {
    let mut story = Story::new();
    story.rule(spec("allow web db 5432")).expect("rule");
    story.rule(spec("allow cache db 5432")).expect("rule");
    let identities: Vec<_> =
        ["web", "db", "cache"].map(|app| story.0.app(&app.parse().expect("name")).expect(app).identity.number()).into();
    assert_eq!(identities, [256, 257, 258]);
}

#[test]
fn the_same_tuple_is_one_rule_whatever_its_spelling() {
    let mut story = Story::new();
    let first = story.rule(spec("allow web db 81,80")).expect("rule");
    let again = story.rule(spec("allow web db 80-81")).expect("rule");
    assert_eq!((first.outcome, again.outcome), (Outcome::Created, Outcome::Unchanged));
    assert_eq!((again.rule.id, again.rule.revision), (first.rule.id, first.rule.revision));
    let reasoned = RuleSpec { reason: Some("ticket 12".parse().expect("reason")), ..spec("allow web db 80-81") };
    let updated = story.rule(reasoned).expect("rule");
    assert_eq!((updated.outcome, updated.rule.id), (Outcome::Updated, first.rule.id));
    assert!(updated.rule.revision > first.rule.revision && updated.rule.created_at == first.rule.created_at);
    let denied = story.rule(spec("deny web db 80-81")).expect("rule");
    assert_eq!(denied.outcome, Outcome::Created);
}

#[test]
fn names_that_differ_only_by_case_are_refused_and_nothing_is_made() {
    let mut story = Story::new();
    story.rule(spec("allow web db 80")).expect("rule");
    let refused = story.rule(spec("allow api WEB 80")).expect_err("case");
    assert_eq!(refused.field(), Some("destination"));
    assert!(refused.to_string().contains("`web`"), "{refused}");
    assert_eq!(story.0.replica().apps.len(), 2);
    let both = ChangeSet::of_rules(vec![spec("allow one two 80"), spec("allow Two one 80")], vec![]);
    assert_eq!(story.ask(Command::Change(both)).expect_err("case").field(), Some("create[1].source"));
}

#[test]
fn ids_are_never_reused() {
    let mut story = Story::new();
    let first = story.rule(spec("allow web db 80")).expect("rule").rule.id;
    story.ask(Command::DeleteRule(first)).expect("deleted");
    let second = story.rule(spec("allow web db 80")).expect("rule").rule.id;
    assert_eq!((first, second), (RuleId(1), RuleId(2)));
    assert_eq!(story.ask(Command::DeleteRule(first)).expect_err("gone").field(), Some("id"));
}

#[test]
fn a_deletion_says_what_still_allows_the_pair() {
    let mut story = Story::new();
    let narrow = story.rule(spec("allow web db 80")).expect("rule").rule.id;
    let wide = story.rule(spec("allow web db 1-1000")).expect("rule").rule.id;
    story.rule(spec("deny web db 22")).expect("rule");
    story.rule(spec("allow db web 80")).expect("rule");
    let Answer::Deleted(deleted) = story.ask(Command::DeleteRule(narrow)).expect("deleted") else {
        panic!("not deleted")
    };
    assert_eq!(deleted.still_allowed_by.iter().map(|rule| rule.id).collect::<Vec<_>>(), [wide]);
}

#[test]
fn a_change_set_is_one_revision_or_nothing() {
    let mut story = Story::new();
    let old = story.rule(spec("allow web db 1-1000")).expect("rule").rule.id;
    let before = story.0.revision();
    let broken = ChangeSet::of_rules(vec![spec("allow web db 80")], vec![old, RuleId(77)]);
    assert_eq!(story.ask(Command::Change(broken)).expect_err("unknown id").field(), Some("delete[1]"));
    let twice = ChangeSet::of_rules(vec![], vec![old, old]);
    assert_eq!(story.ask(Command::Change(twice)).expect_err("twice").field(), Some("delete[1]"));
    assert_eq!(story.0.revision(), before);
    let create = vec![spec("allow web db 80"), spec("allow web db 80"), spec("allow api db 80")];
    let replaced = story.ask(Command::Change(ChangeSet::of_rules(create, vec![old]))).expect("replaced");
    let Answer::Changes(answer) = replaced else { panic!("not changes") };
    let outcomes: Vec<_> = answer.created.iter().map(|rule| rule.outcome).collect();
    assert_eq!(outcomes, [Outcome::Created, Outcome::Unchanged, Outcome::Created]);
    assert_eq!((story.0.revision(), answer.revision), (before.next(), before.next()));
    assert_eq!(answer.deleted[0].still_allowed_by[0].id, answer.created[0].rule.id);
}

#[test]
fn deleting_and_creating_the_same_tuple_gives_it_a_new_id() {
    let mut story = Story::new();
    let old = story.rule(spec("allow web db 80")).expect("rule").rule.id;
    let swap = ChangeSet::of_rules(vec![spec("allow web db 80")], vec![old]);
    story.ask(Command::Change(swap)).expect("swapped");
    let standing: Vec<_> = story.0.replica().rules.keys().copied().collect();
    assert_eq!(standing, [RuleId(2)]);
    assert_eq!(story.0.rule_with(&spec("allow web db 80").tuple()).map(|rule| rule.id), Some(RuleId(2)));
    assert_eq!(story.0.rows(), 1);
}

#[test]
fn a_change_set_sets_groups_and_apps_with_its_rules_in_one_revision() {
    let mut story = Story::new();
    let set = |json| Command::Change(ChangeSet::from_json(json).expect("a change set"));
    let whole = serde_json::json!({
        "groups": ["spare"],
        "apps": [{"name": "web", "mode": "audit", "groups": ["front"]}],
        "create": [{"source": "group:front", "destination": "db", "action": "allow"}, {"source": "web", "destination": "db", "action": "deny"}],
    });
    let Answer::Changes(answer) = story.ask(set(whole.clone())).expect("changed") else { panic!("no change set") };
    assert_eq!((answer.revision.0, answer.apps.len(), answer.created.len()), (1, 1, 2));
    let web = story.0.app(&"web".parse().expect("name")).expect("stands");
    assert_eq!((web.mode, web.groups.len(), story.0.replica().groups.len()), (Mode::Audit, 1, 2));
    assert_eq!(story.0.replica().apps.len(), 2, "the app that was set is the app that the rule names");
    let Answer::Changes(again) = story.ask(set(whole)).expect("unchanged") else { panic!("no change set") };
    assert_eq!((again.revision.0, again.apps[0].outcome), (1, Outcome::Unchanged));
    let clash = serde_json::json!({"apps": [{"name": "api"}, {"name": "Web"}]});
    assert_eq!(story.ask(set(clash)).expect_err("differs by case").field(), Some("apps[1].name"));
    assert_eq!(story.0.revision().0, 1);
}

#[test]
fn rules_that_no_node_has_room_for_are_refused_but_never_their_removal() {
    let mut story = Story::with_nodes();
    story.ask_as(&node("n1"), Command::SetCapacity(4)).expect("capacity");
    story.ask_as(&node("n2"), Command::SetCapacity(100)).expect("capacity");
    let first = story.rule(spec("allow web db 8000-8010")).expect("3 rows").rule.id;
    story.rule(spec("allow web db 80")).expect("1 row");
    let refused = story.rule(spec("allow web db 81")).expect_err("full");
    assert_eq!(refused, Refusal::Full { rows: 5, node: "n1".parse().expect("name"), capacity: 4 });
    story.ask_as(&node("n1"), Command::SetCapacity(1)).expect("smaller");
    story.ask(Command::DeleteRule(first)).expect("less is never too much");
}

#[test]
fn a_node_gets_its_slices_for_life() {
    let mut story = Story::with_nodes();
    let slices = |story: &Story, name: &str| {
        let node = story.0.replica().nodes.get(&name.parse().expect("name")).expect("node").clone();
        (node.slices.slice_v4.to_string(), node.slices.slice_v6.to_string(), node.underlay.to_string())
    };
    assert_eq!(slices(&story, "n1"), ("10.255.1.0/24".into(), "fd00:1:2:1::/64".into(), "192.168.1.1".into()));
    let before = story.0.revision();
    story.ask_as(&node("n1"), Command::Join(Registration { underlay: ip("192.168.1.1"), key: None })).expect("again");
    assert_eq!(story.0.revision(), before);
    story.ask_as(&node("n1"), Command::Join(Registration { underlay: ip("192.168.1.9"), key: None })).expect("moved");
    assert_eq!(slices(&story, "n1"), ("10.255.1.0/24".into(), "fd00:1:2:1::/64".into(), "192.168.1.9".into()));
    let taken = story.ask_as(&node("n1"), Command::Join(Registration { underlay: ip("192.168.1.2"), key: None }));
    assert_eq!(taken.expect_err("n2's").field(), Some("underlay"));
    story
        .ask_as(&node("n3"), Command::Join(Registration { underlay: ip("192.168.1.1"), key: None }))
        .expect("free again");
    assert_eq!(slices(&story, "n3").0, "10.255.3.0/24");
    let inside = story.ask_as(&node("n4"), Command::Join(Registration { underlay: ip("10.255.9.1"), key: None }));
    assert_eq!(inside.expect_err("overlay").field(), Some("underlay"));
}

#[test]
fn an_instance_gets_the_lowest_free_number_and_a_repeated_claim_the_same() {
    let mut story = Story::with_nodes();
    let first = story.claim("n1", "web", None, &["10.255.1.7"]).expect("claim");
    let second = story.claim("n2", "web", None, &["10.255.2.7", "fd00:1:2:2::7"]).expect("claim");
    assert_eq!((first.instance, second.instance), (0, 1));
    let before = story.0.revision();
    let again = story.claim("n2", "web", None, &["10.255.2.7", "fd00:1:2:2::7"]).expect("claim");
    assert_eq!((again, story.0.revision()), (second, before));
    story.release("n1", "10.255.1.7").expect("released");
    assert_eq!(story.claim("n1", "web", None, &["10.255.1.8"]).expect("claim").instance, 0);
}

#[test]
fn a_claim_takes_nothing_that_is_anothers() {
    let mut story = Story::with_nodes();
    story.claim("n1", "web", Some(0), &["10.255.1.7"]).expect("claim");
    let field = |refused: Result<Claimed, Refusal>| refused.expect_err("refused").field().map(str::to_owned);
    assert_eq!(field(story.claim("n1", "db", None, &["10.255.1.7"])).as_deref(), Some("addresses[0]"));
    assert_eq!(field(story.claim("n1", "web", Some(1), &["10.255.1.7"])).as_deref(), Some("addresses[0]"));
    assert_eq!(field(story.claim("n2", "web", Some(0), &["10.255.2.7"])).as_deref(), Some("instance"));
    assert_eq!(field(story.claim("n1", "web", Some(0), &["10.255.1.8"])).as_deref(), Some("instance"));
    let outside = story.claim("n2", "web", None, &["10.255.2.7", "10.255.1.9"]).expect_err("slice");
    assert!(matches!(outside, Refusal::Forbidden(_)) && outside.field() == Some("addresses[1]"));
    assert_eq!(field(story.claim("n3", "web", None, &["10.255.3.7"])).as_deref(), Some("node"));
    let operator = Command::Release(ip("10.255.1.7"));
    assert!(matches!(story.ask(operator), Err(Refusal::Forbidden(_))));
}

#[test]
fn a_node_claims_only_apps_that_its_token_names() {
    let mut story = Story::with_nodes();
    let claim = |app: &str| Claim {
        app: app.parse().expect("name"),
        instance: None,
        addresses: vec![ip("10.255.1.7")],
        labels: Default::default(),
    };
    let refused = story.ask_as(&node_for("n1", "web-*"), Command::Claim(claim("db"))).expect_err("not its app");
    assert!(matches!(refused, Refusal::Forbidden(_)) && refused.field() == Some("app"));
    assert!(story.0.replica().apps.is_empty());
    story.ask_as(&node_for("n1", "web-*"), Command::Claim(claim("web-1"))).expect("its app");
}

#[test]
fn a_freed_address_stays_published_until_another_instance_claims_it() {
    let mut story = Story::with_nodes();
    story.claim("n1", "web", None, &["10.255.1.7"]).expect("claim");
    story.release("n1", "10.255.1.7").expect("released");
    let before = story.0.revision();
    story.release("n1", "10.255.1.7").expect("released already");
    assert_eq!(story.0.revision(), before);
    let binding = story.0.binding(ip("10.255.1.7")).expect("published").clone();
    assert_eq!((binding.is_live(), binding.instance_name()), (false, "web/0".to_owned()));
    assert_eq!(story.0.live_instances(), 0);
    story.claim("n1", "db", None, &["10.255.1.7"]).expect("claim");
    assert_eq!(story.0.binding(ip("10.255.1.7")).expect("claimed").instance_name(), "db/0");
    assert_eq!(story.release("n2", "10.255.1.7").expect_err("n1's").field(), Some("address"));
    assert_eq!(story.release("n1", "10.255.1.99").expect_err("nobody's").field(), Some("address"));
}

#[test]
fn identities_come_again_only_after_all_were_given_out_and_every_node_forgot_them() {
    let mut story = Story::with_nodes();
    let app = |name: &str| name.parse::<AppName>().expect("name");
    let set = |name: &str| Command::SetApp(app(name), AppSettings::default());
    let identity = |answer: Result<Answer, Refusal>| match answer.expect("an app") {
        Answer::App(answer) => answer.app.identity.number(),
        other => panic!("not an app: {other:?}"),
    };
    assert_eq!(identity(story.ask(set("first"))), 256);
    assert_eq!(identity(story.ask(set("second"))), 257);
    story.ask(Command::DeleteApp(app("first"))).expect("deleted");
    let deleted = story.0.revision();
    assert_eq!(identity(story.ask(set("third"))), 258, "ascending, whatever is free");
    let last = App::new(app("last"), Identity::LAST_APP, deleted.next());
    story.0.apply(story.0.revision().next(), &[Change::PutApp { app: Arc::new(last) }]);
    assert!(story.0.is_short_of_numbers());

    let by = Principal::Operator;
    assert_eq!(story.ask(set("fourth")), Err(Refusal::Resting("24-bit identities")));
    let early = Revision(deleted.0 - 1);
    // What was never given out here is 259 and above: `last` stands for all that were, long ago.
    let again = story.ask_when(Some(early), &by, set("fourth"));
    assert_eq!(identity(again), 259, "256 may be remembered");
    assert_eq!(identity(story.ask_when(Some(deleted), &by, set("fifth"))), 260, "ascending from there");
    story.ask(Command::DeleteApp(app("second"))).expect("deleted");
    let head = story.0.head();
    assert_eq!((head.next_identity, head.next_reused_identity), (Identity::LAST_APP.number() + 1, 261));
}

#[test]
fn slices_come_again_only_when_every_node_forgot_who_had_them() {
    let mut story = Story::new();
    let join = |host: u8| Command::Join(Registration { underlay: IpAddr::from([192, 168, 1, host]), key: None });
    for host in 1..=255 {
        story.ask_as(&node(&format!("n{host}")), join(host)).expect("a slice");
    }
    let refused = story.ask_as(&node("late"), join(0));
    assert_eq!(refused, Err(Refusal::Resting("slices of the overlay")));
    story.ask(Command::RemoveNode("n7".parse().expect("name"))).expect("removed");
    let removed = story.0.revision();
    let early = story.ask_when(Some(Revision(removed.0 - 1)), &node("late"), join(0));
    assert_eq!(early, Err(Refusal::Resting("slices of the overlay")));
    let Answer::Joined(joined) = story.ask_when(Some(removed), &node("late"), join(0)).expect("joined") else {
        panic!("not joined")
    };
    assert_eq!(joined.node.slices.slice_v4, prefix("10.255.7.0/24"));
}
