//! What this node proves itself by: its key, made here and kept in the state directory, and the certificate that the policy
//! API made for it; joining with the token, once; and renewal.
//!
//! The policy API says when to renew, so that no clock of this node's has a part in it.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use policy_api::{
    client::{Client, ClientConfig, ClientError, Credentials, Identity},
    model::{Certified, Join, Joined, NodeName},
};
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use super::{ApiConfig, limited, underlay::join_from};
use crate::state::{self, StateError};

/// What keeps this node from proving itself.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(transparent)]
    File(#[from] StateError),
    #[error(transparent)]
    Api(#[from] ClientError),
    #[error(
        "the policy API does not know the key in {key}, and --token-file {token} cannot be read: {source}; give the join token that `netpol-api init --node` wrote"
    )]
    NoToken { key: PathBuf, token: PathBuf, source: io::Error },
    #[error(
        "cannot listen at UDP port {port} of {underlay}, where the policy API sends what proves that this node is there: {source}; --underlay must be an address of this node, and the port free"
    )]
    NoListener { underlay: IpAddr, port: u16, source: io::Error },
    #[error(
        "this node is not proven to be at {underlay}: nothing good comes from the policy API to UDP port {port} there; let that through to this node, or serve the API with `--underlay believed`"
    )]
    Unproven { underlay: IpAddr, port: u16 },
}

impl IdentityError {
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api(error) => error.retry_after(),
            Self::File(_) | Self::NoToken { .. } | Self::NoListener { .. } | Self::Unproven { .. } => None,
        }
    }
}

/// The key and the certificate, and where they are kept.
pub struct Keyring {
    directory: PathBuf,
    identity: Arc<Identity>,
    node: NodeName,
    config: ApiConfig,
    /// Without credentials: a certificate that is over must not keep the next one from coming.
    anonymous: Client,
}

/// Before a renewal that failed is tried again.
const PAUSE: Duration = Duration::from_secs(10);
/// A connection that is lost for so long may have been refused for the certificate.
const LOST: Duration = Duration::from_secs(15);

impl Keyring {
    /// Opens what an earlier agent left, or makes a key.
    pub fn open(state_dir: &Path, node: NodeName, config: ApiConfig) -> Result<Self, IdentityError> {
        let directory = state_dir.to_owned();
        let path = key_path(&directory);
        let identity = match state::load_secret(&path)? {
            Some(pem) => Identity::of_key(&pem)?,
            None => {
                let identity = Identity::generate()?;
                // Before anybody hears of it: an answer that is lost can be asked for again with the same key.
                state::save_text(&path, &identity.key_pem())?;
                identity
            }
        };
        if let Some(certificate) = state::load_text(&directory.join(CERTIFICATE))? {
            identity.certify(&certificate)?;
        }
        let anonymous = Client::new(config.client(Credentials::None))?;
        Ok(Self { directory, identity: Arc::new(identity), node, config, anonymous })
    }

    pub(super) fn client(&self) -> Result<Client, ClientError> {
        Client::new(self.config.client(Credentials::Identity(self.identity.clone())))
    }

    /// Gets a certificate: by the key, if the policy API knows it, else with the join token. Returns in how long to renew.
    pub async fn prove(&self, underlay: IpAddr) -> Result<Duration, IdentityError> {
        const NOT_PERMITTED: u16 = 403;
        match limited(self.anonymous.certify(&self.node, &self.identity.request()?)).await {
            Ok(certified) => self.keep(&certified),
            Err(error) if error.status() == Some(NOT_PERMITTED) => self.join(underlay).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn join(&self, underlay: IpAddr) -> Result<Duration, IdentityError> {
        let path = &self.config.token_file;
        let token = fs::read_to_string(path).map_err(|source| IdentityError::NoToken {
            key: key_path(&self.directory),
            token: path.clone(),
            source,
        })?;
        let client = Client::new(self.config.client(Credentials::Token(token.trim().to_owned())))?;
        let join = Join { csr: Some(self.identity.request()?), ..Join::at(underlay) };
        let Joined { certified, .. } = join_from(&client, &self.node, &join).await?;
        let certified = certified.ok_or_else(|| ClientError::Protocol("no certificate came of joining".to_owned()))?;
        info!("joined with the token, which is good for no other key from now on");
        self.keep(&certified)
    }

    fn keep(&self, certified: &Certified) -> Result<Duration, IdentityError> {
        self.identity.certify(&certified.certificate)?;
        state::save_text(&self.directory.join(CERTIFICATE), &certified.certificate)?;
        Ok(Duration::from_secs(certified.renew_in))
    }

    /// Renews the certificate for ever: when it is time, and when the policy API was not to be reached for a while, because a
    /// machine that slept has a certificate that is over and does not know.
    pub async fn renew(self, first: Duration, mut connected: watch::Receiver<bool>) {
        let mut next = first;
        loop {
            tokio::select! {
                () = sleep(next) => {}
                () = lost(&mut connected) => {}
            }
            next = match self.try_renew().await {
                Ok(next) => next,
                Err(error) => {
                    warn!(%error, "the node's certificate cannot be renewed; trying again");
                    PAUSE.max(error.retry_after().unwrap_or_default())
                }
            };
        }
    }

    async fn try_renew(&self) -> Result<Duration, IdentityError> {
        let request = self.identity.request()?;
        self.keep(&limited(self.anonymous.certify(&self.node, &request)).await?)
    }
}

/// Returns when nothing was connected for a while.
async fn lost(connected: &mut watch::Receiver<bool>) {
    loop {
        if connected.wait_for(|connected| !connected).await.is_err() {
            return std::future::pending().await;
        }
        tokio::select! {
            () = sleep(LOST) => return,
            _ = connected.wait_for(|connected| *connected) => {}
        }
    }
}

const CERTIFICATE: &str = "certificate.pem";

fn key_path(directory: &Path) -> PathBuf {
    directory.join("key.pem")
}

impl ApiConfig {
    fn client(&self, credentials: Credentials) -> ClientConfig {
        ClientConfig { api: self.urls.clone(), credentials, ca_pem: self.ca_pem.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn config() -> ApiConfig {
        let key = Identity::generate().expect("key");
        let mut params = rcgen_ca();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let own = rcgen::KeyPair::from_pem(&key.key_pem()).expect("key");
        let ca_pem = params.self_signed(&own).expect("CA").pem().into_bytes();
        ApiConfig { urls: vec!["https://127.0.0.1:1".to_owned()], token_file: "/nonexistent".into(), ca_pem }
    }

    fn rcgen_ca() -> rcgen::CertificateParams {
        rcgen::CertificateParams::default()
    }

    #[test]
    fn the_key_is_made_once_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().expect("directory");
        let open = || Keyring::open(directory.path(), "n1".parse().expect("name"), config()).expect("keyring");
        let first = open().identity.key_pem();
        assert_eq!(open().identity.key_pem(), first);
        let mode = fs::metadata(key_path(directory.path())).expect("key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_is_none_is_refused_and_not_replaced() {
        let directory = tempfile::tempdir().expect("directory");
        state::save_text(&key_path(directory.path()), "nonsense").expect("written");
        assert!(Keyring::open(directory.path(), "n1".parse().expect("name"), config()).is_err());
        assert_eq!(fs::read_to_string(key_path(directory.path())).expect("key"), "nonsense");
    }
}
