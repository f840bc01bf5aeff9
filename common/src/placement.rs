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

/// Places in the index of placements: twice as many as a node knows addresses of.
pub const INDEX_PLACES: u32 = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 18;

/// The place in the index that is an address's. Addresses that count up rarely share one, be it nodes' slices that count or the
/// instances of a node: neighbours lie a golden section apart.
#[inline(always)]
pub const fn index_place(address: &Address) -> u32 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let [first, second] = address.words();
    // Of the first half only the end counts: what it begins with is the same for all of an overlay.
    let number = u64::from_be(second ^ first >> 32);
    (number.wrapping_mul(GOLDEN) >> (u64::BITS - INDEX_BITS)) as u32
}

/// What one place of the index holds: where an address is, found at once. Whatever is not in it is found in the table of all.
///
/// Programs read it while the agent writes it. So a place says that something is in it only once all programs are gone that
/// began before it was written, and is written anew only once all are gone that could have read it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indexed {
    placement: Placement,
    address: Address,
    /// Up to a line of the cache.
    unused: u64,
}

impl Indexed {
    pub const EMPTY: Self = Self { placement: Placement::NOWHERE, address: Address::NONE, unused: 0 };

    pub const fn new(address: Address, placement: Placement) -> Self {
        Self { placement, address, unused: 0 }
    }

    /// The same, for nobody to read yet: one byte tells it from what it will be.
    #[must_use]
    pub const fn unread(self) -> Self {
        Self { placement: Placement { kind: Placement::NOWHERE.kind, ..self.placement }, ..self }
    }

    /// Whether programs read what it holds.
    pub const fn is_read(&self) -> bool {
        self.placement.kind != Placement::NOWHERE.kind
    }

    /// Where this address is, if it is the one that the place holds.
    #[inline(always)]
    pub fn of(&self, address: &Address) -> Option<&Placement> {
        (self.address == *address && self.is_read()).then_some(&self.placement)
    }
}

crate::border!(Endpoint = 72, Placement = 40, Indexed = 64);

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

    #[test]
    fn addresses_that_count_up_rarely_share_a_place_of_the_index() {
        let v4 = |node: u8, instance: u8| Address::from_v4([10, 255, node, instance]);
        let v6 =
            |node: u8, instance: u8| Address::from_v6([0xfd, 0x6e, 0, 0, 0, 0, 0, node, 0, 0, 0, 0, 0, 0, 0, instance]);
        let of = |address: fn(u8, u8) -> Address| {
            (0..128).flat_map(move |node| (0..128).map(move |instance| index_place(&address(node, instance))))
        };
        let places: std::collections::HashSet<u32> = of(v4).chain(of(v6)).collect();
        let addresses = 2 * 128 * 128;
        assert!(places.len() * 100 > addresses * 95, "{} places for {addresses} addresses", places.len());
        assert!(places.iter().all(|place| *place < INDEX_PLACES));
    }

    #[test]
    fn a_place_of_the_index_speaks_of_its_address_once_it_is_read() {
        let address = Address::from_v4([10, 255, 0, 1]);
        let web = Placement::remote(NODE, WEB);
        let indexed = Indexed::new(address, web);
        assert_eq!(indexed.of(&address), Some(&web));
        assert_eq!(indexed.of(&NODE), None);
        assert_eq!(indexed.unread().of(&address), None);
        assert!(indexed.is_read() && !indexed.unread().is_read() && !Indexed::EMPTY.is_read());
        assert_eq!(Indexed::EMPTY.of(&Address::NONE), None);
    }
}
