//! One subscription of a client: from the question to the hub until its end.

use std::time::Instant;

use bytes::Bytes;
use flotilla_shared::auth::{Overrides, Switch};
use flotilla_shared::broker::Epoch;
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::types::{FilterNode, SubscribeRequest, SubscribeResult};

use super::Renewal;
use super::restore::Reopening;
use crate::hub::{Delivery, Joined, Mode, Recover, Recovery, RecoveryKind, Subscribing};
use crate::namespace::{NamespaceOptions, RecoveryMode};

/// No stream has it.
pub(super) const NO_EPOCH: Epoch = Epoch(0);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) channel: Channel,
    pub(super) phase: Phase,
    /// What others learn of the client in this channel.
    pub(super) info: Bytes,
    pub(super) end: End,
    /// The client was told that it has to refresh.
    pub(super) is_refreshed_by_client: bool,
    pub(super) features: Features,
    /// In what form it gets publications.
    pub(super) takes: Takes,
    /// Of the channel's stream when the client came, if it is told of gaps.
    pub(super) epoch: Option<Epoch>,
}

/// What a subscription takes of its channel, as another worker can be told.
#[derive(Debug, PartialEq)]
pub(super) enum Takes {
    Everything,
    Deltas,
    Filtered(Box<FilterNode>),
}

impl Takes {
    pub(super) fn of(mode: &Mode, request: &SubscribeRequest) -> Self {
        match (mode, &request.tf) {
            (Mode::Filtered(_), Some(filter)) => Self::Filtered(filter.clone()),
            (Mode::Delta, _) => Self::Deltas,
            (Mode::Full | Mode::Filtered(_), _) => Self::Everything,
        }
    }
}

/// When a subscription ends.
#[derive(Debug)]
pub(super) enum End {
    Never,
    /// Unless it is refreshed; the time for that is included.
    At(Instant),
    /// Unless the back end lets it go on.
    ByHook(Box<Renewal>),
}

impl End {
    /// When something is to be done about it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Never => None,
            Self::At(at) => Some(*at),
            Self::ByHook(renewal) => renewal.ask_at(),
        }
    }
}

#[derive(Debug)]
pub(super) enum Phase {
    /// The back end has been asked.
    Asking(Box<Asking>),
    /// The hub has been asked.
    Opening(Box<Opening>),
    Active,
}

/// What is done when the back end has answered.
#[derive(Debug)]
pub(super) struct Asking {
    /// The command's id.
    pub(super) id: u32,
    pub(super) request: SubscribeRequest,
    /// What has happened meanwhile.
    pub(super) then: Then,
}

/// What is done when the hub has answered.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) answer: Answer,
    /// Completed by the hub's answer.
    pub(super) result: SubscribeResult,
    /// What has happened meanwhile.
    pub(super) then: Then,
    /// An unrecoverable position is an error to this client.
    pub(super) rejects_unrecovered: bool,
    /// The position from which the client recovers.
    pub(super) since: u64,
    /// How it is tried again, if it was subscribed at another worker.
    pub(super) reopening: Option<Box<Reopening>>,
}

/// How the client learns that it is subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// By the reply to its subscribe command.
    Reply(u32),
    /// By the reply to its connect command, which waits for it.
    Connect,
    /// By a push.
    Push,
    /// Not at all: it was subscribed at another worker.
    Restored,
}

/// What follows as soon as a subscription is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Stay,
    /// The client has unsubscribed, with the command of this id.
    Unsubscribe(u32),
    /// The server has unsubscribed it.
    Remove,
}

/// What a subscription has, of what its namespace offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// The server subscribed the client.
    pub(super) is_server_side: bool,
    /// The client is told of gaps.
    pub(super) positioned: bool,
    /// The client can get what it missed.
    pub(super) recoverable: bool,
    /// The client shows in the channel's presence.
    pub(super) presence: bool,
    /// Others hear of its coming and going.
    pub(super) join_leave: bool,
    /// It hears of others' coming and going.
    pub(super) hears_join_leave: bool,
}

impl Features {
    /// What is granted of what was asked for; the rest is silently off.
    pub(super) fn granted(
        options: &NamespaceOptions,
        overrides: &Overrides,
        request: &SubscribeRequest,
        is_server_side: bool,
    ) -> Self {
        let has_history = options.history.is_some();
        let is = |switch: Option<Switch>, otherwise: bool| {
            switch.map_or(otherwise, |switch| switch.value)
        };
        let recoverable = has_history
            && (is(overrides.force_recovery, options.force_recovery)
                || request.recoverable && options.allow_recovery);
        let positioned = has_history
            && (is(overrides.force_positioning, options.force_positioning)
                || request.positioned && options.allow_positioning);
        let join_leave = is(overrides.join_leave, options.join_leave);
        Self {
            is_server_side,
            // Who recovers has to learn of gaps.
            positioned: positioned || recoverable,
            recoverable,
            presence: is(overrides.presence, options.presence),
            join_leave,
            hears_join_leave: is(
                overrides.force_push_join_leave,
                options.force_push_join_leave,
            ) || request.join_leave && join_leave,
        }
    }

    /// What to ask the hub for. `limit`: most publications that are recovered. Never more than the channel keeps: a hub
    /// may still remember older ones, and whether a client recovers must not depend on that.
    pub(super) fn subscribing(
        self,
        options: &NamespaceOptions,
        request: &SubscribeRequest,
        mode: Mode,
        limit: usize,
    ) -> Subscribing {
        let is_cache = options.recovery_mode == RecoveryMode::Cache;
        let kept = options.history.map_or(0, |retention| retention.size);
        let wanted = request.recover || is_cache && options.auto_cache_recover;
        let recover = (self.recoverable && wanted).then(|| Recover {
            offset: request.offset,
            epoch: if request.epoch.is_empty() {
                None
            } else {
                // What does not read was never an epoch of ours.
                Some(request.epoch.parse().unwrap_or(NO_EPOCH))
            },
            kind: if is_cache {
                RecoveryKind::Cache
            } else {
                RecoveryKind::Stream
            },
            limit: limit.min(kept as usize),
        });
        Subscribing {
            delivery: Delivery {
                mode,
                positioned: self.positioned,
                join_leave: self.hears_join_leave,
            },
            recover,
        }
    }
}

impl Opening {
    /// Completes the result by what the hub says. False: the client does not want it so.
    pub(super) fn complete(&mut self, joined: Joined, features: Features) -> bool {
        let result = &mut self.result;
        if let Some(position) = joined.position.filter(|_| features.positioned) {
            result.positioned = true;
            result.recoverable = features.recoverable;
            result.epoch = position.epoch.to_string();
            result.offset = position.offset;
        }
        match joined.recovery {
            None => true,
            Some(Recovery::Recovered(publications)) => {
                // The client advances by itself, publication by publication.
                if result.was_recovering && !publications.is_empty() {
                    result.offset = self.since;
                }
                result.recovered = true;
                result.publications = publications;
                true
            }
            Some(Recovery::Unrecoverable) => !self.rejects_unrecovered,
        }
    }
}

impl Subscription {
    pub(super) fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Active)
    }

    /// Whether it was active at another worker, and is not yet here.
    pub(super) fn is_being_restored(&self) -> bool {
        matches!(&self.phase, Phase::Opening(opening) if opening.answer == Answer::Restored)
    }

    /// When something is to be done about it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let again = match &self.phase {
            Phase::Opening(opening) => opening.reopening.as_deref(),
            Phase::Asking(_) | Phase::Active => None,
        };
        let again = again.and_then(Reopening::deadline);
        self.end.deadline().into_iter().chain(again).min()
    }

    /// Whether the client is to be told what it has missed.
    pub(super) fn is_recovering(&self) -> bool {
        match &self.phase {
            Phase::Opening(opening) => opening.result.was_recovering,
            Phase::Asking(_) | Phase::Active => false,
        }
    }

    /// Whether the client has unsubscribed before it was subscribed.
    pub(super) fn is_leaving(&self) -> bool {
        let then = match &self.phase {
            Phase::Asking(asking) => asking.then,
            Phase::Opening(opening) => opening.then,
            Phase::Active => return false,
        };
        matches!(then, Then::Unsubscribe(_))
    }

    /// What follows as soon as it is active; `None`: it is.
    pub(super) fn then_mut(&mut self) -> Option<&mut Then> {
        match &mut self.phase {
            Phase::Asking(asking) => Some(&mut asking.then),
            Phase::Opening(opening) => Some(&mut opening.then),
            Phase::Active => None,
        }
    }
}
