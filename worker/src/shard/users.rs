//! Which connections are whose: the shard's connections by user.
//!
//! Owns: an index of numbers only. The names are in the sessions, so that a connection costs a few bytes here.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;

/// Ids of connections by the hash of their user. Anonymous clients are nobody's: they are not in it.
#[derive(Debug, Default)]
pub(super) struct Users {
    ids: HashTable<(u32, u32)>,
    hasher: RandomState,
}

impl Users {
    fn hash(&self, user: &str) -> u64 {
        self.hasher.hash_one(user)
    }

    pub(super) fn add(&mut self, id: u32, user: &str) {
        if user.is_empty() {
            return;
        }
        let hash = self.hash(user);
        // The upper half is kept: growing must not need the name.
        self.ids
            .insert_unique(spread(hash), (id, short(hash)), |(_, short)| {
                spread(u64::from(*short))
            });
    }

    pub(super) fn remove(&mut self, id: u32, user: &str) {
        if user.is_empty() {
            return;
        }
        let hash = self.hash(user);
        let found = self.ids.find_entry(spread(hash), |(known, _)| *known == id);
        if let Ok(entry) = found {
            entry.remove();
        }
    }

    /// Who may be a connection of `user`: another user's may be among them.
    pub(super) fn candidates(&self, user: &str) -> impl Iterator<Item = u32> {
        let hash = self.hash(user);
        let short = short(hash);
        self.ids
            .iter_hash(spread(hash))
            .filter(move |(_, known)| *known == short)
            .map(|(id, _)| *id)
    }
}

fn short(hash: u64) -> u32 {
    hash as u32
}

/// The table's hash, made of what is kept.
fn spread(hash: u64) -> u64 {
    u64::from(short(hash)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_found_by_their_user_until_they_are_gone() {
        let mut users = Users::default();
        for id in 0..1000 {
            users.add(id, &format!("user-{}", id % 100));
        }
        let found = |users: &Users, user: &str| {
            let mut ids: Vec<u32> = users.candidates(user).collect();
            ids.sort_unstable();
            ids
        };
        let of_seven: Vec<u32> = (0..10).map(|round| round * 100 + 7).collect();
        assert_eq!(found(&users, "user-7"), of_seven);
        users.remove(7, "user-7");
        users.remove(7, "user-7");
        assert_eq!(found(&users, "user-7"), of_seven[1..]);
        assert!(found(&users, "nobody").is_empty());
        users.add(1000, "");
        assert!(found(&users, "").is_empty());
    }
}
