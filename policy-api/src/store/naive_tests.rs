//! The store against a model so naive that it is right, through commits, reopenings and watches.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use proptest::{prelude::*, test_runner::TestCaseError};

use super::{
    tests::{Kind, Place, follow, node, resume, rule, runtime},
    *,
};
use crate::model::{
    Action, App, AppSettings, Claim, Follower, GroupWish, IsolationSpec, Mode, OnDeny, Ports, Protocol, Reason,
    RuleSpec, Selector, Target, Timestamp,
};

/// What somebody may do; numbers choose from a few of a kind, so that requests meet.
#[derive(Clone, Debug)]
enum Deed {
    Put { source: u8, destination: u8, port: u8, deny: bool, reason: Option<u8>, audit: bool, silent: bool },
    Delete(u8),
    Set { app: u8, audit: Option<bool>, add: u8, remove: u8 },
    DeleteApp(u8),
    Isolate { app: u8, instance: Option<u32>, reason: Option<u8> },
    EndIsolation { app: u8, instance: Option<u32> },
    Claim { node: u8, app: u8, host: u8 },
    Release { node: u8, host: u8 },
    Reopen,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        5 => (0..7_u8, 0..7_u8, 0..4_u8, any::<[bool; 3]>(), prop::option::of(0..2_u8)).prop_map(
            |(source, destination, port, [deny, audit, silent], reason)| {
                Deed::Put { source, destination, port, deny, reason, audit, silent }
            }
        ),
        2 => (0..4_u8, any::<Option<bool>>(), 0..4_u8, 0..4_u8).prop_map(
            |(app, audit, add, remove)| Deed::Set { app, audit, add, remove }
        ),
        1 => (0..4_u8).prop_map(Deed::DeleteApp),
        2 => (0..4_u8, prop::option::of(0..2_u32), prop::option::of(0..2_u8)).prop_map(
            |(app, instance, reason)| Deed::Isolate { app, instance, reason }
        ),
        1 => (0..4_u8, prop::option::of(0..2_u32)).prop_map(|(app, instance)| Deed::EndIsolation { app, instance }),
        3 => (1..20_u8).prop_map(Deed::Delete),
        3 => (1..3_u8, 0..4_u8, 1..5_u8).prop_map(|(node, app, host)| Deed::Claim { node, app, host }),
        2 => (1..3_u8, 1..5_u8).prop_map(|(node, host)| Deed::Release { node, host }),
        1 => Just(Deed::Reopen),
    ]
}

/// The naive model: lists, searched from the front.
#[derive(Clone)]
struct Naive {
    rules: Vec<(u32, RuleSpec)>,
    rules_made: u32,
    apps: Vec<NaiveApp>,
    apps_made: u32,
    groups: Vec<String>,
    /// With their reasons.
    isolations: BTreeMap<(String, Option<u32>), Option<Reason>>,
    /// App, instance and whether it is live, by address.
    bindings: BTreeMap<IpAddr, (String, u32, bool)>,
    revision: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct NaiveApp {
    identity: u32,
    name: String,
    is_audited: bool,
    groups: BTreeSet<String>,
}

fn app(number: u8) -> String {
    format!("app{number}")
}

fn group(number: u8) -> String {
    format!("group{number}")
}

/// One side of a rule: an app, a group, or any.
fn side(number: u8) -> String {
    match number {
        0..4 => app(number),
        4..6 => format!("group:{}", group(number - 4)),
        _ => "any".to_owned(),
    }
}

fn reason(number: Option<u8>) -> Option<Reason> {
    number.map(|number| format!("{number}").parse().expect("reason"))
}

fn address(node: u8, host: u8) -> IpAddr {
    IpAddr::from([10, 255, node, host])
}

impl Naive {
    /// As a store is born: with one rule.
    fn new() -> Self {
        let mut built_in = RuleSpec::new(Selector::Host, Selector::Any, Protocol::Any, Ports::All, Action::Allow);
        built_in.reason = plan::built_in(Timestamp::now()).reason;
        Self {
            rules: vec![(1, built_in)],
            rules_made: 1,
            apps: Vec::new(),
            apps_made: 0,
            groups: Vec::new(),
            isolations: BTreeMap::new(),
            bindings: BTreeMap::new(),
            revision: 1,
        }
    }

    fn app(&mut self, name: &str) -> &mut NaiveApp {
        if !self.apps.iter().any(|known| known.name == name) {
            let (identity, is_audited, groups) = (256 + self.apps_made, false, BTreeSet::new());
            self.apps.push(NaiveApp { identity, name: name.to_owned(), is_audited, groups });
            self.apps_made += 1;
        }
        self.apps.iter_mut().find(|known| known.name == name).expect("made")
    }

    fn group(&mut self, name: &str) {
        if !self.groups.iter().any(|known| known == name) {
            self.groups.push(name.to_owned());
        }
    }

    fn set(&mut self, name: &str, audit: Option<bool>, add: &[String], remove: &[String]) {
        let is_new = !self.apps.iter().any(|known| known.name == name);
        let app = self.app(name);
        let before = app.clone();
        app.is_audited = audit.unwrap_or(app.is_audited);
        app.groups.extend(add.iter().cloned());
        app.groups.retain(|group| !remove.contains(group));
        let (after, changed) = (app.groups.clone(), *app != before || is_new);
        after.difference(&before.groups).for_each(|group| self.group(group));
        self.revision += u64::from(changed);
    }

    fn delete_app(&mut self, name: &str) -> bool {
        let names = |selector: &Selector| selector.app().is_some_and(|app| app.as_str() == name);
        let is_named = self.rules.iter().any(|(_, rule)| names(&rule.source) || names(&rule.destination));
        let is_live = self.bindings.values().any(|(app, _, live)| *live && app == name);
        if is_named || is_live || !self.apps.iter().any(|app| app.name == name) {
            return false;
        }
        self.apps.retain(|app| app.name != name);
        self.bindings.retain(|_, (app, _, _)| app != name);
        self.isolations.retain(|(app, _), _| app != name);
        self.revision += 1;
        true
    }

    fn isolate(&mut self, name: &str, instance: Option<u32>, reason: Option<Reason>) -> bool {
        let target = (name.to_owned(), instance);
        let is_live = |number: u32| self.bindings.values().any(|binding| *binding == (name.to_owned(), number, true));
        let exists = self.apps.iter().any(|app| app.name == name) && instance.is_none_or(is_live);
        if !exists && !self.isolations.contains_key(&target) {
            return false;
        }
        let before = self.isolations.insert(target, reason.clone());
        self.revision += u64::from(before != Some(reason));
        true
    }

    fn end_isolation(&mut self, name: &str, instance: Option<u32>) -> bool {
        let ended = self.isolations.remove(&(name.to_owned(), instance)).is_some();
        self.revision += u64::from(ended);
        ended
    }

    /// Does it; says whether a revision came of it.
    fn put(&mut self, spec: &RuleSpec) {
        for side in [&spec.source, &spec.destination] {
            match side {
                Selector::App(app) => drop(self.app(app.as_str()).name.clone()),
                Selector::Group(group) => self.group(group.as_str()),
                Selector::Host | Selector::Any => {}
            }
        }
        match self.rules.iter_mut().find(|(_, standing)| standing.tuple() == spec.tuple()) {
            Some((_, standing)) if standing == spec => return,
            Some((_, standing)) => *standing = spec.clone(),
            None => {
                self.rules_made += 1;
                self.rules.push((self.rules_made, spec.clone()));
            }
        }
        self.revision += 1;
    }

    fn delete(&mut self, id: u32) -> bool {
        let before = self.rules.len();
        self.rules.retain(|(standing, _)| *standing != id);
        let did = self.rules.len() < before;
        self.revision += u64::from(did);
        did
    }

    fn claim(&mut self, address: IpAddr, app: &str) -> Option<u32> {
        match self.bindings.get(&address) {
            Some((holder, number, true)) if holder == app => return Some(*number),
            Some((_, _, true)) => return None,
            Some((_, _, false)) | None => {}
        }
        let taken = |number: u32| self.bindings.values().any(|binding| *binding == (app.to_owned(), number, true));
        let number = (0..).find(|number| !taken(*number)).expect("there are many numbers");
        self.app(app);
        self.bindings.insert(address, (app.to_owned(), number, true));
        self.revision += 1;
        Some(number)
    }

    fn release(&mut self, address: IpAddr) -> bool {
        let Some((_, _, live)) = self.bindings.get_mut(&address) else { return false };
        self.revision += u64::from(*live);
        *live = false;
        true
    }
}

/// Compares everything that can be seen.
fn assert_same(state: &State, naive: &Naive) {
    let rules = state.replica().rules.values();
    let rules: Vec<_> =
        rules.map(|rule| (rule.id.0, rule.tuple(), rule.reason.clone(), rule.mode, rule.on_deny)).collect();
    let expected = naive.rules.iter();
    let expected = expected.map(|(id, spec)| (*id, spec.tuple(), spec.reason.clone(), spec.mode, spec.on_deny));
    assert_eq!(rules, expected.collect::<Vec<_>>());
    let mut apps: Vec<_> = state.replica().apps.values().map(|app| seen_app(app)).collect();
    apps.sort_by_key(|app| app.identity);
    let mut expected = naive.apps.clone();
    expected.sort_by_key(|app| app.identity);
    assert_eq!(apps, expected);
    let mut groups: Vec<_> =
        state.replica().groups.values().map(|group| (group.number, group.name.to_string())).collect();
    groups.sort();
    assert_eq!(groups, (1..).zip(naive.groups.clone()).collect::<Vec<_>>());
    let isolations = state.replica().isolations.values();
    let isolations: BTreeMap<_, _> =
        isolations.map(|item| ((item.app.to_string(), item.instance), item.reason.clone())).collect();
    assert_eq!(isolations, naive.isolations);
    let bindings: Vec<_> = state
        .replica()
        .bindings
        .values()
        .map(|binding| (binding.address, (binding.app.to_string(), binding.instance, binding.is_live())))
        .collect();
    assert_eq!(bindings, naive.bindings.clone().into_iter().collect::<Vec<_>>());
    let live = naive.bindings.values().filter(|(_, _, live)| *live).count();
    assert_eq!(state.live_instances(), live);
    let rows = |spec: &RuleSpec| spec.protocol.wire().iter().map(|_| spec.ports.rows()).sum::<u64>();
    assert_eq!(state.rows(), naive.rules.iter().map(|(_, spec)| rows(spec)).sum::<u64>());
    assert_eq!(state.revision().0, naive.revision);
}

fn seen_app(app: &App) -> NaiveApp {
    NaiveApp {
        identity: app.identity.number(),
        name: app.name.to_string(),
        is_audited: app.mode == Mode::Audit,
        groups: app.groups.iter().map(ToString::to_string).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn a_file_does_what_the_naive_model_does_and_a_watch_sees_all_of_it(deeds in prop::collection::vec(deed(), 1..60)) {
        compare_with_the_naive_model(Kind::Sqlite, deeds)?;
    }

    #[test]
    fn etcd_does_what_the_naive_model_does_and_a_watch_sees_all_of_it(deeds in prop::collection::vec(deed(), 1..60)) {
        compare_with_the_naive_model(Kind::Etcd, deeds)?;
    }
}

fn compare_with_the_naive_model(kind: Kind, deeds: Vec<Deed>) -> Result<(), TestCaseError> {
    let (place, runtime) = (Place::new(kind), runtime());
    let mut store = place.open();
    let mut naive = Naive::new();
    for name in [1, 2] {
        let join = Registration { underlay: IpAddr::from([192, 168, 1, name]), key: None };
        runtime.block_on(store.write(Write::new(Command::Join(join), node(&format!("n{name}"))))).expect("join");
        naive.revision += 1;
    }
    let mut known = BTreeMap::from([(naive.revision, naive.clone())]);
    let mut follower = Follower::default();
    let mut subscription = store.subscribe(None).expect("subscribed");
    for deed in deeds {
        let ask = |command, by| runtime.block_on(store.write(Write::new(command, by)));
        match deed {
            Deed::Put { source, destination, port, deny, reason: why, audit, silent } => {
                let action = if deny { Action::Deny } else { Action::Allow };
                let mut spec = rule(&side(source), &side(destination), &format!("{}", 80 + u16::from(port)), action);
                if port == 3 {
                    (spec.protocol, spec.ports) = (Protocol::Any, Ports::All);
                }
                spec.reason = reason(why);
                spec.mode = if audit { Mode::Audit } else { Mode::Enforce };
                spec.on_deny = (deny && silent).then_some(OnDeny::Drop);
                prop_assert!(ask(Command::PutRule(spec.clone()), Principal::Operator).is_ok());
                naive.put(&spec);
            }
            Deed::Delete(id) => {
                let done = ask(Command::DeleteRule(RuleId(id.into())), Principal::Operator);
                prop_assert_eq!(done.is_ok(), naive.delete(id.into()));
            }
            Deed::Set { app: name, audit, add, remove } => {
                // Some of the groups that can be added and removed are the same one, which is no request.
                let (add, remove) = (vec![group(add)], if remove == add { vec![] } else { vec![group(remove)] });
                let names = |groups: &[String]| groups.iter().map(|group| group.parse().expect("name")).collect();
                let groups = GroupWish::Edit { add_groups: names(&add), remove_groups: names(&remove) };
                let mode = audit.map(|audit| if audit { Mode::Audit } else { Mode::Enforce });
                let command = Command::SetApp(app(name).parse().expect("name"), AppSettings { mode, groups });
                prop_assert!(ask(command, Principal::Operator).is_ok());
                naive.set(&app(name), audit, &add, &remove);
            }
            Deed::DeleteApp(name) => {
                let done = ask(Command::DeleteApp(app(name).parse().expect("name")), Principal::Operator);
                prop_assert_eq!(done.is_ok(), naive.delete_app(&app(name)));
            }
            Deed::Isolate { app: name, instance, reason: why } => {
                let (name, why) = (app(name), reason(why));
                let spec =
                    IsolationSpec { app: name.parse().expect("name"), instance, expires_at: None, reason: why.clone() };
                let done = ask(Command::Isolate(spec), Principal::Operator);
                prop_assert_eq!(done.is_ok(), naive.isolate(&name, instance, why));
            }
            Deed::EndIsolation { app: name, instance } => {
                let target = Target { app: app(name).parse().expect("name"), instance };
                let done = ask(Command::EndIsolation(target), Principal::Operator);
                prop_assert_eq!(done.is_ok(), naive.end_isolation(&app(name), instance));
            }
            Deed::Claim { node: number, app: name, host } => {
                let address = address(number, host);
                let claim = Claim {
                    app: app(name).parse().expect("name"),
                    instance: None,
                    addresses: vec![address],
                    labels: Default::default(),
                };
                let claimed = ask(Command::Claim(claim), node(&format!("n{number}"))).ok();
                let number = claimed.map(|answer| match answer {
                    Answer::Claimed(claimed) => claimed.instance,
                    other => panic!("{other:?}"),
                });
                prop_assert_eq!(number, naive.claim(address, &app(name)));
            }
            Deed::Release { node: number, host } => {
                let done = ask(Command::Release(address(number, host)), node(&format!("n{number}")));
                prop_assert_eq!(done.is_ok(), naive.release(address(number, host)));
            }
            Deed::Reopen => {
                follow(&store, &mut follower, &mut subscription);
                store.close();
                store = place.open();
                subscription = resume(&store, &follower);
            }
        }
        store.read(|state| assert_same(state, &naive));
        known.insert(naive.revision, naive.clone());
        follow(&store, &mut follower, &mut subscription);
    }
    for (revision, naive) in &known {
        assert_same(&store.past(At::Revision(Revision(*revision))).expect("known"), naive);
    }
    store.close();
    Ok(())
}
