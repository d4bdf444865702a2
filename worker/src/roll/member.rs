//! A member of a roll, and what is known of it.
//!
//! Owns: whose it is. It belongs to the life in which its session has been attached most often.

use flotilla_shared::protocol::types::ClientInfo;
use flotilla_shared::roster::Life;
use prost::Message as _;
use uuid::Uuid;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) life: Life,
    /// How often it had been attached when it came there.
    pub(super) generation: u32,
    /// The number of questions that had been asked when it was known to be there.
    pub(super) seen: u32,
    pub(super) told: Told,
    /// It is not there. Subscribers have to be told that it has left.
    pub(super) is_missing: bool,
    pub(super) info: Info,
}

/// A client that is not there any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) life: Life,
    pub(super) generation: u32,
    /// The number of questions that had been asked by then.
    pub(super) asked: u32,
}

/// What subscribers know of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing from here; it was there before them.
    Nothing,
    /// That it is there.
    Join,
    /// Nothing, or that it is not there. They have to be told that it is.
    JoinDue,
}

/// What is known of a client besides its id, as small as it gets.
#[derive(Debug)]
pub(super) struct Info(Box<[u8]>);

impl Info {
    pub(super) fn new(info: &ClientInfo) -> Self {
        let rest = ClientInfo {
            client: String::new(),
            ..info.clone()
        };
        Self(rest.encode_to_vec().into())
    }

    pub(super) fn of(&self, client: Uuid) -> ClientInfo {
        ClientInfo {
            client: client.to_string(),
            // It was written here.
            ..ClientInfo::decode(&*self.0).unwrap_or_default()
        }
    }
}

impl Member {
    /// It is there, in this life.
    pub(super) fn owned(&mut self, life: Life, generation: u32, asked: u32) {
        self.life = life;
        self.generation = generation;
        self.seen = asked;
        self.is_missing = false;
    }

    /// Whether what is said of it from there counts: nothing newer is known of it.
    pub(super) fn is_of(&self, life: Life, generation: u32) -> bool {
        match generation {
            0 => self.generation == 0,
            _ if generation == self.generation => life == self.life,
            _ => generation > self.generation,
        }
    }

    /// Its join is told now, unless that was done before.
    pub(super) fn tell(&mut self) -> bool {
        std::mem::replace(&mut self.told, Told::Join) != Told::Join
    }
}
