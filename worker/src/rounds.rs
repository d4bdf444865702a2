//! A question that many ask at the same time, asked in rounds: all who come while one is on its way share the next one.
//!
//! Owns: who shares which answer. Whoever asks gets an answer that was asked for after it came, so it sees what it has
//! done itself. Knows nothing of what is asked.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;

use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, Shared};

type Answer<V> = Shared<LocalBoxFuture<'static, V>>;

/// Of one question: the answer that is on its way, and the one that is asked for after it.
struct Asked<V> {
    now: Answer<V>,
    next: Option<Answer<V>>,
}

/// Questions by what they are about. Each takes no memory once nobody waits for its answer.
pub(crate) struct Rounds<K, V>(RefCell<HashMap<K, Asked<V>>>);

impl<K, V> Default for Rounds<K, V> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<K: Clone + Eq + Hash, V: Clone + 'static> Rounds<K, V> {
    /// The answer to `key`, which `ask` finds out unless another one's question will do.
    pub(crate) async fn answer<F>(&self, key: K, ask: F) -> V
    where
        F: AsyncFnOnce() -> V + 'static,
    {
        let answer = self.join(&key, ask);
        let value = answer.clone().await;
        self.finished(&key, &answer);
        value
    }

    fn join<F: AsyncFnOnce() -> V + 'static>(&self, key: &K, ask: F) -> Answer<V> {
        let mut rounds = self.0.borrow_mut();
        let Some(asked) = rounds.get_mut(key) else {
            let now = async move { ask().await }.boxed_local().shared();
            let asked = Asked {
                now: now.clone(),
                next: None,
            };
            rounds.insert(key.clone(), asked);
            return now;
        };
        let before = asked.now.clone();
        let next = asked.next.get_or_insert_with(|| {
            let next = async move {
                before.await;
                ask().await
            };
            next.boxed_local().shared()
        });
        next.clone()
    }

    /// `answer` is there: the next round, if there is one, is the present one.
    fn finished(&self, key: &K, answer: &Answer<V>) {
        let mut rounds = self.0.borrow_mut();
        let Some(asked) = rounds.get_mut(key) else {
            return;
        };
        if asked.now.ptr_eq(answer)
            && let Some(next) = asked.next.take()
        {
            asked.now = next;
        } else if asked.now.ptr_eq(answer)
            || asked.next.as_ref().is_some_and(|next| next.ptr_eq(answer))
        {
            // The other one, if any, is older, and whoever asked it has stopped waiting.
            rounds.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use futures_util::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    #[derive(Default)]
    struct Source {
        asked: Cell<u32>,
        answered: Notify,
    }

    async fn ask(rounds: &Rounds<&'static str, u32>, source: &Rc<Source>) -> u32 {
        let source = source.clone();
        let ask = async move || {
            source.asked.set(source.asked.get() + 1);
            let number = source.asked.get();
            source.answered.notified().await;
            number
        };
        rounds.answer("room", ask).await
    }

    #[tokio::test]
    async fn who_comes_while_a_question_is_on_its_way_shares_the_next_one() {
        let (rounds, source) = (Rounds::default(), Rc::new(Source::default()));
        let all = join_all((0..100).map(|_| ask(&rounds, &source)));
        let answer = async {
            source.answered.notify_one();
            tokio::task::yield_now().await;
            source.answered.notify_one();
        };
        let (answers, ()) = tokio::join!(all, answer);
        assert_eq!(answers.first(), Some(&1));
        assert!(answers.iter().skip(1).all(|answer| *answer == 2));
        assert_eq!(source.asked.get(), 2);
        assert!(rounds.0.borrow().is_empty());
    }

    #[tokio::test]
    async fn an_answer_is_never_older_than_its_question() {
        let (rounds, source) = (Rounds::default(), Rc::new(Source::default()));
        for number in 1..4 {
            source.answered.notify_one();
            assert_eq!(ask(&rounds, &source).await, number);
        }
        assert!(rounds.0.borrow().is_empty());
    }

    #[tokio::test]
    async fn whoever_stops_waiting_leaves_no_old_answer_behind() {
        let (rounds, source) = (Rounds::default(), Rc::new(Source::default()));
        for _ in 0..3 {
            let impatient = ask(&rounds, &source);
            assert!(impatient.now_or_never().is_none());
        }
        source.answered.notify_one();
        let (first, second) = (ask(&rounds, &source), async {
            tokio::task::yield_now().await;
            source.answered.notify_one();
        });
        let (answer, ()) = tokio::join!(first, second);
        assert_eq!(answer, source.asked.get());
        assert!(rounds.0.borrow().is_empty());
    }

    #[tokio::test]
    async fn questions_about_different_things_do_not_wait_for_each_other() {
        let rounds: Rounds<u32, u32> = Rounds::default();
        let never = rounds.answer(1, async || std::future::pending().await);
        let other = rounds.answer(2, async || 2);
        tokio::select! {
            biased;
            _ = never => unreachable!("nothing answers it"),
            answer = other => assert_eq!(answer, 2),
        }
    }
}
