//! Lines of a watch: whatever an API sends, an agent takes it or refuses it, and what it holds has the digest that it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy_api::model::{Follower, WatchLine};

fuzz_target!(|text: &str| {
    let mut follower = Follower::default();
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<WatchLine>(line) else { continue };
        let again = serde_json::to_string(&line).expect("what was read can be written");
        assert_eq!(serde_json::from_str::<WatchLine>(&again).expect("and read again"), line);
        let _taken = follower.take(line);
    }
    if let Some((_, replica)) = follower.held() {
        assert_eq!(u64::try_from(replica.items().count()), Ok(replica.count()));
    }
});
