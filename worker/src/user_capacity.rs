//! The worker's limit of connections per user, shared by its shards.
//!
//! Owns: how many connections each user has. It is touched when a client says who it is and when it goes, never in
//! between, and not at all where there is no limit. Other workers are not asked: a user may have as many connections to
//! each of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct UserCapacity {
    limit: usize,
    hasher: RandomState,
    users: Arc<Users>,
}

/// Connections by the hash of their user. It is keyed, so that nobody can choose a name to share another one's count.
#[derive(Debug, Default)]
struct Users(Mutex<HashMap<u64, usize>>);

/// One connection's place among its user's; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct UserPermit {
    users: Arc<Users>,
    user: u64,
}

/// The user has as many connections as it may have.
#[derive(Debug)]
pub(crate) struct TooMany;

impl UserCapacity {
    /// So many connections for each user; 0: no limit.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            hasher: RandomState::new(),
            users: Arc::default(),
        }
    }

    /// A place for a connection that was counted before: here, or at another worker. It is not refused.
    pub(crate) fn take_beyond(&self, user: &str) -> Option<UserPermit> {
        if self.limit == 0 || user.is_empty() {
            return None;
        }
        let user = self.hasher.hash_one(user);
        *self.users.lock().entry(user).or_default() += 1;
        let users = self.users.clone();
        Some(UserPermit { users, user })
    }

    /// A place for one more connection of `user`; none is needed where nothing is limited, and by anonymous users, who
    /// may be anybody.
    pub(crate) fn take(&self, user: &str) -> Result<Option<UserPermit>, TooMany> {
        if self.limit == 0 || user.is_empty() {
            return Ok(None);
        }
        let user = self.hasher.hash_one(user);
        let mut users = self.users.lock();
        let connections = users.entry(user).or_default();
        if *connections >= self.limit {
            return Err(TooMany);
        }
        *connections += 1;
        let users = self.users.clone();
        Ok(Some(UserPermit { users, user }))
    }
}

impl Users {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UserPermit {
    fn drop(&mut self) {
        if let Entry::Occupied(mut connections) = self.users.lock().entry(self.user) {
            *connections.get_mut() -= 1;
            if *connections.get() == 0 {
                connections.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_connection_more_when_one_has_gone_and_leaves_nothing_behind() {
        let capacity = UserCapacity::new(2);
        let of = |user| capacity.clone().take(user).ok().flatten();
        let (first, second, other) = (of("ada"), of("ada"), of("bob"));
        assert!(first.is_some() && second.is_some() && other.is_some());
        assert!(of("ada").is_none());
        drop(first);
        let third = of("ada");
        assert!(third.is_some() && of("ada").is_none());
        drop((second, third, other));
        assert!(capacity.users.lock().is_empty());
    }

    #[test]
    fn who_comes_from_another_worker_is_let_in_and_counted() {
        let capacity = UserCapacity::new(1);
        let first = capacity.take("ada").ok().flatten();
        let moved = capacity.take_beyond("ada");
        assert!(moved.is_some() && capacity.take("ada").is_err());
        drop(first);
        assert!(capacity.take("ada").is_err());
        drop(moved);
        assert!(capacity.take("ada").is_ok());
        assert!(UserCapacity::new(0).take_beyond("ada").is_none());
    }

    #[test]
    fn nobody_is_counted_without_a_limit_or_a_name() {
        for (limit, user) in [(0, "ada"), (1, "")] {
            let capacity = UserCapacity::new(limit);
            for _ in 0..10 {
                assert!(capacity.take(user).is_ok_and(|permit| permit.is_none()));
            }
            assert!(capacity.users.lock().is_empty());
        }
    }
}
