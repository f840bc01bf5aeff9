//! Bytes of a UDP datagram in an Ethernet frame, and of such a frame inside VXLAN.

use std::net::Ipv4Addr;

/// Stands in every forged payload, so that a delivered one is known wherever it turns up.
pub const MARK: [u8; 12] = *b"forged-by-us";

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;

/// A UDP datagram with everything below it.
#[derive(Debug, Clone)]
pub struct Datagram {
    pub source_mac: [u8; 6],
    pub destination_mac: [u8; 6],
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub source_port: u16,
    pub destination_port: u16,
    pub payload: Vec<u8>,
}

impl Datagram {
    /// The frame as it goes over the wire; the UDP checksum is left out, as IPv4 allows.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(ETHERNET + IPV4 + UDP + self.payload.len());
        frame.extend(self.destination_mac);
        frame.extend(self.source_mac);
        frame.extend(0x0800_u16.to_be_bytes());
        frame.extend(self.ip_header());
        frame.extend(self.source_port.to_be_bytes());
        frame.extend(self.destination_port.to_be_bytes());
        frame.extend(length(UDP + self.payload.len()).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(&self.payload);
        frame
    }

    fn ip_header(&self) -> [u8; IPV4] {
        let mut header = [0; IPV4];
        header[0] = 0x45;
        header[2..4].copy_from_slice(&length(IPV4 + UDP + self.payload.len()).to_be_bytes());
        header[8] = 64;
        header[9] = 17;
        header[12..16].copy_from_slice(&self.source.octets());
        header[16..20].copy_from_slice(&self.destination.octets());
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }
}

/// `inner` behind a standard VXLAN header with this VNI: the payload of an outer datagram.
pub fn in_vxlan(vni: u32, inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![0x08, 0, 0, 0];
    payload.extend((vni << 8).to_be_bytes());
    payload.extend(inner);
    payload
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("forged packets are small")
}

fn checksum(header: &[u8; IPV4]) -> u16 {
    let words = header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("the carries were folded in")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_known_header_is_right() {
        let mut header = [0; IPV4];
        header.copy_from_slice(&[
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8,
            0x00, 0xc7,
        ]);
        assert_eq!(checksum(&header), 0xb861);
    }

    #[test]
    fn the_vni_stands_in_the_three_bytes_before_the_last() {
        assert_eq!(in_vxlan(0x01_02_03, &[9]), [8, 0, 0, 0, 1, 2, 3, 0, 9]);
    }
}
