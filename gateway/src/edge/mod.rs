//! What happens to a client, phase by phase: head → admit → identify → route → answer → relay.
//!
//! Pingora accepts, ends TLS and hands the connection over with its first byte unread; from there
//! it is ours. Its HTTP proxy is not involved: a WebSocket in `ProxyHttp` costs 58 KB where ours
//! costs 3, does not know where frames end, and cannot say goodbye.
//!
//! A client opens a connection (`open`), or has a short request answered (`errand`) after which it
//! may stay for the next one (`keep`).

pub(crate) mod answer;
mod errand;
mod keep;
mod open;
mod read;
mod request;

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use flotilla_shared::auth::{ConnectionClaims, Passport};
use flotilla_shared::clock::unix_seconds;
use flotilla_shared::http::Header;
use flotilla_shared::websocket::Upgrade;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::time::Instant;
use uuid::Uuid;

use self::keep::Stay;
use self::request::{Request, Wish};
use crate::admit::Admission;
use crate::config::EdgeConfig;
use crate::error::Refusal;
use crate::link::Door;
use crate::metrics::Metrics;
use crate::relay::Registry;
use crate::route::Pool;
use crate::upstream::Forward;

/// Everything that the phases need.
pub(crate) struct Edge {
    pub(crate) config: EdgeConfig,
    pub(crate) admission: Admission,
    pub(crate) pool: Arc<Pool>,
    pub(crate) connections: Arc<Registry>,
    pub(crate) metrics: Metrics,
    /// The way to the link threads, if there are any.
    pub(crate) door: Option<Door>,
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

/// A client that may ask something.
struct Visitor {
    client: Stream,
    is_tls: bool,
    address: Option<IpAddr>,
    /// What it has sent already.
    early: Vec<u8>,
    /// Its right to stay for another request, if it has one.
    stay: Option<Stay>,
}

impl Edge {
    async fn serve(self: &Arc<Self>, client: Stream, is_tls: bool) {
        let address = client.get_socket_digest().and_then(|digest| {
            let peer = digest.peer_addr()?.as_inet()?;
            Some(peer.ip().to_canonical())
        });
        let visitor = Visitor {
            client,
            is_tls,
            address,
            early: Vec::new(),
            stay: None,
        };
        if let Some(visitor) = self.request(visitor).await {
            // A task of its own, so that the memory of everything up to here is free again.
            tokio::spawn(keep::keep(self.clone(), visitor));
        }
    }

    /// Takes one request. The visitor is back if it may ask something else.
    async fn request(self: &Arc<Self>, mut visitor: Visitor) -> Option<Visitor> {
        let start = Instant::now();
        let _in_flight = self.metrics.handshake();
        let refuse = async |visitor: Visitor, refusal: Refusal, cors: Vec<Header>| {
            self.refuse(visitor.client, (None, &cors), &refusal, start)
                .await;
            None
        };
        let place = match self.admission.handshake() {
            Ok(place) => place,
            Err(refusal) => return refuse(visitor, refusal, Vec::new()).await,
        };
        let early = mem::take(&mut visitor.early);
        let limit = self.config.head_timeout;
        let (head, early) = match read::head(&mut visitor.client, early, limit).await {
            Ok(Some(read)) => read,
            Ok(None) => return None,
            Err(refusal) => return refuse(visitor, refusal, Vec::new()).await,
        };
        let checked = Request::check(&self.config, head, early, visitor.address);
        let (mut request, wish) = match checked {
            Ok(checked) => checked,
            Err((refusal, cors)) => return refuse(visitor, refusal, cors).await,
        };
        match wish {
            Wish::Connection(transport, upgrade) => {
                let wanted = (transport, upgrade.as_ref());
                self.open(visitor, request, wanted, place, start).await;
                None
            }
            Wish::Errand(errand) => {
                let passed = self.pass(&mut visitor, &mut request, errand, start);
                let passed = passed.await;
                self.conclude(visitor, &request, passed, start).await
            }
            Wish::Preflight(methods) => {
                let answered = self.preflight(&mut visitor, &mut request, methods);
                let answered = answered.await;
                self.conclude(visitor, &request, answered, start).await
            }
        }
    }

    /// Hands `forward` what of the client's request is meant for a worker, with a passport that says
    /// who the client is.
    fn forward<T>(
        &self,
        request: &Request,
        path: &str,
        identity: Option<ConnectionClaims>,
        forward: impl FnOnce(&Forward<'_>) -> T,
    ) -> Result<T, Refusal> {
        let passport = Passport {
            identity,
            client_address: request.address.map(|ip| ip.to_string()).unwrap_or_default(),
            request_id: Uuid::new_v4().simple().to_string(),
        };
        let signed = self.config.passport_keys.as_ref().map(|keys| {
            // What came out of a token can be written into another one; should that ever fail, the
            // client must not get in as somebody else.
            keys.sign(&passport, unix_seconds()).map_err(|error| {
                tracing::error!(%error, "a passport could not be signed");
                Refusal::NoWorker
            })
        });
        let signed = signed.transpose()?;
        tracing::debug!(request_id = passport.request_id, path, "forwarded");
        let identity = &self.config.identity;
        let token_parameter = identity
            .query_parameter
            .as_deref()
            .filter(|_| identity.verifier.is_configured());
        Ok(forward(&Forward {
            head: &request.head,
            path,
            headers: &self.config.forward_headers,
            token_parameter,
            passport: signed.as_deref(),
        }))
    }

    async fn refuse(
        &self,
        client: Stream,
        (upgrade, cors): (Option<&Upgrade>, &[Header]),
        refusal: &Refusal,
        start: Instant,
    ) {
        tracing::debug!(reason = refusal.kind().label(), %refusal, "refused");
        self.metrics.rejected(refusal.kind(), start);
        let answer = answer::refusal((upgrade, cors), refusal, self.config.overload_response);
        answer::refuse(client, &answer).await;
    }
}
