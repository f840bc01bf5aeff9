//! The answers to an instance that asks for its gateway: one fixed address of each family, whoever asks whatever.

use common::{
    Address, Mac,
    address::{GATEWAY_V4, GATEWAY_V6},
    packet::{Bytes as _, ETHERNET_LENGTH},
    refusal::Sum,
};

use crate::{deliver::from_gateway, skb::Skb};

const ARP_LENGTH: usize = 28;
/// Where the sender's address stands in a request.
const SENDER: usize = ETHERNET_LENGTH + 14;

/// Turns a request, proven to be one for the gateway by the endpoint with this MAC address, into its answer.
#[inline(never)]
pub fn answer_arp(skb: Skb, Mac([m0, m1, m2, m3, m4, m5]): Mac) -> Option<()> {
    let [s0, s1, s2, s3] = skb.load::<4>(SENDER)?;
    let [g0, g1, g2, g3] = GATEWAY_V4.octets();
    let Mac([e0, e1, e2, e3, e4, e5]) = Mac::GATEWAY;
    let frame: [u8; ETHERNET_LENGTH + ARP_LENGTH] = [
        m0, m1, m2, m3, m4, m5, e0, e1, e2, e3, e4, e5, 8, 6, // Ethernet
        0, 1, 8, 0, 6, 4, 0, 2, // Ethernet, IPv4, address lengths 6 and 4, reply
        e0, e1, e2, e3, e4, e5, g0, g1, g2, g3, // the gateway
        m0, m1, m2, m3, m4, m5, s0, s1, s2, s3, // who asked
    ];
    skb.store(0, &frame).ok()
}

const IPV6_LENGTH: usize = 40;
/// Advertisement, target and its link-layer address.
const ADVERTISEMENT_LENGTH: u8 = 32;

/// The same for a neighbour solicitation.
#[inline(never)]
pub fn answer_solicitation(skb: Skb, mac: Mac) -> Option<()> {
    const ICMPV6: u8 = 58;
    const HOPS: u8 = 255;
    const ADVERTISEMENT: u8 = 136;
    /// From a router, asked for, and to be believed over what was known.
    const FLAGS: u8 = 0xe0;
    let asker = skb.load::<16>(ETHERNET_LENGTH + 8)?;
    let gateway = GATEWAY_V6.octets();
    let Mac([e0, e1, e2, e3, e4, e5]) = Mac::GATEWAY;
    let option = [2, 1, e0, e1, e2, e3, e4, e5];
    let mut sum = Sum::default();
    // The gateway stands in the header and in the message.
    for address in [gateway, gateway, asker] {
        sum.add_v6(Address::from_v6(address));
    }
    sum.add([0, 0, 0, ADVERTISEMENT_LENGTH]);
    sum.add([0, 0, 0, ICMPV6]);
    sum.add([ADVERTISEMENT, 0, 0, 0]);
    sum.add([FLAGS, 0, 0, 0]);
    sum.add([2, 1, e0, e1]);
    sum.add([e2, e3, e4, e5]);
    let [c0, c1] = sum.checksum();
    skb.set_length(ETHERNET_LENGTH + IPV6_LENGTH + usize::from(ADVERTISEMENT_LENGTH))?;
    skb.store(0, &from_gateway(mac)).ok()?;
    const IP: usize = ETHERNET_LENGTH;
    skb.store(IP, &[0x60, 0, 0, 0, 0, ADVERTISEMENT_LENGTH, ICMPV6, HOPS]).ok()?;
    skb.store(IP + 8, &gateway).ok()?;
    skb.store(IP + 24, &asker).ok()?;
    skb.store(IP + 40, &[ADVERTISEMENT, 0, c0, c1, FLAGS, 0, 0, 0]).ok()?;
    skb.store(IP + 48, &gateway).ok()?;
    skb.store(IP + 64, &option).ok()
}
