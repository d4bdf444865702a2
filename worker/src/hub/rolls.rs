//! The rolls of a shard's channels: see [`crate::roll`].
//!
//! Owns: which lives there are, which of them have to be asked about which channels, and when what nobody announces is
//! told. A channel has a roll while somebody here wants to know who comes and goes; others cost nothing.
//!
//! A life that is announced in a channel before it is heard of in the fleet has a lease of its own to be heard of.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::types::{ClientInfo, Join, Leave, Push};
use flotilla_shared::roster::{LEASE, Life};
use prost::Message as _;

use super::line::Line;
use super::slot::Slot;
use super::{Fanout, Hub, Member, slot_of, token_of};
use crate::roll::{Lives, Notice, Peer, Roll, source_of};

/// Most channels in one question.
const CHANNELS_PER_QUESTION: usize = 256;

/// How long a worker that did not answer is left alone.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Bytes of joins and leaves that nobody has announced, for each channel and turn: where a worker with thousands of
/// members dies, their leaves must not fill the queues of those who remain.
const TURN_BYTES: usize = 32 * 1024;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Rolls {
    known: Lives,
    asking: HashMap<Life, Asking>,
    /// Lives that have announced members and are not known, since when.
    unheard: HashMap<Life, Instant>,
    /// Channels in which something has to be told.
    due: Vec<u64>,
    /// The shard may not have heard of everybody yet.
    is_new: bool,
}

/// How a life is asked who is there.
#[derive(Debug)]
struct Asking {
    /// Channels to ask about. Some may need no answer any more.
    waiting: Line,
    is_on_its_way: bool,
    not_before: Option<Instant>,
    /// Most channels in the next question.
    most: usize,
}

/// Asks the shard to ask a worker, and to report to [`Hub::roll_answered`].
#[derive(Debug)]
pub(crate) struct RollQuestion {
    pub(crate) life: Life,
    /// The worker's id.
    pub(crate) worker: String,
    pub(crate) about: Vec<RollOf>,
}

/// A channel whose members are asked for.
#[derive(Debug)]
pub(crate) struct RollOf {
    pub(crate) channel: Channel,
    token: u64,
    asked: u32,
}

/// Who is in a channel.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// The members, and how often each had been attached.
    pub(crate) members: Vec<(ClientInfo, u32)>,
    /// Some of them are elsewhere by now, and will not be in the next account.
    pub(crate) is_passing: bool,
}

/// What came of a [`RollQuestion`].
#[derive(Debug)]
pub(crate) enum RollAnswer {
    /// By the place of the channel in the question.
    Members(HashMap<usize, Account>),
    /// There are more than an answer holds.
    TooMany,
    /// None.
    Silence,
}

impl Default for Asking {
    fn default() -> Self {
        Self {
            waiting: Line::default(),
            is_on_its_way: false,
            not_before: None,
            most: CHANNELS_PER_QUESTION,
        }
    }
}

impl Rolls {
    /// Sees to it that the channel has a roll if somebody wants to know who comes and goes, and none otherwise.
    pub(super) fn keep<M>(&mut self, index: u32, slot: &mut Slot<M>) {
        if !slot.groups.hear_of_others() {
            slot.roll = None;
            return;
        }
        if slot.roll.is_some() {
            return;
        }
        let mut roll = Roll::new(self.known.keys());
        roll.is_young = self.is_new;
        slot.roll = Some(Box::new(roll));
        let token = token_of(index, slot.generation);
        let known = self.known.clone();
        for life in known.keys() {
            self.want(*life, token);
        }
    }

    fn want(&mut self, life: Life, token: u64) {
        let asking = self.asking.entry(life).or_default();
        asking.waiting.push(token);
    }

    /// Whether subscribers are to be told what a worker has announced.
    pub(super) fn note<M>(
        &mut self,
        (slot, token): (&mut Slot<M>, u64),
        push: &Push,
        payload: Bytes,
        now: Instant,
    ) -> bool {
        let Some(roll) = &mut slot.roll else {
            return true;
        };
        let source = source_of(payload);
        let life = source.life;
        if life == Life::UNKNOWN {
            return true;
        }
        if let Some(Join { info: Some(info) }) = &push.join {
            if !self.known.contains_key(&life) {
                self.unheard.entry(life).or_insert(now);
            }
            let is_told = roll.joined(source, info);
            // Whether it is still there is for its worker to say.
            if source.attachment.from.is_some()
                && roll.is_open(life)
                && self.known.contains_key(&life)
            {
                self.want(life, token);
            }
            return is_told;
        }
        match &push.leave {
            Some(Leave { info: Some(info) }) => roll.has_left(source, info),
            _ => true,
        }
    }
}

impl<M: Member> Hub<M> {
    /// Who is in the fleet now.
    ///
    /// A shard `is_new` while it may not have heard of everybody yet: whoever it hears of for the first time then was there
    /// before its own subscribers.
    pub(crate) fn hear_of(&mut self, lives: &Lives, is_new: bool) {
        self.rolls.is_new = is_new;
        if !is_new {
            self.for_each_roll(None, |roll| roll.is_young = false);
        }
        let before = std::mem::replace(&mut self.rolls.known, lives.clone());
        for life in before.keys().filter(|life| !lives.contains_key(life)) {
            self.vanished(*life);
        }
        for (life, Peer { missed, .. }) in lives.iter() {
            self.rolls.unheard.remove(life);
            match before.get(life) {
                None => self.for_each_roll(Some(*life), |roll| roll.appeared(*life, is_new)),
                Some(peer) if peer.missed != *missed => self.doubt_life(*life),
                Some(_) => {}
            }
        }
    }

    /// Whether [`Hub::hear_of`] was told last that the shard is new.
    pub(crate) fn is_new(&self) -> bool {
        self.rolls.is_new
    }

    fn vanished(&mut self, life: Life) {
        self.rolls.asking.remove(&life);
        self.for_each_roll(None, |roll| roll.vanished(life));
    }

    fn doubt_life(&mut self, life: Life) {
        self.for_each_roll(Some(life), |roll| roll.doubt(life));
    }

    /// Announcements of anybody may have been missed, in whatever channel.
    pub(crate) fn doubt_rolls(&mut self) {
        let known = self.rolls.known.clone();
        known.keys().for_each(|life| self.doubt_life(*life));
    }

    /// Announcements of anybody may have been missed in this channel.
    pub(crate) fn doubt_roll(&mut self, token: u64) {
        let slot = slot_of(&mut self.slots, token).map(|(_, slot)| slot);
        let Some(roll) = slot.and_then(|slot| slot.roll.as_deref_mut()) else {
            return;
        };
        let known = self.rolls.known.clone();
        for life in known.keys() {
            roll.doubt(*life);
            self.rolls.want(*life, token);
        }
    }

    /// Does something with every roll; then `wanted` has to be asked about it.
    fn for_each_roll(&mut self, wanted: Option<Life>, mut act: impl FnMut(&mut Roll)) {
        for (slot, index) in self.slots.iter_mut().zip(0..) {
            let token = token_of(index, slot.generation);
            let Some(roll) = &mut slot.roll else {
                continue;
            };
            act(roll);
            if roll.has_due() {
                self.rolls.due.push(token);
            }
            if let Some(life) = wanted {
                self.rolls.want(life, token);
            }
        }
    }

    /// Members whose leaving would be told if their workers were lost.
    pub(crate) fn members_remembered(&self) -> usize {
        let rolls = self.slots.iter().filter_map(|slot| slot.roll.as_deref());
        rolls.map(Roll::len).sum()
    }

    /// Which workers have to be asked who is there: each at most one thing at a time.
    pub(crate) fn roll_questions(&mut self, now: Instant) -> Vec<RollQuestion> {
        let mut questions = Vec::new();
        for (life, asking) in &mut self.rolls.asking {
            let is_early = asking.not_before.is_some_and(|at| now < at);
            if asking.is_on_its_way || is_early {
                continue;
            }
            let mut about = Vec::new();
            while about.len() < asking.most
                && let Some(token) = asking.waiting.pop()
            {
                let slot = slot_of(&mut self.slots, token).map(|(_, slot)| slot);
                if let Some(slot) = slot
                    && let (Some(roll), Some(channel)) = (&mut slot.roll, &slot.channel)
                    && let Some(asked) = roll.ask(*life)
                {
                    about.push(RollOf {
                        channel: channel.clone(),
                        token,
                        asked,
                    });
                }
            }
            if let Some(peer) = self.rolls.known.get(life)
                && !about.is_empty()
            {
                asking.is_on_its_way = true;
                questions.push(RollQuestion {
                    life: *life,
                    worker: peer.worker.clone(),
                    about,
                });
            }
        }
        questions
    }

    /// What came of a question.
    pub(crate) fn roll_answered(
        &mut self,
        life: Life,
        about: &[RollOf],
        answer: &RollAnswer,
        now: Instant,
    ) {
        let is_hopeless = matches!(answer, RollAnswer::TooMany) && about.len() == 1;
        if let Some(asking) = self.rolls.asking.get_mut(&life) {
            asking.is_on_its_way = false;
            match answer {
                RollAnswer::Members(_) => asking.not_before = None,
                RollAnswer::TooMany => asking.most = (about.len() / 4).max(1),
                RollAnswer::Silence => asking.not_before = Some(now + ASK_AGAIN_AFTER),
            }
        }
        for (place, of) in about.iter().enumerate() {
            let slot = slot_of(&mut self.slots, of.token).map(|(_, slot)| slot);
            let Some(roll) = slot.and_then(|slot| slot.roll.as_deref_mut()) else {
                continue;
            };
            let is_wanted = match answer {
                RollAnswer::Members(members) => {
                    let account = members.get(&place);
                    let there = account.into_iter().flat_map(|account| &account.members);
                    let there = there.map(|(member, generation)| (member, *generation));
                    let is_wanted = roll.answered(life, of.asked, there);
                    let is_passing = account.is_some_and(|account| account.is_passing);
                    if is_passing {
                        // Should one of them have left meanwhile, unheard, that shows then.
                        roll.doubt(life);
                        if let Some(asking) = self.rolls.asking.get_mut(&life) {
                            asking.not_before = Some(now + ASK_AGAIN_AFTER);
                        }
                    }
                    is_wanted || is_passing
                }
                RollAnswer::TooMany if is_hopeless => {
                    roll.unanswerable(life, of.asked);
                    false
                }
                RollAnswer::TooMany | RollAnswer::Silence => roll.unanswered(life, of.asked),
            };
            if roll.has_due() {
                self.rolls.due.push(of.token);
            }
            if is_wanted && self.rolls.known.contains_key(&life) {
                self.rolls.want(life, of.token);
            }
        }
    }

    /// Tells subscribers what nobody has announced: a turn of it. To be called now and then, like [`Hub::sweep`].
    pub(crate) fn call_rolls(&mut self, scratch: &mut BytesMut, fanout: &mut Fanout, now: Instant) {
        let unheard = &mut self.rolls.unheard;
        let is_over =
            |_: &Life, since: &mut Instant| now.saturating_duration_since(*since) >= LEASE;
        let over: Vec<Life> = unheard.extract_if(is_over).map(|(life, _)| life).collect();
        over.into_iter().for_each(|life| self.vanished(life));
        let mut due = std::mem::take(&mut self.rolls.due);
        due.sort_unstable();
        due.dedup();
        for token in due {
            let Some((index, slot)) = slot_of(&mut self.slots, token) else {
                continue;
            };
            slot.touch(index, &mut self.dirty);
            if slot.call_roll(scratch, fanout) {
                self.rolls.due.push(token);
            }
        }
        self.flush(fanout, now);
    }
}

impl<M: Member> Slot<M> {
    /// True: there is more to tell.
    fn call_roll(&mut self, scratch: &mut BytesMut, fanout: &mut Fanout) -> bool {
        let mut told = 0;
        while told < TURN_BYTES {
            let notice = self.roll.as_deref_mut().and_then(Roll::next_due);
            let Some(notice) = notice else {
                return false;
            };
            let push = push_of(notice);
            told += push.encoded_len();
            self.spread(push, None, scratch, fanout);
        }
        true
    }
}

fn push_of(notice: Notice) -> Push {
    match notice {
        Notice::Join(info) => Push {
            join: Some(Join { info: Some(info) }),
            ..Push::default()
        },
        Notice::Leave(info) => Push {
            leave: Some(Leave { info: Some(info) }),
            ..Push::default()
        },
    }
}
