//! What a shard tells channels without anybody waiting: who comes and who goes.
//!
//! Owns: the queue, and its order. When it is full, which takes a broker that does not answer, the newest is dropped and
//! counted: a subscriber then misses a join or a leave, and presence is right all the same.

use std::sync::Arc;

use bytes::Bytes;
use flotilla_shared::broker::{Broker, Topic};
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::types::Push;
use prost::Message as _;
use tokio::sync::mpsc;

/// Announcements that wait at most. Each is some hundred bytes.
const QUEUE_LENGTH: usize = 16 * 1024;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Announcer(mpsc::Sender<(Channel, Bytes)>);

/// The other end of the queue, for the task that empties it.
pub(super) type Announcements = mpsc::Receiver<(Channel, Bytes)>;

impl Announcer {
    pub(super) fn new() -> (Self, Announcements) {
        let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
        (Self(sender), receiver)
    }

    /// False: there was no room.
    pub(super) fn announce(&self, channel: Channel, push: &Push) -> bool {
        self.0
            .try_send((channel, push.encode_to_vec().into()))
            .is_ok()
    }
}

/// Publishes what is announced, one after the other, until nobody announces any more.
pub(super) async fn publish_all(broker: Arc<dyn Broker>, mut announcements: Announcements) {
    while let Some((channel, payload)) = announcements.recv().await {
        if let Err(error) = broker.publish(&Topic::Channel(channel), payload).await {
            tracing::debug!(%error, "a join or a leave was not published");
        }
    }
}
