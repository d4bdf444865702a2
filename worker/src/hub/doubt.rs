//! Streams of which messages may be missing without one behind them that shows it.
//!
//! Owns: asking the broker where such a stream ends, of all of them and of few at a time, and what follows from the
//! answer. Until then the stream is followed as ever, and nothing is given out of the shard's own memory.

use std::time::Instant;

use flotilla_shared::broker::StreamPosition;
use flotilla_shared::channel::Channel;

use super::slot::State;
use super::stream::Stream;
use super::{Hub, Member, slot_of, token_of};

/// Most questions that are open at the same time; no more are asked in one sweep either.
const OPEN_MAX: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    /// Something was lost, and is not on its way. If not, the connection was lost, and maybe something with it.
    is_loss: bool,
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
            check: Check::Due,
        });
        before.is_none_or(|doubt| doubt.check != Check::Due)
    }

    pub(super) fn has_loss(&self) -> bool {
        self.doubt.is_some_and(|doubt| doubt.is_loss)
    }

    /// Learns where the stream ended after the doubt came up.
    pub(super) fn learn(&mut self, end: StreamPosition, now: Instant) -> Learnt {
        let is_other_life = end.epoch != self.position.epoch;
        if !is_other_life && end.offset <= self.position.offset {
            self.doubt = None;
            return Learnt::NothingIsMissing;
        }
        if is_other_life || self.has_loss() {
            self.move_to(end);
            // That life may be the older one, if news of the other came since this was read. The next answer will tell.
            self.doubt = is_other_life.then_some(Doubt {
                is_loss: false,
                check: Check::Due,
            });
            return Learnt::SomethingIsLost;
        }
        let (until, since) = (end, now);
        self.doubt = Some(Doubt {
            is_loss: false,
            check: Check::Behind { until, since },
        });
        Learnt::SomethingIsMissing
    }
}

impl<M: Member> Hub<M> {
    /// The connection to the broker is back. Like [`Hub::receive`], a part of a tick.
    pub(crate) fn reconnected(&mut self) {
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

    /// What to ask the broker now. To be called now and then.
    pub(crate) fn due_checks(&mut self) -> Vec<EndQuery> {
        let mut queries = Vec::new();
        while self.open_checks < OPEN_MAX && queries.len() < OPEN_MAX {
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
                self.open_checks += 1;
                queries.push(EndQuery {
                    channel: channel.clone(),
                    token,
                    ticket,
                });
            }
        }
        queries
    }

    /// The answer to an [`EndQuery`]; `None`: there is none, and it will be asked again.
    pub(crate) fn checked(
        &mut self,
        token: u64,
        ticket: u32,
        end: Option<StreamPosition>,
        now: Instant,
    ) {
        self.open_checks -= 1;
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
}
