//! What a client has said on a link and nobody has acknowledged yet.
//!
//! Owns: which messages wait, which one is being handled, and which commands of those before are not answered. Pure: it
//! neither waits nor says anything.

use std::collections::VecDeque;

use bytes::Bytes;
use flotilla_shared::link::{UNACKED_MAX, UNACKED_MAX_BYTES};
use smallvec::SmallVec;

/// The gateway has not kept to what was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misuse {
    /// More is not acknowledged than may be.
    #[error("more of a client's messages than may be unacknowledged")]
    Window,
    /// A number was left out, or came twice.
    #[error("a client's messages out of order")]
    Number,
}

/// Which of a client's messages it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) number: u64,
    /// Another worker has had it, and may have handled it.
    pub(crate) is_repeat: bool,
}

/// See the module's documentation. Without memory of its own while nothing is unacknowledged.
#[derive(Debug, Default)]
pub(super) struct Window {
    unacked: VecDeque<Unacked>,
    bytes: usize,
    /// The number that has to come next; `None`: whichever comes.
    next: Option<u64>,
}

#[derive(Debug)]
struct Unacked {
    said: Said,
    bytes: usize,
    progress: Progress,
    /// Ids of its commands that are not answered.
    open: SmallVec<[u32; 4]>,
}

#[derive(Debug)]
enum Progress {
    Waiting(Bytes),
    Begun,
    /// Each of its commands has been run.
    Handled,
}

impl Window {
    /// For a client whose next message has this number; `None`: any, since it has spoken before.
    pub(super) fn new(next: Option<u64>) -> Self {
        Self {
            next,
            ..Self::default()
        }
    }

    /// Takes in the client's next message.
    pub(super) fn take(&mut self, said: Said, payload: &[u8]) -> Result<(), Misuse> {
        let number = said.number;
        if number == 0 || self.next.is_some_and(|next| next != number) {
            return Err(Misuse::Number);
        }
        self.next = number.checked_add(1);
        self.bytes += payload.len();
        self.unacked.push_back(Unacked {
            said,
            bytes: payload.len(),
            // A copy: what was read with it must not be kept for it.
            progress: Progress::Waiting(Bytes::copy_from_slice(payload)),
            open: SmallVec::new(),
        });
        let first = self.unacked.front().map_or(0, |first| first.bytes);
        if self.unacked.len() > UNACKED_MAX || self.bytes - first > UNACKED_MAX_BYTES {
            return Err(Misuse::Window);
        }
        Ok(())
    }

    /// The next message to be handled. The one before has been.
    pub(super) fn begin(&mut self) -> Option<(Said, Bytes)> {
        self.unacked.iter_mut().find_map(|unacked| {
            let Progress::Waiting(payload) = &mut unacked.progress else {
                return None;
            };
            let payload = std::mem::take(payload);
            unacked.progress = Progress::Begun;
            Some((unacked.said, payload))
        })
    }

    /// The message that is being handled has a command with this id.
    pub(super) fn asked(&mut self, id: u32) {
        if let Some(begun) = self.begun() {
            begun.open.push(id);
        }
    }

    /// The command with this id is answered.
    pub(super) fn answered(&mut self, id: u32) {
        for unacked in &mut self.unacked {
            // Most are answered as soon as they are asked.
            if let Some(at) = unacked.open.iter().rposition(|open| *open == id) {
                unacked.open.swap_remove(at);
                return;
            }
        }
    }

    /// Each command of the message that was being handled has been run.
    pub(super) fn handled(&mut self) {
        if let Some(begun) = self.begun() {
            begun.progress = Progress::Handled;
        }
    }

    fn begun(&mut self) -> Option<&mut Unacked> {
        let is_begun = |unacked: &&mut Unacked| matches!(unacked.progress, Progress::Begun);
        self.unacked.iter_mut().find(is_begun)
    }

    /// Takes out the first message that has been handled and answered.
    pub(super) fn acknowledge(&mut self) -> Option<u64> {
        let is_done = |unacked: &Unacked| {
            matches!(unacked.progress, Progress::Handled) && unacked.open.is_empty()
        };
        let at = self.unacked.iter().position(is_done)?;
        let done = self.unacked.remove(at)?;
        self.bytes -= done.bytes;
        if self.unacked.is_empty() {
            self.unacked = VecDeque::new();
        }
        Some(done.said.number)
    }

    /// Whether nothing that was begun is unanswered.
    pub(super) fn is_settled(&self) -> bool {
        let waits = |unacked: &Unacked| matches!(unacked.progress, Progress::Waiting(_));
        self.unacked.iter().all(waits)
    }

    /// Forgets what has not been begun.
    pub(super) fn drop_waiting(&mut self) {
        self.unacked
            .retain(|unacked| !matches!(unacked.progress, Progress::Waiting(_)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(window: &mut Window, number: u64, payload: &[u8]) -> Result<(), Misuse> {
        let is_repeat = false;
        window.take(Said { number, is_repeat }, payload)
    }

    fn begun(window: &mut Window, commands: &[u32]) -> u64 {
        let (said, _) = window.begin().unwrap();
        commands.iter().for_each(|id| window.asked(*id));
        window.handled();
        said.number
    }

    fn acknowledged(window: &mut Window) -> Vec<u64> {
        std::iter::from_fn(|| window.acknowledge()).collect()
    }

    #[test]
    fn a_message_is_acknowledged_when_all_its_commands_are_answered() {
        let mut window = Window::new(Some(1));
        for number in 1..=3 {
            take(&mut window, number, b"{}").unwrap();
        }
        assert_eq!(begun(&mut window, &[7, 8]), 1);
        assert_eq!(begun(&mut window, &[9]), 2);
        assert_eq!(begun(&mut window, &[]), 3);
        assert_eq!(acknowledged(&mut window), [3]);
        window.answered(8);
        window.answered(9);
        assert_eq!(acknowledged(&mut window), [2]);
        assert!(!window.is_settled());
        window.answered(7);
        assert_eq!(acknowledged(&mut window), [1]);
        assert_eq!((window.unacked.capacity(), window.bytes), (0, 0));
    }

    #[test]
    fn a_message_is_not_acknowledged_before_all_its_commands_are_run() {
        let mut window = Window::new(Some(1));
        take(&mut window, 1, b"{}").unwrap();
        window.begin().unwrap();
        window.asked(1);
        window.answered(1);
        assert!(acknowledged(&mut window).is_empty());
        window.handled();
        assert_eq!(acknowledged(&mut window), [1]);
    }

    #[test]
    fn numbers_follow_each_other() {
        let mut window = Window::new(Some(1));
        assert_eq!(take(&mut window, 2, b""), Err(Misuse::Number));
        assert_eq!(take(&mut window, 1, b""), Ok(()));
        assert_eq!(take(&mut window, 1, b""), Err(Misuse::Number));
        let mut moved = Window::new(None);
        assert_eq!(take(&mut moved, 0, b""), Err(Misuse::Number));
        assert_eq!(take(&mut moved, 17, b""), Ok(()));
        assert_eq!(take(&mut moved, 19, b""), Err(Misuse::Number));
    }

    #[test]
    fn the_first_message_may_be_of_any_length_and_the_others_together_of_the_agreed_one() {
        let mut window = Window::new(Some(1));
        take(&mut window, 1, &vec![0; 10 * UNACKED_MAX_BYTES]).unwrap();
        take(&mut window, 2, &vec![0; UNACKED_MAX_BYTES]).unwrap();
        assert_eq!(take(&mut window, 3, b"x"), Err(Misuse::Window));
    }

    #[test]
    fn no_more_messages_wait_than_was_agreed_on() {
        let mut window = Window::new(Some(1));
        let taken = (1..).map(|number| take(&mut window, number, b"x"));
        assert_eq!(taken.take_while(Result::is_ok).count(), UNACKED_MAX);
    }

    #[test]
    fn what_is_not_begun_can_be_left_to_others() {
        let mut window = Window::new(Some(1));
        take(&mut window, 1, b"{}").unwrap();
        take(&mut window, 2, b"{}").unwrap();
        window.begin().unwrap();
        window.drop_waiting();
        assert!(!window.is_settled());
        window.handled();
        assert_eq!(acknowledged(&mut window), [1]);
        assert_eq!(window.begin(), None);
        assert!(window.is_settled());
    }
}
