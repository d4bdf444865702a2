//! A client that stays: it connects again whenever its connection ends, recovers its channels from where it was, and
//! keeps a record of all that it is given and told.
//!
//! It does what the SDKs do, by the same codes, only with shorter pauses. Judging the record is left to [`crate::audit`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use flotilla_shared::protocol::types::{
    Command, Publication, Push, Reply, Request, SubscribeRequest, SubscribeResult,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::audit::{Event, Position, Record};
use crate::client::{Client, Close, Dial};

/// How long opening a connection may take before the next try.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// The first and the longest pause before the next try.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(800));

/// Commands that subscribe have ids from here on; the channel is the rest.
const SUBSCRIBE_ID: u32 = 1_000;

/// A client and its task.
#[derive(Debug)]
pub struct Subscriber {
    record: Arc<Mutex<Record>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<()>>,
}

impl Subscriber {
    /// Starts a client that connects as `dial` says, which has to sign it in, and subscribes to channels with history.
    /// `number` spreads the pauses of many clients.
    pub fn start(dial: Dial, number: usize, channels: &[String]) -> Self {
        let record = Record::new(&format!("client-{number}"), channels);
        let record = Arc::new(Mutex::new(record));
        let (stop, stopped) = oneshot::channel();
        let wishes = channels.iter().map(|channel| Wish {
            channel: channel.clone(),
            here: None,
        });
        let life = Life {
            dial,
            number,
            wishes: wishes.collect(),
            record: Arc::clone(&record),
            failures: 0,
        };
        let task = tokio::spawn(life.run(stopped));
        Self { record, stop, task }
    }

    /// Looks at what it has recorded so far.
    pub fn look<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&lock(&self.record))
    }

    /// Whether it has given up, which it does at the first thing that no SDK would live with.
    pub fn has_failed(&self) -> bool {
        self.task.is_finished()
    }

    /// Closes the connection, takes in what came before its end, and returns the record.
    ///
    /// # Errors
    /// What it has given up for.
    pub async fn stop(self) -> Result<Record> {
        let _ = self.stop.send(());
        let ended = self.task.await?;
        let record = lock(&self.record).clone();
        ended.with_context(|| record.client().to_owned())?;
        Ok(record)
    }
}

/// A channel that the client wants.
struct Wish {
    channel: String,
    /// Where the client is in its stream, once it was subscribed.
    here: Option<Position>,
}

impl Wish {
    fn request(&self) -> Request {
        let mut request = SubscribeRequest {
            channel: self.channel.clone(),
            ..SubscribeRequest::default()
        };
        if let Some(Position { epoch, offset }) = self.here.clone() {
            request.recover = true;
            (request.epoch, request.offset) = (epoch, offset);
        }
        Request::Subscribe(request)
    }
}

/// The task of a [`Subscriber`].
struct Life {
    dial: Dial,
    number: usize,
    wishes: Vec<Wish>,
    record: Arc<Mutex<Record>>,
    /// Since something last worked.
    failures: u32,
}

/// What is to be asked for in a connection, and when.
struct Due {
    /// Indices of wishes.
    wishes: Vec<usize>,
    at: Instant,
}

impl Life {
    async fn run(mut self, mut stop: oneshot::Receiver<()>) -> Result<()> {
        loop {
            let close = match self.open().await {
                Err(error) => Close {
                    code: 1006,
                    reason: format!("{error:#}"),
                },
                Ok(client) => match self.stay(client, &mut stop).await? {
                    None => return Ok(()),
                    Some(close) => close,
                },
            };
            lock(&self.record).note_disconnect(close.code, &close.reason);
            if matches!(close.code, 3500..=3999 | 4500..=4999) {
                bail!("dismissed for good: {} {:?}", close.code, close.reason);
            }
            let pause = self.pause();
            tokio::select! {
                _ = &mut stop => return Ok(()),
                () = sleep(pause) => {}
            }
        }
    }

    async fn open(&self) -> Result<Client> {
        let connect = self.dial.connect("");
        timeout(CONNECT_MAX, connect).await.context("connecting")?
    }

    /// Grows with each failure, and differs between clients.
    fn pause(&mut self) -> Duration {
        let (first, longest) = PAUSES;
        let pause = longest.min(first * 2_u32.saturating_pow(self.failures));
        self.failures += 1;
        let percent = u32::try_from(self.number * 61 % 100).unwrap_or(0);
        pause / 2 + pause / 2 * percent / 100
    }

    /// Subscribes and takes in what comes, until the connection ends: how, or `None` if that was asked for.
    async fn stay(
        &mut self,
        mut client: Client,
        stop: &mut oneshot::Receiver<()>,
    ) -> Result<Option<Close>> {
        let mut due = Due {
            wishes: (0..self.wishes.len()).collect(),
            at: Instant::now(),
        };
        loop {
            let next = tokio::select! {
                next = client.next() => next?,
                () = sleep_until(due.at), if !due.wishes.is_empty() => {
                    let commands = self.subscribe(&mut due);
                    match client.send(&commands).await {
                        Ok(()) => continue,
                        // What came before the end is still to be read.
                        Err(_) => client.next().await?,
                    }
                }
                _ = &mut *stop => {
                    client.close().await?;
                    while let Ok(reply) = client.next().await? {
                        self.take_in(reply, &mut due)?;
                    }
                    return Ok(None);
                }
            };
            match next {
                Ok(reply) => self.take_in(reply, &mut due)?,
                Err(close) => return Ok(Some(close)),
            }
        }
    }

    fn subscribe(&self, due: &mut Due) -> Vec<Command> {
        let wishes = due.wishes.drain(..);
        let commands = wishes.map(|at| {
            let id = u32::try_from(at).map_or(0, |at| SUBSCRIBE_ID + at);
            Command::new(id, self.wishes[at].request())
        });
        commands.collect()
    }

    fn take_in(&mut self, reply: Reply, due: &mut Due) -> Result<()> {
        if let Some(push) = &reply.push {
            return self.take_push(push, due);
        }
        let at = usize::try_from(reply.id.saturating_sub(SUBSCRIBE_ID))?;
        if let Some(result) = reply.subscribe {
            self.failures = 0;
            return self.subscribed(at, result);
        }
        let error = reply.error.context("neither subscribed nor refused")?;
        if !error.temporary {
            bail!("refused: {error:?}");
        }
        due.wishes.push(at);
        due.at = Instant::now() + self.pause();
        Ok(())
    }

    fn subscribed(&mut self, at: usize, result: SubscribeResult) -> Result<()> {
        let wish = self.wishes.get_mut(at).context("a subscription")?;
        let (epoch, offset) = (result.epoch, result.offset);
        let there = Position { epoch, offset };
        let event = match wish.here.take() {
            None => Event::Subscribed(there.clone()),
            Some(here) if result.recovered => Event::Recovered(here),
            Some(_) => Event::Missed(there.clone()),
        };
        wish.here = Some(there);
        let channel = wish.channel.clone();
        lock(&self.record).note(&channel, event);
        for publication in &result.publications {
            self.given(&channel, publication)?;
        }
        Ok(())
    }

    fn take_push(&mut self, push: &Push, due: &mut Due) -> Result<()> {
        if let Some(publication) = &push.publication {
            return self.given(&push.channel, publication);
        }
        let come = push.join.as_ref().map(|join| (&join.info, true));
        let gone = push.leave.as_ref().map(|leave| (&leave.info, false));
        if let Some((Some(info), has_come)) = come.or(gone) {
            let event = Event::Announced(info.client.clone(), has_come);
            lock(&self.record).note(&push.channel, event);
        }
        if let Some(unsubscribe) = &push.unsubscribe {
            let event = Event::Unsubscribed(unsubscribe.code);
            lock(&self.record).note(&push.channel, event);
            if unsubscribe.code < 2500 {
                bail!("{} taken for good: {unsubscribe:?}", push.channel);
            }
            let mut wishes = self.wishes.iter();
            let at = wishes.position(|wish| wish.channel == push.channel);
            due.wishes.push(at.context("a channel of ours")?);
            due.at = Instant::now() + self.pause();
        }
        Ok(())
    }

    fn given(&mut self, channel: &str, publication: &Publication) -> Result<()> {
        let message = serde_json::from_slice(&publication.data);
        let message = message.with_context(|| format!("in {channel}: {publication:?}"))?;
        let mut wishes = self.wishes.iter_mut();
        let wish = wishes.find(|wish| wish.channel == channel);
        let wish = wish.with_context(|| format!("never asked for {channel}"))?;
        let here = wish.here.as_mut().context("given before the reply")?;
        here.offset = publication.offset;
        lock(&self.record).note(channel, Event::Given(publication.offset, message));
        Ok(())
    }
}

/// A poisoned lock means that a task panicked, which its end tells.
fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
