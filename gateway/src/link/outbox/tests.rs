//! What is queued, written, refused and dropped, over a stream that takes so many bytes and no more.

use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

use super::*;

fn outbox(stream_bytes: usize, max_bytes: usize) -> (Outbox<DuplexStream>, DuplexStream) {
    let (near, far) = duplex(stream_bytes);
    let outbox = Outbox::new(near);
    outbox.limit(max_bytes);
    (outbox, far)
}

fn bytes(length: usize) -> Bytes {
    Bytes::from(vec![7; length])
}

async fn read(far: &mut DuplexStream, length: usize) -> Vec<u8> {
    let mut read = vec![0; length];
    far.read_exact(&mut read).await.unwrap();
    read
}

#[tokio::test]
async fn what_was_gathered_is_written_in_order_and_leaves_nothing() {
    let (outbox, mut far) = outbox(64, 640);
    assert!(outbox.gather(Bytes::from_static(b"one"), false));
    assert!(!outbox.gather(Bytes::from_static(b"two"), false));
    outbox.write();
    assert!(outbox.is_idle());
    assert_eq!(read(&mut far, 6).await, b"onetwo");
}

#[tokio::test]
async fn what_the_stream_does_not_take_is_written_by_whoever_waits_for_it() {
    let (outbox, mut far) = outbox(4, 64);
    outbox.gather(Bytes::from_static(b"abcdefgh"), false);
    outbox.write();
    assert!(!outbox.is_idle() && outbox.stalled_since().is_some());
    outbox.woken().await;
    let write = std::future::poll_fn(|cx| outbox.poll_write(cx));
    let (written, read) = tokio::join!(write, read(&mut far, 8));
    written.unwrap();
    assert_eq!(read, b"abcdefgh");
    assert!(outbox.is_idle());
}

#[tokio::test]
async fn a_queue_beyond_its_bound_takes_nothing_more() {
    let (outbox, _far) = outbox(4, 300);
    outbox.gather(bytes(100), false);
    outbox.write();
    assert!(!outbox.gather(bytes(100), false));
    assert_eq!(outbox.fate(), Fate::Open);
    outbox.gather(bytes(100), false);
    assert_eq!(outbox.fate(), Fate::Overflowed);
    assert!(!outbox.push(bytes(1)));
}

#[tokio::test]
async fn tiny_frames_fill_a_queue_too() {
    let (outbox, _far) = outbox(1, 640);
    for _ in 0..20 {
        outbox.gather(bytes(2), false);
    }
    assert_eq!(outbox.fate(), Fate::Overflowed);
}

#[tokio::test]
async fn what_nobody_has_tried_to_write_does_not_count_against_a_client() {
    let (outbox, mut far) = outbox(4096, 300);
    for _ in 0..10 {
        outbox.gather(bytes(100), false);
    }
    outbox.write();
    assert_eq!(outbox.fate(), Fate::Open);
    assert_eq!(read(&mut far, 1000).await.len(), 1000);
}

#[tokio::test]
async fn an_answer_comes_on_top_of_the_bound() {
    let (outbox, _far) = outbox(4, 300);
    outbox.gather(bytes(200), false);
    outbox.write();
    outbox.gather(bytes(5000), true);
    assert_eq!(outbox.fate(), Fate::Open);
    outbox.gather(bytes(500), false);
    assert_eq!(outbox.fate(), Fate::Overflowed);
}

#[tokio::test]
async fn the_last_words_begin_at_a_frame_boundary() {
    let (outbox, mut far) = outbox(2, 300);
    outbox.gather(Bytes::from_static(b"first"), false);
    outbox.gather(Bytes::from_static(b"second"), false);
    outbox.write();
    outbox.close_with(Bytes::from_static(b"bye"), true);
    assert!(!outbox.push(bytes(1)));
    let shut = std::future::poll_fn(|cx| outbox.poll_shutdown(cx));
    let mut all = Vec::new();
    let (shut, read) = tokio::join!(shut, far.read_to_end(&mut all));
    shut.unwrap();
    read.unwrap();
    assert_eq!(all, b"firstbye");
}

#[tokio::test]
async fn a_stream_that_is_gone_takes_nothing() {
    let (outbox, far) = outbox(64, 64);
    drop(far);
    outbox.gather(bytes(1), false);
    outbox.write();
    assert_eq!(outbox.fate(), Fate::Broken);
    outbox.woken().await;
}
