//! Who may import whom: the model, the store, scopes, the watch and `check` know no HTTP, and neither the model nor scopes
//! know the store.

use std::{fs, path::Path};

fn sources(path: &Path) -> Vec<(String, String)> {
    if path.is_file() {
        return vec![(path.display().to_string(), fs::read_to_string(path).expect("readable"))];
    }
    let entries = fs::read_dir(path).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| sources(&path)).collect()
}

fn assert_absent(part: &str, words: &[&str]) {
    let found = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(part));
    assert!(!found.is_empty(), "{part} is gone");
    for (file, text) in found {
        for word in words {
            assert!(!text.contains(word), "{file} has `{word}`");
        }
    }
}

#[test]
fn what_decides_knows_no_http() {
    for part in ["model", "store", "scope", "watch", "check"] {
        assert_absent(part, &["axum", "hyper", "reqwest", "crate::http"]);
    }
}

#[test]
fn the_model_does_no_io_and_knows_no_store() {
    assert_absent("model", &["tokio", "std::fs", "rusqlite", "crate::store", "crate::scope", "crate::watch"]);
}

#[test]
fn scopes_are_pure() {
    assert_absent("scope", &["tokio", "std::fs", "rusqlite", "crate::store", "crate::watch", "now()"]);
}

#[test]
fn only_the_store_knows_what_it_is_kept_in_and_what_plans_does_not() {
    for part in ["model", "watch", "http", "client", "check", "init.rs", "server.rs", "directory.rs"] {
        assert_absent(part, &["rusqlite", "etcd_client"]);
    }
    for part in ["store/plan", "store/state.rs", "store/state", "store/rights.rs", "store/writer.rs", "store/delta.rs"]
    {
        assert_absent(part, &["rusqlite", "etcd_client", "sqlite::", "etcd::"]);
    }
}
