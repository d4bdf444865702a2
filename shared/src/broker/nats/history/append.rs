//! Writing to a stream: every message is confirmed by the server before its publisher is told, and only so many wait for
//! that at the same time.
//!
//! A message that the server does not confirm in time may be in the stream or not. What nobody took is known not to be.

use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID};
use async_nats::{HeaderMap, Request};
use bytes::Bytes;

use super::History;
use super::api::{Ack, Api, Refusal};
use super::format::{Place, REMOVED, VERSION, VERSION_EPOCH};
use super::lives::Current;
use super::stored::Stored;
use crate::broker::nats::subject::push_token;
use crate::broker::{Append, Appended, BrokerError, StreamPosition};

/// How often a message is offered again because another one was quicker.
const TRIES: usize = 16;

/// What our streams do not permit, and refuse; but before that, the server looks whether it knows the key. (Expecting
/// another message to be the last one would do as well on one server, but blocks the key in a cluster.)
const NOT_PERMITTED: (&str, &str) = ("Nats-Rollup", "sub");

impl History {
    pub(super) async fn append_once(
        &self,
        place: &Place,
        current: &Current,
        append: &Append,
    ) -> Result<Appended, Refusal> {
        let mut headers = HeaderMap::new();
        if !append.idempotency_key.is_empty() {
            headers.insert(NATS_MESSAGE_ID, place.message_id(&append.idempotency_key));
        }
        if append.version > 0 {
            return self.append_version(place, current, append, headers).await;
        }
        self.store(place, current, headers, append.payload.clone())
            .await
    }

    /// Stored only if nothing has been stored since the last version was looked up.
    async fn append_version(
        &self,
        place: &Place,
        current: &Current,
        append: &Append,
        mut headers: HeaderMap,
    ) -> Result<Appended, Refusal> {
        let mut epoch = String::new();
        push_token(&append.version_epoch, &mut epoch);
        headers.insert(VERSION, append.version.to_string());
        headers.insert(VERSION_EPOCH, epoch.as_str());
        for _ in 0..TRIES {
            let last = self.last(current, place).await?;
            let newest = self.newest_version(current, place, last.as_ref()).await?;
            let is_outdated = newest.is_some_and(|newest| {
                append.version <= newest.version && newest.version_epoch == epoch
            });
            let end = last.map_or(0, |last| last.sequence);
            if is_outdated {
                return self.outdated(place, current, headers, end).await;
            }
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, end.to_string());
            let payload = append.payload.clone();
            match self.store(place, current, headers.clone(), payload).await {
                Err(Refusal::Conflict) => {}
                other => return other,
            }
        }
        Err(busy())
    }

    /// What became of a version that is not newer: a key that is remembered decides before the version does, and only the
    /// server knows.
    async fn outdated(
        &self,
        place: &Place,
        current: &Current,
        headers: HeaderMap,
        end: u64,
    ) -> Result<Appended, Refusal> {
        if let Some(id) = headers.get(NATS_MESSAGE_ID) {
            let mut headers = HeaderMap::new();
            headers.insert(NATS_MESSAGE_ID, id.clone());
            let (name, value) = NOT_PERMITTED;
            headers.insert(name, value);
            match self.store(place, current, headers, Bytes::new()).await {
                Err(Refusal::Conflict) => {}
                other => return other,
            }
        }
        let epoch = current.life.epoch;
        Ok(Appended::Outdated(StreamPosition { offset: end, epoch }))
    }

    /// The newest message with a version that is still kept.
    async fn newest_version(
        &self,
        current: &Current,
        place: &Place,
        last: Option<&Stored>,
    ) -> Result<Option<Stored>, Refusal> {
        match last {
            None => Ok(None),
            Some(last) if last.version > 0 => Ok(Some(last.clone())),
            Some(last) => {
                let all = self
                    .scan(current, place, 1, last.sequence, usize::MAX)
                    .await?;
                let mut newest_first = all.messages.into_iter().rev();
                Ok(newest_first.find(|stored| stored.version > 0))
            }
        }
    }

    /// Forgets what is stored under a channel's subject. A removal that got lost half-way is completed by the next one.
    pub(super) async fn remove_once(
        &self,
        place: &Place,
        current: &Current,
    ) -> Result<(), Refusal> {
        for _ in 0..TRIES {
            let Some(last) = self.last(current, place).await? else {
                return Ok(());
            };
            let mut removal = last.sequence;
            if last.removed.is_none() {
                let newest = self.newest_version(current, place, Some(&last)).await?;
                let mut headers = HeaderMap::new();
                headers.insert(REMOVED, last.sequence.to_string());
                headers.insert(
                    NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
                    last.sequence.to_string(),
                );
                if let Some(newest) = newest {
                    headers.insert(VERSION, newest.version.to_string());
                    headers.insert(VERSION_EPOCH, newest.version_epoch);
                }
                match self.store(place, current, headers, Bytes::new()).await {
                    Err(Refusal::Conflict) => continue,
                    other => removal = other?.position().offset,
                }
            }
            let name = &current.life.name;
            return self.api.purge(name, place.subject.as_str(), removal).await;
        }
        Err(busy())
    }

    /// Publishes, and waits for the confirmation.
    async fn store(
        &self,
        place: &Place,
        current: &Current,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Appended, Refusal> {
        let size = payload.len();
        let limit = self.api.client.max_payload();
        let too_large = |refusal| match refusal {
            Refusal::Failed(BrokerError::TooLarge { .. }) => {
                BrokerError::TooLarge { size, limit }.into()
            }
            other => other,
        };
        let before = current.life.seen();
        let request = Request::new().headers(headers).payload(payload);
        let answer = self.api.request(place.subject.to_string(), request).await;
        let ack = Api::ack(&answer.map_err(too_large)?, size, limit)?;
        self.accept(&ack, current, before)
    }

    /// Where a message is that was confirmed. `before`: what had been seen of the stream when it was sent.
    fn accept(&self, ack: &Ack, current: &Current, before: u64) -> Result<Appended, Refusal> {
        let Some(life) = self.config.lives.meet(&ack.stream) else {
            let reason = format!("the stream {} took what was meant for another", ack.stream);
            return Err(BrokerError::Refused(reason).into());
        };
        let is_same = current.life.is_named(&ack.stream);
        if is_same && !ack.duplicate && ack.seq <= before {
            life.lose();
            return Err(Refusal::NoStream);
        }
        if !is_same {
            // Somebody else has begun a new life of it.
            self.config.lives.doubt();
        }
        life.see(ack.seq);
        let position = StreamPosition {
            offset: ack.seq,
            epoch: life.epoch,
        };
        Ok(if ack.duplicate {
            Appended::Repeated(position)
        } else {
            Appended::Published(position)
        })
    }
}

fn busy() -> Refusal {
    BrokerError::Unavailable("others publish to the channel all the time".to_owned()).into()
}
