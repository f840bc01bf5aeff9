//! Who is where: endpoints of this node, placements of every instance, and the proof that a tag is true.

use crate::{
    address::{Address, Mac},
    identity::Identity,
    packet::Family,
    verdict::DropReason,
};

/// Places for endpoints, which are found by the lower bits of their interface's number: many times more than a node can have
/// endpoints, so that two rarely want the same.
pub const ENDPOINT_PLACES: u32 = 4_096;

/// The place of the endpoint behind this interface.
#[inline(always)]
pub const fn endpoint_place(ifindex: u32) -> u32 {
    ifindex % ENDPOINT_PLACES
}

/// Places for the addresses of this node's endpoints, half of them for either family.
pub const RESIDENT_PLACES: u32 = 2 * ENDPOINT_PLACES;

/// The place in which it is told behind which interface an address of this node is: by its last bits, which count up through
/// a node's slice.
#[inline(always)]
pub const fn resident_place(address: &Address) -> u32 {
    let place = address.last_bits() as u32 % ENDPOINT_PLACES;
    if address.is_v4() { place } else { place + ENDPOINT_PLACES }
}

/// An instance's attachment on this node, found by the ifindex of its host-side veth. All zeroes are none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    address_v4: Address,
    address_v6: Address,
    placement: Placement,
}

/// What holds for an instance as a whole, whatever rules say. One bit each.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing(u8);

impl Standing {
    pub const ORDINARY: Self = Self(0);
    /// A row did not fit, or is not known yet, so that nothing may enter or leave.
    pub const CLOSED: Self = Self(1);
    /// Somebody cut it off.
    pub const ISOLATED: Self = Self(1 << 1);
    /// What its own end would drop by policy passes and is reported.
    pub const AUDITED: Self = Self(1 << 2);

    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[inline(always)]
    pub const fn is_audited(self) -> bool {
        self.0 & Self::AUDITED.0 != 0
    }

    /// Why nothing may pass, if nothing may.
    #[inline(always)]
    pub const fn barrier(self) -> Option<DropReason> {
        if self.0 & (Self::CLOSED.0 | Self::ISOLATED.0) == 0 {
            None
        } else if self.0 & Self::CLOSED.0 != 0 {
            Some(DropReason::EndpointClosed)
        } else {
            Some(DropReason::Isolated)
        }
    }
}

impl Endpoint {
    pub const fn new(address_v4: Address, address_v6: Address, identity: Identity, generation: u32, mac: Mac) -> Self {
        let (mac_first, mac_rest) = mac.words();
        let identity = identity.number();
        let placement = Placement { identity, generation, mac_rest, mac_first, kind: LOCAL, ..Placement::NOWHERE };
        Self { address_v4, address_v6, placement }
    }

    /// What a place holds where no endpoint is.
    pub const NONE: Self = Self { address_v4: Address::NONE, address_v6: Address::NONE, placement: Placement::NOWHERE };

    /// The same endpoint, behind this interface.
    #[must_use]
    pub const fn behind(mut self, ifindex: u32) -> Self {
        self.placement.ifindex = ifindex;
        self
    }

    /// The number of its host-side veth; 0 if this is none.
    #[inline(always)]
    pub const fn ifindex(&self) -> u32 {
        self.placement.ifindex
    }

    /// The same endpoint, counted in this slot.
    #[must_use]
    pub const fn counted_in(mut self, slot: u32) -> Self {
        self.placement.slot = slot;
        self
    }

    /// The same endpoint, in this standing.
    #[must_use]
    pub const fn standing_as(mut self, standing: Standing) -> Self {
        self.placement = self.placement.standing_as(standing);
        self
    }

    #[inline(always)]
    pub const fn standing(&self) -> Standing {
        self.placement.standing()
    }

    /// Its address of a family; [`Address::NONE`] if it has none.
    #[inline(always)]
    pub const fn address(&self, family: Family) -> Address {
        match family {
            Family::V4 => self.address_v4,
            Family::V6 => self.address_v6,
        }
    }

    /// Whether it has this address.
    #[inline(always)]
    pub fn is_at(&self, address: &Address) -> bool {
        if address.is_v4() { self.address_v4 == *address } else { self.address_v6 == *address }
    }

    /// Where its addresses are.
    #[inline(always)]
    pub const fn placement(&self) -> &Placement {
        &self.placement
    }

    #[inline(always)]
    pub const fn slot(&self) -> u32 {
        self.placement.slot
    }

    #[inline(always)]
    pub const fn mac(&self) -> Mac {
        self.placement.mac()
    }

    /// The end of a flow that this endpoint is.
    #[inline(always)]
    pub const fn end(&self) -> End {
        self.placement.end()
    }
}

/// One end of a packet, as far as its flow's verdict is bound to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub identity: Identity,
    /// The attachment's generation on this node; 0 for what is elsewhere.
    pub generation: u32,
}

impl End {
    pub const HOST: Self = Self { identity: Identity::HOST, generation: 0 };
    pub const NOBODY: Self = Self { identity: Identity::UNKNOWN, generation: 0 };

    /// Whether it is on this node: an endpoint, or the node itself.
    #[inline(always)]
    pub const fn is_here(&self) -> bool {
        self.generation != 0 || self.identity.number() == Identity::HOST.number()
    }
}

/// Where an address is. The zero value is nowhere.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    node: Address,
    identity: u32,
    generation: u32,
    ifindex: u32,
    slot: u32,
    mac_rest: u32,
    mac_first: u16,
    kind: u8,
    flags: u8,
}

const REMOTE: u8 = 1;
const LOCAL: u8 = 2;
const HOST: u8 = 3;

/// What is at an address. Without payloads: the compiler leaves parts of them unset, and the verifier (6.18:
/// `R3 !read_ok`) refuses to see those moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An instance on another node.
    Remote,
    /// An endpoint of this node.
    Local,
    /// This node itself.
    Host,
}

impl Placement {
    const NOWHERE: Self = Self {
        node: Address::NONE,
        identity: 0,
        generation: 0,
        ifindex: 0,
        slot: 0,
        mac_rest: 0,
        mac_first: 0,
        kind: 0,
        flags: 0,
    };

    pub const HOST: Self = Self { identity: Identity::HOST.number(), kind: HOST, ..Self::NOWHERE };

    pub const fn remote(node: Address, identity: Identity) -> Self {
        Self { node, identity: identity.number(), kind: REMOTE, ..Self::NOWHERE }
    }

    /// The same placement, in this standing.
    #[must_use]
    pub const fn standing_as(self, standing: Standing) -> Self {
        Self { flags: standing.0, ..self }
    }

    #[inline(always)]
    pub const fn standing(&self) -> Standing {
        Standing(self.flags)
    }

    /// What is there; nothing for bytes that no constructor made.
    #[inline(always)]
    pub const fn place(&self) -> Option<Place> {
        match self.kind {
            REMOTE => Some(Place::Remote),
            LOCAL => Some(Place::Local),
            HOST => Some(Place::Host),
            _ => None,
        }
    }

    /// The underlay address of the node that a remote instance is on.
    #[inline(always)]
    pub const fn node(&self) -> Address {
        self.node
    }

    /// The end of a flow that is there.
    #[inline(always)]
    pub const fn end(&self) -> End {
        End { identity: Identity::from_vni(self.identity), generation: self.generation }
    }

    /// The host-side veth of a local instance.
    #[inline(always)]
    pub const fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Where a local instance is counted.
    #[inline(always)]
    pub const fn slot(&self) -> u32 {
        self.slot
    }

    /// The MAC address of a local instance.
    #[inline(always)]
    pub const fn mac(&self) -> Mac {
        Mac::from_words(self.mac_first, self.mac_rest)
    }
}

crate::border!(Endpoint = 72, Placement = 40);

/// What an overlay packet claims, from its outer headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    pub node: Address,
    pub identity: Identity,
}

impl Tag {
    /// Nobody's claim.
    pub const NONE: Self = Self { node: Address::NONE, identity: Identity::UNKNOWN };
}

/// Proves a tag by placement: the inner source must be an instance that is placed on the sending node and has the
/// identity that the VNI claims. `is_node` is asked only to name the reason.
#[inline(always)]
pub fn prove_tag(
    tag: &Tag,
    source: Option<&Placement>,
    is_node: impl FnOnce(&Address) -> bool,
) -> Result<(), DropReason> {
    let reason = match source {
        _ if !tag.identity.is_app() => DropReason::ReservedTag,
        Some(placement) if placement.place() != Some(Place::Remote) || placement.node() != tag.node => {
            DropReason::WrongNode
        }
        Some(placement) if placement.end().identity != tag.identity => DropReason::WrongTag,
        Some(_) => return Ok(()),
        None => DropReason::UnknownSource,
    };
    if is_node(&tag.node) { Err(reason) } else { Err(DropReason::UnknownNode) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Address = Address::from_v4([192, 0, 2, 1]);
    const OTHER: Address = Address::from_v4([192, 0, 2, 2]);
    const STRANGER: Address = Address::from_v4([192, 0, 2, 66]);
    const WEB: Identity = Identity::FIRST_APP;
    const DB: Identity = Identity::LAST_APP;

    fn prove(node: Address, identity: Identity, source: Option<Placement>) -> Result<(), DropReason> {
        prove_tag(&Tag { node, identity }, source.as_ref(), |address| [NODE, OTHER].contains(address))
    }

    #[test]
    fn a_tag_holds_only_where_its_instance_is_placed() {
        let web = Some(Placement::remote(NODE, WEB));
        assert_eq!(prove(NODE, WEB, web), Ok(()));
        assert_eq!(prove(NODE, DB, web), Err(DropReason::WrongTag));
        assert_eq!(prove(OTHER, WEB, web), Err(DropReason::WrongNode));
        assert_eq!(prove(STRANGER, WEB, web), Err(DropReason::UnknownNode));
        assert_eq!(prove(NODE, WEB, None), Err(DropReason::UnknownSource));
        assert_eq!(prove(NODE, Identity::HOST, Some(Placement::HOST)), Err(DropReason::ReservedTag));
        let endpoint = Endpoint::new(NODE, Address::NONE, WEB, 1, Mac::GATEWAY);
        assert_eq!(prove(NODE, WEB, Some(*endpoint.behind(7).placement())), Err(DropReason::WrongNode));
    }
}
