//! Files of policy: whatever stands in them, they are a policy that is written and read as itself, or refused by a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy_api::policy::{File, read, write};

fuzz_target!(|text: &str| {
    let file = |text: &str| [File { name: "fuzz.yaml".to_owned(), text: text.to_owned() }];
    match read(&file(text)) {
        Ok(policy) => assert_eq!(read(&file(&write(&policy))).expect("what was written is read"), policy),
        // A carriage return alone ends a line, too.
        Err(bad) => assert!((1..=text.split(['\n', '\r']).count()).contains(&bad.line), "{bad}"),
    }
});
