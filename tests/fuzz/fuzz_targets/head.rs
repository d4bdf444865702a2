//! Request heads, and what is decided by them before anybody is let in.
#![no_main]

use flotilla_shared::http::{HEAD_MAX_BYTES, parse_head};
use flotilla_shared::websocket::{switching_protocols, upgrade};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let parsed = parse_head(bytes);
    // What bytes mean does not depend on how they were cut into reads.
    for cut in [
        bytes.len() / 3,
        bytes.len() / 2,
        bytes.len().saturating_sub(1),
    ] {
        match parse_head(&bytes[..cut]) {
            Ok(None) => {}
            Ok(early) => assert_eq!(Ok(early), parsed, "another head when cut at {cut}"),
            Err(_) => assert!(
                parsed.is_err(),
                "an error that goes away, when cut at {cut}"
            ),
        }
    }
    let Ok(Some((head, length))) = parsed else {
        return;
    };
    assert!(length <= bytes.len().min(HEAD_MAX_BYTES));
    assert!(head.path.starts_with('/'));
    match upgrade(&head) {
        Ok(upgrade) => {
            let response = switching_protocols(&upgrade.key, None);
            assert!(response.ends_with(b"\r\n\r\n"));
            assert_eq!(empty_lines(&response), 1, "a client wrote into our head");
        }
        Err(error) => assert!(empty_lines(&error.response()) >= 1),
    }
});

fn empty_lines(bytes: &[u8]) -> usize {
    bytes.windows(4).filter(|four| four == b"\r\n\r\n").count()
}
