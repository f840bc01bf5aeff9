//! `netpol-api init`: a CA, a store, and tokens for whoever may ask. Running it again changes nothing but adds what is new.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{
    directory::{Directory, DirectoryError, Found},
    model::{AppPattern, Invalid, NodeName},
    store::{Location, NodeGrant, OverlayWish, Prepared, Principal, Token, prepare},
};

/// What to prepare.
#[derive(Clone, Debug)]
pub struct Init {
    pub directory: PathBuf,
    pub store: Location,
    pub nodes: Vec<NodeWish>,
    /// Names and addresses that the server's certificate is made for.
    pub names: Vec<String>,
    pub overlay: OverlayWish,
}

/// A node that may join: `NAME`, or `NAME=PATTERN[,PATTERN]` to say which apps it may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeWish {
    pub name: NodeName,
    /// As before if absent; all, if there is no before.
    pub apps: Option<Vec<AppPattern>>,
}

impl FromStr for NodeWish {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let Some((name, patterns)) = text.split_once('=') else {
            return Ok(Self { name: text.parse()?, apps: None });
        };
        let apps = patterns.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { name: name.parse()?, apps: Some(apps) })
    }
}

/// A file, and whether it was there.
pub type Report = Vec<(PathBuf, Found)>;

/// Makes what is missing.
pub fn init(wish: &Init) -> Result<Report, DirectoryError> {
    let directory = Directory::create(&wish.directory)?;
    let mut report = Report::new();
    let (_, found) = directory.authority_or_new()?;
    report.push((directory.certificate_path(), found));
    let store = prepare(&wish.store, wish.overlay)?;
    store.add_names(&wish.names)?;
    let path = directory.operator_token_path();
    report.push((path.clone(), let_in(&store, &path, |_| Principal::Operator)?));
    for node in &wish.nodes {
        let path = directory.join_token_path(&node.name);
        let grant = grant(&store, node)?;
        let found = let_in(&store, &path, |token| Principal::Joining(grant.clone(), token.id()))?;
        report.push((path, found));
    }
    Ok(report)
}

fn grant(store: &Prepared, wish: &NodeWish) -> Result<NodeGrant, DirectoryError> {
    let apps = match &wish.apps {
        Some(apps) => apps.clone(),
        None => store.apps_of(&wish.name)?.unwrap_or_else(|| vec![AppPattern::all()]),
    };
    Ok(NodeGrant { name: wish.name.clone(), apps })
}

/// Makes the token in the file, a new one if there is none, the one that is good for this principal.
fn let_in(store: &Prepared, path: &Path, bearer: impl FnOnce(&Token) -> Principal) -> Result<Found, DirectoryError> {
    // The file first: a token in it that the store does not know yet is made good by running this again.
    let (token, found) = Directory::token_or_new(path)?;
    let principal = bearer(&token);
    if !store.has_token(&token, &principal)? {
        store.set_token(&token, &principal)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use std::{fs, os::unix::fs::PermissionsExt};

    fn wish(directory: &Path, nodes: &[&str]) -> Init {
        Init {
            directory: directory.join("pki"),
            store: Location::Sqlite(directory.join("state/policy.db")),
            nodes: nodes.iter().map(|node| node.parse().expect("node")).collect(),
            names: Vec::new(),
            overlay: OverlayWish::default(),
        }
    }

    fn principal_of(directory: &Path, file: &str) -> Option<Principal> {
        let store = Store::open(&wish(directory, &[]).store, OverlayWish::default()).expect("store");
        let text = fs::read_to_string(directory.join("pki").join(file)).expect("token");
        let principal = store.tokens().principal(text.trim()).expect("readable");
        store.close();
        principal
    }

    #[test]
    fn everything_it_writes_is_its_owners_alone() {
        let directory = tempfile::tempdir().expect("directory");
        init(&wish(directory.path(), &["n1"])).expect("init");
        let mode = |path: &str| fs::metadata(directory.path().join(path)).expect(path).permissions().mode() & 0o777;
        for path in ["pki", "pki/join", "state"] {
            assert_eq!(mode(path), 0o700, "{path}");
        }
        for path in ["pki/ca.pem", "pki/ca.key", "pki/operator.token", "pki/join/n1.token", "state/policy.db"] {
            assert_eq!(mode(path), 0o600, "{path}");
        }
    }

    #[test]
    fn running_it_again_keeps_what_is_there_and_adds_a_node() {
        let directory = tempfile::tempdir().expect("directory");
        init(&wish(directory.path(), &["n1=web-*"])).expect("init");
        let before = fs::read_to_string(directory.path().join("pki/operator.token")).expect("token");
        let report = init(&wish(directory.path(), &["n1", "n2"])).expect("again");
        let found: Vec<_> = report.iter().map(|(_, found)| *found).collect();
        assert_eq!(found, [Found::Kept, Found::Kept, Found::Kept, Found::Written]);
        assert_eq!(fs::read_to_string(directory.path().join("pki/operator.token")).expect("token"), before);
        assert_eq!(principal_of(directory.path(), "operator.token"), Some(Principal::Operator));
        let grant = |name: &str, pattern: &str| {
            let apps = vec![pattern.parse().expect("pattern")];
            let token = fs::read_to_string(directory.path().join(format!("pki/join/{name}.token"))).expect("token");
            let token = Token::from_text(&token).expect("token");
            Some(Principal::Joining(NodeGrant { name: name.parse().expect("name"), apps }, token.id()))
        };
        assert_eq!(principal_of(directory.path(), "join/n1.token"), grant("n1", "web-*"));
        assert_eq!(principal_of(directory.path(), "join/n2.token"), grant("n2", "*"));
    }

    #[test]
    fn a_token_that_is_made_anew_voids_the_old_one() {
        let directory = tempfile::tempdir().expect("directory");
        init(&wish(directory.path(), &["n1"])).expect("init");
        let path = directory.path().join("pki/join/n1.token");
        let old = Token::from_text(&fs::read_to_string(&path).expect("token")).expect("token");
        fs::remove_file(&path).expect("removed");
        init(&wish(directory.path(), &["n1"])).expect("again");
        assert!(principal_of(directory.path(), "join/n1.token").is_some());
        let store = Store::open(&wish(directory.path(), &[]).store, OverlayWish::default()).expect("store");
        assert_eq!(store.tokens().principal(old.as_str()).expect("readable"), None);
    }

    #[test]
    fn half_a_ca_is_not_silently_replaced() {
        let directory = tempfile::tempdir().expect("directory");
        init(&wish(directory.path(), &[])).expect("init");
        fs::remove_file(directory.path().join("pki/ca.key")).expect("removed");
        let error = init(&wish(directory.path(), &[])).expect_err("half a CA").to_string();
        assert!(error.contains("ca.key is not"), "{error}");
    }
}
