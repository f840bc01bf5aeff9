//! Which part of a datagram a packet is.

/// Nothing, for a whole packet; else the datagram's identification, where the part begins, and how long it is. One word, so
/// that whole packets pay for one zero.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment(u64);

const IS_FRAGMENT: u64 = 1;
const MORE: u64 = 1 << 1;

impl Fragment {
    pub const WHOLE: Self = Self(0);

    /// `offset` and `length` in bytes of the datagram; offsets are multiples of eight.
    #[inline(always)]
    pub const fn new(id: u32, offset: u16, length: u16, more: bool) -> Self {
        let flags = if more { IS_FRAGMENT | MORE } else { IS_FRAGMENT };
        Self((id as u64) << 32 | (length as u64) << 16 | (offset as u64 & 0xfff8) | flags)
    }

    #[inline(always)]
    pub const fn is_whole(self) -> bool {
        self.0 == 0
    }

    /// Whether the transport header is elsewhere.
    #[inline(always)]
    pub const fn is_tail(self) -> bool {
        self.0 & 0xfff8 != 0
    }

    #[inline(always)]
    pub const fn is_last(self) -> bool {
        self.0 & MORE == 0
    }

    #[inline(always)]
    pub const fn id(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    pub const fn offset(self) -> u16 {
        (self.0 & 0xfff8) as u16
    }

    #[inline(always)]
    pub const fn length(self) -> u16 {
        (self.0 >> 16 & 0xffff) as u16
    }
}
