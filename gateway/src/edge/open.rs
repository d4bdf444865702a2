//! Opens a connection: a WebSocket, or an answer that goes on.

use std::mem;
use std::sync::Arc;

use flotilla_shared::auth::ConnectionClaims;
use flotilla_shared::clock::unix_seconds;
use flotilla_shared::websocket::Upgrade;
use pingora::protocols::Stream;
use tokio::sync::{OwnedSemaphorePermit, SemaphorePermit, oneshot};
use tokio::time::Instant;

use super::request::Request;
use super::{Edge, Visitor, answer, read};
use crate::endpoint::Transport;
use crate::error::Refusal;
use crate::link::{Arrival, Door, Facts};
use crate::metrics::Gauged;
use crate::relay::{Relay, Session, StreamSession};
use crate::route::{Decision, Placement, Worker, sticky_key};
use crate::upstream::{Opening, Upstream, UpstreamError};

/// A request that has a worker.
struct Accepted {
    upstream: Upstream,
    placement: Placement,
    permit: OwnedSemaphorePermit,
}

/// A client that may be here.
struct Admitted {
    permit: OwnedSemaphorePermit,
    claims: Option<ConnectionClaims>,
    key: Option<String>,
}

impl Edge {
    /// `place` is held until the client is answered.
    pub(super) async fn open(
        self: &Arc<Self>,
        visitor: Visitor,
        mut request: Request,
        (transport, upgrade): (Transport, Option<&Upgrade>),
        place: SemaphorePermit<'_>,
        start: Instant,
    ) {
        // What workers take over links is what goes both ways.
        if let (Some(door), Some(upgrade), Transport::WebSocket) = (&self.door, upgrade, transport)
        {
            return self.hand_over(door, visitor, request, upgrade, start).await;
        }
        // A connection has a place of its own.
        let Visitor {
            mut client, is_tls, ..
        } = visitor;
        let accepted = self.accept(&mut client, &mut request, transport, upgrade);
        let accepted = match accepted.await {
            Ok(accepted) => accepted,
            Err(refusal) => {
                let told = (upgrade, request.cors.as_slice());
                return self.refuse(client, told, &refusal, start).await;
            }
        };
        if let Some(upgrade) = upgrade {
            let protocol = answer::selected(accepted.upstream.protocol.as_deref(), upgrade);
            let limit = self.config.head_timeout;
            if !answer::switch(&mut client, upgrade, protocol, limit).await {
                return;
            }
        }
        drop(place);
        self.metrics.accepted(start);
        let connection = self.metrics.connection(is_tls, transport);
        let places = (accepted.placement, accepted.permit, connection);
        let Upstream { stream, early, .. } = accepted.upstream;
        let (timeouts, traffic) = (self.config.relay, self.metrics.traffic());
        let seat = self.connections.enter();
        if upgrade.is_some() {
            let (client, worker) = ((client, &*request.early), (stream, &*early));
            let session = Session::new(client, worker, timeouts, traffic, seat);
            self.spawn(session, places);
        } else {
            // The worker's answer is the client's: its head is relayed like the rest.
            let worker = (stream, early);
            let session = StreamSession::new(client, worker, timeouts, traffic, seat);
            self.spawn(session, places);
        }
    }

    async fn accept(
        &self,
        client: &mut Stream,
        request: &mut Request,
        transport: Transport,
        upgrade: Option<&Upgrade>,
    ) -> Result<Accepted, Refusal> {
        let body = match upgrade {
            // What came behind a handshake are frames.
            Some(_) => Vec::new(),
            None => self.stream_body(client, request).await?,
        };
        let Admitted {
            permit,
            claims,
            key,
        } = self.admit(request, upgrade)?;
        let candidates = self.pool.route(key.as_deref());
        let opening = self.forward(request, transport.path(), claims, |forward| match upgrade {
            Some(upgrade) => Opening::websocket(forward, upgrade),
            None => Opening::stream(forward, &body),
        })?;
        let (upstream, placement) = self.connect(&opening, candidates).await?;
        tracing::debug!(worker = placement.worker(), "routed");
        Ok(Accepted {
            upstream,
            placement,
            permit,
        })
    }

    /// Admits the client, and finds out who it is and what its worker is chosen by.
    fn admit(&self, request: &Request, upgrade: Option<&Upgrade>) -> Result<Admitted, Refusal> {
        let permit = self.admission.connection()?;
        let count = |verdict| self.metrics.verified(verdict);
        let protocols = upgrade.map(|upgrade| &*upgrade.protocols);
        let claims = self.config.identity.identify(
            &request.head,
            protocols.unwrap_or_default(),
            unix_seconds(),
            count,
        )?;
        let user = claims.as_ref().map(|claims| claims.user.as_str());
        let key = sticky_key(&self.config.sticky, &request.head, user, request.address);
        Ok(Admitted {
            permit,
            claims,
            key,
        })
    }

    /// Hands the client over to a link thread, and waits until it is answered.
    async fn hand_over(
        &self,
        door: &Door,
        visitor: Visitor,
        request: Request,
        upgrade: &Upgrade,
        start: Instant,
    ) {
        let admitted = self.admit(&request, Some(upgrade)).and_then(|admitted| {
            let path = Transport::WebSocket.path();
            let claims = admitted.claims;
            let open = self.forward(&request, path, claims, |forward| forward.session(upgrade))?;
            Ok((admitted.permit, open, admitted.key))
        });
        let (permit, open, key) = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let told = (Some(upgrade), request.cors.as_slice());
                return self.refuse(visitor.client, told, &refusal, start).await;
            }
        };
        let candidates = self.pool.route(key.as_deref());
        let (answered, answer) = oneshot::channel();
        let arrival = Arrival {
            client: visitor.client,
            is_tls: visitor.is_tls,
            early: request.early,
            upgrade: upgrade.clone(),
            cors: request.cors,
            facts: Facts::new(&open, key),
            candidates,
            permit,
            answered,
        };
        if let Err(arrival) = door.enter(arrival).await {
            let told = (Some(upgrade), arrival.cors.as_slice());
            let refusal = Refusal::Draining;
            return self.refuse(arrival.client, told, &refusal, start).await;
        }
        match answer.await {
            Ok(Ok(())) => self.metrics.accepted(start),
            Ok(Err(refusal)) => {
                tracing::debug!(reason = refusal.kind().label(), %refusal, "refused");
                self.metrics.rejected(refusal.kind(), start);
            }
            // The thread has ended, and with it the client.
            Err(_) => {}
        }
    }

    /// What the client has to say before its stream begins.
    async fn stream_body(
        &self,
        client: &mut Stream,
        request: &mut Request,
    ) -> Result<Vec<u8>, Refusal> {
        let early = mem::take(&mut request.early);
        let (most, limit) = (self.config.body_max_bytes, self.config.head_timeout);
        let body = read::body(client, &request.head, early, most, limit).await?;
        if body.rest.is_empty() {
            Ok(body.bytes)
        } else {
            Err(Refusal::Pipelined)
        }
    }

    /// The first candidate that agrees.
    async fn connect(
        &self,
        opening: &Opening,
        candidates: Vec<(Worker, Decision)>,
    ) -> Result<(Upstream, Placement), Refusal> {
        for (worker, decision) in candidates.into_iter().take(self.config.tries) {
            let Some(address) = worker.address() else {
                continue;
            };
            let start = Instant::now();
            let placement = Placement::at(&worker);
            match opening.with(address, self.config.upstream).await {
                Ok(upstream) => {
                    self.metrics.workers.routed(decision);
                    self.metrics.workers.connected(start);
                    return Ok((upstream, placement));
                }
                Err(UpstreamError::Refused(answer)) => return Err(Refusal::Worker(answer)),
                Err(UpstreamError::Failed(kind)) => {
                    tracing::debug!(
                        worker = worker.label(),
                        reason = kind.label(),
                        "no connection"
                    );
                    self.metrics.workers.failed(kind);
                    if kind.is_ejecting() {
                        self.pool.eject(&worker);
                    }
                }
            }
        }
        self.metrics.workers.routed(Decision::None);
        Err(Refusal::NoWorker)
    }

    /// The relay is a task of its own, so that the memory of everything up to here is free again.
    fn spawn(self: &Arc<Self>, session: impl Relay, places: Places) {
        tokio::spawn(carry(self.clone(), session, places));
    }
}

/// What a connection holds until its end.
type Places = (Placement, OwnedSemaphorePermit, Gauged);

/// The task of a connection, until its end. What it holds while the connection is idle is what a
/// connection costs: `an_idle_connection_is_small`. (An `async fn` would hold its arguments twice.)
fn carry<R: Relay>(
    edge: Arc<Edge>,
    mut session: R,
    places: Places,
) -> impl Future<Output = ()> + Send {
    let start = Instant::now();
    async move {
        let outcome = session.run().await;
        edge.metrics.closed(outcome, start.elapsed());
        tracing::debug!(
            worker = places.0.worker(),
            initiator = outcome.initiator.label(),
            reason = outcome.reason.label(),
            "closed"
        );
        // Named as a whole, so that the task holds all of them until here.
        drop(places);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        /// The size of what a function of three arguments returns, without calling it.
        fn size_of_result<A, B, C, F>(_function: impl FnOnce(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        let websocket = size_of_result(carry::<Session<Stream, TcpStream>>);
        assert!(websocket <= 400, "{websocket} bytes");
        let stream = size_of_result(carry::<StreamSession<Stream, TcpStream>>);
        assert!(stream <= websocket, "{stream} bytes");
    }
}
