//! Everything that is said between this node and the policy API: the watch that is followed, the reports that are sent,
//! and the few calls that an attachment needs. The only module that imports the client; it knows nothing of the kernel.

mod follow;
mod identity;
mod join;
mod report;
mod underlay;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use policy_api::{
    client::{Client, ClientError},
    model::{
        Audience, Binding, Claim, Claimed, History, IdentityToken, InForce, Join, Joined, NodeName, Replica, Revision,
        Target, UsageReport,
    },
};
use tokio::{sync::watch, time::timeout};

pub use follow::{Follow, Followed};
pub use identity::{IdentityError, Keyring};
pub use join::{JoinError, Place, join};
pub use policy_api::client::ClientError as ApiError;
pub use report::send_reports;

/// The state that the policy API wants, and the history that it belongs to.
pub type State = Arc<(History, Replica)>;

/// The policy API, as this node calls it.
pub struct Api {
    client: Client,
    node: NodeName,
    /// Whether a watch stands.
    connected: watch::Sender<bool>,
    /// Why its state is not followed, where that takes an operator.
    trouble: watch::Sender<Option<String>>,
}

/// How to reach the policy API.
pub struct ApiConfig {
    pub urls: Vec<String>,
    /// Where the token is that the node joins with; nobody looks once it has.
    pub token_file: PathBuf,
    pub ca_pem: Vec<u8>,
}

/// Longer than a healthy API ever takes, short enough that an attachment without one is not felt as hanging.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// The status of an answer about what there is not.
const NOT_FOUND: u16 = 404;

impl Api {
    /// Proves itself by what is on the keyring.
    pub fn new(keyring: &Keyring, node: NodeName) -> Result<Arc<Self>, ClientError> {
        let client = keyring.client()?;
        Ok(Arc::new(Self { client, node, connected: watch::Sender::new(false), trouble: watch::Sender::new(None) }))
    }

    /// Whether a watch stands right now.
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// What an operator has to decide before the API is followed again.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    pub fn connection(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }

    pub async fn join(&self, underlay: IpAddr) -> Result<Joined, IdentityError> {
        underlay::join_from(&self.client, &self.node, &Join::at(underlay)).await
    }

    pub async fn claim(&self, claim: &Claim) -> Result<Claimed, ClientError> {
        limited(self.client.claim(claim)).await
    }

    pub async fn release(&self, address: IpAddr) -> Result<Revision, ClientError> {
        limited(self.client.release(address)).await.map(|released| released.revision)
    }

    /// Who has an address, as far as the API knows.
    pub async fn lookup(&self, address: IpAddr) -> Result<Option<Binding>, ClientError> {
        match limited(self.client.lookup(address, None)).await {
            Ok(answer) => Ok(Some(answer.binding)),
            Err(error) if error.problem().is_some_and(|problem| problem.status == NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub async fn report_usage(&self, report: &UsageReport) -> Result<(), ClientError> {
        limited(self.client.report_usage(&self.node, report)).await
    }

    /// A token that says which instance of this node shows it, for one audience.
    pub async fn identity_token(&self, instance: &Target, audience: &Audience) -> Result<IdentityToken, ClientError> {
        limited(self.client.identity_token(audience, Some(instance), None)).await
    }

    /// Waits until every connected node has applied a revision, or until the deadline.
    pub async fn wait_in_force(&self, revision: Revision, deadline: Duration) -> Result<InForce, ClientError> {
        let waited = timeout(deadline + CALL_TIMEOUT, self.client.wait_in_force(revision, deadline)).await;
        waited.unwrap_or_else(|_| Err(silent()))
    }
}

async fn limited<T>(call: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| Err(silent()))
}

fn silent() -> ClientError {
    ClientError::Unreachable {
        api: "any of --api".into(),
        why: format!("no answer within {} s", CALL_TIMEOUT.as_secs()),
    }
}
