//! Who is where: endpoints of this node, placements of every instance, and the proof that a tag is true.

use crate::{
    address::{Address, Mac},
    identity::Identity,
    verdict::DropReason,
};

/// An instance's attachment on this node, found by the ifindex of its host-side veth.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    address_v4: Address,
    address_v6: Address,
    identity: u32,
    generation: u32,
    mac: Mac,
    flags: u16,
}

const CLOSED: u16 = 1;

impl Endpoint {
    pub fn new(address_v4: Address, address_v6: Address, identity: Identity, generation: u32, mac: Mac) -> Self {
        Self { address_v4, address_v6, identity: identity.number(), generation, mac, flags: 0 }
    }

    /// The same endpoint, with nothing let in or out.
    #[must_use]
    pub fn closed(self) -> Self {
        Self { flags: self.flags | CLOSED, ..self }
    }

    pub const fn is_closed(&self) -> bool {
        self.flags & CLOSED != 0
    }

    pub const fn address_v4(&self) -> Address {
        self.address_v4
    }

    pub const fn mac(&self) -> Mac {
        self.mac
    }

    /// The end of a flow that this endpoint is.
    pub fn end(&self) -> End {
        End { identity: Identity::from_vni(self.identity), generation: self.generation }
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
}

/// Where an address is. The zero value is nowhere.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    node: Address,
    identity: u32,
    generation: u32,
    ifindex: u32,
    kind: u16,
    mac: Mac,
}

const REMOTE: u16 = 1;
const LOCAL: u16 = 2;
const HOST: u16 = 3;

/// [`Placement`], as a match takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An instance on the node with this underlay address.
    Remote { node: Address, end: End },
    /// An endpoint of this node.
    Local { ifindex: u32, mac: Mac, end: End },
    /// An address of this node itself.
    Host,
}

impl Placement {
    pub const HOST: Self = Self {
        node: Address::NONE,
        identity: Identity::HOST.number(),
        generation: 0,
        ifindex: 0,
        kind: HOST,
        mac: Mac([0; 6]),
    };

    pub const fn remote(node: Address, identity: Identity) -> Self {
        Self { node, identity: identity.number(), generation: 0, ifindex: 0, kind: REMOTE, mac: Mac([0; 6]) }
    }

    pub const fn local(ifindex: u32, endpoint: &Endpoint) -> Self {
        Self {
            node: Address::NONE,
            identity: endpoint.identity,
            generation: endpoint.generation,
            ifindex,
            kind: LOCAL,
            mac: endpoint.mac,
        }
    }

    /// Where this is; nowhere for bytes that no constructor made.
    #[inline(always)]
    pub fn place(&self) -> Option<Place> {
        let end = End { identity: Identity::from_vni(self.identity), generation: self.generation };
        match self.kind {
            REMOTE => Some(Place::Remote { node: self.node, end }),
            LOCAL => Some(Place::Local { ifindex: self.ifindex, mac: self.mac, end }),
            HOST => Some(Place::Host),
            _ => None,
        }
    }
}

crate::border!(Endpoint = 48, Placement = 40);

/// What an overlay packet claims, from its outer headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    pub node: Address,
    pub identity: Identity,
}

/// Proves a tag by placement: the inner source must be an instance that is placed on the sending node and has the
/// identity that the VNI claims. `is_node` is asked only to name the reason.
#[inline(always)]
pub fn prove_tag(tag: &Tag, source: Option<Place>, is_node: impl FnOnce(&Address) -> bool) -> Result<End, DropReason> {
    let refuse = |reason| if is_node(&tag.node) { Err(reason) } else { Err(DropReason::UnknownNode) };
    if !tag.identity.is_app() {
        return refuse(DropReason::ReservedTag);
    }
    match source {
        Some(Place::Remote { node, end }) if node == tag.node => {
            if end.identity == tag.identity {
                Ok(end)
            } else {
                Err(DropReason::WrongTag)
            }
        }
        Some(Place::Remote { .. } | Place::Local { .. } | Place::Host) => refuse(DropReason::WrongNode),
        None => refuse(DropReason::UnknownSource),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Address = Address::from_v4([192, 0, 2, 1]);
    const OTHER: Address = Address::from_v4([192, 0, 2, 2]);
    const STRANGER: Address = Address::from_v4([192, 0, 2, 66]);
    const WEB: Identity = Identity::FIRST_APP;
    const DB: Identity = Identity::LAST_APP;

    fn prove(node: Address, identity: Identity, source: Option<Placement>) -> Result<End, DropReason> {
        let source = source.and_then(|placement| placement.place());
        prove_tag(&Tag { node, identity }, source, |address| [NODE, OTHER].contains(address))
    }

    #[test]
    fn a_tag_holds_only_where_its_instance_is_placed() {
        let web = Some(Placement::remote(NODE, WEB));
        assert_eq!(prove(NODE, WEB, web).map(|end| end.identity), Ok(WEB));
        assert_eq!(prove(NODE, DB, web), Err(DropReason::WrongTag));
        assert_eq!(prove(OTHER, WEB, web), Err(DropReason::WrongNode));
        assert_eq!(prove(STRANGER, WEB, web), Err(DropReason::UnknownNode));
        assert_eq!(prove(NODE, WEB, None), Err(DropReason::UnknownSource));
        assert_eq!(prove(NODE, Identity::HOST, Some(Placement::HOST)), Err(DropReason::ReservedTag));
        let endpoint = Endpoint::new(NODE, Address::NONE, WEB, 1, Mac::GATEWAY);
        assert_eq!(prove(NODE, WEB, Some(Placement::local(7, &endpoint))), Err(DropReason::WrongNode));
    }
}
