//! One question to several workers, and what comes back.
//!
//! Owns: who has answered what so far. Pure: it is fed parts and losses, and knows neither the broker nor the time. Parts
//! of one worker come in their order, since a broker keeps the order of one publisher; a part that is missing makes the
//! worker a silent one.

use std::collections::BTreeMap;

use super::answer::Answer;
use super::message::Part;

/// What came back.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Gathered {
    /// By worker.
    pub(crate) answers: Vec<(String, Answer)>,
    /// The ids of the workers that did not answer, or answered that it was not done.
    pub(crate) silent: Vec<String>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Gathering {
    /// Workers that have not answered to the end, and what they have said so far.
    open: BTreeMap<String, Heard>,
    gathered: Gathered,
}

#[derive(Debug, Default)]
struct Heard {
    parts: u32,
    answer: Option<Answer>,
}

impl Gathering {
    pub(super) fn new(workers: impl IntoIterator<Item = String>) -> Self {
        let open = workers.into_iter().map(|id| (id, Heard::default()));
        Self {
            open: open.collect(),
            gathered: Gathered::default(),
        }
    }

    /// Takes a part in. Parts of workers that are not waited for are passed over.
    pub(super) fn hear(&mut self, worker: &str, part: Part) {
        let Some(heard) = self.open.get_mut(worker) else {
            return;
        };
        let Some(answer) = part.answer.filter(|_| part.index == heard.parts) else {
            self.lose(worker);
            return;
        };
        match &mut heard.answer {
            Some(before) => before.absorb(answer),
            none => *none = Some(answer),
        }
        heard.parts += 1;
        if heard.parts < part.parts {
            return;
        }
        let answer = self.open.remove(worker).and_then(|heard| heard.answer);
        match answer {
            Some(answer) if answer != Answer::refused() => {
                self.gathered.answers.push((worker.to_owned(), answer));
            }
            _ => self.gathered.silent.push(worker.to_owned()),
        }
    }

    /// Nothing more comes from this worker: it was lost, or could not be asked.
    pub(super) fn lose(&mut self, worker: &str) {
        if self.open.remove(worker).is_some() {
            self.gathered.silent.push(worker.to_owned());
        }
    }

    /// Whether nobody is waited for any more.
    pub(super) fn is_complete(&self) -> bool {
        self.open.is_empty()
    }

    /// What there is; whoever is still waited for counts as silent.
    pub(super) fn finish(self) -> Gathered {
        let mut gathered = self.gathered;
        gathered.silent.extend(self.open.into_keys());
        gathered
    }
}

#[cfg(test)]
mod tests {
    use flotilla_shared::protocol::types::ClientInfo;

    use super::super::answer::Members;
    use super::*;

    fn gathering(workers: &[&str]) -> Gathering {
        Gathering::new(workers.iter().map(|id| (*id).to_owned()))
    }

    fn members(clients: &[&str]) -> Answer {
        let members = clients.iter().map(|client| ClientInfo {
            client: (*client).to_owned(),
            ..ClientInfo::default()
        });
        Answer::Members(Members {
            members: members.collect(),
        })
    }

    fn part(index: u32, parts: u32, answer: Answer) -> Part {
        Part {
            index,
            parts,
            answer: Some(answer),
        }
    }

    #[test]
    fn it_is_complete_when_everyone_has_answered_to_the_end() {
        let mut gathering = gathering(&["a", "b"]);
        gathering.hear("a", part(0, 2, members(&["1"])));
        gathering.hear("b", part(0, 1, members(&["2"])));
        assert!(!gathering.is_complete());
        gathering.hear("a", part(1, 2, members(&["3"])));
        assert!(gathering.is_complete());
        let gathered = gathering.finish();
        assert_eq!(gathered.silent, Vec::<String>::new());
        assert_eq!(
            gathered.answers,
            [
                ("b".to_owned(), members(&["2"])),
                ("a".to_owned(), members(&["1", "3"]))
            ]
        );
    }

    #[test]
    fn whoever_is_lost_or_late_is_named() {
        let mut gathering = gathering(&["a", "b", "c"]);
        gathering.lose("b");
        gathering.lose("nobody");
        gathering.hear("a", part(0, 2, members(&["1"])));
        gathering.hear("c", part(0, 1, Answer::done()));
        let gathered = gathering.finish();
        assert_eq!(gathered.silent, ["b", "a"]);
        assert_eq!(gathered.answers.len(), 1);
    }

    #[test]
    fn a_part_that_is_missing_makes_the_answer_none() {
        let mut gathering = gathering(&["a"]);
        gathering.hear("a", part(0, 3, members(&["1"])));
        gathering.hear("a", part(2, 3, members(&["3"])));
        assert!(gathering.is_complete());
        assert_eq!(gathering.finish().silent, ["a"]);
    }

    #[test]
    fn a_refusal_and_an_answer_of_another_version_are_no_answers() {
        let mut gathering = gathering(&["a", "b"]);
        gathering.hear("a", part(0, 1, Answer::refused()));
        let unknown = Part {
            answer: None,
            ..Part::default()
        };
        gathering.hear("b", unknown);
        assert_eq!(gathering.finish().silent, ["a", "b"]);
    }

    #[test]
    fn strangers_and_second_answers_change_nothing() {
        let mut gathering = gathering(&["a"]);
        gathering.hear("stranger", part(0, 1, Answer::done()));
        gathering.hear("a", part(0, 1, Answer::done()));
        gathering.hear("a", part(0, 1, Answer::done()));
        assert_eq!(gathering.finish().answers.len(), 1);
    }
}
