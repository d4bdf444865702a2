//! Answers that are the gateway's own: 101, and refusals.

use std::borrow::Cow;
use std::time::Duration;

use flotilla_shared::http::Header;
use flotilla_shared::websocket::{Upgrade, switching_protocols};
use pingora::protocols::Stream;
use tokio::io::{AsyncWriteExt, Result};
use tokio::time::timeout;

use crate::config::OverloadResponse;
use crate::error::Refusal;
use crate::identify::is_bearer;
use crate::socket::see_off;

/// How long a client may take to read the last that it is told, and go.
pub(crate) const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// The subprotocol to tell the client: the worker's choice. A client that offered nothing but its
/// token gets that back, because browsers fail a connection that selects none of what they offered.
pub(crate) fn selected<'a>(chosen: Option<&'a str>, upgrade: &'a Upgrade) -> Option<&'a str> {
    let first = || offered(upgrade).filter(|protocol| is_bearer(protocol));
    chosen.or_else(first)
}

/// What the client would rather have of what it offered; its token only if that is all.
fn offered(upgrade: &Upgrade) -> Option<&str> {
    let mut protocols = upgrade.protocols.iter();
    let first = protocols.clone().next();
    protocols
        .find(|protocol| !is_bearer(protocol))
        .or(first)
        .map(String::as_str)
}

/// Sends the 101. Whether that worked, within the limit.
pub(super) async fn switch(
    client: &mut Stream,
    upgrade: &Upgrade,
    protocol: Option<&str>,
    limit: Duration,
) -> bool {
    let answer = switching_protocols(&upgrade.key, protocol);
    matches!(timeout(limit, send(client, &answer)).await, Ok(Ok(())))
}

/// What a client is told that is refused. `cors` lets the page that asks read it.
pub(crate) fn refusal<'a>(
    (upgrade, cors): (Option<&Upgrade>, &[Header]),
    refusal: &'a Refusal,
    overload_response: OverloadResponse,
) -> Cow<'a, [u8]> {
    let as_websocket = upgrade
        .filter(|_| refusal.is_overload() && overload_response == OverloadResponse::Websocket);
    match as_websocket {
        Some(upgrade) => {
            let mut answer = switching_protocols(&upgrade.key, offered(upgrade));
            answer.extend_from_slice(&refusal.close());
            answer.into()
        }
        None => refusal.response(cors),
    }
}

/// Sends a refusal, and waits a little until the client has read it.
pub(super) async fn refuse(mut client: Stream, answer: &[u8]) {
    let deliver = async {
        if send(&mut client, answer).await.is_ok() {
            see_off(&mut client).await;
        }
    };
    let _ = timeout(FAREWELL_TIMEOUT, deliver).await;
}

/// Ends a connection whose last request has been answered.
pub(super) async fn dismiss(mut client: Stream) {
    let _ = timeout(FAREWELL_TIMEOUT, see_off(&mut client)).await;
}

pub(super) async fn send(client: &mut Stream, bytes: &[u8]) -> Result<()> {
    client.write_all(bytes).await?;
    client.flush().await
}
