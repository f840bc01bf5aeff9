//! `netpol-api init`: a CA, a store, and tokens for whoever may ask. Running it again changes nothing but adds what is new.
//!
//! Files come first: a token in one that the store does not know yet is made good by running this again.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{
    directory::{Directory, DirectoryError, Found},
    model::{AppPattern, Grant, Grants, Invalid, NodeName, TeamName, TeamSettings, TokenHash, TokenName, TokenSpec},
    store::{
        Answer, Command, DatabaseError, Location, NodeGrant, OverlayWish, Prepared, Principal, Store, Token, Write,
        prepare,
    },
};

/// What to prepare.
#[derive(Clone, Debug)]
pub struct Init {
    pub directory: PathBuf,
    pub store: Location,
    pub nodes: Vec<NodeWish>,
    pub teams: Vec<TeamWish>,
    pub tokens: Vec<TokenWish>,
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

/// A team, and what it owns: `NAME=PATTERN[,PATTERN]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamWish {
    pub name: TeamName,
    pub apps: Vec<AppPattern>,
}

impl FromStr for TeamWish {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refuse = || Invalid::new(text, "names no team and its apps", "use `NAME=APP[,APP…]`, like `shop=shop-*`");
        let (name, apps) = text.split_once('=').ok_or_else(refuse)?;
        Ok(Self { name: name.parse()?, apps: apps.split(',').map(str::parse).collect::<Result<_, _>>()? })
    }
}

/// Somebody with a token, and in which roles: `NAME=ROLE[,ROLE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenWish {
    pub name: TokenName,
    pub grants: Grants,
}

impl FromStr for TokenWish {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let remedy = "use `NAME=ROLE[,ROLE…]`, like `alice=writer:shop`";
        let (name, roles) =
            text.split_once('=').ok_or_else(|| Invalid::new(text, "names nobody and a role", remedy))?;
        let grants = roles.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Grant::check_alone(&grants)?;
        Ok(Self { name: name.parse()?, grants })
    }
}

/// What was to be there, and whether it was.
pub type Report = Vec<(String, Found)>;

/// Makes what is missing.
pub fn init(wish: &Init) -> Result<Report, DirectoryError> {
    let directory = Directory::create(&wish.directory)?;
    let mut report = Report::new();
    let (_, found) = directory.authority_or_new()?;
    report.push((shown(&directory.certificate_path()), found));
    let (_, found) = directory.seal_key_or_new()?;
    report.push((shown(&directory.seal_key_path()), found));
    let store = prepare(&wish.store, wish.overlay)?;
    store.add_names(&wish.names)?;
    let path = directory.operator_token_path();
    report.push((shown(&path), let_in(&store, &path, |_| Principal::Operator)?));
    for node in &wish.nodes {
        let path = directory.join_token_path(&node.name);
        let grant = grant(&store, node)?;
        let found = let_in(&store, &path, |token| Principal::Joining(grant.clone(), token.id()))?;
        report.push((shown(&path), found));
    }
    if !wish.teams.is_empty() || !wish.tokens.is_empty() {
        report.extend(Registrar::open(wish)?.register(wish, &directory)?);
    }
    Ok(report)
}

/// Makes a new seal key, and gives up the keys of the signer that were sealed with the one before. Whoever serves the store
/// must have stopped: he would seal the next key with the old one.
pub fn reseal(directory: &Path, store: &Location) -> Result<PathBuf, DirectoryError> {
    let directory = Directory::at(directory);
    directory.authority()?;
    let store = Store::open(store, OverlayWish::default())?;
    directory.new_seal_key()?;
    let write = store.write(Write::new(Command::GiveUpSigner, Principal::Itself));
    runtime()?.block_on(write)?;
    store.close();
    Ok(directory.seal_key_path())
}

fn runtime() -> Result<tokio::runtime::Runtime, DirectoryError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.map_err(|source| DirectoryError::File { path: "(a runtime)".into(), source })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Makes teams and tokens, as whoever serves the store would.
struct Registrar {
    store: Store,
    runtime: tokio::runtime::Runtime,
}

impl Registrar {
    fn open(wish: &Init) -> Result<Self, DirectoryError> {
        let store = Store::open(&wish.store, wish.overlay).map_err(|error| match error {
            DatabaseError::Served { path } => DirectoryError::Served { path },
            other => other.into(),
        })?;
        Ok(Self { store, runtime: runtime()? })
    }

    fn register(self, wish: &Init, directory: &Directory) -> Result<Report, DirectoryError> {
        let mut report = Report::new();
        for team in &wish.teams {
            report.push((format!("team {}", team.name), self.team(team)?));
        }
        for token in &wish.tokens {
            let path = directory.token_path(&token.name);
            report.push((shown(&path), self.token(token, &path)?));
        }
        self.store.close();
        Ok(report)
    }

    fn team(&self, wish: &TeamWish) -> Result<Found, DirectoryError> {
        if self.store.read(|state| state.replica().teams.contains_key(&wish.name)) {
            return Ok(Found::Kept);
        }
        let settings = TeamSettings { apps: wish.apps.iter().cloned().collect(), ..TeamSettings::default() };
        self.write(Command::SetTeam(wish.name.clone(), settings)).map(|_| Found::Written)
    }

    fn token(&self, wish: &TokenWish, path: &Path) -> Result<Found, DirectoryError> {
        let (token, found) = Directory::token_or_new(path)?;
        let hash = TokenHash::of(token.as_str());
        let standing = self.store.read(|state| state.replica().tokens.get(&wish.name).map(|token| token.hash));
        match standing {
            Some(known) if known == Some(hash) => return Ok(found),
            Some(_) => drop(self.write(Command::RevokeToken(wish.name.clone()))?),
            None => {}
        }
        let (name, grants) = (wish.name.clone(), wish.grants.clone());
        self.write(Command::CreateToken(TokenSpec { name, grants, hash, expires_at: None })).map(|_| found)
    }

    fn write(&self, command: Command) -> Result<Answer, DirectoryError> {
        Ok(self.runtime.block_on(self.store.write(Write::new(command, Principal::Operator)))?)
    }
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
            teams: Vec::new(),
            tokens: Vec::new(),
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
        for path in
            ["pki/ca.pem", "pki/ca.key", "pki/seal.key", "pki/operator.token", "pki/join/n1.token", "state/policy.db"]
        {
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
        assert_eq!(found, [Found::Kept, Found::Kept, Found::Kept, Found::Kept, Found::Written]);
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
    fn teams_and_tokens_are_made_once_and_a_token_whose_file_is_gone_is_made_anew() {
        let directory = tempfile::tempdir().expect("directory");
        let teams = vec!["shop=shop-*,cart".parse().expect("team")];
        let tokens = vec!["alice=writer:shop,auditor".parse().expect("token")];
        let wish = Init { teams, tokens, ..wish(directory.path(), &["n1"]) };
        let words = |report: Report| report.into_iter().skip(4).map(|(_, found)| found).collect::<Vec<_>>();
        assert_eq!(words(init(&wish).expect("init")), [Found::Written, Found::Written]);
        assert_eq!(words(init(&wish).expect("again")), [Found::Kept, Found::Kept]);
        let path = directory.path().join("pki/tokens/alice.token");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        let old = fs::read_to_string(&path).expect("token");
        fs::remove_file(&path).expect("removed");
        assert_eq!(words(init(&wish).expect("once more")), [Found::Kept, Found::Written]);
        let new = fs::read_to_string(&path).expect("token");
        let store = Store::open(&wish.store, OverlayWish::default()).expect("store");
        let served = init(&wish).expect_err("somebody serves it").to_string();
        assert!(served.contains("netpol team set"), "{served}");
        let holder = |secret: &str| store.read(|state| state.token_with(&TokenHash::of(secret.trim())).cloned());
        assert_eq!(holder(&old), None);
        assert_eq!(holder(&new).map(|token| token.grants.clone()), Some(wish.tokens[0].grants.clone()));
        store.close();
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
