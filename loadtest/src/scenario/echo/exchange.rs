//! What one client sent, and what of it came back. Does no I/O.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use flotilla_shared::protocol::types::Reply;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Measures;

/// A message that is on its way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    message: u64,
    /// Of its `publish` command.
    id: u32,
    due: Instant,
    at: Instant,
}

/// A message's payload: JSON, which either encoding can carry.
#[derive(Serialize, Deserialize)]
struct Payload<'a> {
    client: u64,
    message: u64,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    padding: &'a str,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Exchange {
    client: u64,
    padding: String,
    /// In the order in which they were sent, which is the order in which they have to come back.
    on_their_way: VecDeque<Sent>,
    measures: Arc<Measures>,
}

impl Exchange {
    pub(super) fn new(client: u64, payload_bytes: usize, measures: Arc<Measures>) -> Self {
        let overhead = r#"{"client":,"message":0,"padding":""}"#.len() + client.to_string().len();
        Self {
            client,
            padding: "x".repeat(payload_bytes.saturating_sub(overhead)),
            on_their_way: VecDeque::new(),
            measures,
        }
    }

    /// The payload of the message with this number.
    pub(super) fn payload(&self, message: u64) -> Bytes {
        let digits = message.checked_ilog10().unwrap_or(0) as usize;
        let payload = Payload {
            client: self.client,
            message,
            padding: self.padding.get(digits..).unwrap_or_default(),
        };
        // It cannot fail; an empty payload would come back as a loss.
        serde_json::to_vec(&payload).unwrap_or_default().into()
    }

    pub(super) fn sent(&mut self, message: u64, id: u32, due: Instant, at: Instant) {
        self.measures.sent.fetch_add(1, Ordering::Relaxed);
        self.on_their_way.push_back(Sent {
            message,
            id,
            due,
            at,
        });
    }

    /// Whether something is still on its way.
    pub(super) fn is_waiting(&self) -> bool {
        !self.on_their_way.is_empty()
    }

    pub(super) fn received(&mut self, reply: &Reply, now: Instant) {
        if let Some(error) = &reply.error {
            self.refused(reply.id, error.code);
        }
        let publication = reply
            .push
            .as_ref()
            .and_then(|push| push.publication.as_ref());
        let Some(publication) = publication else {
            return;
        };
        if let Ok(payload) = serde_json::from_slice::<Payload<'_>>(&publication.data)
            && payload.client == self.client
        {
            self.returned(payload.message, now);
        }
    }

    /// Counts what has not come back as lost.
    pub(super) fn finish(&mut self) {
        self.lost(self.on_their_way.len());
        self.on_their_way.clear();
    }

    fn refused(&mut self, id: u32, code: u32) {
        let position = self.on_their_way.iter().position(|sent| sent.id == id);
        if position.is_some_and(|at| self.on_their_way.remove(at).is_some()) {
            self.measures.refused.count(&format!("error {code}"));
        }
    }

    /// What was sent before and has not come back by now is lost: nothing overtakes in a channel.
    fn returned(&mut self, message: u64, now: Instant) {
        let found = self
            .on_their_way
            .binary_search_by_key(&message, |sent| sent.message);
        let Ok(before) = found else {
            self.measures.out_of_order.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.lost(before);
        if let Some(sent) = self.on_their_way.drain(..=before).next_back() {
            self.measures.received.fetch_add(1, Ordering::Relaxed);
            self.measures.latency.record(now - sent.due);
            self.measures.round_trip.record(now - sent.at);
        }
    }

    fn lost(&self, count: usize) {
        self.measures
            .lost
            .fetch_add(count as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use flotilla_shared::protocol::types::{Error, Publication, Push};

    use super::*;

    struct Bench {
        exchange: Exchange,
        measures: Arc<Measures>,
        start: Instant,
    }

    impl Bench {
        /// Client 3, which has sent this many messages, a millisecond late each.
        fn sent(count: u64) -> Self {
            let measures = Arc::new(Measures::new().unwrap());
            let start = Instant::now();
            let mut exchange = Exchange::new(3, 128, measures.clone());
            for message in 0..count {
                let at = start + Duration::from_millis(1);
                exchange.sent(message, message as u32 + 10, start, at);
            }
            Self {
                exchange,
                measures,
                start,
            }
        }

        fn returned(&mut self, message: u64) {
            let publication = Publication {
                data: self.exchange.payload(message),
                ..Publication::default()
            };
            let push = Reply::push(Push::publication("mine", publication));
            let now = self.start + Duration::from_millis(5);
            self.exchange.received(&push, now);
        }

        /// Received, lost, out of order.
        fn counts(&self) -> [u64; 3] {
            let Measures {
                received,
                lost,
                out_of_order,
                ..
            } = &*self.measures;
            [received, lost, out_of_order].map(|count| count.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn latency_counts_from_the_moment_a_message_was_due() {
        let mut bench = Bench::sent(1);
        bench.returned(0);
        let p50 = |summary: crate::stats::Summary| summary.p50.round();
        assert_eq!(p50(bench.measures.latency.summary()), 5.0);
        assert_eq!(p50(bench.measures.round_trip.summary()), 4.0);
        assert!(!bench.exchange.is_waiting());
    }

    #[test]
    fn a_message_that_is_skipped_or_never_comes_is_lost() {
        let mut bench = Bench::sent(4);
        bench.returned(0);
        bench.returned(2);
        assert_eq!(bench.counts(), [2, 1, 0]);
        assert!(bench.exchange.is_waiting());
        bench.exchange.finish();
        assert_eq!(bench.counts(), [2, 2, 0]);
    }

    #[test]
    fn a_message_that_comes_twice_or_late_is_out_of_order() {
        let mut bench = Bench::sent(3);
        for message in [1, 1, 0, 2] {
            bench.returned(message);
        }
        assert_eq!(bench.counts(), [2, 1, 2]);
    }

    #[test]
    fn a_refused_message_is_not_waited_for() {
        let mut bench = Bench::sent(2);
        let refusal = Reply {
            id: 10,
            error: Some(Error {
                code: 103,
                ..Error::default()
            }),
            ..Reply::default()
        };
        bench.exchange.received(&refusal, bench.start);
        bench.returned(1);
        assert_eq!(bench.counts(), [1, 0, 0]);
        let refused: Vec<_> = bench.measures.refused.totals().into_iter().collect();
        assert_eq!(refused, [("error 103".to_owned(), 1)]);
        assert!(!bench.exchange.is_waiting());
    }

    #[test]
    fn payloads_have_the_size_that_was_asked_for() {
        let exchange = Bench::sent(0).exchange;
        for message in [0, 9, 10, 12345] {
            assert_eq!(exchange.payload(message).len(), 128);
        }
    }

    #[test]
    fn messages_of_others_do_not_count() {
        let mut bench = Bench::sent(1);
        bench.exchange.client = 4;
        let other = bench.exchange.payload(0);
        bench.exchange.client = 3;
        for data in [other, Bytes::from_static(b"[]")] {
            let publication = Publication {
                data,
                ..Publication::default()
            };
            let push = Reply::push(Push::publication("mine", publication));
            bench.exchange.received(&push, bench.start);
        }
        assert_eq!(bench.counts(), [0, 0, 0]);
    }
}
