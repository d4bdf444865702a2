//! The questions that are waiting for answers.
//!
//! Owns: which question an answer belongs to, and the memory that answers may take while they are gathered. Who asks
//! holds an [`Ask`]; dropping it forgets the question, and answers that come later are passed over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

use super::gather::{Gathered, Gathering};
use super::message::Part;

/// Most bytes that the answers to one question may have, as they came in.
const ANSWERS_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Most bytes that the answers to all questions may have at one time.
const ALL_ANSWERS_MAX_BYTES: usize = 64 * 1024 * 1024;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Asks(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    open: HashMap<u64, Open>,
    bytes: usize,
}

#[derive(Debug)]
struct Open {
    gathering: Gathering,
    bytes: usize,
    excess: Option<Excess>,
    settled: Arc<Notify>,
}

/// One question.
#[derive(Debug)]
pub(super) struct Ask {
    number: u64,
    asks: Asks,
    settled: Arc<Notify>,
}

/// The answers take more memory than they may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// Those to this question.
    One,
    /// Those to all questions together: by itself this one may be answered a little later.
    All,
}

impl Asks {
    /// Opens a question to these workers.
    pub(super) fn open(&self, workers: impl IntoIterator<Item = String>) -> Ask {
        let (number, _) = Uuid::new_v4().as_u64_pair();
        let settled = Arc::new(Notify::new());
        let open = Open {
            gathering: Gathering::new(workers),
            bytes: 0,
            excess: None,
            settled: settled.clone(),
        };
        open.notify();
        self.table().open.insert(number, open);
        Ask {
            number,
            asks: Self(self.0.clone()),
            settled,
        }
    }

    /// Takes in a part of an answer that came in so many bytes.
    pub(super) fn hear(&self, number: u64, worker: &str, part: Part, bytes: usize) {
        let mut table = self.table();
        let total = table.bytes + bytes;
        let Some(open) = table.open.get_mut(&number) else {
            return;
        };
        if open.excess.is_some() {
            return;
        }
        if open.bytes + bytes > ANSWERS_MAX_BYTES {
            open.excess = Some(Excess::One);
        } else if total > ALL_ANSWERS_MAX_BYTES {
            open.excess = Some(Excess::All);
        } else {
            open.gathering.hear(worker, part);
            open.bytes += bytes;
        }
        open.notify();
        if open.excess.is_none() {
            table.bytes = total;
        }
    }

    /// Nothing more comes from this worker, to whatever question.
    pub(super) fn lose(&self, worker: &str) {
        for open in self.table().open.values_mut() {
            open.gathering.lose(worker);
            open.notify();
        }
    }

    /// A panic while the table is held leaves it usable.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn notify(&self) {
        if self.excess.is_some() || self.gathering.is_complete() {
            self.settled.notify_one();
        }
    }
}

impl Ask {
    /// Tells answers to this question from others.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// This worker could not be asked.
    pub(super) fn lose(&self, worker: &str) {
        if let Some(open) = self.asks.table().open.get_mut(&self.number) {
            open.gathering.lose(worker);
            open.notify();
        }
    }

    /// Resolves when everybody has answered or is lost, or when the answers are too large. For one waiter.
    pub(super) async fn settled(&self) {
        self.settled.notified().await;
    }

    /// What there is.
    pub(super) fn finish(self) -> Result<Gathered, Excess> {
        let Some(open) = self.asks.take(self.number) else {
            return Ok(Gathered::default());
        };
        match open.excess {
            Some(excess) => Err(excess),
            None => Ok(open.gathering.finish()),
        }
    }
}

impl Asks {
    fn take(&self, number: u64) -> Option<Open> {
        let mut table = self.table();
        let open = table.open.remove(&number)?;
        table.bytes -= open.bytes;
        Some(open)
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        self.asks.take(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::Answer;
    use super::*;

    fn part(index: u32, parts: u32) -> Part {
        Part {
            index,
            parts,
            answer: Some(Answer::done()),
        }
    }

    fn asked(asks: &Asks, workers: &[&str]) -> Ask {
        asks.open(workers.iter().map(|id| (*id).to_owned()))
    }

    #[tokio::test]
    async fn an_answer_finds_its_question() {
        let asks = Asks::default();
        let (one, other) = (asked(&asks, &["a"]), asked(&asks, &["a"]));
        asks.hear(one.number(), "a", part(0, 1), 10);
        one.settled().await;
        assert_eq!(one.finish().unwrap().answers.len(), 1);
        assert_eq!(other.finish().unwrap().silent, ["a"]);
        assert_eq!(asks.table().bytes, 0);
    }

    #[tokio::test]
    async fn a_question_to_nobody_is_settled() {
        let asks = Asks::default();
        asked(&asks, &[]).settled().await;
    }

    #[tokio::test]
    async fn who_leaves_is_waited_for_by_nobody() {
        let asks = Asks::default();
        let ask = asked(&asks, &["a", "b"]);
        asks.hear(ask.number(), "a", part(0, 1), 10);
        asks.lose("b");
        ask.settled().await;
        assert_eq!(ask.finish().unwrap().silent, ["b"]);
    }

    #[tokio::test]
    async fn answers_that_are_too_large_end_their_question_and_no_other() {
        let asks = Asks::default();
        let (large, small) = (asked(&asks, &["a"]), asked(&asks, &["a"]));
        asks.hear(large.number(), "a", part(0, 9), ANSWERS_MAX_BYTES);
        asks.hear(large.number(), "a", part(1, 9), 1);
        large.settled().await;
        assert_eq!(large.finish(), Err(Excess::One));
        asks.hear(small.number(), "a", part(0, 1), ANSWERS_MAX_BYTES);
        assert_eq!(small.finish().unwrap().answers.len(), 1);
        assert_eq!(asks.table().bytes, 0);
    }

    #[tokio::test]
    async fn a_question_that_finds_no_room_among_others_is_not_said_to_be_too_large() {
        let asks = Asks::default();
        let others: Vec<Ask> = (0..ALL_ANSWERS_MAX_BYTES / ANSWERS_MAX_BYTES)
            .map(|_| asked(&asks, &["a"]))
            .collect();
        for other in &others {
            asks.hear(other.number(), "a", part(0, 2), ANSWERS_MAX_BYTES);
        }
        let small = asked(&asks, &["a"]);
        asks.hear(small.number(), "a", part(0, 1), 1);
        small.settled().await;
        assert_eq!(small.finish(), Err(Excess::All));
        drop(others);
        let small = asked(&asks, &["a"]);
        asks.hear(small.number(), "a", part(0, 1), 1);
        assert_eq!(small.finish().unwrap().answers.len(), 1);
    }

    #[test]
    fn a_question_that_nobody_waits_for_is_forgotten() {
        let asks = Asks::default();
        let ask = asked(&asks, &["a"]);
        let number = ask.number();
        asks.hear(number, "a", part(0, 2), 10);
        drop(ask);
        asks.hear(number, "a", part(1, 2), 10);
        assert!(asks.table().open.is_empty());
        assert_eq!(asks.table().bytes, 0);
    }
}
