//! The answer to an instance that asks for its gateway: one fixed address, whoever asks whatever.

use common::{
    Mac,
    address::GATEWAY_V4,
    packet::{Bytes as _, ETHERNET_LENGTH},
};

use crate::skb::Skb;

const LENGTH: usize = 28;
/// Where the sender's address stands in a request.
const SENDER: usize = ETHERNET_LENGTH + 14;

/// Turns a request, proven to be one for the gateway by the endpoint with this MAC address, into its answer.
#[inline(always)]
pub fn answer(skb: Skb, Mac([m0, m1, m2, m3, m4, m5]): Mac) -> Option<()> {
    let [s0, s1, s2, s3] = skb.load::<4>(SENDER)?;
    let [g0, g1, g2, g3] = GATEWAY_V4.octets();
    let Mac([e0, e1, e2, e3, e4, e5]) = Mac::GATEWAY;
    let frame: [u8; ETHERNET_LENGTH + LENGTH] = [
        m0, m1, m2, m3, m4, m5, e0, e1, e2, e3, e4, e5, 8, 6, // Ethernet
        0, 1, 8, 0, 6, 4, 0, 2, // Ethernet, IPv4, address lengths 6 and 4, reply
        e0, e1, e2, e3, e4, e5, g0, g1, g2, g3, // the gateway
        m0, m1, m2, m3, m4, m5, s0, s1, s2, s3, // who asked
    ];
    skb.store(0, &frame).ok()
}
