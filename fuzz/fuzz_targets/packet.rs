//! Frames as they come off a wire: whatever they say, reading them ends, and what is read lies inside of the frame.
#![no_main]

use common::packet::{Ethertype, parse_frame, parse_source, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    let Ok(header) = parse_frame(frame) else { return };
    let Ok(Ethertype::Ip(family)) = header.ethertype else { return };
    let _source = parse_source(frame, family);
    if let Ok(packet) = read(frame, family) {
        let end = usize::from(packet.transport) + usize::from(packet.header);
        assert!(end <= frame.len(), "{packet:?} is read beyond {} bytes", frame.len());
    }
});
