//! An app that is not there yet.

use crate::world::{CI, World};

#[test]
fn until_the_app_is_ready_requests_are_told_to_come_again() {
    let world = World::start();
    let gatekeeper = world.gatekeeper.as_ref().expect("it runs");
    gatekeeper.set_ready(false);
    let get = format!("GET / HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n");
    world.refuses(&get, 503, "not-ready");
    assert_eq!(world.ask(&get).field("retry-after").as_deref(), Some("1"));
    gatekeeper.set_ready(true);
    assert_eq!(world.ask(&get).status, 200);
}
