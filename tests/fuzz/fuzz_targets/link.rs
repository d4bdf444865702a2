//! What a gateway and a worker say to each other, from a stream of any bytes, however it is cut. The first byte says how.
#![no_main]

use std::fmt::Debug;

use bytes::BytesMut;
use flotilla_shared::link::{LinkError, Messages, ToGateway, ToWorker, append};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    let Some((size, stream)) = bytes.split_first() else {
        return;
    };
    check::<ToWorker>(stream, usize::from(*size));
    check::<ToGateway>(stream, usize::from(*size));
});

fn check<M: Message + Default + Clone + PartialEq + Debug>(stream: &[u8], size: usize) {
    let (messages, end) = read::<M>(stream, stream.len());
    assert_eq!(read(stream, size), (messages.clone(), end), "when cut");
    assert!(messages.len() <= stream.len(), "more messages than bytes");

    let mut written = BytesMut::new();
    for message in &messages {
        assert!(
            append(message, &mut written),
            "what was read is not too long"
        );
    }
    let again = read(&written, size);
    assert_eq!(again, (messages, Ok(0)), "when written and read again");
}

/// The messages, and how many bytes are left behind the last one, or why there are no more.
type Found<M> = (Vec<M>, Result<usize, LinkError>);

/// Reads `stream` in chunks, as the owner of a socket does.
fn read<M: Message + Default + PartialEq + Debug>(stream: &[u8], size: usize) -> Found<M> {
    let mut reader = Messages::default();
    let mut messages = Vec::new();
    for chunk in stream.chunks(size.max(1)) {
        reader.buffer().extend_from_slice(chunk);
        loop {
            match reader.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(reader.next::<M>(), Err(error.clone()), "the error stays");
                    return (messages, Err(error));
                }
            }
        }
    }
    (messages, Ok(reader.buffer().len()))
}
