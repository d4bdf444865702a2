//! What this gateway says of itself: that it is there, how loaded it is and in which phase.
//!
//! Owns: this gateway's entry in the roster. When it is said is the business of `route::roster`.

use std::net::SocketAddr;
use std::sync::Arc;

use flotilla_shared::broker::Brokers;
use flotilla_shared::lifecycle::Lifecycle;
use flotilla_shared::metrics::VERSION;
use flotilla_shared::roster::{GatewayEntry, Life, RosterMessage};

use crate::relay::Registry;

/// See the module's documentation.
pub(crate) struct Announcement {
    id: String,
    address: String,
    connections: Arc<Registry>,
    lifecycle: Lifecycle,
}

impl Announcement {
    /// Of a gateway that listens there and has these connections.
    pub(crate) fn new(
        listening: SocketAddr,
        brokers: &Brokers,
        connections: Arc<Registry>,
        lifecycle: Lifecycle,
    ) -> Self {
        let ip = match listening.ip() {
            ip if ip.is_unspecified() => brokers.local_address().unwrap_or(ip),
            ip => ip,
        };
        Self {
            id: format!("gateway-{:016x}", Life::draw().0),
            address: SocketAddr::new(ip, listening.port()).to_string(),
            connections,
            lifecycle,
        }
    }

    /// How things are now.
    pub(crate) fn message(&self) -> RosterMessage {
        RosterMessage::AnnounceGateway(GatewayEntry {
            id: self.id.clone(),
            address: self.address.clone(),
            phase: self.lifecycle.phase(),
            connections: self.connections.count() as u64,
            version: VERSION.to_owned(),
        })
    }
}
