//! What the programs write around a packet and take away from it again.

use std::mem::MaybeUninit;
use std::net::Ipv4Addr;

use agent::datapath::Hook;
use common::{
    Address, Identity,
    outer::{self, OVER_V4, Parcel, TYPE_AT, over_v4},
    placement::Tag,
    settings::Settings,
};
use tests::lab::{HOST, Scene};

use super::Case;

const ETHERNET: usize = 14;
/// Less than this is no IP packet that anybody could wrap.
const SHORTEST: usize = ETHERNET + 20;

/// The same packet, by the uplink as the other node sent it and not out of the tunnel device.
pub(crate) fn by_the_uplink(case: Case) -> Case {
    match case.hook {
        Hook::FromOverlay if case.frame.len() >= SHORTEST => Case { hook: Hook::FromUnderlay, ..case },
        _ => case,
    }
}

/// What another node makes of a frame.
pub(crate) fn wrap(frame: &[u8], node: Ipv4Addr, vni: u32) -> Vec<u8> {
    let settings = Settings { underlay: node.into(), ..Scene::settings() };
    let parcel = Parcel {
        node: HOST.into(),
        identity: Identity::from_vni(vni),
        frame: frame[..ETHERNET + 2].try_into().expect("sixteen bytes"),
        length: u16::try_from(frame.len() - ETHERNET).expect("short"),
        entropy: vni,
        id: 0,
    };
    let headers = over_v4(&parcel, &settings).into_iter().flat_map(u16::to_ne_bytes);
    [0; TYPE_AT].into_iter().chain(headers).chain(frame[ETHERNET..].iter().copied()).collect()
}

/// Proves what became of a packet that passed by way of the underlay, in either direction.
pub(crate) fn prove(case: &Case, became: &[u8], settings: &Settings) {
    match case.hook {
        Hook::FromUnderlay => {
            assert_eq!(became[TYPE_AT..], case.frame[TYPE_AT..], "what was inside is all that is left");
            assert_eq!(became[6..TYPE_AT], [0xee; 6], "from the gateway");
        }
        Hook::FromEndpoint if became.len() > case.frame.len() => {
            let whole = usize::from(OVER_V4);
            let node = Ipv4Addr::new(became[30], became[31], became[32], became[33]);
            let receiver = Settings { underlay: node.into(), ..*settings };
            let mut tag = MaybeUninit::new(Tag { node: Address::NONE, identity: Identity::UNKNOWN });
            let inside = outer::read(became, &receiver, &mut tag);
            assert_eq!(inside, Some(OVER_V4), "the other node can read it: {became:02x?}");
            // SAFETY: set from the start.
            assert_eq!(unsafe { tag.assume_init() }.node, settings.underlay, "from this node");
            assert_eq!(became[whole..], case.frame, "with the frame inside");
        }
        _ => {}
    }
}
