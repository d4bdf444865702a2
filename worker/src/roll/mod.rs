//! Who is in a channel, as its subscribers in this shard have been told: the roll.
//!
//! Owns: what is told. Joins and leaves come in as the workers announce them; the workers' own accounts of who is there
//! come in where announcements may have been missed; and a worker that is gone takes its members with it. What comes
//! out, for each client, alternates: a join, a leave, a join. Pure: it knows neither the broker nor the time, and asks
//! nobody itself.
//!
//! Members belong to a worker's *life*: a worker that was started again has none of the members that it had before. An
//! account is judged by when it was asked for. Who joined since then need not be in it; who left since then is not let
//! in by it. Both hold whichever way announcements and accounts overtake each other, since a worker tells of its
//! members only what has happened, and announces only afterwards.
//!
//! A session may move from one life to another, each time with a higher *generation*, and its client has not left: nobody
//! is told. What is known of the highest generation counts, in whatever order it is heard; what an older one says is
//! passed over. A move of somebody who is not known here (it was missed elsewhere before the move was heard of, or
//! this is old news of one who has left) is believed, and its new life is asked.

mod announcement;
mod member;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use flotilla_shared::protocol::types::ClientInfo;
use flotilla_shared::roster::Life;
use uuid::Uuid;

pub(crate) use announcement::{Attachment, Source, announcement, source_of};
use member::{Info, Left, Member, Told};

/// The lives that are in the fleet.
pub(crate) type Lives = Arc<BTreeMap<Life, Peer>>;

/// A worker, as everybody knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The worker's id.
    pub(crate) worker: String,
    /// Changes when the worker could not announce who comes and goes.
    pub(crate) missed: u64,
}

/// Most members that are remembered of one channel. Who comes then is announced, but does not vanish with its worker.
pub(crate) const MEMBERS_MAX: usize = 100_000;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Roll {
    members: HashMap<Uuid, Member>,
    /// Lives of whose members no account is there yet, or a new one is needed.
    open: Vec<Open>,
    /// Who has left a life that is to be asked.
    left: HashMap<Uuid, Left>,
    /// Members of whom something has to be told.
    due: VecDeque<Uuid>,
    /// Counts the questions.
    asked: u32,
    /// Whether there were more members than are remembered: the leaves of those who are not known are told, too.
    is_overfull: bool,
    /// Not everybody who was there before is known, nor every worker.
    pub(crate) is_young: bool,
}

#[derive(Debug)]
struct Open {
    life: Life,
    /// The number of the question that is on its way.
    asked: Option<u32>,
    /// Its members were there before the channel's subscribers here, who need not be told of them.
    is_first: bool,
    /// What comes of the question will not do.
    again: bool,
}

/// What subscribers are told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Notice {
    Join(ClientInfo),
    Leave(ClientInfo),
}

impl Roll {
    /// Of a channel that has just got its first subscriber who wants to know. The members of `lives` were there before.
    pub(crate) fn new<'a>(lives: impl IntoIterator<Item = &'a Life>) -> Self {
        let open = lives.into_iter().map(|life| Open {
            life: *life,
            asked: None,
            is_first: true,
            again: false,
        });
        Self {
            open: open.collect(),
            ..Self::default()
        }
    }

    /// A worker announces that a client has come. False: nobody is to be told.
    pub(crate) fn joined(&mut self, source: Source, info: &ClientInfo) -> bool {
        let Ok(client) = Uuid::parse_str(&info.client) else {
            return true;
        };
        let Source { life, attachment } = source;
        if let Some(from) = attachment.from {
            return self.moved(client, life, from, attachment.generation, info);
        }
        if let Some(known) = self.members.get_mut(&client)
            && known.generation > attachment.generation
        {
            // It has come there, and gone on since.
            return known.tell();
        }
        if self.has_left_since(client, attachment.generation) {
            return false;
        }
        self.left.remove(&client);
        let is_full = self.members.len() >= MEMBERS_MAX;
        let member = Member {
            life,
            generation: attachment.generation,
            seen: self.asked,
            told: Told::Join,
            is_missing: false,
            info: Info::new(info),
        };
        match self.members.entry(client) {
            Entry::Occupied(mut known) => {
                let before = known.insert(member);
                matches!(before.told, Told::Nothing | Told::JoinDue)
            }
            Entry::Vacant(_) if is_full => {
                self.is_overfull = true;
                true
            }
            Entry::Vacant(place) => {
                place.insert(member);
                true
            }
        }
    }

    /// A worker announces that a client is there now that was at another one before.
    fn moved(
        &mut self,
        client: Uuid,
        life: Life,
        from: Life,
        generation: u32,
        info: &ClientInfo,
    ) -> bool {
        if let Some(known) = self.members.get_mut(&client) {
            if known.generation < generation {
                known.owned(life, generation, self.asked);
                known.info = Info::new(info);
            }
            // Whoever was there before the subscribers still was.
            return known.told == Told::JoinDue && known.tell();
        }
        if self.has_left_since(client, generation) {
            return false;
        }
        // Of those who were there before, not everybody is known yet.
        let has_left = self.left.remove(&client).is_some();
        let was_first = |open: &Open| open.is_first && (open.life == from || open.life == life);
        let was_there = !has_left && (self.is_young || self.open.iter().any(was_first));
        if self.members.len() >= MEMBERS_MAX {
            // Most likely it is one of those who are not remembered, and were announced when they came.
            self.is_overfull = true;
            return false;
        }
        let told = if was_there { Told::Nothing } else { Told::Join };
        let member = Member {
            life,
            generation,
            seen: self.asked,
            told,
            is_missing: false,
            info: Info::new(info),
        };
        self.members.insert(client, member);
        if !was_there {
            // It was missed elsewhere meanwhile; or this is old news, and it has gone on and left. Its worker knows.
            self.doubt(life);
        }
        !was_there
    }

    /// Whether a client has left from where it had been attached as often, or more often.
    fn has_left_since(&self, client: Uuid, generation: u32) -> bool {
        let left = self.left.get(&client);
        left.is_some_and(|left| left.generation > 0 && left.generation >= generation)
    }

    /// A worker announces that a client has gone. False: nobody is to be told.
    pub(crate) fn has_left(&mut self, source: Source, info: &ClientInfo) -> bool {
        let Ok(client) = Uuid::parse_str(&info.client) else {
            return true;
        };
        let Source { life, attachment } = source;
        let generation = attachment.generation;
        if let Some(known) = self.members.get(&client)
            && !known.is_of(life, generation)
        {
            // It lives elsewhere now.
            return false;
        }
        if self.has_left_since(client, generation.saturating_add(1)) {
            return false;
        }
        let is_awaited = |open: &Open| open.is_first || open.asked.is_some();
        // One that can move may be in the accounts of others, too.
        let is_in_others = generation > 0 && self.open.iter().any(is_awaited);
        let open = self.open.iter_mut().find(|open| open.life == life);
        let is_first = open.as_ref().is_some_and(|open| open.is_first);
        let is_full = self.left.len() >= MEMBERS_MAX && !self.left.contains_key(&client);
        let left = Left {
            life,
            generation,
            asked: self.asked,
        };
        let is_news = match open {
            // The account may have it as a member still; the next one will not.
            Some(open) if is_full => {
                open.again |= open.asked.is_some();
                true
            }
            Some(open) if is_awaited(open) => self.left.insert(client, left).is_none(),
            _ if is_in_others && !is_full => self.left.insert(client, left).is_none(),
            _ => true,
        };
        match self.members.remove(&client) {
            Some(member) => member.told != Told::JoinDue,
            // Whoever is not known was there before, or its leave has been told already.
            None => is_first && is_news || self.is_overfull,
        }
    }

    /// This life is in the fleet, and was not before; or it was, and is only heard of now: its members `were_there` before the
    /// channel's subscribers here.
    pub(crate) fn appeared(&mut self, life: Life, were_there: bool) {
        self.doubt(life);
        let is_unknown = !self.members.values().any(|member| member.life == life);
        let open = self.open.iter_mut().find(|open| open.life == life);
        if let Some(open) = open.filter(|_| were_there && is_unknown) {
            open.is_first = true;
        }
    }

    /// Whether this life has to be asked, or is being asked.
    pub(crate) fn is_open(&self, life: Life) -> bool {
        self.open.iter().any(|open| open.life == life)
    }

    /// Announcements of this life may have been missed.
    pub(crate) fn doubt(&mut self, life: Life) {
        match self.open.iter_mut().find(|open| open.life == life) {
            Some(open) => open.again |= open.asked.is_some(),
            None => self.open.push(Open {
                life,
                asked: None,
                is_first: false,
                again: false,
            }),
        }
    }

    /// This life has to be asked who is there, and is from now on: the number of the question. `None`: it need not be.
    pub(crate) fn ask(&mut self, life: Life) -> Option<u32> {
        let open = self.open.iter_mut().find(|open| open.life == life)?;
        if open.asked.is_some() {
            return None;
        }
        self.asked += 1;
        open.asked = Some(self.asked);
        open.again = false;
        open.asked
    }

    /// The answer to question number `asked`: everybody who is there. True: the life has to be asked once more.
    pub(crate) fn answered<'a>(
        &mut self,
        life: Life,
        asked: u32,
        there: impl IntoIterator<Item = (&'a ClientInfo, u32)>,
    ) -> bool {
        let Some(open) = self.close(life, asked) else {
            return false;
        };
        for (info, generation) in there {
            let Ok(client) = Uuid::parse_str(&info.client) else {
                continue;
            };
            match self.left.get(&client) {
                Some(left) if left.asked >= asked && left.generation >= generation => {}
                Some(left) if left.generation > generation => {}
                // It has come again, unheard.
                Some(_) => self.found((life, generation), client, info, false),
                None => self.found((life, generation), client, info, open.is_first),
            }
        }
        self.miss(|member| member.life == life && member.seen < asked);
        self.forget_left(life);
        if open.again {
            self.doubt(life);
        }
        open.again
    }

    /// The life is not open any more, if question number `asked` is on its way.
    fn close(&mut self, life: Life, asked: u32) -> Option<Open> {
        let is_asked = |open: &Open| open.life == life && open.asked == Some(asked);
        let at = self.open.iter().position(is_asked)?;
        let open = self.open.swap_remove(at);
        if self.open.is_empty() {
            self.open = Vec::new();
        }
        Some(open)
    }

    /// A leave is told that nobody has announced. Where the client turns up next, it was not there before.
    fn note_left(&mut self, client: Uuid, member: &Member) {
        let is_awaited = self.open.iter().any(|open| open.is_first);
        if member.generation > 0 && is_awaited && self.left.len() < MEMBERS_MAX {
            let left = Left {
                life: member.life,
                generation: member.generation,
                asked: 0,
            };
            self.left.insert(client, left);
        }
    }

    /// An account of this life is there, or will never be.
    fn forget_left(&mut self, life: Life) {
        let is_open = !self.open.is_empty();
        // One that can move may still be in the account of another one.
        let is_kept = |left: &Left| {
            left.generation > 0 && is_open || left.life != life && left.generation == 0
        };
        self.left.retain(|_, left| is_kept(left));
    }

    fn found(
        &mut self,
        (life, generation): (Life, u32),
        client: Uuid,
        info: &ClientInfo,
        is_first: bool,
    ) {
        let is_full = self.members.len() >= MEMBERS_MAX;
        match self.members.entry(client) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                // It may have gone on since.
                if known.is_of(life, generation) {
                    known.owned(life, generation, self.asked);
                }
            }
            Entry::Vacant(_) if is_full => self.is_overfull = true,
            Entry::Vacant(place) => {
                let told = if is_first {
                    Told::Nothing
                } else {
                    self.due.push_back(client);
                    Told::JoinDue
                };
                place.insert(Member {
                    life,
                    generation,
                    seen: self.asked,
                    told,
                    is_missing: false,
                    info: Info::new(info),
                });
            }
        }
    }

    /// Question number `asked` was not answered. True: the life has to be asked once more.
    pub(crate) fn unanswered(&mut self, life: Life, asked: u32) -> bool {
        let mut open = self.open.iter_mut();
        let open = open.find(|open| open.life == life && open.asked == Some(asked));
        open.is_some_and(|open| {
            open.asked = None;
            true
        })
    }

    /// Question number `asked` has more of an answer than there can be. It is left at what has been announced, and is
    /// announced from now on, until a new doubt comes up.
    pub(crate) fn unanswerable(&mut self, life: Life, asked: u32) {
        if self.close(life, asked).is_some() {
            self.forget_left(life);
            self.is_overfull = true;
        }
    }

    /// This life is over, or out of reach, and so are its members.
    pub(crate) fn vanished(&mut self, life: Life) {
        self.open.retain(|open| open.life != life);
        self.forget_left(life);
        self.miss(|member| member.life == life);
    }

    /// Members who are not there any more.
    fn miss(&mut self, is_missing: impl Fn(&Member) -> bool) {
        let due = &mut self.due;
        self.members.retain(|client, member| {
            if !is_missing(member) {
                return true;
            }
            if member.told == Told::JoinDue {
                return false;
            }
            if !std::mem::replace(&mut member.is_missing, true) {
                due.push_back(*client);
            }
            true
        });
    }

    /// Members that are remembered.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether something has to be told that nobody has announced.
    pub(crate) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Something that subscribers have to be told, and are now.
    pub(crate) fn next_due(&mut self) -> Option<Notice> {
        while let Some(client) = self.due.pop_front() {
            let Entry::Occupied(mut member) = self.members.entry(client) else {
                continue;
            };
            let info = member.get().info.of(client);
            if member.get().is_missing {
                let member = member.remove();
                self.note_left(client, &member);
                return Some(Notice::Leave(info));
            }
            if member.get().told == Told::JoinDue {
                member.get_mut().told = Told::Join;
                return Some(Notice::Join(info));
            }
        }
        self.due = VecDeque::new();
        if self.members.capacity() > 64 && self.members.len() < self.members.capacity() / 4 {
            self.members.shrink_to(self.members.len() * 2);
        }
        None
    }
}

#[cfg(test)]
mod tests;
