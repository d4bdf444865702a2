//! Frames of the client protocol as Protobuf.
#![no_main]

mod codec;

use flotilla_shared::protocol::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| codec::check(Format::Protobuf, frame));
