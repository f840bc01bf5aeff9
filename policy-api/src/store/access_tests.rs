//! Layers, roles and resources in a store: one revision with rules, told as they were, and carried by copies.

use super::{
    tests::{Kind, Place, of_every_kind, runtime},
    *,
};
use crate::model::{At, CanQuery, ChangeSet, Member};

of_every_kind! {
    access_stands_in_one_revision_with_rules_survives_a_reopening_and_is_known_as_it_was,
    a_copy_carries_access,
}

fn write(store: &Store, set: serde_json::Value) -> Revision {
    let set = ChangeSet::from_json(set).expect("a change set");
    match runtime().block_on(store.write(Write::new(Command::Change(set), Principal::Operator))) {
        Ok(Answer::Changes(answer)) => answer.revision,
        other => panic!("no change: {other:?}"),
    }
}

fn of_ci(members: &[&str]) -> serde_json::Value {
    serde_json::json!({"layers": [{"name": "ci", "members": members}]})
}

fn begin(place: &Place) -> (Store, Revision) {
    let store = place.open();
    let before = store.read(State::revision);
    let mut set = of_ci(&["host:ci-1"]);
    let more = serde_json::json!({
        "create": [{"source": "web", "destination": "db", "action": "allow"}],
        "roles": [{"name": "bot/publisher", "members": ["layer:ci", "app:web"]}],
        "resources": [{"id": "production/bot", "permissions": [{"role": "bot/publisher", "privileges": ["create"]}]}],
    });
    set.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    let revision = write(&store, set);
    assert_eq!(revision, before.next(), "one for all of it");
    (store, revision)
}

fn may(state: &State, subject: &str) -> bool {
    let who = subject.parse::<Member>().expect("subject");
    let privilege = "create".parse().expect("privilege");
    let query = CanQuery { who, privilege, resource: "production/bot".parse().expect("id") };
    state.can(&query).is_ok_and(|answer| answer.allowed)
}

fn access_stands_in_one_revision_with_rules_survives_a_reopening_and_is_known_as_it_was(kind: Kind) {
    let place = Place::new(kind);
    let (store, then) = begin(&place);
    write(&store, of_ci(&["host:ci-2"]));
    let gone = serde_json::json!({"delete_resources": ["production/bot"], "delete_roles": ["bot/publisher"]});
    let without = write(&store, gone);
    let digest = store.read(|state| state.replica().digest());
    store.close();
    let store = place.open();
    assert_eq!(store.read(|state| (state.revision(), state.replica().digest())), (without, digest));
    assert_eq!(store.read(|state| state.access().count()), 1, "the layer is left");
    let past = |revision| store.past(At::Revision(revision)).expect("known");
    assert!(may(&past(then), "host:ci-1") && may(&past(then), "app:web") && !may(&past(then), "host:ci-2"));
    assert!(may(&past(then.next()), "host:ci-2") && !may(&past(then.next()), "host:ci-1"));
    assert!(!may(&past(without), "host:ci-2"));
    store.verify_history(None).expect("it was what was written");
}

fn a_copy_carries_access(kind: Kind) {
    let (from, to) = (Place::new(kind), Place::new(kind));
    let directory = tempfile::tempdir().expect("directory");
    let copy = directory.path().join("copy.db");
    let (store, then) = begin(&from);
    back_up(&from.location(), &copy).expect("copied");
    let access = store.read(|state| state.access().clone());
    restore(&copy, &to.location(), true).expect("restored");
    let restored = to.open();
    assert_eq!(restored.read(|state| state.access().clone()), access);
    assert!(restored.read(|state| may(state, "host:ci-1")));
    assert!(may(&restored.past(At::Revision(then)).expect("known"), "app:web"));
}
