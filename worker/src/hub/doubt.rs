//! Streams of which messages may be missing without one behind them that shows it.
//!
//! Owns: asking the broker where such streams end, many with each question and few questions at a time, and what follows
//! from the answer. Until then a stream is followed as ever, and nothing is given out of the shard's own memory.
//!
//! Where there is no reason for doubt streams are asked about all the same: once soon after the channel was opened, since
//! the servers of a cluster learn of a subscription one after the other, and whenever nothing was heard of for a while,
//! since a lost last message is followed by none that shows it.

use std::time::{Duration, Instant};

use flotilla_shared::broker::StreamPosition;
use flotilla_shared::channel::Channel;

use super::slot::State;
use super::stream::Stream;
use super::{Hub, Member, slot_of, token_of};

/// Most streams in one question.
const STREAMS_MAX: usize = 1024;

/// Most questions that are open at the same time.
const OPEN_MAX: usize = 4;

/// How long a subscription takes at most to be known to all servers of a cluster, with some distance.
const SPREAD: Duration = Duration::from_millis(100);

/// Within this time all quiet channels are asked about.
const ROUND: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    /// Something was lost, and is not on its way. If not, the connection was lost, and maybe something with it.
    is_loss: bool,
    /// There is no reason for it.
    is_routine: bool,
    pub(super) check: Check,
}

/// How far asking has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// In the hub's queue.
    Due,
    /// With this ticket.
    Asked(u32),
    /// The stream goes further than it has been delivered here. The rest may be on its way.
    Behind {
        until: StreamPosition,
        since: Instant,
    },
}

/// What the end of a stream says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learnt {
    NothingIsMissing,
    /// The broker may still deliver it.
    SomethingIsMissing,
    SomethingIsLost,
}

/// Asks the shard to read where a channel's stream ends, and to report to [`Hub::checked`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndQuery {
    pub(crate) channel: Channel,
    /// The channel's.
    pub(crate) token: u64,
    /// This question's own.
    pub(crate) ticket: u32,
}

impl<M> Stream<M> {
    /// From now on nothing is taken for granted, not even that the history was not removed. True: the stream has to be
    /// queued. Whoever says `is_loss` sees to it that no page is taken for an answer that was read before.
    #[must_use]
    pub(super) fn doubt(&mut self, is_loss: bool) -> bool {
        self.ring.clear();
        let before = self.doubt.replace(Doubt {
            is_loss,
            is_routine: false,
            check: Check::Due,
        });
        before.is_none_or(|doubt| doubt.check != Check::Due)
    }

    /// The stream is to be asked about as a matter of routine. True: it has to be queued.
    #[must_use]
    fn ask_about(&mut self) -> bool {
        let is_new = self.doubt.is_none() && self.repair.is_none();
        if is_new {
            self.doubt = Some(Doubt {
                is_loss: false,
                is_routine: true,
                check: Check::Due,
            });
        }
        is_new
    }

    /// Whether nothing may be given out of the shard's own memory.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubt.is_some_and(|doubt| !doubt.is_routine)
    }

    pub(super) fn has_loss(&self) -> bool {
        self.doubt.is_some_and(|doubt| doubt.is_loss)
    }

    /// The stream goes as far as that, though where it ends need not have been asked for. True: the hub has to look at the
    /// time.
    #[must_use]
    pub(super) fn reaches_to(&mut self, end: StreamPosition, now: Instant) -> bool {
        let here = self.position;
        if end.epoch != here.epoch || end.offset <= here.offset {
            return false;
        }
        match &mut self.doubt {
            // It is being asked for, or was; whatever is further then is found there.
            Some(doubt) if !doubt.is_routine => match &mut doubt.check {
                Check::Behind { until, .. } => until.offset = until.offset.max(end.offset),
                Check::Due | Check::Asked(_) => return false,
            },
            _ => {
                self.doubt = Some(Doubt {
                    is_loss: false,
                    is_routine: false,
                    check: Check::Behind {
                        until: end,
                        since: now,
                    },
                });
            }
        }
        true
    }

    /// Learns where the stream ended after the doubt came up.
    pub(super) fn learn(&mut self, end: StreamPosition, now: Instant) -> Learnt {
        let is_other_life = end.epoch != self.position.epoch;
        let is_behind = end.offset > self.position.offset;
        // Where the last message has been forgotten the end is before it, or 0, and there may have been another one behind.
        let is_proof = end.offset > 0 && end.offset == self.position.offset || self.is_fresh(now);
        if !is_other_life && !is_behind && (is_proof || !self.is_doubtful()) {
            self.doubt = None;
            if is_proof {
                self.prove(now);
            }
            return Learnt::NothingIsMissing;
        }
        if is_other_life || self.has_loss() || !is_behind {
            self.move_to(end, now);
            // That life may be the older one, if news of the other came since this was read. The next answer will tell.
            self.doubt = is_other_life.then_some(Doubt {
                is_loss: false,
                is_routine: false,
                check: Check::Due,
            });
            return Learnt::SomethingIsLost;
        }
        let (until, since) = (end, now);
        self.doubt = Some(Doubt {
            is_loss: false,
            is_routine: false,
            check: Check::Behind { until, since },
        });
        Learnt::SomethingIsMissing
    }
}

impl<M: Member> Hub<M> {
    /// The connection to the broker is back. Like [`Hub::receive`], a part of a tick.
    pub(crate) fn reconnected(&mut self) {
        self.ring_bytes.open();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let State::Opening { is_doubtful, .. } = &mut slot.state {
                *is_doubtful = true;
            } else if let Some(stream) = &mut slot.stream
                && stream.doubt(false)
            {
                let token = token_of(index as u32, slot.generation);
                self.doubted.push_back(token);
            }
        }
    }

    /// What to ask the broker now, with one question; nothing, if there is nothing or enough is asked already. To be called
    /// now and then, until it is nothing.
    pub(crate) fn due_checks(&mut self) -> Vec<EndQuery> {
        let mut queries = Vec::new();
        while self.open_checks < OPEN_MAX && queries.len() < STREAMS_MAX {
            let Some(token) = self.doubted.pop_front() else {
                break;
            };
            self.tickets = self.tickets.wrapping_add(1);
            let ticket = self.tickets;
            if let Some((_, slot)) = slot_of(&mut self.slots, token)
                && let Some(channel) = &slot.channel
                && let Some(stream) = &mut slot.stream
                && let Some(doubt) = &mut stream.doubt
                && doubt.check == Check::Due
            {
                doubt.check = Check::Asked(ticket);
                queries.push(EndQuery {
                    channel: channel.clone(),
                    token,
                    ticket,
                });
            }
        }
        self.open_checks += usize::from(!queries.is_empty());
        queries
    }

    /// The answer to what [`Hub::due_checks`] said; `None`: there is none, and it will be asked again.
    pub(crate) fn checked(
        &mut self,
        queries: &[EndQuery],
        ends: Option<Vec<StreamPosition>>,
        now: Instant,
    ) {
        self.open_checks -= 1;
        let mut ends = ends.into_iter().flatten();
        for EndQuery { token, ticket, .. } in queries {
            self.checked_one(*token, *ticket, ends.next(), now);
        }
    }

    fn checked_one(&mut self, token: u64, ticket: u32, end: Option<StreamPosition>, now: Instant) {
        let slot = slot_of(&mut self.slots, token).map(|(_, slot)| slot);
        let Some(stream) = slot.and_then(|slot| slot.stream.as_mut()) else {
            return;
        };
        // Something else may have answered it, or have made the answer worthless.
        let asked = Some(Check::Asked(ticket));
        let Some(doubt) = stream
            .doubt
            .as_mut()
            .filter(|doubt| Some(doubt.check) == asked)
        else {
            return;
        };
        let Some(end) = end else {
            doubt.check = Check::Due;
            self.doubted.push_back(token);
            return;
        };
        match stream.learn(end, now) {
            Learnt::NothingIsMissing => {}
            Learnt::SomethingIsMissing => self.waiting.push(token),
            Learnt::SomethingIsLost => {
                if stream.doubt.is_some() {
                    self.doubted.push_back(token);
                }
                self.lose_continuity(token);
            }
        }
    }

    /// Looks at the next few channels, so that [`ROUND`] sees all of them, and at those that were opened a little while ago.
    pub(super) fn look_around(&mut self, now: Instant) {
        while let Some((at, token)) = self.fresh.front().copied()
            && now.saturating_duration_since(at) >= SPREAD
        {
            self.fresh.pop_front();
            if let Some((_, slot)) = slot_of(&mut self.slots, token)
                && let Some(stream) = &mut slot.stream
                && stream.ask_about()
            {
                self.doubted.push_back(token);
            }
        }
        let passed = now.saturating_duration_since(self.looked_at);
        let share = passed.as_secs_f64() / ROUND.as_secs_f64();
        let count = (self.slots.len() as f64 * share) as usize;
        if count == 0 {
            return;
        }
        self.looked_at = now;
        for _ in 0..count.min(self.slots.len()) {
            self.quiet_hand = (self.quiet_hand + 1) % self.slots.len();
            let index = self.quiet_hand as u32;
            if let Some(slot) = self.slots.get_mut(self.quiet_hand)
                && !slot.is_empty()
                && let Some(stream) = &mut slot.stream
                && !std::mem::take(&mut stream.was_heard)
                && stream.ask_about()
            {
                self.doubted.push_back(token_of(index, slot.generation));
            }
        }
    }
}
