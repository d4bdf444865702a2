//! HTTP requests with a body: where it ends, and what follows.
#![no_main]

use flotilla_shared::http::{Persistence, body_length, parse_head, preflight, read_body};
use libfuzzer_sys::fuzz_target;

/// Longest body that is taken, in bytes.
const LIMIT: usize = 256;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some((head, length))) = parse_head(bytes) else {
        return;
    };
    preflight(&head, "POST", Persistence::wanted(&head));
    let behind = &bytes[length..];
    let announced = body_length(&head, LIMIT);
    let whole = read(&head, behind, 0);
    // It does not matter how much arrived together with the head.
    for late in [behind.len() / 2, behind.len()] {
        let cut = read(&head, behind, late);
        assert_eq!(
            cut.as_ref().map(|(body, _)| body),
            whole.as_ref().map(|(body, _)| body)
        );
    }
    match (announced, whole) {
        (Ok(length), Ok((body, rest))) => {
            assert!(length <= LIMIT);
            assert_eq!(body, behind[..length]);
            assert_eq!(rest, behind[length..]);
        }
        (Ok(length), Err(_)) => assert!(length > behind.len()),
        (Err(error), read) => assert_eq!(read, Err(error)),
    }
});

/// Reads a body of which the last `late` bytes arrive behind the head.
fn read(
    head: &flotilla_shared::http::RequestHead,
    behind: &[u8],
    late: usize,
) -> Result<(Vec<u8>, Vec<u8>), flotilla_shared::http::BodyError> {
    let (early, late) = behind.split_at(behind.len() - late);
    let mut stream = tokio::io::join(late, tokio::io::sink());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let read = read_body(&mut stream, head, early.to_vec(), LIMIT);
    runtime.block_on(read).map(|body| (body.bytes, body.rest))
}
