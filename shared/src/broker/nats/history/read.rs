//! Reading a stream by direct gets, without any consumer, on a connection that does nothing else: the server answers
//! them where it reads from the connection, so that all else would wait.
//!
//! Any replica may answer a direct get, also one that is behind. So where a stream ends is asked first, of its leader if
//! there is more than one replica, and what is read has to reach that far.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Request, StatusCode, Subscriber};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::History;
use super::api::Refusal;
use super::format::Place;
use super::lives::{Current, Life};
use super::page::{self, Scanned};
use super::stored::{Stored, pending};
use crate::broker::{BrokerError, HistoryPage, HistoryQuery, Retention};

/// Most messages asked for at once.
pub(super) const BATCH_MAX: usize = 1024;

/// Ends a batch.
const END_OF_BATCH: u16 = 204;

impl History {
    pub(super) async fn read_once(
        &self,
        place: &Place,
        current: &Current,
        retention: Retention,
        query: HistoryQuery,
    ) -> Result<HistoryPage, Refusal> {
        let last = self.last(current, place).await?;
        let epoch = current.life.epoch;
        if let Some(page) = page::of_the_end(last.as_ref(), epoch, retention, query) {
            return Ok(page);
        }
        let end = last.map_or(0, |last| last.sequence);
        let (from, most) = match query.since {
            // The position itself, as proof; and one more, to see that there is more.
            Some(since) if !query.reverse => (since.max(1), query.limit.saturating_add(2)),
            _ => (1, usize::MAX),
        };
        let mut scanned = self.scan(current, place, from, end, most).await?;
        // Whatever was appended meanwhile may have displaced what was still to be read.
        if scanned.may_have_gaps
            && query.since.is_some()
            && !query.reverse
            && let Some(first) = scanned.messages.first()
        {
            let kept = self.first_from(current, place, first.sequence).await?;
            scanned.forget_before(kept);
        }
        Ok(page::of(
            scanned,
            end,
            epoch,
            current.size_min,
            retention,
            query,
        ))
    }

    /// The channel's last message.
    pub(super) async fn last(
        &self,
        current: &Current,
        place: &Place,
    ) -> Result<Option<Stored>, Refusal> {
        let body = json!({ "last_by_subj": place.subject.as_str() });
        self.single(&current.life, &body).await
    }

    /// The channel's first message at `sequence` or behind it; `None`: there is none.
    async fn first_from(
        &self,
        current: &Current,
        place: &Place,
        sequence: u64,
    ) -> Result<Option<u64>, Refusal> {
        let body = json!({ "seq": sequence, "next_by_subj": place.subject.as_str() });
        let found = self.single(&current.life, &body).await?;
        Ok(found.map(|found| found.sequence))
    }

    /// One message, as far as the stream has come.
    async fn single(&self, life: &Life, body: &Value) -> Result<Option<Stored>, Refusal> {
        if self.config.replicas > 1 {
            let message = self.api.leader_message(&life.name, body).await?;
            return message.as_ref().map(Stored::raw).transpose();
        }
        self.connected().await;
        let request = Request::new().payload(body.to_string().into());
        let subject = format!("$JS.API.DIRECT.GET.{}", life.name);
        let message = self.reader.request(subject, request).await?;
        match message.status {
            None => Ok(Some(Stored::direct(message)?)),
            Some(StatusCode::NOT_FOUND) => Ok(None),
            Some(status) => Err(unexpected(status)),
        }
    }

    /// The messages of a channel from `from` on: at least up to `end`, or `most` of them.
    pub(super) async fn scan(
        &self,
        current: &Current,
        place: &Place,
        from: u64,
        end: u64,
        most: usize,
    ) -> Result<Scanned, Refusal> {
        let mut scanned = Scanned::default();
        let mut next = from;
        loop {
            let batch = BATCH_MAX.min(most - scanned.messages.len());
            let subject = place.subject.as_str();
            let body = json!({ "seq": next, "next_by_subj": subject, "batch": batch });
            let (messages, total) = self.batch(&current.life, &body).await?;
            if scanned.messages.is_empty() {
                scanned.total = total;
            } else {
                scanned.may_have_gaps = true;
            }
            let Some(last) = messages.last().map(|last| last.sequence) else {
                // Who answers is behind; or what was there is gone, and the end is another one now.
                return Err(Refusal::Behind);
            };
            scanned.messages.extend(messages);
            current.life.see(last);
            if last >= end || scanned.messages.len() >= most {
                scanned.may_have_gaps |= last > end;
                return Ok(scanned);
            }
            next = last + 1;
        }
    }

    /// One batch, and how many messages there are from its first one on.
    pub(super) async fn batch(
        &self,
        life: &Life,
        body: &Value,
    ) -> Result<(Vec<Stored>, u64), Refusal> {
        let mut answers = self.ask(life, body).await?;
        let (mut messages, mut total) = (Vec::new(), 0);
        loop {
            let message = self.next(&mut answers).await?;
            match message.status {
                Some(status) if status.as_u16() == END_OF_BATCH => break,
                Some(StatusCode::NOT_FOUND) => break,
                Some(StatusCode::NO_RESPONDERS) => return Err(Refusal::NoStream),
                Some(status) => return Err(unexpected(status)),
                None => {}
            }
            if messages.is_empty() {
                total = pending(message.headers.as_ref()) + 1;
            }
            messages.push(Stored::direct(message)?);
        }
        Ok((messages, total))
    }

    /// Sends a request that has several answers.
    pub(super) async fn ask(&self, life: &Life, body: &Value) -> Result<Subscriber, Refusal> {
        self.connected().await;
        let client = &self.reader.client;
        let closed = || Refusal::from(BrokerError::Closed);
        let inbox = client.new_inbox();
        let answers = client
            .subscribe(inbox.clone())
            .await
            .map_err(|_| closed())?;
        let subject = format!("$JS.API.DIRECT.GET.{}", life.name);
        let body = body.to_string().into();
        let sent = client.publish_with_reply(subject, inbox, body).await;
        sent.map_err(|_| closed())?;
        Ok(answers)
    }

    pub(super) async fn next(
        &self,
        answers: &mut Subscriber,
    ) -> Result<async_nats::Message, Refusal> {
        let answer = timeout(self.reader.patience, answers.next()).await;
        let answer = answer.map_err(|_| BrokerError::Timeout)?;
        Ok(answer.ok_or(BrokerError::Closed)?)
    }

    /// Waits for the connection: it may come back a moment after the other one. Whoever calls does not wait for ever.
    async fn connected(&self) {
        while self.reader.client.connection_state() != State::Connected {
            sleep(CATCH_UP).await;
        }
    }
}

pub(super) fn unexpected(status: StatusCode) -> Refusal {
    BrokerError::Refused(format!("JetStream answers a read with status {status}")).into()
}

/// How long to leave a replica that is behind, or a connection that is not there, before looking again.
pub(super) const CATCH_UP: Duration = Duration::from_millis(20);
