//! What a connection has to know to keep histories: which channels have one, and how the server stores it.
//!
//! Owns the configured values and nothing of what the server has; the knowledge of the streams as they are is shared by
//! all connections that were made from one configuration.

use std::sync::Arc;

use super::lives::Lives;
use crate::broker::{NatsStorage, Retention};

/// Histories in JetStream. Without namespaces, nothing of JetStream is needed or touched.
#[derive(Debug, Clone)]
pub struct NatsHistory {
    /// Streams per namespace. Part of the format: it cannot be changed while the streams exist.
    pub partitions: u32,
    /// Where JetStream keeps messages.
    pub storage: NatsStorage,
    /// On how many servers each message is kept: 1 to 5.
    pub replicas: u32,
    /// Most appends of one connection that wait for the server's confirmation.
    pub publish_in_flight_max: usize,
    /// The namespaces that have a history, by name (empty: channels without a namespace), and how much they keep.
    pub namespaces: Vec<(String, Retention)>,
    /// What is known of the streams. Clones share it, so that a process looks after them once.
    pub(in crate::broker) lives: Arc<Lives>,
}

impl NatsHistory {
    /// What is kept of a namespace.
    pub(super) fn retention(&self, namespace: &str) -> Option<Retention> {
        let mut namespaces = self.namespaces.iter();
        namespaces.find_map(|(name, retention)| (name == namespace).then_some(*retention))
    }
}

impl Default for NatsHistory {
    /// 64 partitions on disk, one replica, 256 appends in flight; no namespaces.
    fn default() -> Self {
        Self {
            partitions: 64,
            storage: NatsStorage::File,
            replicas: 1,
            publish_in_flight_max: 256,
            namespaces: Vec::new(),
            lives: Arc::default(),
        }
    }
}
