//! What a connection waits for: the broker, and answers of others.
//!
//! Some of it in order (the client's next command waits, and the outbox keeps moving), the rest aside.

use std::pin::pin;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use flotilla_shared::broker::{Append, Topic};
use prost::Message as _;

use super::Connection;
use crate::look_up;
use crate::outbox::Fate;
use crate::session::{Event, LookUp, Publish};

impl Connection {
    /// Publishes what the client wants published, and whatever comes of that.
    pub(super) async fn settle(self: &Rc<Self>, publish: Box<Publish>, frames: &mut BytesMut) {
        let mut next = Some(publish);
        while let Some(publish) = next {
            // Nothing may overtake what was answered before: a publication that is delivered meanwhile would.
            self.send(frames);
            let event = self.moving(self.publish(*publish)).await;
            next = self.step(event, frames);
        }
    }

    /// Waits until the client's next command can be run, or the connection ends.
    pub(super) async fn settled(self: &Rc<Self>) {
        self.is_waiting.set(true);
        while self.is_listening() && self.session.borrow().is_settling() {
            self.moving(self.outbox.woken()).await;
            self.arm();
        }
        self.is_waiting.set(false);
    }

    /// Finds something out without anybody waiting. Who is gone by then needs no answer, and is not kept by it.
    pub(super) fn look_up(self: &Rc<Self>, look_up: Box<LookUp>) {
        let shard = self.shard.clone();
        let connection = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            let found = Box::new(look_up::answer(&shard, *look_up).await);
            if let Some(connection) = connection.upgrade()
                && connection.is_listening()
            {
                connection.notify(Event::Found(found));
            }
        });
    }

    /// Keeps the socket's queue moving while something else is waited for.
    pub(super) async fn moving<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let pending = self.outbox.queued_bytes() > 0 && self.outbox.fate() != Fate::Broken;
            tokio::select! {
                biased;
                done = &mut work => return done,
                writable = self.outbox.socket().writable(), if pending => {
                    if writable.is_err() || self.outbox.flush().is_err() {
                        self.outbox.shut();
                    }
                }
            }
        }
    }

    async fn publish(&self, publish: Publish) -> Event {
        let id = publish.id;
        let payload = Bytes::from(publish.push.encode_to_vec());
        let broker = self.shard.broker();
        let published = match publish.retention {
            None => {
                let topic = Topic::Channel(publish.channel);
                broker.publish(&topic, payload).await
            }
            Some(retention) => {
                let append = Append {
                    payload,
                    ..Append::default()
                };
                let appended = broker.append(&publish.channel, retention, append).await;
                appended.map(drop)
            }
        };
        let result = published.map_err(|error| self.shard.metrics().publish_failed(&error));
        Event::Published { id, result }
    }
}
