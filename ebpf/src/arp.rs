//! ARP, answered without trusting the instance: the gateway has one fixed address, and nobody else is asked for.

use common::{
    DropReason, Mac,
    address::GATEWAY_V4,
    packet::{Bytes as _, ETHERNET_LENGTH},
    placement::Endpoint,
};

use crate::skb::Skb;

const LENGTH: usize = 28;
/// Ethernet, IPv4, address lengths 6 and 4, request.
const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
const REPLY: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 2];

/// Turns a request for the gateway into its answer, in place.
#[inline(always)]
pub fn answer(skb: Skb, endpoint: &Endpoint) -> Result<(), DropReason> {
    let request = skb.load::<LENGTH>(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
    let Mac(mac) = endpoint.mac();
    let address = endpoint.address_v4().v4_octets();
    let [h0, h1, h2, h3, h4, h5, h6, h7, m0, m1, m2, m3, m4, m5, s0, s1, s2, s3, _, _, _, _, _, _, t0, t1, t2, t3] =
        request;
    let header = [h0, h1, h2, h3, h4, h5, h6, h7];
    let sender = [s0, s1, s2, s3];
    // A probe asks before the instance has an address.
    let own = sender == address || sender == [0; 4];
    let honest = header == REQUEST
        && Mac([m0, m1, m2, m3, m4, m5]) == endpoint.mac()
        && own
        && [t0, t1, t2, t3] == GATEWAY_V4.octets();
    if !honest {
        return Err(DropReason::SpoofedArp);
    }
    let [g0, g1, g2, g3] = GATEWAY_V4.octets();
    let Mac([e0, e1, e2, e3, e4, e5]) = Mac::GATEWAY;
    let [m0, m1, m2, m3, m4, m5] = mac;
    let [r0, r1, r2, r3, r4, r5, r6, r7] = REPLY;
    let frame: [u8; ETHERNET_LENGTH + LENGTH] = [
        m0, m1, m2, m3, m4, m5, e0, e1, e2, e3, e4, e5, 8, 6, // Ethernet
        r0, r1, r2, r3, r4, r5, r6, r7, // header
        e0, e1, e2, e3, e4, e5, g0, g1, g2, g3, // the gateway
        m0, m1, m2, m3, m4, m5, s0, s1, s2, s3, // who asked
    ];
    skb.store(0, &frame).map_err(|()| DropReason::DeliveryFailed)
}
