//! Where the store is, as `--store` says it.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::model::Invalid;

/// The engine and the place of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// One file, embedded.
    Sqlite(PathBuf),
    /// A cluster, for several APIs at once.
    Etcd(Cluster),
}

/// Members of an etcd cluster, and a place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `HOST:PORT` each.
    pub members: Vec<String>,
    /// What all keys begin with.
    pub prefix: String,
    pub tls: Option<TlsFiles>,
}

/// PEM files: the CA that the members' certificates are from, and ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

const PREFIX: &str = "netpol";

const REMEDY: &str = "use `sqlite://` and an absolute path, like `sqlite:///var/lib/netpol/policy.db`, or \
     `etcd://HOST:PORT[,HOST:PORT…][/PREFIX][?ca=FILE&cert=FILE&key=FILE]`";

impl FromStr for Location {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let no_store = || Invalid::new(text, "is not a store", REMEDY);
        match text.split_once("://") {
            Some(("sqlite", path)) => {
                let path = Path::new(path);
                let fits = path.is_absolute() && path.file_name().is_some();
                fits.then(|| Self::Sqlite(path.to_owned())).ok_or_else(no_store)
            }
            Some(("etcd", rest)) => parse_cluster(text, rest).map(Self::Etcd),
            Some(_) | None => Err(no_store()),
        }
    }
}

fn parse_cluster(text: &str, rest: &str) -> Result<Cluster, Invalid> {
    let refuse = |problem: &'static str| Invalid::new(text, problem, REMEDY);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (members, prefix) = rest.split_once('/').unwrap_or((rest, PREFIX));
    let prefix = prefix.trim_matches('/');
    let fits = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
    if prefix.is_empty() || !fits(prefix) {
        return Err(refuse("has a prefix that is not letters, digits, `.`, `_`, `-` and `/`"));
    }
    let members: Vec<String> = members.split(',').map(str::to_owned).collect();
    if members.iter().any(|member| host(member).is_none()) {
        return Err(refuse("names a member that is not `HOST:PORT`"));
    }
    let tls = parse_tls(text, query)?;
    if tls.is_none() && !members.iter().all(|member| is_loopback(member)) {
        let remedy = "add `?ca=FILE&cert=FILE&key=FILE`: whoever can write to etcd decides who may reach whom";
        return Err(Invalid::new(text, "is reached beyond loopback without client certificates", remedy));
    }
    Ok(Cluster { members, prefix: prefix.to_owned(), tls })
}

fn parse_tls(text: &str, query: &str) -> Result<Option<TlsFiles>, Invalid> {
    if query.is_empty() {
        return Ok(None);
    }
    let (mut ca, mut certificate, mut key) = (None, None, None);
    for pair in query.split('&') {
        let slot = match pair.split_once('=') {
            Some(("ca", file)) => (&mut ca, file),
            Some(("cert", file)) => (&mut certificate, file),
            Some(("key", file)) => (&mut key, file),
            Some(_) | None => return Err(Invalid::new(text, "has a parameter that nobody knows", REMEDY)),
        };
        *slot.0 = Some(PathBuf::from(slot.1)).filter(|path| path.is_absolute());
    }
    match (ca, certificate, key) {
        (Some(ca), Some(certificate), Some(key)) => Ok(Some(TlsFiles { ca, certificate, key })),
        _ => Err(Invalid::new(text, "does not name all of `ca`, `cert` and `key` by absolute paths", REMEDY)),
    }
}

/// The host of `HOST:PORT`.
fn host(member: &str) -> Option<&str> {
    let (host, port) = member.rsplit_once(':')?;
    let port_fits = port.parse::<u16>().is_ok_and(|port| port > 0);
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let fits = match bracketed {
        Some(host) => host.parse::<IpAddr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)),
    };
    (port_fits && fits).then(|| bracketed.unwrap_or(host))
}

fn is_loopback(member: &str) -> bool {
    let by_address = |host: &str| host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    host(member).is_some_and(|host| host == "localhost" || by_address(host))
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Etcd(cluster) => cluster.fmt(f),
        }
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd://{}/{}", self.members.join(","), self.prefix)?;
        match &self.tls {
            Some(TlsFiles { ca, certificate, key }) => {
                write!(f, "?ca={}&cert={}&key={}", ca.display(), certificate.display(), key.display())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Location;

    #[test]
    fn a_store_is_named_by_its_engine_and_absolute_path() {
        let location: Location = "sqlite:///var/lib/netpol/policy.db".parse().expect("valid");
        assert_eq!(location.to_string(), "sqlite:///var/lib/netpol/policy.db");
        for text in ["", "policy.db", "sqlite://policy.db", "sqlite:///", "postgres:///x"] {
            assert!(text.parse::<Location>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn a_cluster_is_named_by_its_members_and_a_prefix() {
        let same = |text: &str| text.parse::<Location>().expect("valid").to_string();
        assert_eq!(same("etcd://127.0.0.1:2379,[::1]:2381"), "etcd://127.0.0.1:2379,[::1]:2381/netpol");
        let far = "etcd://a:2379,b:2379/teams/one?ca=/k/ca.pem&cert=/k/c.pem&key=/k/c.key";
        assert_eq!(same(far), far);
        for text in [
            "etcd://",
            "etcd://a",
            "etcd://a:0?ca=/a&cert=/b&key=/c",
            "etcd://localhost:2379/",
            "etcd://localhost:2379/a b",
            "etcd://localhost:2379?ca=/a&cert=/b",
            "etcd://localhost:2379?ca=a&cert=/b&key=/c",
            "etcd://localhost:1?x=1",
        ] {
            assert!(text.parse::<Location>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn etcd_beyond_loopback_is_refused_without_client_certificates() {
        for text in ["etcd://192.168.1.1:2379", "etcd://localhost:2379,etcd.example:2379"] {
            let refused = text.parse::<Location>().expect_err("beyond loopback").to_string();
            assert!(refused.contains("without client certificates") && refused.contains("cert="), "{refused}");
        }
    }
}
