//! Whether a node is where it says: what is sent to an underlay address comes back over the node's own, authenticated request.
//!
//! Nothing is kept between the two. A proof is made from the CA's key, which all APIs on one store have, so that any of them
//! takes what another has sent. It knows neither HTTP nor the store.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
};

use ring::hmac;
use time::OffsetDateTime;

use crate::{
    model::{CHALLENGE_PORT, NodeName, UnderlayProof},
    tls::Authority,
};

/// What it takes to be believed to be at an underlay address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Underlay {
    /// To receive there what we send.
    #[default]
    Proven,
    /// To say so.
    Believed,
}

/// Makes proofs and knows them again.
pub struct Challenger {
    key: hmac::Key,
    underlay: Underlay,
}

/// A proof is good for this minute and the next; one that is ahead is of an API whose clock is.
const GOOD_FOR: std::ops::RangeInclusive<i64> = -1..=1;

impl Challenger {
    pub fn new(authority: &Authority, underlay: Underlay) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, authority.key.as_bytes()), underlay }
    }

    /// Whether the node is to be believed to be at this address, where it was not before.
    pub fn believes(&self, node: &NodeName, underlay: IpAddr, proof: Option<&UnderlayProof>) -> bool {
        let shown = |proof: &UnderlayProof| {
            let now = minute();
            let made = |ahead| hmac::verify(&self.key, &claim(node, underlay, now + ahead), proof.as_bytes()).is_ok();
            GOOD_FOR.into_iter().any(made)
        };
        self.underlay == Underlay::Believed || proof.is_some_and(shown)
    }

    /// Sends the node its proof, to where only whoever receives at this address can read it.
    pub fn challenge(&self, node: &NodeName, underlay: IpAddr) -> io::Result<()> {
        let any = if underlay.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
        let socket = UdpSocket::bind((any, 0))?;
        socket.send_to(self.proof(node, underlay).to_string().as_bytes(), (underlay, CHALLENGE_PORT)).map(drop)
    }

    fn proof(&self, node: &NodeName, underlay: IpAddr) -> UnderlayProof {
        let tag = hmac::sign(&self.key, &claim(node, underlay, minute()));
        UnderlayProof::new(tag.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

/// What a proof is of. No name has a zero byte.
fn claim(node: &NodeName, underlay: IpAddr, minute: i64) -> Vec<u8> {
    let underlay = match underlay {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    [b"netpol underlay\0", node.as_str().as_bytes(), &[0], &underlay.octets(), &minute.to_be_bytes()].concat()
}

fn minute() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp().div_euclid(60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenger() -> Challenger {
        Challenger::new(&Authority::generate(OffsetDateTime::now_utc()).expect("CA"), Underlay::Proven)
    }

    fn node(name: &str) -> NodeName {
        name.parse().expect("name")
    }

    #[test]
    fn a_proof_is_good_for_one_node_at_one_address_by_one_ca() {
        let (ours, here, there) = (challenger(), [192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let proof = ours.proof(&node("n1"), here);
        assert!(ours.believes(&node("n1"), here, Some(&proof)));
        assert!(!ours.believes(&node("n1"), there, Some(&proof)));
        assert!(!ours.believes(&node("n2"), here, Some(&proof)));
        assert!(!ours.believes(&node("n1"), here, None));
        assert!(!challenger().believes(&node("n1"), here, Some(&proof)));
    }

    #[test]
    fn a_proof_ends_with_the_next_minute() {
        let (ours, n1, here) = (challenger(), node("n1"), [192, 0, 2, 1].into());
        let of = |ahead| {
            let tag = hmac::sign(&ours.key, &claim(&n1, here, minute() + ahead));
            UnderlayProof::new(tag.as_ref().try_into().expect("32 bytes"))
        };
        assert!(ours.believes(&n1, here, Some(&of(-1))));
        assert!(!ours.believes(&n1, here, Some(&of(-3))));
        assert!(!ours.believes(&n1, here, Some(&of(3))));
    }
}
