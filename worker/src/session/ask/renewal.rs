//! What expires unless the back end lets it go on: connections and subscriptions.

use std::time::{Duration, Instant};

use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::codes::{DisconnectCode, UnsubscribeCode};

use super::super::subscription::{End, Subscription};
use super::super::{Expiry, after, ttl_of};
use super::{About, Actions, Now, Session};
use crate::hooks::{Answer, Question, RefreshGrant};
use crate::namespace::NamespaceOptions;

/// How long after a question without an answer the back end is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// When the back end is asked, and for how long without an answer. A back end that is down for a moment must not take
/// its users' connections with it; one that stays away does not keep them for ever.
///
/// It goes with each question, so that an answer counts for what was asked about only, and not for what came after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    /// `None`: it has been asked. There always is an answer, if only that there is none.
    ask_at: Option<Instant>,
    /// The end without an answer.
    until: Instant,
}

/// What comes of an answer.
enum Outcome {
    Over,
    AskAgain(Renewal),
    /// With what is to change, and the seconds until the next question; `None`: there is none.
    GoesOn(RefreshGrant, Option<u32>),
}

impl Renewal {
    /// Of something else's times.
    pub(in crate::session) fn at(ask_at: Instant, until: Instant) -> Self {
        let ask_at = Some(ask_at);
        Self { ask_at, until }
    }

    /// When the back end is to be asked, unless it has been, and the end without an answer.
    pub(in crate::session) fn times(&self) -> (Option<Instant>, Instant) {
        (self.ask_at, self.until)
    }

    /// When the back end is to be asked.
    pub(in crate::session) fn ask_at(&self) -> Option<Instant> {
        self.ask_at
    }

    pub(in crate::session) fn is_due(&self, now: Now) -> bool {
        self.ask_at.is_some_and(|at| at <= now.at)
    }

    /// The back end is asked now.
    fn begin(&mut self) -> Self {
        self.ask_at = None;
        *self
    }

    fn outcome(self, answer: Answer<RefreshGrant>, now: Now) -> Outcome {
        match answer {
            Answer::Granted(grant) if grant.expired => Outcome::Over,
            Answer::Granted(grant) => {
                let expire_at = Some(grant.expire_at).filter(|at| *at > 0);
                match ttl_of(expire_at, now) {
                    Ok(ttl_seconds) => Outcome::GoesOn(grant, ttl_seconds),
                    Err(_) => Outcome::Over,
                }
            }
            _ if now.at >= self.until => Outcome::Over,
            _ => Outcome::AskAgain(Self {
                ask_at: Some(self.until.min(now.at + ASK_AGAIN_AFTER)),
                ..self
            }),
        }
    }
}

impl Session {
    /// Of what expires in so many seconds.
    pub(in crate::session) fn renewal(&self, ttl_seconds: u32, now: Now) -> Renewal {
        let at = after(now, ttl_seconds, Duration::ZERO);
        Renewal {
            ask_at: Some(at),
            until: at + self.policy.hooks.refresh_unanswered_max,
        }
    }

    /// When a subscription ends that has so many seconds.
    pub(in crate::session) fn end_of(
        &self,
        options: &NamespaceOptions,
        ttl_seconds: Option<u32>,
        by_client: bool,
        now: Now,
    ) -> End {
        match ttl_seconds {
            None => End::Never,
            Some(seconds) if options.sub_refresh_proxy_enabled && !by_client => {
                End::ByHook(Box::new(self.renewal(seconds, now)))
            }
            Some(seconds) => {
                let grace = self.policy.client.expired_sub_close_delay;
                End::At(after(now, seconds, grace))
            }
        }
    }

    /// Asks whether the connection may go on, if it expires.
    pub(in crate::session) fn ask_to_go_on(&mut self, now: Now, actions: &mut Actions) {
        if let Expiry::ByHook(renewal) = &mut self.expiry
            && renewal.is_due(now)
        {
            let renewal = renewal.begin();
            self.ask(About::Refresh(renewal), Question::Refresh, actions);
        }
    }

    pub(super) fn may_go_on(
        &mut self,
        renewal: Renewal,
        answer: Answer<RefreshGrant>,
        now: Now,
        actions: &mut Actions,
    ) {
        if self.expiry != Expiry::ByHook(renewal) {
            return;
        }
        match renewal.outcome(answer, now) {
            Outcome::Over => self.close(DisconnectCode::ConnectionExpired, actions),
            Outcome::AskAgain(renewal) => self.expiry = Expiry::ByHook(renewal),
            Outcome::GoesOn(grant, ttl_seconds) => {
                if !grant.info.is_empty() {
                    self.info = grant.info;
                }
                if !grant.meta.is_empty() {
                    self.meta = grant.meta;
                }
                self.expiry = self.expiry_after(ttl_seconds, false, now);
                self.is_changed = true;
            }
        }
    }

    /// Asks about every subscription that expires.
    pub(in crate::session) fn ask_to_stay(&mut self, now: Now, actions: &mut Actions) {
        let mut due = Vec::new();
        for own in self.subscriptions.iter_mut().filter(|own| own.is_active()) {
            if let End::ByHook(renewal) = &mut own.end
                && renewal.is_due(now)
            {
                due.push((own.channel.clone(), renewal.begin()));
            }
        }
        for (channel, renewal) in due {
            let question = Question::SubRefresh {
                channel: channel.as_str().to_owned(),
            };
            self.ask(About::SubRefresh(channel, renewal), question, actions);
        }
    }

    pub(super) fn may_stay(
        &mut self,
        channel: &Channel,
        renewal: Renewal,
        answer: Answer<RefreshGrant>,
        now: Now,
        actions: &mut Actions,
    ) {
        let is_it = |own: &Subscription| {
            own.channel == *channel && matches!(&own.end, End::ByHook(own) if **own == renewal)
        };
        let Some(at) = self.subscriptions.iter().position(is_it) else {
            return;
        };
        let end = match renewal.outcome(answer, now) {
            Outcome::Over => {
                self.ends_with(at, UnsubscribeCode::SubscriptionExpired, actions);
                return;
            }
            Outcome::AskAgain(renewal) => (None, End::ByHook(Box::new(renewal))),
            Outcome::GoesOn(grant, ttl_seconds) => {
                let end = ttl_seconds.map_or(End::Never, |seconds| {
                    End::ByHook(Box::new(self.renewal(seconds, now)))
                });
                (Some(grant.info), end)
            }
        };
        if let Some(own) = self.subscriptions.get_mut(at) {
            self.is_changed = true;
            let (info, end) = end;
            own.end = end;
            if let Some(info) = info.filter(|info| !info.is_empty()) {
                own.info = info;
            }
        }
    }
}
