//! What happens to a client, phase by phase: head → admit → identify → route → 101 → relay.
//!
//! Pingora accepts, ends TLS and hands the connection over with its first byte unread; from there
//! it is ours. Its HTTP proxy is not involved: a WebSocket in `ProxyHttp` costs 58 KB where ours
//! costs 3, does not know where frames end, and cannot say goodbye.

mod answer;
mod read;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use flotilla_shared::auth::{ConnectionClaims, Passport};
use flotilla_shared::http::{RequestHead, origin_is_allowed};
use flotilla_shared::websocket::{Upgrade, upgrade};
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use uuid::Uuid;

use crate::admit::Admission;
use crate::config::EdgeConfig;
use crate::error::Refusal;
use crate::metrics::{Gauged, Metrics};
use crate::relay::{Registry, Session};
use crate::route::{Decision, Placement, Pool, Worker, sticky_key};
use crate::upstream::{Handshake, Upstream, UpstreamError};

/// Everything that the phases need.
pub(crate) struct Edge {
    pub(crate) config: EdgeConfig,
    pub(crate) admission: Admission,
    pub(crate) pool: Arc<Pool>,
    pub(crate) connections: Arc<Registry>,
    pub(crate) metrics: Metrics,
}

/// The edge behind one listener.
pub(crate) struct EdgeApp {
    pub(crate) edge: Arc<Edge>,
    pub(crate) is_tls: bool,
}

#[async_trait]
impl ServerApp for EdgeApp {
    async fn process_new(self: &Arc<Self>, client: Stream, _: &ShutdownWatch) -> Option<Stream> {
        self.edge.serve(client, self.is_tls).await;
        None
    }
}

/// A request that is worth looking at.
struct Request {
    head: RequestHead,
    upgrade: Upgrade,
    address: Option<IpAddr>,
    /// What the client sent behind its head.
    early: Vec<u8>,
}

/// A request that has a worker.
struct Accepted {
    upstream: Upstream,
    placement: Placement,
    permit: OwnedSemaphorePermit,
}

impl Edge {
    async fn serve(self: &Arc<Self>, mut client: Stream, is_tls: bool) {
        let start = Instant::now();
        let _in_flight = self.metrics.handshake();
        let place = match self.admission.handshake() {
            Ok(place) => place,
            Err(refusal) => return self.refuse(client, None, &refusal, start).await,
        };
        let request = match self.read(&mut client).await {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(refusal) => return self.refuse(client, None, &refusal, start).await,
        };
        let accepted = match self.accept(&request).await {
            Ok(accepted) => accepted,
            Err(refusal) => return self.refuse(client, Some(&request), &refusal, start).await,
        };
        let protocol = answer::selected(&accepted.upstream, &request.upgrade);
        let limit = self.config.head_timeout;
        if !answer::switch(&mut client, &request.upgrade, protocol, limit).await {
            return;
        }
        drop(place);
        self.metrics.accepted(start);
        let connection = self.metrics.connection(is_tls);
        self.relay(client, &request.early, accepted, connection);
    }

    /// Head: a well-formed handshake for the right path. `None` if the client went without a word.
    async fn read(&self, client: &mut Stream) -> Result<Option<Request>, Refusal> {
        let address = client.get_socket_digest().and_then(|digest| {
            let peer = digest.peer_addr()?.as_inet()?;
            Some(peer.ip().to_canonical())
        });
        let Some((head, early)) = read::head(client, self.config.head_timeout).await? else {
            return Ok(None);
        };
        if head.path != self.config.path {
            return Err(Refusal::NotFound);
        }
        let upgrade = upgrade(&head)?;
        Ok(Some(Request {
            head,
            upgrade,
            address,
            early,
        }))
    }

    async fn accept(&self, request: &Request) -> Result<Accepted, Refusal> {
        // Admit.
        if !origin_is_allowed(
            request.upgrade.origin.as_deref(),
            &request.upgrade.host,
            &self.config.allowed_origins,
        ) {
            return Err(Refusal::Origin);
        }
        let permit = self.admission.connection()?;
        // Identify.
        let Request { head, upgrade, .. } = request;
        let count = |verdict| self.metrics.verified(verdict);
        let claims = self
            .config
            .identity
            .identify(head, upgrade, unix_seconds(), count)?;
        // Route.
        let user = claims.as_ref().map(|claims| claims.user.as_str());
        let key = sticky_key(&self.config.sticky, head, user, request.address);
        let candidates = self.pool.route(key.as_deref());
        let request_id = Uuid::new_v4().simple().to_string();
        let handshake = self.handshake(request, claims, request_id.clone())?;
        let (upstream, placement) = self.connect(&handshake, candidates).await?;
        tracing::debug!(request_id, worker = placement.worker(), "routed");
        Ok(Accepted {
            upstream,
            placement,
            permit,
        })
    }

    fn handshake(
        &self,
        request: &Request,
        identity: Option<ConnectionClaims>,
        request_id: String,
    ) -> Result<Handshake, Refusal> {
        let passport = Passport {
            identity,
            client_address: request.address.map(|ip| ip.to_string()).unwrap_or_default(),
            request_id,
        };
        let signed = self.config.passport_keys.as_ref().map(|keys| {
            // What came out of a token can be written into another one; should that ever fail, the
            // client must not get in as somebody else.
            keys.sign(&passport, unix_seconds()).map_err(|error| {
                tracing::error!(%error, "a passport could not be signed");
                Refusal::NoWorker
            })
        });
        let identity = &self.config.identity;
        let token_parameter = identity
            .query_parameter
            .as_deref()
            .filter(|_| identity.verifier.is_configured());
        Ok(Handshake::new(
            &request.head,
            &request.upgrade,
            &self.config.forward_headers,
            token_parameter,
            signed.transpose()?.as_deref(),
        ))
    }

    /// The first candidate that agrees.
    async fn connect(
        &self,
        handshake: &Handshake,
        candidates: Vec<(Worker, Decision)>,
    ) -> Result<(Upstream, Placement), Refusal> {
        for (worker, decision) in candidates.into_iter().take(self.config.tries) {
            let Some(address) = worker.address() else {
                continue;
            };
            let start = Instant::now();
            let placement = Placement::at(&worker);
            match handshake.with(address, self.config.upstream).await {
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

    async fn refuse(
        &self,
        client: Stream,
        request: Option<&Request>,
        refusal: &Refusal,
        start: Instant,
    ) {
        tracing::debug!(reason = refusal.kind().label(), %refusal, "refused");
        self.metrics.rejected(refusal.kind(), start);
        let upgrade = request.map(|request| &request.upgrade);
        answer::refuse(client, upgrade, refusal, self.config.overload_response).await;
    }

    /// The relay is a task of its own, so that the memory of everything up to here is free again.
    fn relay(
        self: &Arc<Self>,
        client: Stream,
        early: &[u8],
        accepted: Accepted,
        connection: Gauged,
    ) {
        let Accepted {
            upstream,
            placement,
            permit,
        } = accepted;
        let session = Session::new(
            (client, early),
            (upstream.stream, &upstream.early),
            self.config.relay,
            self.metrics.traffic(),
            self.connections.enter(),
        );
        tokio::spawn(carry(
            self.clone(),
            session,
            (placement, permit, connection),
        ));
    }
}

/// The task of a connection, until its end. What it holds while the connection is idle is what a
/// connection costs: `an_idle_connection_is_small`. (An `async fn` would hold its arguments twice.)
fn carry(
    edge: Arc<Edge>,
    mut session: Session<Stream, TcpStream>,
    places: (Placement, OwnedSemaphorePermit, Gauged),
) -> impl Future<Output = ()> {
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

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        /// The size of what a function of three arguments returns, without calling it.
        fn size_of_result<A, B, C, F>(_function: impl FnOnce(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        let size = size_of_result(carry);
        assert!(size <= 400, "{size} bytes");
    }
}
