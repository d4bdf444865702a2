//! Clients that publish numbered messages over one connection each, which is never to end: a session that outlives its
//! worker carries what its client says, too.
//!
//! A message that was answered is acknowledged, one that was refused for the time being may be in the stream or not. What
//! really is in it is read at the end: see [`Ledger::place`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use flotilla_shared::protocol::types::Reply;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::SOON;
use crate::audit::{Ledger, Message};
use crate::client::{Client, Dial, publish};
use crate::eventually::eventually;

/// Clients at work.
#[derive(Debug)]
pub struct Speakers {
    ledger: Arc<Mutex<Ledger>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<()>>,
}

impl Speakers {
    /// Connects a client for each channel, as `dial` says for its number, which signs it in. Each one publishes a message
    /// `every` so often, if the last one was answered by then. Their numbers as writers are those from `first` on.
    ///
    /// # Errors
    /// When a client cannot connect.
    pub async fn start(
        dial: impl Fn(usize) -> Result<Dial>,
        channels: &[String],
        first: usize,
        every: Duration,
    ) -> Result<Self> {
        let ledger = Arc::default();
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for (at, channel) in channels.iter().enumerate() {
            let number = first + at;
            let speaker = Speaker {
                number,
                channel: channel.clone(),
                client: dial(number)?.connect("").await?,
                ledger: Arc::clone(&ledger),
                asked: None,
                last_id: FIRST_ID,
            };
            let pause = every.mul_f64(at as f64 / channels.len() as f64);
            tasks.spawn(speaker.run(Instant::now() + pause, every, stopped.clone()));
        }
        Ok(Self {
            ledger,
            stop,
            tasks,
        })
    }

    /// Waits until each of them has so many more messages answered.
    ///
    /// # Errors
    /// When they do not in time, or one of them has failed.
    pub async fn write(&mut self, messages: u64) -> Result<()> {
        let goal = lock(&self.ledger).reached() + messages;
        let what = format!("every speaker has had {goal} messages answered");
        let written = eventually(&what, SOON, async || {
            if let Some(ended) = self.tasks.try_join_next() {
                return Ok(ended?);
            }
            let reached = lock(&self.ledger).reached();
            ensure!(reached >= goal, "the slowest has {reached}");
            Ok(Ok(()))
        });
        written.await?
    }

    /// Has all of them end when their last message is answered.
    ///
    /// # Errors
    /// When one of them has failed: its connection has ended, or it was told what no client should be.
    pub async fn stop(mut self) -> Result<Ledger> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        let ledger = Arc::into_inner(self.ledger).context("the ledger is in use")?;
        Ok(ledger.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Behind the ids that the client gives by itself.
const FIRST_ID: u32 = 1_000;

/// One of them.
struct Speaker {
    number: usize,
    channel: String,
    client: Client,
    ledger: Arc<Mutex<Ledger>>,
    /// The command that is not answered yet, and its message.
    asked: Option<(u32, Message)>,
    last_id: u32,
}

impl Speaker {
    async fn run(
        mut self,
        first: Instant,
        every: Duration,
        mut stop: watch::Receiver<bool>,
    ) -> Result<()> {
        let mut ticks = interval_at(first, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_free = self.asked.is_none();
            let next = tokio::select! {
                _ = ticks.tick(), if is_free => None,
                stopped = stop.wait_for(|stop| *stop), if is_free => {
                    drop(stopped);
                    break;
                }
                next = self.client.next() => Some(next?),
            };
            match next {
                Some(next) => self.take_in(next)?,
                None => self.publish().await?,
            }
        }
        self.client.close().await?;
        Ok(())
    }

    async fn publish(&mut self) -> Result<()> {
        let message = lock(&self.ledger).write(&self.channel, self.number);
        self.last_id += 1;
        let mut command = publish(&self.channel, serde_json::to_vec(&message)?);
        command.id = self.last_id;
        self.asked = Some((command.id, message));
        self.client.send(&[command]).await
    }

    fn take_in(&mut self, next: Result<Reply, crate::client::Close>) -> Result<()> {
        let reply = match next {
            Ok(reply) if reply.push.is_some() => return Ok(()),
            Ok(reply) => reply,
            Err(close) => bail!("speaker {}: the connection ended: {close:?}", self.number),
        };
        let Some((_, message)) = self.asked.take_if(|(id, _)| *id == reply.id) else {
            bail!("speaker {}: answered twice: {reply:?}", self.number);
        };
        let mut ledger = lock(&self.ledger);
        match reply.error {
            None => ledger.acknowledge_unplaced(&self.channel, message),
            Some(error) if error.temporary => ledger.leave_open(&self.channel, message),
            Some(error) => bail!("speaker {}: {message} was refused: {error:?}", self.number),
        }
        Ok(())
    }
}

/// A poisoned lock means that a task panicked, which its end tells.
fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
