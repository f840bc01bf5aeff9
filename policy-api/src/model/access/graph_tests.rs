//! The graph against a reading of the one sentence that is so naive that it is right.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;

use super::*;
use crate::model::Revision;

fn parsed<T: FromStr<Err = Invalid>>(text: &str) -> T {
    text.parse().expect(text)
}

fn layer(name: &str, members: &[&str]) -> Arc<Layer> {
    let members = members.iter().map(|text| parsed(text)).collect();
    Arc::new(Layer { name: parsed(name), members, revision: Revision(1) })
}

fn role(name: &str, members: &[&str]) -> Arc<Role> {
    let members = members.iter().map(|text| parsed(text)).collect();
    Arc::new(Role { name: parsed(name), members, revision: Revision(1) })
}

fn resource(id: &str, permissions: &[(&str, &[&str])]) -> Arc<Resource> {
    let permission = |(role, privileges): &(&str, &[&str])| Permission {
        role: parsed(role),
        privileges: privileges.iter().map(|text| parsed(text)).collect(),
    };
    let permissions: Vec<Permission> = permissions.iter().map(permission).collect();
    Arc::new(Resource { id: parsed(id), permissions: permissions.into(), revision: Revision(1) })
}

/// The release service of the issue: machines publish, an operator deletes, and may publish, too.
fn release_bot() -> Access {
    let mut access = Access::default();
    access.put_layer(layer("ci", &["host:ci-1", "host:ci-2"]));
    access.put_role(role("publisher", &["layer:ci", "role:operators"]));
    access.put_role(role("operators", &["user:olga"]));
    access.put_resource(resource("release-bot", &[("publisher", &["create", "read"]), ("operators", &["delete"])]));
    access
}

#[test]
fn who_is_in_a_role_by_a_layer_or_another_role_may_what_it_may_and_the_way_says_how() {
    let access = release_bot();
    let way = |who: &str, privilege: &str| {
        let way = access.can(&parsed(who), &parsed(privilege), &parsed("release-bot"));
        way.map(|way| way.iter().map(ToString::to_string).collect::<Vec<_>>().join(" > "))
    };
    assert_eq!(way("host:ci-1", "create").as_deref(), Some("host:ci-1 > layer:ci > role:publisher"));
    assert_eq!(way("user:olga", "create").as_deref(), Some("user:olga > role:operators > role:publisher"));
    assert_eq!(way("role:operators", "read").as_deref(), Some("role:operators > role:publisher"));
    assert_eq!(way("role:operators", "delete").as_deref(), Some("role:operators"));
    for (who, privilege) in [("host:ci-1", "delete"), ("host:stranger", "read"), ("user:olga", "update")] {
        assert_eq!(way(who, privilege), None, "{who} {privilege}");
    }
    assert_eq!(access.can(&parsed("user:olga"), &parsed("delete"), &parsed("other")), None, "no such resource");
}

#[test]
fn a_role_that_is_in_itself_by_others_is_found_with_its_way() {
    let mut access = release_bot();
    assert_eq!(access.circle(&parsed("publisher")), None);
    access.put_role(role("operators", &["role:staff"]));
    access.put_role(role("staff", &["role:publisher"]));
    let circle = access.circle(&parsed("publisher")).expect("a circle");
    let words: Vec<&str> = circle.iter().map(RoleName::as_str).collect();
    assert_eq!(words, ["publisher", "operators", "staff", "publisher"]);
    access.put_role(role("own", &["role:own"]));
    assert_eq!(access.circle(&parsed("own")).map(|circle| circle.len()), Some(2));
}

#[test]
fn what_is_taken_away_leaves_nothing_behind() {
    let mut access = release_bot();
    access.remove_resource(&parsed("release-bot"));
    access.remove_role(&parsed("publisher"));
    access.remove_role(&parsed("operators"));
    access.remove_layer(&parsed("ci"));
    assert_eq!(access, Access::default());
}

/// What happens to the access; numbers choose from a few of a kind, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Layer(u8, BTreeSet<u8>),
    Role(u8, BTreeSet<u8>),
    Resource(u8, BTreeMap<u8, BTreeSet<u8>>),
    NoLayer(u8),
    NoRole(u8),
    NoResource(u8),
}

const SUBJECTS: [&str; 5] = ["app:web", "app:db", "host:ci", "host:lab", "user:olga"];
const PRIVILEGES: [&str; 3] = ["read", "create", "delete"];
const LAYERS: u8 = 3;
const ROLES: u8 = 5;
const RESOURCES: u8 = 3;

/// Subjects first, then layers, then roles: also some that do not stand, and circles.
fn member(number: u8) -> String {
    match usize::from(number) {
        n if n < SUBJECTS.len() => SUBJECTS[n].to_owned(),
        n if n < SUBJECTS.len() + usize::from(LAYERS) => format!("layer:l{}", n - SUBJECTS.len()),
        n => format!("role:r{}", n - SUBJECTS.len() - usize::from(LAYERS)),
    }
}

fn step() -> impl Strategy<Value = Step> {
    let some = |of: u8| prop::collection::btree_set(0..of, 0..4);
    let permissions = prop::collection::btree_map(0..ROLES, prop::collection::btree_set(0..3_u8, 1..3), 0..4);
    prop_oneof![
        // People are in no layer.
        2 => (0..LAYERS, some(4)).prop_map(|(layer, members)| Step::Layer(layer, members)),
        4 => (0..ROLES, some(5 + LAYERS + ROLES)).prop_map(|(role, members)| Step::Role(role, members)),
        3 => (0..RESOURCES, permissions).prop_map(|(id, permissions)| Step::Resource(id, permissions)),
        1 => (0..LAYERS).prop_map(Step::NoLayer),
        1 => (0..ROLES).prop_map(Step::NoRole),
        1 => (0..RESOURCES).prop_map(Step::NoResource),
    ]
}

/// Lists of words, searched from the front.
#[derive(Default)]
struct Naive {
    /// What is in what.
    inside: Vec<(String, String)>,
    permissions: Vec<(String, String, String)>,
    standing: BTreeSet<String>,
}

impl Naive {
    fn set(&mut self, whole: &str, members: Vec<String>) {
        self.inside.retain(|(_, holder)| holder != whole);
        self.inside.extend(members.into_iter().map(|member| (member, whole.to_owned())));
        self.standing.insert(whole.to_owned());
    }

    fn end(&mut self, whole: &str) {
        self.inside.retain(|(_, holder)| holder != whole);
        self.standing.remove(whole);
    }

    /// All that somebody is in, by saying it over and over until nothing new comes of it.
    fn all_around(&self, who: &str) -> BTreeSet<String> {
        let mut around = BTreeSet::from([who.to_owned()]);
        loop {
            let more: Vec<String> = self
                .inside
                .iter()
                .filter(|(member, _)| around.contains(member))
                .map(|(_, whole)| whole.clone())
                .collect();
            let before = around.len();
            around.extend(more);
            if around.len() == before {
                return around;
            }
        }
    }

    fn can(&self, who: &str, privilege: &str, resource: &str) -> bool {
        let around = self.all_around(who);
        self.permissions
            .iter()
            .any(|(id, role, word)| id == resource && word == privilege && around.contains(&format!("role:{role}")))
    }
}

fn take(access: &mut Access, naive: &mut Naive, step: &Step) {
    let words = |members: &BTreeSet<u8>| members.iter().map(|number| member(*number)).collect::<Vec<_>>();
    match step {
        Step::Layer(number, members) => {
            let (name, members) = (format!("l{number}"), words(members));
            access.put_layer(layer(&name, &members.iter().map(String::as_str).collect::<Vec<_>>()));
            naive.set(&format!("layer:{name}"), members);
        }
        Step::Role(number, members) => {
            let (name, members) = (format!("r{number}"), words(members));
            access.put_role(role(&name, &members.iter().map(String::as_str).collect::<Vec<_>>()));
            naive.set(&format!("role:{name}"), members);
        }
        Step::Resource(number, permissions) => {
            let id = format!("x{number}");
            naive.permissions.retain(|(known, ..)| *known != id);
            let mut list = Vec::new();
            for (role, privileges) in permissions {
                let role = format!("r{role}");
                let of = |number: &u8| PRIVILEGES[usize::from(*number)];
                naive.permissions.extend(privileges.iter().map(|p| (id.clone(), role.clone(), of(p).to_owned())));
                list.push(Permission {
                    role: parsed(&role),
                    privileges: privileges.iter().map(|p| parsed(of(p))).collect(),
                });
            }
            access.put_resource(Arc::new(Resource {
                id: parsed(&id),
                permissions: list.into(),
                revision: Revision(1),
            }));
        }
        Step::NoLayer(number) => {
            access.remove_layer(&parsed(&format!("l{number}")));
            naive.end(&format!("layer:l{number}"));
        }
        Step::NoRole(number) => {
            access.remove_role(&parsed(&format!("r{number}")));
            naive.end(&format!("role:r{number}"));
        }
        Step::NoResource(number) => {
            access.remove_resource(&parsed(&format!("x{number}")));
            naive.permissions.retain(|(id, ..)| *id != format!("x{number}"));
        }
    }
}

/// Each member is in the next, and the last is a role that may.
fn is_way(naive: &Naive, way: &Way, privilege: &str, resource: &str) -> bool {
    let words: Vec<String> = way.iter().map(ToString::to_string).collect();
    let linked = words.windows(2).all(|pair| naive.inside.contains(&(pair[0].clone(), pair[1].clone())));
    let role = words.last().and_then(|last| last.strip_prefix("role:"));
    let may = |role: &str| naive.permissions.contains(&(resource.to_owned(), role.to_owned(), privilege.to_owned()));
    linked && role.is_some_and(may)
}

proptest! {
    #[test]
    fn the_graph_answers_as_the_sentence_says(steps in prop::collection::vec(step(), 1..30)) {
        let (mut access, mut naive) = (Access::default(), Naive::default());
        for step in &steps {
            take(&mut access, &mut naive, step);
        }
        let members = 0..u8::try_from(SUBJECTS.len()).expect("few") + LAYERS + ROLES;
        for resource in (0..RESOURCES).map(|number| format!("x{number}")) {
            let told = access.subjects(&parsed(&resource));
            for privilege in PRIVILEGES {
                for who in members.clone().map(member) {
                    let expected = naive.can(&who, privilege, &resource);
                    let way = access.can(&parsed(&who), &parsed(privilege), &parsed(&resource));
                    prop_assert_eq!(way.is_some(), expected, "{} {} {}", &who, privilege, &resource);
                    prop_assert!(way.is_none_or(|way| way[0] == parsed(&who) && is_way(&naive, &way, privilege, &resource)));
                    let all = access.privileges(&parsed(&who), &parsed(&resource));
                    prop_assert_eq!(all.contains(&parsed(privilege)), expected);
                    if let Ok(subject) = who.parse::<Subject>() {
                        let is_told = told.get(&subject).is_some_and(|told| told.contains(&parsed(privilege)));
                        prop_assert_eq!(is_told, expected, "{} {} {}", subject, privilege, &resource);
                    }
                }
                let ways = access.who_can(&parsed(privilege), &parsed(&resource));
                let expected: BTreeSet<Subject> =
                    SUBJECTS.iter().filter(|who| naive.can(who, privilege, &resource)).map(|who| parsed(who)).collect();
                prop_assert_eq!(ways.keys().cloned().collect::<BTreeSet<_>>(), expected);
                for (subject, way) in &ways {
                    prop_assert!(way[0] == Member::from(subject.clone()) && is_way(&naive, way, privilege, &resource));
                }
            }
        }
        for number in 0..ROLES {
            let name = format!("role:r{number}");
            let in_itself = naive.inside.iter().any(|(member, whole)| {
                *member == name && naive.all_around(whole).contains(&name)
            });
            let circle = access.circle(&parsed(&format!("r{number}")));
            prop_assert_eq!(circle.is_some(), in_itself && naive.standing.contains(&name), "{}", name);
        }
    }
}
