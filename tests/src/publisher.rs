//! Back ends that publish numbered messages over the server API, each one until it is acknowledged: by any worker, and
//! with the same idempotency key.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::SOON;
use crate::audit::{Ledger, Message, Position};
use crate::eventually::eventually;

/// How long one try may take before the next worker is asked.
const TRY_MAX: Duration = Duration::from_secs(2);

/// Pause before the next try.
const PAUSE: Duration = Duration::from_millis(50);

/// Longest time until a message is acknowledged, over all tries.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(30);

/// Errors of the API that may be tried again: internal, and a limit.
const TEMPORARY: [u64; 2] = [100, 111];

/// Where and how to publish.
#[derive(Clone, Debug)]
pub struct Api {
    /// The API's address at each worker: `host:port`.
    pub workers: Vec<String>,
    /// Its key.
    pub key: String,
}

/// Publishers at work.
#[derive(Debug)]
pub struct Publishers {
    ledger: Arc<Mutex<Ledger>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<()>>,
}

impl Publishers {
    /// Starts `each` publishers for every channel. Each one writes a message `every` so often, if the last one was
    /// acknowledged by then.
    pub fn start(api: &Api, channels: &[String], each: usize, every: Duration) -> Self {
        let ledger = Arc::default();
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let client = reqwest::Client::new();
        let count = channels.len() * each;
        for number in 0..count {
            let publisher = Publisher {
                number,
                channel: channels[number % channels.len()].clone(),
                api: api.clone(),
                // Those of one channel publish through different workers.
                worker: number / channels.len(),
                client: client.clone(),
                ledger: Arc::clone(&ledger),
            };
            let first = every.mul_f64(number as f64 / count as f64);
            tasks.spawn(publisher.run(Instant::now() + first, every, stopped.clone()));
        }
        Self {
            ledger,
            stop,
            tasks,
        }
    }

    /// Waits until each publisher has written so many more messages, all acknowledged.
    ///
    /// # Errors
    /// When they cannot, or not in time.
    pub async fn write(&mut self, messages: u64) -> Result<()> {
        let goal = lock(&self.ledger).reached() + messages;
        let what = format!("every publisher has written {goal} messages");
        let written = eventually(&what, ACKNOWLEDGED_WITHIN + SOON, async || {
            if let Some(ended) = self.tasks.try_join_next() {
                return Ok(ended?);
            }
            let reached = lock(&self.ledger).reached();
            ensure!(reached >= goal, "the slowest has written {reached}");
            Ok(Ok(()))
        });
        written.await?
    }

    /// Has all of them stop when their last message is acknowledged.
    ///
    /// # Errors
    /// When one of them had failed, or fails now.
    pub async fn stop(mut self) -> Result<Ledger> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        let ledger = Arc::into_inner(self.ledger).context("the ledger is in use")?;
        Ok(ledger.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One of them.
struct Publisher {
    number: usize,
    channel: String,
    api: Api,
    /// Which worker is asked next, modulo their number.
    worker: usize,
    client: reqwest::Client,
    ledger: Arc<Mutex<Ledger>>,
}

impl Publisher {
    async fn run(
        mut self,
        first: Instant,
        every: Duration,
        mut stop: watch::Receiver<bool>,
    ) -> Result<()> {
        let mut ticks = interval_at(first, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            }
            let message = lock(&self.ledger).write(&self.channel, self.number);
            let place = self.publish(message).await?;
            lock(&self.ledger).acknowledge(&self.channel, message, place)?;
        }
    }

    /// Publishes a message until it is acknowledged, and returns its place in the stream.
    async fn publish(&mut self, message: Message) -> Result<Position> {
        let end = Instant::now() + ACKNOWLEDGED_WITHIN;
        loop {
            let tried = self.attempt(message).await;
            match tried.with_context(|| format!("publishing {message} to {}", self.channel)) {
                Ok(Ok(place)) => return Ok(place),
                Ok(Err(error)) => bail!("{message} was refused: {error}"),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => {
                    self.worker += 1;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Tries once. The inner error is for good.
    async fn attempt(&self, message: Message) -> Result<Result<Position, Value>> {
        let worker = &self.api.workers[self.worker % self.api.workers.len()];
        let request = self.client.post(format!("http://{worker}/api/publish"));
        let body = json!({
            "channel": self.channel,
            "data": message,
            "idempotency_key": message.to_string(),
        });
        let request = request.header("x-api-key", &self.api.key).json(&body);
        let response = request.timeout(TRY_MAX).send().await?;
        let answer: Answer = response.error_for_status()?.json().await?;
        match (answer.result, answer.error) {
            (Some(place), _) => Ok(Ok(place)),
            (None, Some(error)) => match error["code"].as_u64() {
                Some(code) if TEMPORARY.contains(&code) => bail!("{worker} answered {error}"),
                _ => Ok(Err(error)),
            },
            (None, None) => bail!("{worker} answered nothing"),
        }
    }
}

/// What the API answers.
#[derive(Deserialize)]
struct Answer {
    result: Option<Position>,
    error: Option<Value>,
}

/// A poisoned lock means that a task panicked, which its end tells.
fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
