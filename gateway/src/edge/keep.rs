//! A client that stays for its next short request, as browsers do: a TLS handshake for each would
//! cost more than all the rest.
//!
//! One that stays is a connection like any other: it has a place, is told to go at a drain, and is
//! not kept if there is no place for it.

use std::sync::Arc;

use flotilla_shared::http::{Persistence, RequestHead};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::{Edge, Visitor, answer, read};
use crate::metrics::Gauged;
use crate::relay::Seat;

/// The right to stay.
pub(super) struct Stay {
    /// Where a client is told to go, also in the middle of its first request.
    seat: Seat,
    /// Its place among the connections, once it has been answered.
    place: Option<(OwnedSemaphorePermit, Gauged)>,
}

impl Stay {
    pub(super) fn new(seat: Seat) -> Self {
        Self { seat, place: None }
    }
}

impl Edge {
    /// Whether this client may stay once its request has been answered.
    pub(super) fn persistence(&self, visitor: &mut Visitor, head: &RequestHead) -> Persistence {
        if Persistence::wanted(head) == Persistence::Close || self.admission.is_closed() {
            return Persistence::Close;
        }
        let Some(stay) = &mut visitor.stay else {
            return Persistence::Close;
        };
        if stay.place.is_none()
            && let Ok(permit) = self.admission.connection()
        {
            stay.place = Some((permit, self.metrics.kept_alive(visitor.is_tls)));
        }
        if stay.place.is_some() {
            Persistence::KeepAlive
        } else {
            Persistence::Close
        }
    }

    /// Waits for the client's next request, without a buffer. Whether there is one.
    async fn wait(&self, visitor: &mut Visitor) -> bool {
        if !visitor.early.is_empty() {
            return true;
        }
        let Some(stay) = &visitor.stay else {
            return false;
        };
        tokio::select! {
            early = read::first(&mut visitor.client) => visitor.early = early,
            () = stay.seat.told_to_go() => {}
            () = sleep(self.config.keepalive_timeout) => {}
        }
        !visitor.early.is_empty()
    }
}

/// The task of a client that stays, until it goes or opens a connection.
pub(super) async fn keep(edge: Arc<Edge>, mut visitor: Visitor) {
    while edge.wait(&mut visitor).await {
        // Boxed, so that a client that waits has no room for what it asks, nor for its end.
        match Box::pin(edge.request(visitor)).await {
            Some(still) => visitor = still,
            None => return,
        }
    }
    Box::pin(answer::dismiss(visitor.client)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_waits_is_small() {
        /// The size of what a function of two arguments returns, without calling it.
        fn size_of_result<A, B, F>(_function: impl FnOnce(A, B) -> F) -> usize {
            size_of::<F>()
        }
        let size = size_of_result(keep);
        assert!(size <= 512, "{size} bytes");
    }
}
