//! What a connection waits for: the broker, the back end, and answers of others.
//!
//! Some of it in order (the client's next command waits, and the outbox keeps moving), the rest aside.

use std::pin::pin;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use flotilla_shared::broker::{Append, Topic};
use prost::Message as _;
use tokio::sync::{Notify, Semaphore};

use super::{Connection, Wait};
use crate::look_up;
use crate::outbox::Fate;
use crate::session::{Event, LookUp, Publish};

/// Questions of one client that are being answered at a time.
const LOOK_UPS_MAX: usize = 8;

/// How often somebody who waits for room at least looks whether the connection is still there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Whose turn it is among one client's questions.
pub(super) struct Turns {
    turns: Semaphore,
    /// Something was said to the client, or its connection ends.
    news: Notify,
}

impl Turns {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            turns: Semaphore::new(LOOK_UPS_MAX),
            news: Notify::new(),
        })
    }

    /// Whoever waits looks again.
    pub(super) fn wake(&self) {
        self.news.notify_waiters();
    }
}

impl Connection {
    /// Waits, and for whatever comes of that. Meanwhile the client is not read, and its pongs are not missed.
    pub(super) async fn settle(self: &Rc<Self>, wait: Wait, frames: &mut BytesMut) {
        self.session.borrow_mut().hold_up();
        self.wait(wait, frames).await;
        self.session.borrow_mut().go_on(Instant::now());
    }

    async fn wait(self: &Rc<Self>, wait: Wait, frames: &mut BytesMut) {
        let mut next = Some(wait);
        while let Some(wait) = next {
            // Nothing may overtake what was answered before: a publication that is delivered meanwhile would.
            self.send(frames);
            let event = match wait {
                Wait::Broker(publish) => self.moving(self.publish(*publish)).await,
                Wait::BackEnd(ask) => {
                    // Who is gone meanwhile needs no answer.
                    let Some(answered) = self.while_listening(self.answer_to(*ask)).await else {
                        return;
                    };
                    Event::Answered(Box::new(answered))
                }
                Wait::Settled => {
                    self.settled().await;
                    return self.room().await;
                }
                Wait::Room => return self.room().await,
            };
            next = self.step(event, frames);
        }
    }

    /// Waits until the client's next command can be run, or the connection ends.
    async fn settled(self: &Rc<Self>) {
        self.is_waiting.set(true);
        while self.is_listening() && self.session.borrow().is_settling() {
            self.moving(self.outbox.woken()).await;
            self.arm();
        }
        self.is_waiting.set(false);
    }

    /// Finds something out while the client's commands go on. Who is gone by then needs no answer, and is not kept by it.
    ///
    /// A client may ask for much at once. It gets the answers as it takes them, and only a few are made before.
    pub(super) fn look_up(self: &Rc<Self>, look_up: Box<LookUp>) {
        let shard = self.shard.clone();
        let connection = Rc::downgrade(self);
        let turns = self.look_ups.get_or_init(Turns::new).clone();
        tokio::task::spawn_local(async move {
            // Nobody closes it.
            let _turn = turns.turns.acquire().await;
            if roomy(&connection, &turns).await.is_none() {
                return;
            }
            let found = Box::new(look_up::answer(&shard, *look_up).await);
            if let Some(connection) = roomy(&connection, &turns).await {
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
                writable = self.outbox.writable(), if pending => {
                    if writable.is_err() || self.outbox.flush().is_err() {
                        self.outbox.shut();
                    }
                }
            }
        }
    }

    /// The same, until the connection is to end.
    pub(super) async fn while_listening<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let over = async {
            while self.is_listening() {
                self.outbox.woken().await;
                self.arm();
            }
        };
        self.moving(async {
            tokio::select! {
                biased;
                () = over => None,
                done = work => Some(done),
            }
        })
        .await
    }

    async fn publish(&self, publish: Publish) -> Event {
        let id = publish.id;
        let payload = Bytes::from(publish.push.encode_to_vec());
        let channel = publish.channel;
        let broker = self.shard.broker();
        let published = match publish.retention {
            None => {
                let topic = Topic::Channel(channel.clone());
                broker.publish(&topic, payload).await
            }
            Some(retention) => {
                let append = Append {
                    payload,
                    ..publish.append
                };
                let appended = broker.append(&channel, retention, append).await;
                appended.map(drop)
            }
        };
        let metrics = self.shard.metrics();
        let result = published.map_err(|error| metrics.publish_failed(&channel, &error));
        Event::Published { id, result }
    }
}

/// The connection, once its queue has room for an answer, and none is about to come that cannot wait; `None` if it ends
/// before.
async fn roomy(connection: &Weak<Connection>, turns: &Turns) -> Option<Rc<Connection>> {
    loop {
        let connection = connection.upgrade().filter(|own| own.is_listening())?;
        if connection.session.borrow().is_settling() {
            // Not kept by this.
            drop(connection);
            turns.news.notified().await;
        } else if connection.is_behind(1) {
            // Its own task writes. That may take as long as the client likes, and the connection may end meanwhile.
            let writable = connection.outbox.writable();
            let _ = tokio::time::timeout(LOOK_INTERVAL, writable).await;
            tokio::task::yield_now().await;
        } else {
            return Some(connection);
        }
    }
}
