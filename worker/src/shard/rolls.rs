//! How a shard keeps its channels' subscribers right about who is there: see [`crate::roll`].
//!
//! Owns: the way of the fleet's news to the hub, and of the hub's questions to the workers.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use bytes::BytesMut;
use flotilla_shared::roster::{LEASE, Life};

use super::Shard;
use crate::fleet::{Answer, AskError, Gathered, Question, RollCall};
use crate::hub::{Account, Fanout, RollAnswer, RollQuestion};

impl Shard {
    /// Takes in who is in the fleet, tells subscribers what follows from it, and asks where something was missed.
    pub(super) fn call_rolls(self: &Rc<Self>, now: Instant) {
        let mut hub = self.hub.borrow_mut();
        let mut lives = self.lives.borrow_mut();
        let is_new = now.saturating_duration_since(self.began) < LEASE;
        // An error says that the fleet is gone, and this worker with it.
        if lives.has_changed().unwrap_or(false) || hub.is_new() != is_new {
            hub.hear_of(&lives.borrow_and_update(), is_new);
        }
        let mut fanout = Fanout::default();
        hub.call_rolls(&mut BytesMut::new(), &mut fanout, now);
        let questions = hub.roll_questions(now);
        drop(hub);
        self.metrics.fanned_out(&fanout);
        self.settle();
        for question in questions {
            tokio::task::spawn_local(self.clone().ask_for_roll(question));
        }
    }

    async fn ask_for_roll(self: Rc<Self>, question: RollQuestion) {
        let RollQuestion {
            life,
            worker,
            about,
        } = question;
        let channels = about.iter().map(|of| of.channel.as_str().to_owned());
        let call = RollCall {
            channels: channels.collect(),
        };
        let asked = self.fleet().ask_one(&worker, Question::Roll(call)).await;
        let answer = answer_of(life, asked);
        let mut hub = self.hub.borrow_mut();
        hub.roll_answered(life, &about, &answer, Instant::now());
    }
}

/// An answer of another life is none: that one will be asked in its own right.
fn answer_of(life: Life, asked: Result<Gathered, AskError>) -> RollAnswer {
    let answers = match asked {
        Ok(gathered) => gathered.answers,
        Err(AskError::TooLarge) => return RollAnswer::TooMany,
        Err(AskError::Disconnected | AskError::Busy) => return RollAnswer::Silence,
    };
    match answers.into_iter().next() {
        Some((_, Answer::Roll(roll))) if roll.life == life.0 => {
            let mut accounts: HashMap<usize, Account> = HashMap::new();
            for listed in roll.entries {
                let account = accounts.entry(listed.place as usize).or_default();
                account.is_passing |= listed.is_elsewhere;
                account.members.push((listed.member, listed.generation));
            }
            RollAnswer::Members(accounts)
        }
        _ => RollAnswer::Silence,
    }
}
