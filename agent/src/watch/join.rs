//! The node's place in the overlay: from the policy API, or what it said the last time, where it does not answer.
//!
//! An API that is away, is asked too much or cannot reach its store keeps no node from enforcing. One that refuses the node does.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use policy_api::{client::ClientError, model::Joined};
use tokio::time::sleep;
use tracing::warn;

use super::{Api, IdentityError, Keyring};
use crate::state::{self, StateError};

/// Where the node stands, and in how long its certificate wants to be renewed.
pub struct Place {
    pub joined: Joined,
    pub renew_in: Duration,
}

/// What keeps the agent from starting.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the policy API refuses this node: {0}")]
    Refused(ClientError),
    #[error(transparent)]
    Identity(IdentityError),
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Asks for the node's place, for as long as there is no answer and nothing is remembered.
pub async fn join(keyring: &Keyring, api: &Arc<Api>, underlay: IpAddr, state_dir: &Path) -> Result<Place, JoinError> {
    let path = state_dir.join("node.json");
    let remembered = state::load(&path)?.filter(|joined: &Joined| joined.node.underlay == underlay);
    let mut pause = SHORTEST_PAUSE;
    loop {
        let error = match ask(keyring, api, underlay).await {
            Ok(place) => {
                state::save(&path, &place.joined)?;
                return Ok(place);
            }
            Err(IdentityError::Api(error)) if error.is_refusal() => return Err(JoinError::Refused(error)),
            Err(error @ (IdentityError::Api(_) | IdentityError::Unproven { .. })) => error,
            Err(error) => return Err(JoinError::Identity(error)),
        };
        let wait = error.retry_after().unwrap_or_default();
        if let (Some(joined), IdentityError::Api(_)) = (&remembered, &error) {
            warn!(%error, "starting without the policy API, with what it last said");
            return Ok(Place { joined: joined.clone(), renew_in: wait });
        }
        warn!(%error, "waiting for the policy API");
        sleep(pause.max(wait)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn ask(keyring: &Keyring, api: &Api, underlay: IpAddr) -> Result<Place, IdentityError> {
    let renew_in = keyring.prove(underlay).await?;
    Ok(Place { joined: api.join(underlay).await?, renew_in })
}
