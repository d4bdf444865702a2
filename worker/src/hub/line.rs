//! A line in which each channel stands once, however often it is sent there.
//!
//! Owns: whose turn it is. Channels come by their tokens' order, and then from its beginning again, so that whoever is
//! sent back does not keep the others waiting.

use std::collections::BTreeSet;
use std::ops::Bound;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: BTreeSet<u64>,
    last: u64,
}

impl Line {
    pub(super) fn push(&mut self, token: u64) {
        self.waiting.insert(token);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.waiting.iter().copied()
    }

    pub(super) fn pop(&mut self) -> Option<u64> {
        let behind = (Bound::Excluded(self.last), Bound::Unbounded);
        let next = self.waiting.range(behind).next();
        let token = *next.or_else(|| self.waiting.first())?;
        self.waiting.remove(&token);
        self.last = token;
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_stands_in_it_twice() {
        let mut line = Line::default();
        (0..3).for_each(|_| line.push(7));
        assert_eq!((line.pop(), line.pop()), (Some(7), None));
    }

    #[test]
    fn whoever_is_sent_back_waits_for_the_others() {
        let mut line = Line::default();
        [5, 0, 3].into_iter().for_each(|token| line.push(token));
        let turns: Vec<u64> = std::iter::repeat_with(|| {
            let token = line.pop().unwrap();
            line.push(token);
            token
        })
        .take(6)
        .collect();
        assert_eq!(turns, [3, 5, 0, 3, 5, 0]);
    }
}
