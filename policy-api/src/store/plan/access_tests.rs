//! Layers, roles and resources, told as short stories over a state in memory.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::Story;
use super::*;
use crate::model::{Member, RoleName};

/// What the release service needs.
fn release_bot() -> Value {
    json!({
        "layers": [{"name": "ci", "members": ["host:ci-1", "host:ci-2"]}],
        "roles": [
            {"name": "publisher", "members": ["layer:ci", "role:ops"]},
            {"name": "ops", "members": ["user:olga"]},
        ],
        "resources": [{"id": "production/release-bot", "permissions": [
            {"role": "publisher", "privileges": ["create", "read"]}, {"role": "ops", "privileges": ["delete"]},
        ]}],
    })
}

fn change(story: &mut Story, set: Value) -> Result<ChangesAnswer, Refusal> {
    match story.ask(Command::Change(ChangeSet::from_json(set).expect("a change set")))? {
        Answer::Changes(answer) => Ok(answer),
        other => panic!("no change set: {other:?}"),
    }
}

fn begun() -> Story {
    let mut story = Story::new();
    change(&mut story, release_bot()).expect("done");
    story
}

/// The field that is to blame, and what is said of it.
fn refused(story: &mut Story, set: Value) -> (String, String) {
    let before = story.0.revision();
    let refusal = change(story, set).expect_err("refused");
    assert_eq!(story.0.revision(), before);
    (refusal.field().unwrap_or_default().to_owned(), refusal.to_string())
}

#[test]
fn what_names_each_other_is_set_in_one_revision_in_any_order_and_the_same_again_is_nothing() {
    let mut story = begun();
    assert_eq!(story.0.revision(), Revision(1));
    let again = change(&mut story, release_bot()).expect("done");
    assert_eq!((again.revision, story.0.revision()), (Revision(1), Revision(1)));
    assert!(again.access.iter().all(|answer| answer.outcome == crate::model::Outcome::Unchanged), "{again:?}");
    assert_eq!(again.access[0].item, "layer/ci");
}

#[test]
fn an_app_that_the_same_change_makes_is_known_and_another_is_not() {
    let mut story = begun();
    let role = |member: &str| json!([{"name": "web", "members": [member]}]);
    let (field, said) = refused(&mut story, json!({"roles": role("app:web")}));
    assert!(field == "roles[0].members[0]" && said.contains("`web` is not an app that is known"), "{said}");
    let made = json!({"create": [{"source": "web", "destination": "db", "action": "allow"}], "roles": role("app:web")});
    change(&mut story, made).expect("done");
    let (field, said) = refused(&mut story, json!({"roles": role("app:wbe")}));
    assert!(field == "roles[0].members[0]" && said.contains("did you mean `web`?"), "{said}");
}

#[test]
fn a_name_of_nobody_is_refused_naming_the_field_and_the_nearest() {
    let mut story = begun();
    let cases = [
        (json!({"roles": [{"name": "a", "members": ["layer:cj"]}]}), "roles[0].members[0]", "did you mean `ci`?"),
        (json!({"roles": [{"name": "a", "members": ["host:x", "role:oops"]}]}), "roles[0].members[1]", "`ops`?"),
        (
            json!({"resources": [{"id": "a", "permissions": [{"role": "publishr", "privileges": ["read"]}]}]}),
            "resources[0].permissions[0].role",
            "did you mean `publisher`?",
        ),
        (json!({"delete_roles": ["publishr"]}), "delete_roles[0]", "did you mean `publisher`?"),
        (json!({"delete_layers": ["x"]}), "delete_layers[0]", "`x` is not a layer that is known"),
        (json!({"delete_resources": ["x"]}), "delete_resources[0]", "`x` is not a resource that is known"),
    ];
    for (set, field, words) in cases {
        let (blamed, said) = refused(&mut story, set);
        assert!(blamed == field && said.contains(words), "{blamed}: {said}");
    }
}

#[test]
fn a_role_that_would_be_in_itself_is_refused_with_the_way_back_to_it() {
    let mut story = begun();
    let circle = json!({"roles": [{"name": "ops", "members": ["user:olga", "role:publisher"]}]});
    let (field, said) = refused(&mut story, circle);
    assert_eq!(field, "roles[0].members[1]");
    assert!(said.contains("would be in itself: `ops` has in it `publisher` has in it `ops`"), "{said}");
    let (field, _) = refused(&mut story, json!({"roles": [{"name": "own", "members": ["role:own"]}]}));
    assert_eq!(field, "roles[0].members[0]");
}

#[test]
fn what_something_names_is_not_deleted_but_with_it() {
    let mut story = begun();
    let (field, said) = refused(&mut story, json!({"delete_layers": ["ci"]}));
    assert!(field == "delete_layers[0]" && said.contains("is named by role:publisher"), "{said}");
    let (_, said) = refused(&mut story, json!({"delete_roles": ["ops"]}));
    assert!(said.contains("is named by role:publisher, resource:production/release-bot"), "{said}");
    let all = json!({"delete_layers": ["ci"], "delete_roles": ["publisher", "ops"], "delete_resources": ["production/release-bot"]});
    change(&mut story, all).expect("done");
    assert_eq!(story.0.access().count(), 0);
}

#[test]
fn an_app_that_is_in_a_role_is_not_deleted_so_that_none_comes_back_with_its_rights() {
    let mut story = begun();
    change(&mut story, json!({"apps": [{"name": "web"}], "layers": [{"name": "front", "members": ["app:web"]}]}))
        .expect("done");
    let delete = || Command::DeleteApp("web".parse().expect("name"));
    let refusal = story.ask(delete()).expect_err("in a layer");
    assert!(refusal.field() == Some("name") && refusal.to_string().contains("is in layer:front"), "{refusal}");
    change(&mut story, json!({"layers": [{"name": "front", "members": []}]})).expect("done");
    story.ask(delete()).expect("deleted");
}

#[test]
fn what_changes_something_of_access_moves_its_revision_and_nothing_else_does() {
    let mut story = begun();
    let after = story.0.access_revision();
    story.rule(crate::store::tests::rule("web", "db", "80", crate::model::Action::Allow)).expect("written");
    assert_eq!((story.0.access_revision(), story.0.revision()), (after, Revision(2)));
    change(&mut story, json!({"layers": [{"name": "ci", "members": ["host:ci-2"]}]})).expect("done");
    assert_eq!(story.0.access_revision(), Revision(3));
}

/// Change sets of a few names, most of which make sense.
fn set() -> impl Strategy<Value = Value> {
    let member = prop_oneof![
        Just("host:a".to_owned()),
        (0..2_u8).prop_map(|layer| format!("layer:l{layer}")),
        (0..4_u8).prop_map(|role| format!("role:r{role}")),
    ];
    let members = prop::collection::btree_set(member, 0..3);
    let roles = prop::collection::btree_map(0..4_u8, members, 0..3);
    let layers = prop::collection::btree_set(0..2_u8, 0..2);
    let permissions = prop::collection::btree_set(0..4_u8, 0..3);
    let gone = (prop::collection::btree_set(0..2_u8, 0..2), prop::collection::btree_set(0..4_u8, 0..2));
    (layers, roles, prop::option::of(permissions), gone).prop_map(|(layers, roles, permissions, (no_layers, no_roles))| {
        let no_layers: Vec<String> = no_layers.difference(&layers).map(|layer| format!("l{layer}")).collect();
        let no_roles = no_roles.iter().filter(|role| !roles.contains_key(role)).map(|role| format!("r{role}"));
        let permission = |role: &u8| json!({"role": format!("r{role}"), "privileges": ["read"]});
        let resource = permissions.map(|roles| json!({"id": "x", "permissions": roles.iter().map(permission).collect::<Vec<_>>()}));
        json!({
            "layers": layers.iter().map(|layer| json!({"name": format!("l{layer}"), "members": ["host:b"]})).collect::<Vec<_>>(),
            "roles": roles.iter().map(|(role, members)| json!({"name": format!("r{role}"), "members": members})).collect::<Vec<_>>(),
            "resources": resource.into_iter().collect::<Vec<_>>(),
            "delete_layers": no_layers, "delete_roles": no_roles.collect::<Vec<_>>(),
        })
    })
}

proptest! {
    #[test]
    fn whatever_is_asked_what_stands_names_nobody_that_does_not_and_no_role_is_in_itself(sets in prop::collection::vec(set(), 1..12)) {
        let mut story = Story::new();
        for set in sets {
            let before = story.0.access().clone();
            if change(&mut story, set).is_err() {
                prop_assert_eq!(story.0.access(), &before, "what is refused changes nothing");
            }
            let access = story.0.access();
            for role in access.roles().values() {
                prop_assert!(role.members.iter().all(|member| access.knows(member)), "{:?}", role);
                prop_assert_eq!(access.circle(&role.name), None);
            }
            let named = access.resources().values().flat_map(|resource| resource.permissions.iter());
            prop_assert!(named.map(|(role, _): (&RoleName, _)| Member::Role(role.clone())).all(|role| access.knows(&role)));
        }
    }
}
