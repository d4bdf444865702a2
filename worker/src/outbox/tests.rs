//! What an outbox promises, over real sockets.

use proptest::prelude::*;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::*;

/// Larger than what the two socket buffers between the ends take in.
const MANY: usize = 8 * 1024 * 1024;

async fn pair(max_bytes: usize) -> (Outbox, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (server, _) = listener.accept().await.unwrap();
    server.writable().await.unwrap();
    (Outbox::new(server, max_bytes), client)
}

/// A chunk whose bytes tell its number.
fn chunk(number: u8, len: usize) -> Bytes {
    Bytes::from(vec![number; len])
}

/// Pushes numbered chunks until the socket takes no more; returns how many were taken.
fn fill(outbox: &Outbox, len: usize) -> u8 {
    let mut number = 0;
    while outbox.push(&chunk(number, len)) == Pushed::Written {
        number += 1;
    }
    number + 1
}

/// Flushes while the client reads, until `want` bytes have arrived.
async fn drain(outbox: &Outbox, client: &mut TcpStream, want: usize) -> Vec<u8> {
    let mut got = Vec::new();
    while got.len() < want {
        tokio::select! {
            read = client.read_buf(&mut got) => assert!(read.unwrap() > 0, "{} of {want} bytes", got.len()),
            writable = outbox.writable(), if outbox.queued_bytes() > 0 => {
                writable.unwrap();
                outbox.flush().unwrap();
            }
        }
    }
    got
}

#[tokio::test]
async fn what_the_socket_takes_is_not_queued() {
    let (outbox, mut client) = pair(1024).await;
    assert_eq!(outbox.push(&chunk(7, 100)), Pushed::Written);
    assert_eq!((outbox.queued_bytes(), outbox.stalled_since()), (0, None));
    let mut got = [0; 100];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(got, [7; 100]);
}

#[tokio::test]
async fn what_the_socket_refuses_arrives_later_and_in_order() {
    let (outbox, mut client) = pair(MANY).await;
    let mut count = fill(&outbox, 64 * 1024);
    for _ in 0..5 {
        assert_eq!(outbox.push(&chunk(count, 64 * 1024)), Pushed::Queued);
        count += 1;
    }
    assert!(outbox.stalled_since().is_some());
    let got = drain(&outbox, &mut client, usize::from(count) * 64 * 1024).await;
    let expected: Vec<u8> = (0..count)
        .flat_map(|number| vec![number; 64 * 1024])
        .collect();
    assert!(got == expected, "bytes were lost or reordered");
    assert_eq!((outbox.queued_bytes(), outbox.stalled_since()), (0, None));
    assert_eq!(
        outbox.queue.borrow().capacity(),
        0,
        "an idle outbox holds no buffer"
    );
}

#[tokio::test]
async fn a_client_that_falls_behind_the_bound_is_marked_and_wakes_its_task() {
    let (outbox, _client) = pair(100_000).await;
    fill(&outbox, 64 * 1024);
    while outbox.push(&chunk(0, 10_000)) == Pushed::Queued {
        assert!(outbox.queued_bytes() <= 100_000);
    }
    assert_eq!(outbox.fate(), Fate::Overflowed);
    outbox.woken().await;
    assert_eq!(outbox.push(&chunk(0, 1)), Pushed::Refused);
}

#[tokio::test]
async fn tiny_frames_fill_a_queue_with_what_they_cost() {
    let (outbox, _client) = pair(100_000).await;
    fill(&outbox, 64 * 1024);
    while outbox.push(&chunk(0, 2)) == Pushed::Queued {}
    // An entry of the queue and the bytes that it points to take more room than two bytes.
    let chunks = outbox.queue.borrow().len();
    assert!(chunks * 64 <= 100_000, "{chunks} chunks");
}

#[tokio::test]
async fn the_last_frames_begin_where_a_frame_ends() {
    let (outbox, mut client) = pair(MANY).await;
    let count = fill(&outbox, 1000 * 1000);
    outbox.push(&chunk(99, 1000));
    outbox.close_with(chunk(200, 4), true);
    assert_eq!(outbox.fate(), Fate::Closing);
    assert_eq!(outbox.push(&chunk(0, 1)), Pushed::Refused);
    // The chunk that was cut is completed, what had not begun is dropped, then come the last frames.
    let whole = usize::from(count) * 1000 * 1000;
    let got = drain(&outbox, &mut client, whole + 4).await;
    assert_eq!(got.get(whole..), Some(&[200; 4][..]));
    assert!(!got.contains(&99));
    assert_eq!(outbox.queued_bytes(), 0);
}

#[tokio::test]
async fn a_client_that_is_gone_breaks_the_outbox_only() {
    let (outbox, client) = pair(MANY).await;
    drop(client);
    let mut pushed = Pushed::Written;
    for _ in 0..10 {
        pushed = outbox.push(&chunk(0, 10));
        if pushed == Pushed::Refused {
            break;
        }
        // The system tells of the reset with the next write.
        outbox.socket().unwrap().readable().await.unwrap();
    }
    assert_eq!((pushed, outbox.fate()), (Pushed::Refused, Fate::Broken));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn bytes_are_accounted_for_whatever_is_pushed(sizes in prop::collection::vec(1_usize..200_000, 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (outbox, mut client) = pair(usize::MAX).await;
            let total: usize = sizes.iter().sum();
            for (number, size) in sizes.iter().enumerate() {
                outbox.push(&chunk(number as u8, *size));
                let queued: usize = outbox.queue.borrow().iter().map(Bytes::len).sum();
                assert_eq!(queued, outbox.queued_bytes());
            }
            let got = drain(&outbox, &mut client, total).await;
            let expected: Vec<u8> =
                sizes.iter().enumerate().flat_map(|(number, size)| vec![number as u8; *size]).collect();
            assert!(got == expected);
            assert_eq!(outbox.queued_bytes(), 0);
        });
    }
}

#[tokio::test]
async fn an_answer_of_any_size_comes_on_top_of_the_bound_until_it_is_taken() {
    let (outbox, mut client) = pair(1024).await;
    assert_eq!(outbox.push_answer(&chunk(1, 2 * MANY)), Pushed::Queued);
    assert_eq!(outbox.push(&chunk(2, 512)), Pushed::Queued);
    drain(&outbox, &mut client, 2 * MANY + 512).await;
    assert_eq!(outbox.queued_bytes(), 0);

    fill(&outbox, MANY);
    assert_eq!(outbox.push(&chunk(3, 1)), Pushed::Refused);
    assert_eq!(outbox.fate(), Fate::Overflowed);
}
