//! The number that stands for an app in the datapath and on the wire.

/// An app's identity: 24 bits, so that it fits the VNI. 0–255 are reserved.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(u32);

impl Identity {
    /// Nobody: matches no rule.
    pub const UNKNOWN: Self = Self(0);
    /// The node itself.
    pub const HOST: Self = Self(1);
    /// Outside the overlay.
    pub const WORLD: Self = Self(2);
    /// The L7 gatekeeper of the node.
    pub const GATEKEEPER: Self = Self(3);
    /// The node's DNS resolver.
    pub const DNS: Self = Self(4);
    /// The first identity an app can get.
    pub const FIRST_APP: Self = Self(256);
    /// The last one: the VNI has 24 bits.
    pub const LAST_APP: Self = Self(0x00ff_ffff);

    /// An identity, unless the number needs more than 24 bits.
    pub const fn new(number: u32) -> Option<Self> {
        if number <= Self::LAST_APP.0 { Some(Self(number)) } else { None }
    }

    /// The identity that an overlay packet claims: a VNI has 24 bits, whatever the helper's integer holds above them.
    pub const fn from_vni(vni: u32) -> Self {
        Self(vni & Self::LAST_APP.0)
    }

    pub const fn number(self) -> u32 {
        self.0
    }

    /// Whether this is an app's, not one of the reserved ones.
    pub const fn is_app(self) -> bool {
        self.0 >= Self::FIRST_APP.0
    }
}
