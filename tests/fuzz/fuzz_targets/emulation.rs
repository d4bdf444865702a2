//! What a client posts whose replies come on a stream: in either encoding, whatever was meant.
#![no_main]

use flotilla_shared::protocol::types::EmulationRequest;
use flotilla_shared::protocol::{Format, commands};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = serde_json::from_slice::<EmulationRequest>(bytes) {
        let text = serde_json::to_vec(&request).expect("what came as text is text");
        let again = serde_json::from_slice(&text).expect("what was written can be read");
        assert_eq!(request, again);
        check(Format::Json, &request);
    }
    if let Ok(request) = EmulationRequest::decode(bytes) {
        let again = EmulationRequest::decode(request.encode_to_vec().as_slice());
        assert_eq!(Ok(&request), again.as_ref());
        check(Format::Protobuf, &request);
    }
});

/// The commands are a frame like any other.
fn check(format: Format, request: &EmulationRequest) {
    assert!(commands(format, &request.data).count() <= request.data.len());
}
