//! What whoever comes too early is told: there is no broker yet, so nobody can be served. A gateway then tries another
//! worker at once, instead of waiting for an answer.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::{Answer, dismiss};
use super::read_head;
use crate::handshakes::Place;
use crate::metrics::{Connections, Rejected};

/// Answers one request, whatever it asks for.
pub(crate) async fn turn_away(
    mut socket: TcpStream,
    place: Place,
    counts: Connections,
    head_timeout: Duration,
) {
    let answered = place.hold(async {
        let Ok(read) = timeout(head_timeout, read_head(&mut socket)).await else {
            return counts.rejected(Rejected::Timeout);
        };
        let early = || Answer::unavailable(Rejected::Starting, "the worker has no broker yet");
        let answer = match read {
            Ok(Ok(_)) => early(),
            Ok(Err(answer)) => answer,
            Err(_) => return,
        };
        counts.rejected(answer.reason);
        dismiss(&mut socket, &answer.response()).await;
    });
    answered.await;
}
