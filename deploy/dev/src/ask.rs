//! Asking a process of the fleet over HTTP, as an operator or a back end would.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use flotilla_shared::secret::Secret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The longest answer that is read.
const ANSWER_MAX_BYTES: u64 = 1024 * 1024;

/// What the admin listener at `address` answers with 200.
///
/// # Errors
/// When nobody answers; and what another answer says.
pub(crate) async fn admin(address: SocketAddr, path: &str) -> Result<String> {
    exchange(
        address,
        format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"),
    )
    .await
}

/// What the server API at `address` answers with 200 to a call of `method` with the JSON `body`.
///
/// # Errors
/// When nobody answers; and what another answer says.
pub(crate) async fn api(
    address: SocketAddr,
    key: &Secret,
    method: &str,
    body: &str,
) -> Result<String> {
    let (key, length) = (key.expose(), body.len());
    exchange(
        address,
        format!(
            "POST /api/{method} HTTP/1.0\r\nHost: {address}\r\nX-API-Key: {key}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ),
    )
    .await
}

async fn exchange(address: SocketAddr, request: String) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream
        .take(ANSWER_MAX_BYTES)
        .read_to_string(&mut answer)
        .await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    ensure!(head.split(' ').nth(1) == Some("200"), "{}", body.trim());
    Ok(body.to_owned())
}
