//! Who had an address when, asked of a real store.

use std::{net::IpAddr, time::Duration};

use super::{
    tests::{Kind, Place, make_of_schema_3, of_every_kind},
    *,
};
use crate::model::{AppPattern, Claim, Labels, Owned};

struct Story {
    place: Place,
    runtime: tokio::runtime::Runtime,
}

const PAUSE: Duration = Duration::from_millis(5);

impl Story {
    fn begin(kind: Kind) -> (Self, Store) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let story = Self { place: Place::new(kind), runtime };
        let store = story.place.open();
        story.ask(&store, Command::Join(Registration { underlay: IpAddr::from([192, 168, 1, 1]), key: None }));
        (story, store)
    }

    fn ask(&self, store: &Store, command: Command) {
        let by = Principal::Node(NodeGrant { name: "n1".parse().expect("name"), apps: vec![AppPattern::all()] });
        self.runtime.block_on(store.write(Write::new(command, by))).expect("done");
    }

    /// Times before and after, apart from it by a pause.
    fn claim(&self, store: &Store, app: &str, labels: &[(&str, &str)]) -> [Timestamp; 2] {
        let labels: Labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let app = app.parse().expect("name");
        self.apart(|| {
            self.ask(store, Command::Claim(Claim { app, instance: None, addresses: vec![address()], labels }))
        })
    }

    fn release(&self, store: &Store) -> [Timestamp; 2] {
        self.apart(|| self.ask(store, Command::Release(address())))
    }

    fn apart(&self, work: impl FnOnce()) -> [Timestamp; 2] {
        let before = Timestamp::now();
        std::thread::sleep(PAUSE);
        work();
        std::thread::sleep(PAUSE);
        [before, Timestamp::now()]
    }
}

fn address() -> IpAddr {
    IpAddr::from([10, 255, 1, 7])
}

fn name(owned: Option<&Owned>) -> Option<String> {
    owned.map(|owned| owned.binding.instance_name())
}

/// The owner, or else those before and after.
fn owners(store: &Store, at: Timestamp) -> (Option<String>, Option<String>, Option<String>) {
    let owners = store.owners(address(), at).expect("read");
    (name(owners.at.as_ref()), name(owners.before.as_ref()), name(owners.after.as_ref()))
}

fn each_time_has_its_owner_and_the_times_between_have_none(kind: Kind) {
    let (story, store) = Story::begin(kind);
    let [before_web, web_1] = story.claim(&store, "web", &[("image", "web:1")]);
    let [web_2, gap_1] = story.release(&store);
    let [gap_2, db_1] = story.claim(&store, "db", &[]);
    let expect = |store: &Store| {
        let (web, db) = (|| Some("web/0".to_owned()), || Some("db/0".to_owned()));
        assert_eq!(owners(store, before_web), (None, None, web()));
        for at in [web_1, web_2] {
            assert_eq!(owners(store, at), (web(), None, None));
        }
        for at in [gap_1, gap_2] {
            assert_eq!(owners(store, at), (None, web(), db()));
        }
        for at in [db_1, Timestamp::now()] {
            assert_eq!(owners(store, at), (db(), None, None));
        }
        let web = store.owners(address(), web_1).expect("read").at.expect("an owner");
        assert!(
            before_web < web.from && web.from < web_1 && web.until.is_some_and(|until| web_2 < until && until < gap_1)
        );
        assert_eq!(web.binding.labels.get("image").map(String::as_str), Some("web:1"));
        assert_eq!(store.owners(address(), db_1).expect("read").at.expect("an owner").until, None);
        assert_eq!(store.owners(IpAddr::from([10, 255, 1, 8]), db_1).expect("read"), Owners::default());
    };
    expect(&store);
    store.close();

    let store = story.place.open();
    expect(&store);
    store.close();

    // As the second version wrote it, which had files only, and in them the journal only.
    let Location::Sqlite(path) = story.place.location() else { return };
    let connection = sqlite::database::connect(&path).expect("connection");
    make_of_schema_3(&connection);
    connection.execute_batch("DROP TABLE ownership; PRAGMA user_version = 2;").expect("made older");
    drop(connection);
    let store = story.place.open();
    expect(&store);
}

fn the_same_instance_that_claims_again_goes_on_with_its_interval(kind: Kind) {
    let (story, store) = Story::begin(kind);
    let [_, first] = story.claim(&store, "web", &[("image", "web:1")]);
    let begun = store.owners(address(), first).expect("read").at.expect("an owner").from;
    let claim = Claim {
        app: "web".parse().expect("name"),
        instance: Some(0),
        addresses: vec![address()],
        labels: [("image".to_owned(), "web:2".to_owned())].into(),
    };
    story.ask(&store, Command::Claim(claim));
    let again = store.owners(address(), Timestamp::now()).expect("read").at.expect("an owner");
    assert_eq!((again.from, again.until), (begun, None));
    assert_eq!(again.binding.labels.get("image").map(String::as_str), Some("web:2"));
}

fn what_ended_long_enough_ago_is_forgotten_and_what_goes_on_is_not(kind: Kind) {
    let (story, store) = Story::begin(kind);
    let [_, web] = story.claim(&store, "web", &[]);
    story.release(&store);
    story.claim(&store, "db", &[]);
    store.close();
    let shortly = Retention { owners: Duration::from_millis(1), ..Retention::default() };
    let store = Store::open_keeping(&story.place.location(), OverlayWish::default(), shortly).expect("open");
    for _ in 0..1_000 {
        if owners(&store, web).1.is_none() && owners(&store, web).0.is_none() {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    assert_eq!(owners(&store, web), (None, None, Some("db/0".to_owned())));
    assert_eq!(owners(&store, Timestamp::now()).0, Some("db/0".to_owned()));
}

of_every_kind! {
    each_time_has_its_owner_and_the_times_between_have_none,
    the_same_instance_that_claims_again_goes_on_with_its_interval,
    what_ended_long_enough_ago_is_forgotten_and_what_goes_on_is_not,
}
