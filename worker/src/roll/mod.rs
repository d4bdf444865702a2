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

mod announcement;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use flotilla_shared::protocol::types::ClientInfo;
use flotilla_shared::roster::Life;
use prost::Message as _;
use uuid::Uuid;

pub(crate) use announcement::{announcement, life_of};

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
    /// Who has left a life that is to be asked, and the number of questions that had been asked by then.
    left: HashMap<Uuid, (Life, u32)>,
    /// Members of whom something has to be told.
    due: VecDeque<Uuid>,
    /// Counts the questions.
    asked: u32,
    /// Whether there were more members than are remembered: the leaves of those who are not known are told, too.
    is_overfull: bool,
}

#[derive(Debug)]
struct Member {
    life: Life,
    /// The number of questions that had been asked when it was known to be there.
    seen: u32,
    told: Told,
    /// It is not there. Subscribers have to be told that it has left.
    is_missing: bool,
    info: Info,
}

/// What subscribers know of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing from here; it was there before them.
    Nothing,
    /// That it is there.
    Join,
    /// Nothing, or that it is not there. They have to be told that it is.
    JoinDue,
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

/// What is known of a client besides its id, as small as it gets.
#[derive(Debug)]
struct Info(Box<[u8]>);

impl Info {
    fn new(info: &ClientInfo) -> Self {
        let rest = ClientInfo {
            client: String::new(),
            ..info.clone()
        };
        Self(rest.encode_to_vec().into())
    }

    fn of(&self, client: Uuid) -> ClientInfo {
        ClientInfo {
            client: client.to_string(),
            // It was written here.
            ..ClientInfo::decode(&*self.0).unwrap_or_default()
        }
    }
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
    pub(crate) fn joined(&mut self, life: Life, info: &ClientInfo) -> bool {
        let Ok(client) = Uuid::parse_str(&info.client) else {
            return true;
        };
        self.left.remove(&client);
        let is_full = self.members.len() >= MEMBERS_MAX;
        let member = Member {
            life,
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

    /// A worker announces that a client has gone. False: nobody is to be told.
    pub(crate) fn has_left(&mut self, life: Life, info: &ClientInfo) -> bool {
        let Ok(client) = Uuid::parse_str(&info.client) else {
            return true;
        };
        let open = self.open.iter_mut().find(|open| open.life == life);
        let is_first = open.as_ref().is_some_and(|open| open.is_first);
        let is_full = self.left.len() >= MEMBERS_MAX && !self.left.contains_key(&client);
        let is_news = match open {
            // The account may have it as a member still; the next one will not.
            Some(open) if is_full => {
                open.again |= open.asked.is_some();
                true
            }
            Some(open) if open.is_first || open.asked.is_some() => {
                self.left.insert(client, (life, self.asked)).is_none()
            }
            _ => true,
        };
        match self.members.remove(&client) {
            Some(member) => member.told != Told::JoinDue,
            // Whoever is not known was there before, or its leave has been told already.
            None => is_first && is_news || self.is_overfull,
        }
    }

    /// This life is in the fleet, and was not before.
    pub(crate) fn appeared(&mut self, life: Life) {
        self.doubt(life);
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
        there: impl IntoIterator<Item = &'a ClientInfo>,
    ) -> bool {
        let Some(open) = self.close(life, asked) else {
            return false;
        };
        for info in there {
            let Ok(client) = Uuid::parse_str(&info.client) else {
                continue;
            };
            match self.left.get(&client) {
                Some((_, left)) if *left >= asked => {}
                // It has come again, unheard.
                Some(_) => self.found(life, client, info, false),
                None => self.found(life, client, info, open.is_first),
            }
        }
        self.miss(|member| member.life == life && member.seen < asked);
        self.left.retain(|_, (of, _)| *of != life);
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

    fn found(&mut self, life: Life, client: Uuid, info: &ClientInfo, is_first: bool) {
        let is_full = self.members.len() >= MEMBERS_MAX;
        match self.members.entry(client) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.seen = self.asked;
                known.is_missing = false;
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
            self.left.retain(|_, (of, _)| *of != life);
            self.is_overfull = true;
        }
    }

    /// This life is over, or out of reach, and so are its members.
    pub(crate) fn vanished(&mut self, life: Life) {
        self.open.retain(|open| open.life != life);
        self.left.retain(|_, (of, _)| *of != life);
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
                member.remove();
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
