//! Random numbers from the kernel.

use std::io;

/// `N` random bytes.
pub fn number<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: `bytes` is `N` bytes long; the call fills them all (it never stops short below 256) or fails.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    if usize::try_from(got) == Ok(N) { Ok(bytes) } else { Err(io::Error::last_os_error()) }
}
