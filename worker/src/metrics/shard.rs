//! The counters of one shard's data path: plain numbers, added to the process' series now and then.

use std::cell::Cell;
use std::time::Duration;

use flotilla_shared::broker::BrokerError;
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::protocol::types::{Reply, Request};
use prometheus::IntGauge;
use prometheus::local::{LocalHistogram, LocalIntCounter};

use super::messages::{RECEIVED_EXTRA, RECOVERED, UNRECOVERABLE};
use super::{Dropped, Metrics, SentType, Unpublished};
use crate::hub::{Fanout, Gap, Recovery};
use crate::rates::Limit;

/// See the module's documentation; [`ShardMetrics::flush`] makes the counts visible.
pub(crate) struct ShardMetrics {
    process: Metrics,
    received: Vec<(&'static str, LocalIntCounter)>,
    sent: [LocalIntCounter; SentType::ALL.len()],
    received_bytes: Cell<u64>,
    sent_bytes: Cell<u64>,
    delivered: Cell<u64>,
    repeated: Cell<u64>,
    fanout_recipients: LocalHistogram,
    channels: Cell<i64>,
    subscriptions: Cell<i64>,
    send_queue_bytes: Cell<i64>,
    members_remembered: Cell<i64>,
}

impl ShardMetrics {
    pub(crate) fn new(process: Metrics) -> Self {
        let messages = &process.messages;
        let labels = Request::LABELS.iter().chain(&RECEIVED_EXTRA);
        Self {
            received: labels
                .map(|label| {
                    (
                        *label,
                        messages.received.with_label_values(&[*label]).local(),
                    )
                })
                .collect(),
            sent: SentType::ALL
                .map(|sent| messages.sent.with_label_values(&[sent.label()]).local()),
            received_bytes: Cell::new(0),
            sent_bytes: Cell::new(0),
            delivered: Cell::new(0),
            repeated: Cell::new(0),
            fanout_recipients: messages.fanout_recipients.local(),
            channels: Cell::new(0),
            subscriptions: Cell::new(0),
            send_queue_bytes: Cell::new(0),
            members_remembered: Cell::new(0),
            process,
        }
    }

    /// The series of the whole process, for what happens seldom.
    pub(crate) fn process(&self) -> &Metrics {
        &self.process
    }

    /// Counts a command by its label.
    pub(crate) fn received(&self, label: &'static str) {
        if let Some((_, counter)) = self.received.iter().find(|(known, _)| *known == label) {
            counter.inc();
        }
    }

    pub(crate) fn sent(&self, sent: SentType) {
        self.sent_by(sent, 1);
    }

    fn sent_by(&self, sent: SentType, count: u64) {
        let at = SentType::ALL.iter().position(|known| *known == sent);
        if let Some(counter) = at.and_then(|at| self.sent.get(at)) {
            counter.inc_by(count);
        }
    }

    pub(crate) fn dropped(&self, channel: &Channel, reason: Dropped, count: u64) {
        self.process.losses.dropped(channel, reason, count);
    }

    /// Counts a publication that is refused. Its namespace is a configured one.
    pub(crate) fn unpublished(&self, channel: &Channel, reason: Unpublished) {
        self.process.losses.unpublished(channel, reason);
    }

    /// Counts a reply or push that is no publication.
    pub(crate) fn replied(&self, reply: &Reply) {
        if let Some(error) = &reply.error {
            let code = ErrorCode::ALL.iter().find(|code| code.code() == error.code);
            if let Some(code) = code {
                self.process
                    .messages
                    .command_errors
                    .with_label_values(&[code.label()])
                    .inc();
            }
            self.sent(SentType::Error);
        } else if reply.push.is_some() {
            self.sent(SentType::Push);
        } else {
            self.sent(SentType::Reply);
        }
    }

    /// Counts that a client has come up against a limit.
    pub(crate) fn limited(&self, limit: Limit) {
        let counters = &self.process.messages.limited;
        counters.with_label_values(&limit.labels()).inc();
    }

    pub(crate) fn received_bytes(&self, bytes: usize) {
        self.received_bytes
            .set(self.received_bytes.get() + bytes as u64);
    }

    pub(crate) fn sent_bytes(&self, bytes: usize) {
        self.sent_bytes.set(self.sent_bytes.get() + bytes as u64);
    }

    /// Counts a publication that the broker did not take, and says what its publisher is told.
    pub(crate) fn publish_failed(&self, channel: &Channel, error: &BrokerError) -> ErrorCode {
        let code = match error {
            BrokerError::TooLarge { .. } => ErrorCode::LimitExceeded,
            _ => ErrorCode::Internal,
        };
        self.unpublished(channel, code.into());
        code
    }

    pub(crate) fn ping_answered(&self, rtt: Duration) {
        self.process.messages.ping_rtt.observe(rtt.as_secs_f64());
    }

    /// Counts what one tick of the hub did.
    pub(crate) fn fanned_out(&self, fanout: &Fanout) {
        self.delivered.set(self.delivered.get() + fanout.delivered);
        self.sent_bytes(fanout.linked_bytes);
        self.sent_by(SentType::Message, fanout.delivered);
        for (channel, copies) in &fanout.refused {
            self.dropped(channel, Dropped::QueueFull, *copies);
        }
        for channel in &fanout.malformed {
            self.dropped(channel, Dropped::Malformed, 1);
        }
        self.repeated.set(self.repeated.get() + fanout.repeated);
    }

    /// Counts what became of a gap.
    pub(crate) fn gap(&self, channel: &Channel, gap: Gap) {
        let gaps = &self.process.messages.streams.gaps;
        gaps.with_label_values(&[channel.namespace(), gap.label()])
            .inc();
    }

    /// Counts a recovery. Only channels of namespaces that are configured come so far.
    pub(crate) fn recovered(&self, channel: &Channel, recovery: &Recovery) {
        let result = match recovery {
            Recovery::Recovered(_) => RECOVERED,
            Recovery::Unrecoverable => UNRECOVERABLE,
        };
        let recoveries = &self.process.messages.streams.recoveries;
        recoveries
            .with_label_values(&[channel.namespace(), result])
            .inc();
    }

    /// Counts one publication's recipients.
    pub(crate) fn fanned_out_to(&self, recipients: usize) {
        self.fanout_recipients.observe(recipients as f64);
    }

    /// Adds this shard's counts to the process' series.
    pub(crate) fn flush(&self, channels: usize, subscriptions: usize) {
        let commands = self.received.iter().map(|(_, counter)| counter);
        for counter in commands.chain(&self.sent) {
            counter.flush();
        }
        self.fanout_recipients.flush();
        let messages = &self.process.messages;
        messages.received_bytes.inc_by(self.received_bytes.take());
        messages.sent_bytes.inc_by(self.sent_bytes.take());
        messages.delivered.inc_by(self.delivered.take());
        messages.streams.repeated.inc_by(self.repeated.take());
        shift(&messages.channels, &self.channels, channels);
        shift(&messages.subscriptions, &self.subscriptions, subscriptions);
    }

    /// What the shard's outboxes hold at this moment.
    pub(crate) fn send_queue_bytes(&self, bytes: usize) {
        shift(
            &self.process.connections.send_queue_bytes,
            &self.send_queue_bytes,
            bytes,
        );
    }

    /// What the rolls of the shard's channels hold at this moment.
    pub(crate) fn members_remembered(&self, members: usize) {
        shift(
            &self.process.fleet.members_remembered,
            &self.members_remembered,
            members,
        );
    }
}

/// Moves a gauge that several shards share by what changed in this one.
fn shift(gauge: &IntGauge, told: &Cell<i64>, now: usize) {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    gauge.add(now - told.replace(now));
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    #[test]
    fn what_a_stream_repeated_is_counted_once() {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let shard = ShardMetrics::new(metrics.clone());
        let fanout = Fanout {
            repeated: 2,
            ..Fanout::default()
        };
        shard.fanned_out(&fanout);
        shard.fanned_out(&fanout);
        for _ in 0..2 {
            shard.flush(0, 0);
            let messages = &metrics.messages.streams;
            assert_eq!(messages.repeated.get(), 4);
        }
    }
}
