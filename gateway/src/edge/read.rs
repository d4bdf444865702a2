//! Reads a client's request head, within its limits of size and time.

use std::time::Duration;

use flotilla_shared::http::{RequestHead, parse_head};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::error::Refusal;

/// What a typical head fits in.
const READ_BYTES: usize = 1024;

/// The head, and what was sent right behind it. `None` if the client left before it had said
/// anything, as health checks of load balancers do.
pub(super) async fn head<S>(
    client: &mut S,
    limit: Duration,
) -> Result<Option<(RequestHead, Vec<u8>)>, Refusal>
where
    S: AsyncRead + Unpin + ?Sized,
{
    timeout(limit, read(client))
        .await
        .unwrap_or(Err(Refusal::Timeout))
}

async fn read<S>(client: &mut S) -> Result<Option<(RequestHead, Vec<u8>)>, Refusal>
where
    S: AsyncRead + Unpin + ?Sized,
{
    let mut buffer = Vec::with_capacity(READ_BYTES);
    // The parser stops a head that is too long.
    while let Ok(1..) = client.read_buf(&mut buffer).await {
        if let Some((head, length)) = parse_head(&buffer)? {
            return Ok(Some((head, buffer.split_off(length))));
        }
    }
    Ok(None)
}
