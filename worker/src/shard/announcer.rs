//! What a shard tells channels without anybody waiting: who comes and who goes.
//!
//! Owns: the queue, and its order. When it is full, which takes a broker that does not answer, the newest is dropped and
//! counted. What was not published is made up for: the fleet is told that something is missing, and then asks.

use std::sync::Arc;

use bytes::Bytes;
use flotilla_shared::broker::{Broker, Topic};
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::types::Push;
use tokio::sync::mpsc;

use crate::fleet::Fleet;
use crate::roll::{Attachment, announcement};

/// Announcements that wait at most. Each is some hundred bytes.
const QUEUE_LENGTH: usize = 16 * 1024;

/// See the module's documentation.
#[derive(Clone)]
pub(super) struct Announcer {
    queue: mpsc::Sender<(Channel, Bytes)>,
    fleet: Fleet,
}

/// The other end of the queue, for the task that empties it.
pub(super) type Announcements = mpsc::Receiver<(Channel, Bytes)>;

impl Announcer {
    pub(super) fn new(fleet: Fleet) -> (Self, Announcements) {
        let (queue, announcements) = mpsc::channel(QUEUE_LENGTH);
        (Self { queue, fleet }, announcements)
    }

    /// False: there was no room.
    pub(super) fn announce(&self, channel: Channel, push: &Push, attachment: Attachment) -> bool {
        let payload = announcement(push, self.fleet.life(), attachment);
        let is_queued = self.queue.try_send((channel, payload)).is_ok();
        if !is_queued {
            self.fleet.miss();
        }
        is_queued
    }
}

/// Publishes what is announced, one after the other, until nobody announces any more.
pub(super) async fn publish_all(
    broker: Arc<dyn Broker>,
    fleet: Fleet,
    mut announcements: Announcements,
) {
    while let Some((channel, payload)) = announcements.recv().await {
        if let Err(error) = broker.publish(&Topic::Channel(channel), payload).await {
            tracing::debug!(%error, "a join or a leave was not published");
            fleet.miss();
        }
    }
}
