//! Where many channels end, in few requests.

use std::collections::HashMap;

use async_nats::StatusCode;
use async_nats::header::{NATS_SEQUENCE, NATS_SUBJECT};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::History;
use super::api::Refusal;
use super::format::Place;
use super::lives::Current;
use super::read::unexpected;
use crate::broker::StreamPosition;

/// Most channels asked for in one request. The server answers for no more than 1024.
const CHANNELS_MAX: usize = 256;

/// Most bytes of subjects in one request; servers take messages of a megabyte by default.
const SUBJECTS_MAX_BYTES: usize = 128 * 1024;

/// Channels asked for one by one at the same time.
const SINGLE: usize = 16;

impl History {
    /// Of channels that are all in one partition.
    pub(super) async fn ends_once(
        &self,
        places: &[&Place],
        current: &Current,
    ) -> Result<Vec<StreamPosition>, Refusal> {
        let mut ends = Vec::with_capacity(places.len());
        let mut rest = places;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take(CHANNELS_MAX).take_while(|place| {
                bytes += place.subject.len() + 4;
                bytes <= SUBJECTS_MAX_BYTES
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            ends.extend(self.ends_of(now, current).await?);
            rest = later;
        }
        Ok(ends)
    }

    async fn ends_of(
        &self,
        places: &[&Place],
        current: &Current,
    ) -> Result<Vec<StreamPosition>, Refusal> {
        let replicated = self.config.replicas > 1;
        let reached = if replicated {
            self.api.info(&current.life.name).await?.state.last_seq
        } else {
            0
        };
        let found = self.lasts(places, current, reached).await?;
        let epoch = current.life.epoch;
        let mut asked = Vec::with_capacity(places.len());
        for place in places {
            let offset = found.get(place.subject.as_str()).copied();
            asked.push(async move {
                let offset = match offset {
                    Some(offset) => offset,
                    // A replica that has nothing does not say how far it has come.
                    None if replicated => {
                        let last = self.last(current, place).await?;
                        last.map_or(0, |last| last.sequence)
                    }
                    None => 0,
                };
                Ok(StreamPosition { offset, epoch })
            });
        }
        stream::iter(asked).buffered(SINGLE).try_collect().await
    }

    /// The sequences of the last messages, by subject, of whom has come as far as `reached`.
    async fn lasts(
        &self,
        places: &[&Place],
        current: &Current,
        reached: u64,
    ) -> Result<HashMap<String, u64>, Refusal> {
        let subjects: Vec<&str> = places.iter().map(|place| place.subject.as_str()).collect();
        let body = json!({ "multi_last": subjects, "batch": subjects.len() });
        let mut answers = self.ask(&current.life, &body).await?;
        let mut lasts = HashMap::new();
        loop {
            let message = self.next(&mut answers).await?;
            let header = |name: &str| {
                let headers = message.headers.as_ref();
                headers
                    .and_then(|headers| headers.get(name))
                    .map(|value| value.as_str())
            };
            match message.status {
                Some(status) if status.as_u16() == 204 => {
                    let up_to = header("Nats-UpTo-Sequence").and_then(|text| text.parse().ok());
                    return match up_to {
                        Some::<u64>(up_to) if up_to < reached => Err(Refusal::Behind),
                        _ => Ok(lasts),
                    };
                }
                Some(StatusCode::NOT_FOUND) => return Ok(lasts),
                Some(StatusCode::NO_RESPONDERS) => return Err(Refusal::NoStream),
                Some(status) => return Err(unexpected(status)),
                None => {}
            }
            let sequence = header(NATS_SEQUENCE.as_ref()).and_then(|text| text.parse().ok());
            if let (Some(subject), Some(sequence)) = (header(NATS_SUBJECT.as_ref()), sequence) {
                current.life.see(sequence);
                lasts.insert(subject.to_owned(), sequence);
            }
        }
    }
}
