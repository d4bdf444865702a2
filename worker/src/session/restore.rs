//! A session that another worker has had before goes on here.
//!
//! Owns: what becomes of a [`Snapshot`]. The client is not asked and not told: what it has missed comes to it as if it
//! had come live. Only what cannot be made good it is told, like anybody to whom that happens.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_shared::auth::ConnectionClaims;
use flotilla_shared::broker::Epoch;
use flotilla_shared::channel::Channel;
use flotilla_shared::filter::TagsFilter;
use flotilla_shared::protocol::codes::{DisconnectCode, ErrorCode, UnsubscribeCode};
use flotilla_shared::protocol::types::{Push, Reply, SubscribeResult};
use flotilla_shared::roster::Life;
use uuid::Uuid;

use super::snapshot::{By, Expires, Snapshot, Subscribed};
use super::subscription::{
    Answer, End, Features, NO_EPOCH, Opening, Phase, Subscription, Takes, Then,
};
use super::{Action, Actions, Expiry, HeldToken, Now, Renewal, Session, State, Transport, reply};
use crate::hub::{Delivery, Joined, Mode, Recover, Recovery, RecoveryKind, Subscribing};
use crate::namespace::RecoveryMode;
use crate::policy::Policy;

/// How long a channel that could not be opened is left alone. Short, since its client waits; but the broker that could not do
/// it now has enough to do.
const REOPEN_PAUSE: Duration = Duration::from_millis(250);

/// How long it is tried to open a channel. Who has moved here while the broker is away from everybody should not have to begin
/// anew for that; but at some time a client is better off with knowing.
const REOPEN_PATIENCE: Duration = Duration::from_secs(60);

/// A channel that is to be opened again, if not at once, then later.
#[derive(Debug)]
pub(super) struct Reopening {
    subscribing: Subscribing,
    /// When it is tried the next time; `None`: it is being tried.
    next: Option<Instant>,
    until: Instant,
}

impl Reopening {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// It cannot be opened now. Whether it is tried again.
    fn is_put_off(&mut self, now: Now) -> bool {
        self.next = Some(now.at + REOPEN_PAUSE).filter(|next| *next < self.until);
        self.next.is_some()
    }

    /// What to ask the hub for, if it is time to.
    fn due(&mut self, now: Now) -> Option<Subscribing> {
        self.next.take_if(|next| *next <= now.at)?;
        Some(self.subscribing.clone())
    }
}

/// What a session is restored from.
#[derive(Debug)]
pub(crate) struct Restored<'a> {
    /// What it was.
    pub(crate) snapshot: Snapshot,
    /// How far the client has come, by the names of channels.
    pub(crate) positions: &'a [(Bytes, u64)],
    /// How often it has been attached, this time included.
    pub(crate) generation: u32,
    /// What a valid passport says of the client. It is needed only where its connect command comes once more.
    pub(crate) edge: Option<ConnectionClaims>,
}

/// Where a session was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The worker's id.
    pub(crate) worker: String,
    /// Which of that name it was.
    pub(crate) life: Life,
}

impl Session {
    /// The session as it was. It is settling until its channels are open again: see [`Session::is_settling`].
    ///
    /// # Errors
    /// With what the client is to be disconnected with: it has expired, or is not welcome any more.
    pub(crate) fn restore(
        policy: Rc<Policy>,
        restored: Restored<'_>,
        transport: Transport,
        now: Now,
        actions: &mut Actions,
    ) -> Result<Self, DisconnectCode> {
        let Restored {
            snapshot,
            positions,
            generation,
            edge,
        } = restored;
        let client = Uuid::from_slice(&snapshot.client).map_err(|_| DisconnectCode::BadRequest)?;
        let mut session = Self::new(policy, client, edge, transport, now);
        session.state = State::Connected;
        session.generation = generation;
        session.is_changed = true;
        session.user = snapshot.user.into();
        session.info = snapshot.info;
        session.meta = snapshot.meta;
        session.token = snapshot.token.map(HeldToken::restored);
        session.expiry = expiry(snapshot.expiry, now)?;
        if let Some(refusal) = session.policy.revocations.refuse(session.credentials()) {
            return Err(refusal.code());
        }
        session.permit = session.policy.user_capacity.take_beyond(&session.user);
        session.start_pings(now);
        session.origin = Some(Box::new(Origin {
            worker: snapshot.worker,
            life: Life(snapshot.life),
        }));
        for subscribed in snapshot.subscriptions {
            if !session.is_connected() {
                break;
            }
            session.reopen(subscribed, positions, now, actions);
        }
        session.arrive_if_complete(actions);
        Ok(session)
    }

    /// How often it has been attached to a worker; 0: it is not on a link.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// It is on a link, and has been attached so often.
    pub(crate) fn attached(&mut self, generation: u32) {
        self.generation = generation;
    }

    fn reopen(
        &mut self,
        subscribed: Subscribed,
        positions: &[(Bytes, u64)],
        now: Now,
        actions: &mut Actions,
    ) {
        let Ok(channel) = Channel::parse(&subscribed.channel, self.policy.channel_max_bytes) else {
            let code = UnsubscribeCode::InsufficientState;
            let push = Push::unsubscribe(&subscribed.channel, code);
            return actions.push(reply(Reply::push(push)));
        };
        let Some(subscribing) = self.resubscribing(&channel, &subscribed, positions) else {
            self.keep(subscription(channel.clone(), subscribed, None, now));
            return self.give_up(&channel, actions);
        };
        let reopening = Reopening {
            subscribing: subscribing.clone(),
            next: None,
            until: now.at + REOPEN_PATIENCE,
        };
        self.keep(subscription(
            channel.clone(),
            subscribed,
            Some(Box::new(reopening)),
            now,
        ));
        actions.push(Action::Subscribe(channel, Box::new(subscribing)));
    }

    /// What to ask the hub for; `None`: the channel's namespace is gone.
    fn resubscribing(
        &self,
        channel: &Channel,
        subscribed: &Subscribed,
        positions: &[(Bytes, u64)],
    ) -> Option<Subscribing> {
        let options = self.policy.namespaces.options(channel)?;
        let mode = match &subscribed.filter {
            Some(filter) => Mode::filtered(TagsFilter::new(filter).ok()?),
            None if subscribed.takes_deltas => Mode::Delta,
            None => Mode::Full,
        };
        let name = channel.as_str().as_bytes();
        let of_it = positions.iter().filter(|(topic, _)| topic == name);
        let position = of_it.map(|(_, offset)| *offset).max();
        let kept = options.history.map_or(0, |retention| retention.size);
        let limit = self.policy.client.recovery_max_publication_limit;
        // Without a position nobody knows what is missing, which no stream has seen.
        let recover = subscribed.positioned.then(|| Recover {
            offset: position.unwrap_or_default(),
            epoch: Some(match (position, subscribed.epoch) {
                (Some(_), Some(epoch)) => Epoch(epoch),
                _ => NO_EPOCH,
            }),
            kind: match options.recovery_mode {
                RecoveryMode::Cache => RecoveryKind::Cache,
                RecoveryMode::Stream => RecoveryKind::Stream,
            },
            limit: limit.min(kept as usize),
        });
        Some(Subscribing {
            delivery: Delivery {
                mode,
                positioned: subscribed.positioned,
                join_leave: subscribed.hears_join_leave,
            },
            recover,
        })
    }

    /// The hub's answer: the client gets what it has missed, and is in the channel again.
    pub(super) fn reopened(
        &mut self,
        channel: &Channel,
        joined: Joined,
        then: Then,
        actions: &mut Actions,
    ) {
        let Some(own) = self
            .find(channel)
            .and_then(|at| self.subscriptions.get_mut(at))
        else {
            return;
        };
        let epoch = joined.position.map(|position| position.epoch);
        own.epoch = epoch.filter(|_| own.features.positioned);
        match joined.recovery {
            Some(Recovery::Unrecoverable) => {
                self.give_up(channel, actions);
            }
            recovery => {
                if let Some(Recovery::Recovered(publications)) = recovery {
                    for publication in publications {
                        let push = Push::publication(channel.as_str(), publication);
                        actions.push(reply(Reply::push(push)));
                    }
                }
                let from = self.origin.as_ref().map(|origin| origin.life);
                actions.extend(self.active(channel).and_then(|own| self.join(own, from)));
                if then == Then::Remove {
                    self.take_out_of(channel, actions);
                }
            }
        }
        self.is_changed = true;
        self.arrive_if_complete(actions);
    }

    /// The hub's answer: the channel's broker cannot be reached, or there is no place in it any more.
    pub(super) fn not_reopened(
        &mut self,
        channel: &Channel,
        mut opening: Box<Opening>,
        code: ErrorCode,
        now: Now,
        actions: &mut Actions,
    ) {
        let is_wanted = opening.then == Then::Stay && code.temporary();
        let reopening = opening.reopening.as_mut().filter(|_| is_wanted);
        let is_put_off = reopening.is_some_and(|own| own.is_put_off(now));
        let own = self.find(channel).filter(|_| is_put_off);
        if let Some(own) = own.and_then(|at| self.subscriptions.get_mut(at)) {
            own.phase = Phase::Opening(opening);
            return;
        }
        self.give_up(channel, actions);
        self.arrive_if_complete(actions);
    }

    /// Asks once more for the channels that could not be opened a moment ago.
    pub(super) fn reopen_again(&mut self, now: Now, actions: &mut Actions) {
        if !self.is_connected() {
            return;
        }
        for own in &mut self.subscriptions {
            if let Phase::Opening(opening) = &mut own.phase
                && let Some(reopening) = &mut opening.reopening
                && let Some(subscribing) = reopening.due(now)
            {
                let channel = own.channel.clone();
                actions.push(Action::Subscribe(channel, Box::new(subscribing)));
            }
        }
    }

    /// The client is not in the channel any more, which it is told as if messages had been lost; its library begins anew.
    fn give_up(&mut self, channel: &Channel, actions: &mut Actions) {
        if let Some(at) = self.find(channel) {
            self.ends_with(at, UnsubscribeCode::InsufficientState, actions);
        }
    }

    /// When every channel is there, or gone for good, nobody needs the worker any more that had the session before.
    pub(super) fn arrive_if_complete(&mut self, actions: &mut Actions) {
        let is_awaited = self
            .subscriptions
            .iter()
            .any(Subscription::is_being_restored);
        if !is_awaited
            && self.is_connected()
            && let Some(origin) = self.origin.take()
        {
            actions.push(Action::Arrived(origin));
        }
    }
}

fn subscription(
    channel: Channel,
    subscribed: Subscribed,
    reopening: Option<Box<Reopening>>,
    now: Now,
) -> Subscription {
    let end = match subscribed.end {
        None => End::Never,
        Some(end) if end.by() == By::Hook => End::ByHook(Box::new(renewal(end, now))),
        Some(end) => End::At(end.instants(now).0),
    };
    let opening = Opening {
        answer: Answer::Restored,
        result: SubscribeResult::default(),
        then: Then::Stay,
        rejects_unrecovered: false,
        since: 0,
        reopening,
    };
    Subscription {
        channel,
        phase: Phase::Opening(Box::new(opening)),
        info: subscribed.info,
        end,
        is_refreshed_by_client: subscribed.is_refreshed_by_client,
        features: Features {
            is_server_side: subscribed.is_server_side,
            positioned: subscribed.positioned,
            recoverable: subscribed.recoverable,
            presence: subscribed.presence,
            join_leave: subscribed.join_leave,
            hears_join_leave: subscribed.hears_join_leave,
        },
        takes: match subscribed.filter {
            Some(filter) => Takes::Filtered(Box::new(filter)),
            None if subscribed.takes_deltas => Takes::Deltas,
            None => Takes::Everything,
        },
        epoch: subscribed.epoch.map(Epoch),
    }
}

fn expiry(expiry: Option<Expires>, now: Now) -> Result<Expiry, DisconnectCode> {
    let Some(expires) = expiry else {
        return Ok(Expiry::Never);
    };
    let (at, _) = expires.instants(now);
    match expires.by() {
        By::Client | By::Server if at <= now.at => Err(DisconnectCode::ConnectionExpired),
        By::Client => Ok(Expiry::ByClient(at)),
        By::Server => Ok(Expiry::ByServer(at)),
        By::Hook => Ok(Expiry::ByHook(renewal(expires, now))),
    }
}

/// Where the back end had been asked already, its answer went to a worker that does not wait for it any more.
fn renewal(expires: Expires, now: Now) -> Renewal {
    let (until, ask_at) = expires.instants(now);
    Renewal::at(ask_at, until)
}
