//! What a client asks for: the checks that need nothing but the head.

use std::net::IpAddr;

use flotilla_shared::http::{
    Header, RequestHead, cors_headers, is_asked_by_script, origin_is_allowed,
};
use flotilla_shared::websocket::{Upgrade, upgrade};

use crate::config::EdgeConfig;
use crate::endpoint::{Endpoint, Errand, Transport};
use crate::error::Refusal;

/// A request that is worth looking at.
pub(super) struct Request {
    pub(super) head: RequestHead,
    pub(super) address: Option<IpAddr>,
    /// What the client sent behind its head.
    pub(super) early: Vec<u8>,
    /// What an answer says, so that the page that asks may read it.
    pub(super) cors: Vec<Header>,
}

/// What it is for.
pub(super) enum Wish {
    /// A connection of this kind; the handshake, if it is a WebSocket.
    Connection(Transport, Option<Upgrade>),
    /// An answer.
    Errand(Errand),
    /// A browser asks whether its page may ask; the methods that it may use.
    Preflight(&'static str),
}

impl Request {
    /// Checks that there is an endpoint which takes such a request, and that whoever asks may.
    ///
    /// # Errors
    /// With the refusal, and what lets a page that may ask read it.
    pub(super) fn check(
        config: &EdgeConfig,
        head: RequestHead,
        early: Vec<u8>,
        address: Option<IpAddr>,
    ) -> Result<(Self, Wish), (Refusal, Vec<Header>)> {
        let refused = |refusal: Refusal| (refusal, Vec::new());
        let Some(endpoint) = config.endpoints.at(&head.path) else {
            return Err(refused(Refusal::NotFound));
        };
        let upgrade = match endpoint {
            Endpoint::Connection(transport) if transport.is_websocket() => {
                Some(upgrade(&head).map_err(|error| refused(error.into()))?)
            }
            _ => None,
        };
        let host = head.host().map_err(|error| refused(error.into()))?;
        let origin = head.once("Origin").map_err(|error| refused(error.into()))?;
        let is_stream_by_address = upgrade.is_none() && head.method == "GET";
        if !origin_is_allowed(origin, host, &config.allowed_origins)
            || (is_stream_by_address && !is_asked_by_script(&head))
        {
            return Err(refused(Refusal::Origin));
        }
        let cors = cors_headers(origin);
        if !endpoint.allows(&head.method) {
            return Err((Refusal::Method(endpoint.methods()), cors));
        }
        let wish = match endpoint {
            _ if head.method == "OPTIONS" => Wish::Preflight(endpoint.methods()),
            Endpoint::Connection(transport) => Wish::Connection(transport, upgrade),
            Endpoint::Errand(errand) => Wish::Errand(errand),
        };
        let request = Self {
            head,
            address,
            early,
            cors,
        };
        Ok((request, wish))
    }
}
