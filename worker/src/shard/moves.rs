//! How a shard tells other workers that it has sessions now which were theirs.
//!
//! Owns: what has not been told yet. One worker is told one thing at a time, of many sessions at once: after a crash
//! thousands of sessions come from a worker that does not answer any more, and must not keep others from asking.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::Shard;
use crate::fleet::{Moved, MovedSession, Question};
use crate::session::Origin;

/// Most sessions that one worker is told of at a time.
const SESSIONS_PER_MESSAGE: usize = 1024;

/// Most sessions of one worker that wait. Beyond that, it lets go of them by itself a little later, and what it says of
/// them then counts for nothing.
const WAITING_MAX: usize = 64 * 1024;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// By worker.
    waiting: HashMap<String, Vec<MovedSession>>,
    /// Workers that are being told.
    told: HashSet<String>,
}

impl Moves {
    fn add(&mut self, worker: String, session: MovedSession) {
        let waiting = self.waiting.entry(worker).or_default();
        if waiting.len() < WAITING_MAX {
            waiting.push(session);
        }
    }

    /// What is to be told next, to whom.
    fn due(&mut self) -> Vec<(String, Moved)> {
        let mut due = Vec::new();
        for (worker, waiting) in &mut self.waiting {
            if self.told.insert(worker.clone()) {
                let count = waiting.len().min(SESSIONS_PER_MESSAGE);
                let sessions = waiting.drain(..count).collect();
                due.push((worker.clone(), Moved { sessions }));
            }
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        due
    }
}

impl Shard {
    /// A session is here now; the worker where it was may let go of it. Nobody waits for that.
    pub(crate) fn moved(&self, origin: Origin, session: MovedSession) {
        // What was told to a life that is over would be told to nobody.
        if self.lives.borrow().borrow().contains_key(&origin.life) {
            self.moves.borrow_mut().add(origin.worker, session);
        }
    }

    /// Tells others what has not been told yet.
    pub(super) fn tell_moves(self: &Rc<Self>) {
        for (worker, moved) in self.moves.borrow_mut().due() {
            let shard = self.clone();
            tokio::task::spawn_local(async move {
                let asked = shard.fleet().ask_one(&worker, Question::Moved(moved)).await;
                if let Err(error) = asked {
                    tracing::debug!(%error, worker, "a worker was not told that its sessions have moved");
                }
                shard.moves.borrow_mut().told.remove(&worker);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: usize) -> MovedSession {
        MovedSession {
            client: number.to_string(),
            ..MovedSession::default()
        }
    }

    #[test]
    fn a_worker_is_told_of_many_sessions_at_once_and_of_one_thing_at_a_time() {
        let mut moves = Moves::default();
        (0..SESSIONS_PER_MESSAGE + 1).for_each(|number| moves.add("a".to_owned(), session(number)));
        let due = moves.due();
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].1.sessions.len(), SESSIONS_PER_MESSAGE);
        moves.add("b".to_owned(), session(0));
        let workers: Vec<_> = moves.due().into_iter().map(|(worker, _)| worker).collect();
        assert_eq!(workers, ["b"], "the other one has not answered");
        moves.told.clear();
        assert_eq!(moves.due()[0].1.sessions, [session(SESSIONS_PER_MESSAGE)]);
        assert_eq!(moves.due(), []);
        assert!(moves.waiting.is_empty(), "nothing is kept");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut moves = Moves::default();
        (0..=WAITING_MAX).for_each(|number| moves.add("a".to_owned(), session(number)));
        assert_eq!(moves.waiting["a"].len(), WAITING_MAX);
    }
}
