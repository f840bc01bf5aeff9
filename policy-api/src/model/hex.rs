//! Bytes as hexadecimal digits, and back.

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// None unless all of it are pairs of digits: neither signs, which numbers may have, nor anything else.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

/// The same of exactly so many bytes.
pub(super) fn bytes_of<const N: usize>(text: &str) -> Option<[u8; N]> {
    from_hex(text)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_nothing_else_is_taken_for_them() {
        assert_eq!(from_hex(&hex(&[0, 0x7f, 0xff])), Some(vec![0, 0x7f, 0xff]));
        assert_eq!(bytes_of("00ff"), Some([0, 0xff]));
        assert_eq!((bytes_of::<2>("00"), bytes_of::<1>("00ff")), (None, None));
        for bad in ["0", "+1", "0x", "00 1", "é0", "zz"] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }
}
