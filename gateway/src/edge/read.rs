//! Reads what a client asks, within its limits of size and time.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use flotilla_shared::http::{Body, RequestHead, parse_head, read_body};
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::timeout;

use crate::error::Refusal;

/// What a typical head fits in.
const READ_BYTES: usize = 1024;

/// The first bytes that come, for however long that takes; none once the client has gone. Holds no
/// buffer while it waits.
pub(super) async fn first<S>(client: &mut S) -> Vec<u8>
where
    S: AsyncRead + Unpin + ?Sized,
{
    poll_fn(|cx| {
        let mut space = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut space);
        // A connection that breaks is one that ends.
        let _ = ready!(Pin::new(&mut *client).poll_read(cx, &mut buffer));
        Poll::Ready(buffer.filled().to_vec())
    })
    .await
}

/// The head, and what was sent right behind it. `early` was read before. `None` if the client left
/// before it had said anything, as health checks of load balancers do.
pub(super) async fn head<S>(
    client: &mut S,
    early: Vec<u8>,
    limit: Duration,
) -> Result<Option<(RequestHead, Vec<u8>)>, Refusal>
where
    S: AsyncRead + Unpin + ?Sized,
{
    timeout(limit, read(client, early))
        .await
        .unwrap_or(Err(Refusal::Timeout))
}

async fn read<S>(client: &mut S, early: Vec<u8>) -> Result<Option<(RequestHead, Vec<u8>)>, Refusal>
where
    S: AsyncRead + Unpin + ?Sized,
{
    let mut buffer = early;
    // The parser stops a head that is too long.
    loop {
        if let Some((head, length)) = parse_head(&buffer)? {
            return Ok(Some((head, buffer.split_off(length))));
        }
        buffer.reserve(READ_BYTES);
        let Ok(1..) = client.read_buf(&mut buffer).await else {
            return Ok(None);
        };
    }
}

/// The body behind a head.
pub(super) async fn body(
    client: &mut Stream,
    head: &RequestHead,
    early: Vec<u8>,
    max_bytes: usize,
    limit: Duration,
) -> Result<Body, Refusal> {
    match timeout(limit, read_body(client, head, early, max_bytes)).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Refusal::Timeout),
    }
}
