//! Joining from an underlay address that the policy API did not know this node by: it sends a proof there, and wants it back.
//!
//! The port is held for that long only; an agent that starts where it was before needs none of this.

use std::time::Duration;

use policy_api::{
    client::{Client, ClientError},
    model::{CHALLENGE_PORT, Join, Joined, NodeName, Problem, UnderlayProof},
};
use tokio::{net::UdpSocket, time::timeout};

use super::{IdentityError, limited};

/// How often it is asked for anew: datagrams get lost.
const CHALLENGES: usize = 4;
/// From the API's answer to what it sent just before.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// Joins, and proves to be there if that is in doubt.
pub(super) async fn join_from(client: &Client, node: &NodeName, join: &Join) -> Result<Joined, IdentityError> {
    if let Some(joined) = unless_unproven(client, node, join).await? {
        return Ok(joined);
    }
    let underlay = join.underlay;
    let at = |source| IdentityError::NoListener { underlay, port: CHALLENGE_PORT, source };
    let socket = UdpSocket::bind((underlay, CHALLENGE_PORT)).await.map_err(at)?;
    for _ in 0..CHALLENGES {
        if let Some(joined) = unless_unproven(client, node, join).await? {
            return Ok(joined);
        }
        let Ok(proof) = timeout(ON_ITS_WAY, receive(&socket)).await else { continue };
        let proven = Join { proof: Some(proof.map_err(at)?), ..join.clone() };
        if let Some(joined) = unless_unproven(client, node, &proven).await? {
            return Ok(joined);
        }
    }
    Err(IdentityError::Unproven { underlay, port: CHALLENGE_PORT })
}

/// Nothing, where the API wants a proof and has just sent one.
async fn unless_unproven(client: &Client, node: &NodeName, join: &Join) -> Result<Option<Joined>, ClientError> {
    match limited(client.join(node, join)).await {
        Ok(joined) => Ok(Some(joined)),
        Err(error) if error.problem().is_some_and(|problem| problem.is_of(Problem::UNPROVEN)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The next datagram that is a proof; whether it is a good one is the API's to say.
async fn receive(socket: &UdpSocket) -> std::io::Result<UnderlayProof> {
    let mut buffer = [0; 128];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let proof = buffer.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok()?.parse().ok());
        if let Some(proof) = proof {
            return Ok(proof);
        }
    }
}
