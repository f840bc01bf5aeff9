//! The outer headers of the overlay's packets: what is written before what goes to another node, and read off what comes
//! from one. Standard VXLAN over UDP; the VNI is the source app's identity.
//!
//! Only what is plainly such a packet is read here. Whatever needs more thought (fragments, options, congestion, checksums)
//! is left to the kernel's own tunnel device, which hands it on with the same claims.

use core::mem::MaybeUninit;

use crate::{
    address::Address,
    identity::Identity,
    packet::{Bytes, ETHERNET_LENGTH, IPV4_LENGTH, IPV6_LENGTH},
    placement::Tag,
    settings::Settings,
};

const ETHERNET: u16 = 14;
const IPV4: u16 = 20;
const IPV6: u16 = 40;
const UDP: u16 = 8;
const VXLAN: u16 = 8;
/// From one IP header to the next; and as far into the frame the one inside begins, Ethernet headers being of one length.
pub const OVER_V4: u16 = IPV4 + UDP + VXLAN + ETHERNET;
pub const OVER_V6: u16 = IPV6 + UDP + VXLAN + ETHERNET;
/// Where [`over_v4`] and [`over_v6`] begin: with the type that stands before the IP header.
pub const TYPE_AT: usize = ETHERNET_LENGTH - 2;

const PROTOCOL_UDP: u8 = 17;
const HOPS: u8 = 64;
const TYPE_V4: u16 = 0x0800;
const TYPE_V6: u16 = 0x86dd;
/// The VXLAN header's only flag: the VNI is valid.
const VNI_IS_VALID: u16 = 0x0800;
const DONT_FRAGMENT: u16 = 0x4000;
/// In the lowest bits of a header's traffic class: on its way, congestion was met.
const CONGESTION_MET: u8 = 3;
/// Of the range that nobody is assigned ports in.
const FIRST_PORT: u16 = 0xc000;

/// What is to be wrapped, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Parcel {
    pub node: Address,
    pub identity: Identity,
    /// The Ethernet header inside, and the two bytes after it.
    pub frame: [u8; 16],
    /// Of the IP packet inside.
    pub length: u16,
    /// The same for all packets of a flow, so that they take the same way.
    pub entropy: u32,
    /// Tells packets apart that routers cut.
    pub id: u16,
}

/// All from the outer Ethernet type to the inner one, over IPv4, as it lies in memory. No word of it says that the packet may
/// not be cut: what is inside may be as long as the narrowest link that this node knows of.
#[inline(always)]
pub fn over_v4(parcel: &Parcel, settings: &Settings) -> [u16; 26] {
    let length = parcel.length + OVER_V4;
    let [from0, from1] = halves(settings.underlay);
    let [to0, to1] = halves(parcel.node);
    let (versions, hops) = (u16::from_ne_bytes([0x45, congestion(parcel)]), u16::from_ne_bytes([HOPS, PROTOCOL_UDP]));
    let mut sum = 0;
    for word in [versions, length.to_be(), parcel.id, hops, from0, from1, to0, to1] {
        sum += u32::from(word);
    }
    let [vni0, vni1] = vni(parcel.identity);
    let [a, b, c, d, e, f, g] = inner_ethernet(parcel);
    [
        TYPE_V4.to_be(),
        versions,
        length.to_be(),
        parcel.id,
        0,
        hops,
        !fold(sum),
        from0,
        from1,
        to0,
        to1,
        port(parcel.entropy).to_be(),
        overlay_port(settings),
        (length - IPV4).to_be(),
        0,
        VNI_IS_VALID.to_be(),
        0,
        vni0,
        vni1,
        a,
        b,
        c,
        d,
        e,
        f,
        g,
    ]
}

/// The same over IPv6.
#[inline(always)]
pub fn over_v6(parcel: &Parcel, settings: &Settings) -> [u16; 36] {
    let length = (parcel.length + (OVER_V6 - IPV6)).to_be();
    let [f0, f1, f2, f3, f4, f5, f6, f7] = eighths(settings.underlay);
    let [t0, t1, t2, t3, t4, t5, t6, t7] = eighths(parcel.node);
    let [vni0, vni1] = vni(parcel.identity);
    let [a, b, c, d, e, f, g] = inner_ethernet(parcel);
    [
        TYPE_V6.to_be(),
        u16::from_ne_bytes([0x60, congestion(parcel) << 4]),
        0,
        length,
        u16::from_ne_bytes([PROTOCOL_UDP, HOPS]),
        f0,
        f1,
        f2,
        f3,
        f4,
        f5,
        f6,
        f7,
        t0,
        t1,
        t2,
        t3,
        t4,
        t5,
        t6,
        t7,
        port(parcel.entropy).to_be(),
        overlay_port(settings),
        length,
        0,
        VNI_IS_VALID.to_be(),
        0,
        vni0,
        vni1,
        a,
        b,
        c,
        d,
        e,
        f,
        g,
    ]
}

/// Reads the claims of a frame that is plainly the overlay's and for this node into a place of the caller's, and returns
/// where the frame inside begins. Nothing of what is claimed is proven.
#[inline(always)]
pub fn read<B: Bytes + ?Sized>(bytes: &B, settings: &Settings, tag: &mut MaybeUninit<Tag>) -> Option<u16> {
    match u16::from_be_bytes(bytes.load::<2>(TYPE_AT)?) {
        TYPE_V4 if settings.underlay.is_v4() => read_v4(bytes, settings, tag),
        TYPE_V6 if !settings.underlay.is_v4() => read_v6(bytes, settings, tag),
        _ => None,
    }
}

#[inline(always)]
fn read_v4<B: Bytes + ?Sized>(bytes: &B, settings: &Settings, tag: &mut MaybeUninit<Tag>) -> Option<u16> {
    let ip = bytes.load::<IPV4_LENGTH>(ETHERNET_LENGTH)?;
    let [versions, class, l0, l1, _, _, c0, c1, _, protocol, _, _, f0, f1, f2, f3, t0, t1, t2, t3] = ip;
    if versions != 0x45 || protocol != PROTOCOL_UDP || class & CONGESTION_MET == CONGESTION_MET {
        return None;
    }
    let length = u16::from_be_bytes([l0, l1]);
    let is_cut = u16::from_be_bytes([c0, c1]) & !DONT_FRAGMENT != 0;
    if is_cut || usize::from(length) + ETHERNET_LENGTH != bytes.length() {
        return None;
    }
    if Address::from_v4([t0, t1, t2, t3]) != settings.underlay {
        return None;
    }
    let vni = read_rest(bytes, ETHERNET_LENGTH + IPV4_LENGTH, length.checked_sub(IPV4)?, settings)?;
    let mut sum = 0;
    for at in 0..IPV4_LENGTH / 2 {
        sum += u32::from(u16::from_ne_bytes([ip[at * 2], ip[at * 2 + 1]]));
    }
    if fold(sum) != 0xffff {
        return None;
    }
    tag.write(Tag { node: Address::from_v4([f0, f1, f2, f3]), identity: vni });
    Some(OVER_V4)
}

#[inline(always)]
fn read_v6<B: Bytes + ?Sized>(bytes: &B, settings: &Settings, tag: &mut MaybeUninit<Tag>) -> Option<u16> {
    let [class0, class1, _, _, l0, l1, next, _] = bytes.load::<8>(ETHERNET_LENGTH)?;
    if class0 & 0xf0 != 0x60 || next != PROTOCOL_UDP || class1 >> 4 & CONGESTION_MET == CONGESTION_MET {
        return None;
    }
    let length = u16::from_be_bytes([l0, l1]);
    if usize::from(length) + ETHERNET_LENGTH + IPV6_LENGTH != bytes.length() {
        return None;
    }
    if Address::from_v6(bytes.load::<16>(ETHERNET_LENGTH + 24)?) != settings.underlay {
        return None;
    }
    let vni = read_rest(bytes, ETHERNET_LENGTH + IPV6_LENGTH, length, settings)?;
    tag.write(Tag { node: Address::from_v6(bytes.load::<16>(ETHERNET_LENGTH + 8)?), identity: vni });
    Some(OVER_V6)
}

/// UDP and VXLAN, which have to fill the IP packet; the VNI.
#[inline(always)]
fn read_rest<B: Bytes + ?Sized>(bytes: &B, at: usize, length: u16, settings: &Settings) -> Option<Identity> {
    let udp = bytes.load::<{ (UDP + VXLAN) as usize }>(at)?;
    let [_, _, p0, p1, l0, l1, s0, s1, v0, v1, v2, v3, n0, n1, n2, n3] = udp;
    let plain = u32::from(u16::from_be_bytes([p0, p1])) == settings.overlay_port
        && u16::from_be_bytes([l0, l1]) == length
        && [s0, s1] == [0; 2]
        && u32::from_be_bytes([v0, v1, v2, v3]) == u32::from(VNI_IS_VALID) << 16
        && n3 == 0;
    plain.then(|| Identity::from_vni(u32::from_be_bytes([0, n0, n1, n2])))
}

#[inline(always)]
const fn inner_ethernet(parcel: &Parcel) -> [u16; 7] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, _, _] = parcel.frame;
    [
        u16::from_ne_bytes([a, b]),
        u16::from_ne_bytes([c, d]),
        u16::from_ne_bytes([e, f]),
        u16::from_ne_bytes([g, h]),
        u16::from_ne_bytes([i, j]),
        u16::from_ne_bytes([k, l]),
        u16::from_ne_bytes([m, n]),
    ]
}

/// The bits of the traffic class that tell of congestion. RFC 6040: what met it already goes on as what can tell of it.
#[inline(always)]
const fn congestion(parcel: &Parcel) -> u8 {
    const CAN_TELL: u8 = 2;
    let [_, _, _, _, _, _, _, _, _, _, _, _, t0, t1, _, class] = parcel.frame;
    let inner = if u16::from_be_bytes([t0, t1]) == TYPE_V4 { class } else { class >> 4 } & CONGESTION_MET;
    if inner == CONGESTION_MET { CAN_TELL } else { inner }
}

#[inline(always)]
const fn overlay_port(settings: &Settings) -> u16 {
    let [.., high, low] = settings.overlay_port.to_be_bytes();
    u16::from_ne_bytes([high, low])
}

#[inline(always)]
const fn port(entropy: u32) -> u16 {
    FIRST_PORT | (entropy >> 18) as u16
}

#[inline(always)]
const fn vni(identity: Identity) -> [u16; 2] {
    let [_, a, b, c] = identity.number().to_be_bytes();
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, 0])]
}

#[inline(always)]
const fn halves(address: Address) -> [u16; 2] {
    let [a, b, c, d] = address.v4_octets();
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]
}

#[inline(always)]
const fn eighths(address: Address) -> [u16; 8] {
    let [high, low] = address.words();
    let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (high.to_ne_bytes(), low.to_ne_bytes());
    [
        u16::from_ne_bytes([a, b]),
        u16::from_ne_bytes([c, d]),
        u16::from_ne_bytes([e, f]),
        u16::from_ne_bytes([g, h]),
        u16::from_ne_bytes([i, j]),
        u16::from_ne_bytes([k, l]),
        u16::from_ne_bytes([m, n]),
        u16::from_ne_bytes([o, p]),
    ]
}

/// Into 16 bits, carries added. The Internet checksum does not ask for the order of bytes.
#[inline(always)]
const fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    #[expect(clippy::cast_possible_truncation, reason = "folded: at most 16 bits are left")]
    {
        ((sum >> 16) + (sum & 0xffff)) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{vec, vec::Vec};

    const V4: Settings = Settings { underlay: Address::from_v4([192, 0, 2, 1]), overlay_port: 4789, ..Settings::NONE };
    const V6: Settings = Settings {
        underlay: Address::from_v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        overlay_port: 4789,
        ..Settings::NONE
    };

    /// A frame as `settings`' node sends it to itself, with a packet of this many bytes inside.
    fn frame(settings: &Settings, length: u16) -> Vec<u8> {
        let identity = Identity::from_vni(0x12_3456);
        let parcel = Parcel {
            node: settings.underlay,
            identity,
            frame: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 0, 0x45, 1],
            length,
            entropy: u32::MAX,
            id: 7,
        };
        let words = if settings.underlay.is_v4() {
            over_v4(&parcel, settings).to_vec()
        } else {
            over_v6(&parcel, settings).to_vec()
        };
        let mut frame = vec![0; TYPE_AT];
        frame.extend(words.into_iter().flat_map(u16::to_ne_bytes));
        frame.extend(vec![0x45; usize::from(length)]);
        frame
    }

    fn claims(frame: &[u8], settings: &Settings) -> Option<(u16, Tag)> {
        let mut tag = MaybeUninit::new(Tag::NONE);
        let at = read(frame, settings, &mut tag)?;
        // SAFETY: set from the start.
        Some((at, unsafe { tag.assume_init() }))
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (settings, over) in [(V4, OVER_V4), (V6, OVER_V6)] {
            for length in [20, 100, 1_450, 60_000] {
                let expected = Tag { node: settings.underlay, identity: Identity::from_vni(0x12_3456) };
                assert_eq!(claims(&frame(&settings, length), &settings), Some((over, expected)));
            }
        }
    }

    #[test]
    fn the_headers_are_what_the_standards_say() {
        let [v4, v6] = [frame(&V4, 100), frame(&V6, 100)];
        assert_eq!(v4[12..24], [8, 0, 0x45, 1, 0, 150, 7, 0, 0, 0, 64, 17]);
        assert_eq!(v4[26..34], [192, 0, 2, 1, 192, 0, 2, 1]);
        assert_eq!(v4[34..42], [0xff, 0xff, 0x12, 0xb5, 0, 130, 0, 0]);
        assert_eq!(v4[42..50], [8, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
        assert_eq!(v4[50..64], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 0]);
        assert_eq!(v6[12..22], [0x86, 0xdd, 0x60, 0x10, 0, 0, 0, 130, 17, 64]);
        assert_eq!(v6[54..70], v4[34..50]);
    }

    #[test]
    fn what_is_not_plainly_ours_is_left_to_the_kernel() {
        for settings in [V4, V6] {
            let whole = frame(&settings, 100);
            for cut in 1..=whole.len() {
                assert_eq!(claims(&whole[..whole.len() - cut], &settings), None, "{cut} bytes cut");
            }
            let mut longer = whole.clone();
            longer.push(0);
            assert_eq!(claims(&longer, &settings), None, "a byte too many");
            let ip = if settings.underlay.is_v4() { 20 } else { 40 };
            // The hop limits, the sender, the port it sends from, the VNI, and what IPv6 has no checksum over, may be
            // anything.
            let free: &[_] = if ip == 20 {
                &[]
            } else {
                &[1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23]
            };
            for at in TYPE_AT..14 + ip + 16 {
                let inside = at.wrapping_sub(14);
                let is_free = free.contains(&inside) || [ip, ip + 1, ip + 12, ip + 13, ip + 14].contains(&inside);
                for bit in 0..8 {
                    let mut other = whole.clone();
                    other[at] ^= 1 << bit;
                    let traffic_class = settings.underlay.is_v4() || inside != 0 || bit >= 4;
                    if !is_free && traffic_class {
                        assert_eq!(claims(&other, &settings), None, "byte {inside}, bit {bit}");
                    }
                }
            }
        }
    }

    #[test]
    fn congestion_on_the_way_is_left_to_the_kernel_and_what_met_it_before_can_still_tell() {
        let mut met = frame(&V6, 100);
        met[15] |= 0x30;
        assert_eq!(claims(&met, &V6), None);
        let parcel = Parcel {
            node: V4.underlay,
            identity: Identity::HOST,
            frame: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x86, 0xdd, 0x60, CONGESTION_MET << 4],
            length: 100,
            entropy: 0,
            id: 0,
        };
        assert_eq!(over_v4(&parcel, &V4)[1].to_ne_bytes(), [0x45, 2]);
        assert_eq!(over_v4(&parcel, &V4)[25].to_ne_bytes(), [0x86, 0xdd]);
    }
}
