//! A shard's channels at work: joining, leaving, and the way of a message from the broker to the sockets.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use bytes::BytesMut;
use flotilla_shared::broker::Retention;
use flotilla_shared::broker::{BrokerError, BrokerEvent, BrokerEvents, HistoryQuery, Topic};
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::protocol::types::{ClientInfo, Push};

use super::Shard;
use crate::closing::Ending;
use crate::connection::Connection;
use crate::hub::{EndQuery, Fanout, Fetch, GapQuery, History, Join, Joined, Settled, Subscribing};
use crate::metrics::Dropped;
use crate::roll::Attachment;
use crate::session::Event;

impl Shard {
    /// Makes `member` a member of `channel`, or says why not. `None`: it will be notified, since the broker has to be
    /// asked first.
    pub(crate) fn join(
        self: &Rc<Self>,
        channel: &Channel,
        member: &Rc<Connection>,
        subscribing: Subscribing,
    ) -> Option<Result<Joined, ErrorCode>> {
        let join = self
            .hub
            .borrow_mut()
            .join(channel, member, subscribing, Instant::now());
        match join {
            Join::Joined(joined) => return Some(Ok(joined)),
            Join::Refused => return Some(Err(ErrorCode::LimitExceeded)),
            Join::Waiting => {}
            Join::Open(token) => {
                tokio::task::spawn_local(self.clone().open(channel.clone(), token));
            }
            Join::Fetch(fetch) => self.fetch(channel.clone(), fetch),
        }
        None
    }

    /// Subscribes a channel's topic and answers everyone who has joined meanwhile.
    async fn open(self: Rc<Self>, channel: Channel, token: u64) {
        let history = self.subscribe(&channel, token).await;
        if let Err(error) = &history {
            tracing::debug!(%error, "a channel could not be opened");
        }
        let opened = self
            .hub
            .borrow_mut()
            .opened(token, history.map_err(drop), Instant::now());
        // No await from here on: replies are written before the hub delivers anything.
        for (joiner, joined) in opened.joined {
            joiner.notify(Event::Subscribed {
                channel: channel.clone(),
                result: Ok(joined),
            });
        }
        for joiner in opened.refused {
            joiner.notify(Event::Subscribed {
                channel: channel.clone(),
                result: Err(ErrorCode::Internal),
            });
        }
        for fetch in opened.fetches {
            self.fetch(channel.clone(), fetch);
        }
    }

    /// Subscribes the topic; where the channel has a stream, also reads where that ends.
    async fn subscribe(
        &self,
        channel: &Channel,
        token: u64,
    ) -> Result<Option<History>, BrokerError> {
        let topic = Topic::Channel(channel.clone());
        self.broker.subscribe(&topic, token).await?;
        let Some(retention) = self.retention(channel) else {
            return Ok(None);
        };
        let query = HistoryQuery::default();
        match self.broker.history(channel, retention, query).await {
            Ok(page) => Ok(Some(History {
                end: page.end,
                retention,
            })),
            Err(error) => {
                self.broker.unsubscribe(token);
                Err(error)
            }
        }
    }

    /// Reads what joiners have missed, and answers them.
    fn fetch(self: &Rc<Self>, channel: Channel, fetch: Fetch) {
        let shard = self.clone();
        tokio::task::spawn_local(async move {
            let page = match shard.retention(&channel) {
                Some(retention) => shard.broker.history(&channel, retention, fetch.query).await,
                None => Err(BrokerError::Closed),
            };
            if let Err(error) = &page {
                tracing::debug!(%error, "a channel could not be recovered");
            }
            let fetched = shard
                .hub
                .borrow_mut()
                .fetched(fetch, page.as_ref().ok(), Instant::now());
            // No await here either.
            for (joiner, result) in fetched.answers {
                let channel = channel.clone();
                let result = result.map_err(|()| ErrorCode::Internal);
                joiner.notify(Event::Subscribed { channel, result });
            }
            shard.settle();
            if let Some(again) = fetched.again {
                shard.fetch(channel, again);
            }
        });
    }

    /// Asks the broker where the streams end of which something may be missing.
    pub(super) fn check_streams(self: &Rc<Self>) {
        loop {
            let queries = self.hub.borrow_mut().due_checks();
            if queries.is_empty() {
                return;
            }
            tokio::task::spawn_local(self.clone().check(queries));
        }
    }

    async fn check(self: Rc<Self>, queries: Vec<EndQuery>) {
        let channels: Vec<_> = queries.iter().map(|query| query.channel.clone()).collect();
        let ends = self.broker.ends(&channels).await;
        if let Err(error) = &ends {
            tracing::debug!(%error, "the ends of streams could not be read");
        }
        let now = Instant::now();
        self.hub.borrow_mut().checked(&queries, ends.ok(), now);
        self.settle();
    }

    fn retention(&self, channel: &Channel) -> Option<Retention> {
        self.policy.namespaces.options(channel)?.history
    }

    /// Takes `member` out of `channel`.
    pub(crate) fn leave(&self, channel: &Channel, member: &Connection) {
        self.hub.borrow_mut().leave(channel, member, Instant::now());
    }

    /// `member`'s client has been told that it is in `channel`: on a link it gets what the others there get.
    pub(crate) fn seat(&self, channel: &Channel, member: &Connection) {
        self.hub.borrow_mut().seat(channel, member);
    }

    /// Takes a connection out of all its channels, whose other subscribers hear of it where they want to; unless it is
    /// in them from another worker now.
    pub(crate) fn leave_all(&self, connection: &Connection) {
        if connection.has_left() {
            return;
        }
        connection.session().borrow_mut().make_room();
        let is_moved = connection.ending() == Some(&Ending::Moved);
        let session = connection.session().borrow();
        let mut hub = self.hub.borrow_mut();
        let now = Instant::now();
        for (channel, leave) in session.farewell() {
            hub.leave(channel, connection, now);
            if let Some(leave) = leave.filter(|_| !is_moved) {
                self.announce(channel, &leave, session.attachment(None));
            }
        }
    }

    /// Tells the channel's subscribers, without anybody waiting for that.
    pub(crate) fn announce(&self, channel: &Channel, push: &Push, attachment: Attachment) {
        if !self.announcer.announce(channel.clone(), push, attachment) {
            self.metrics.dropped(channel, Dropped::BrokerDown, 1);
        }
    }

    /// Who of this shard is in `channel`, where they show.
    pub(crate) fn presence(&self, channel: &Channel) -> Vec<ClientInfo> {
        let hub = self.hub.borrow();
        let members = hub.members(channel);
        let members = members.filter(|member| !member.is_elsewhere());
        let infos = members.filter_map(|member| member.session().borrow().presence_in(channel));
        infos.collect()
    }

    /// How many of this shard are in `channel`, where they show, by their users.
    pub(crate) fn users_in(&self, channel: &Channel) -> BTreeMap<String, u64> {
        let hub = self.hub.borrow();
        let mut users = BTreeMap::new();
        for member in hub.members(channel) {
            let session = member.session().borrow();
            // In a list of clients nobody stands twice; in a count, one would.
            if member.counts_elsewhere() || !session.shows_in(channel) {
                continue;
            }
            match users.get_mut(session.user()) {
                Some(count) => *count += 1,
                None => {
                    users.insert(session.user().to_owned(), 1);
                }
            }
        }
        users
    }

    /// Who of this shard is in `channel`, of those who are announced, how often each had been attached when it came here, and
    /// whether it is elsewhere by now.
    pub(crate) fn announced_in(&self, channel: &Channel) -> Vec<(ClientInfo, u32, bool)> {
        let hub = self.hub.borrow();
        let members = hub.members(channel);
        let infos = members.filter_map(|member| {
            let session = member.session().borrow();
            let info = session.announced_in(channel)?;
            Some((info, session.generation(), member.is_elsewhere()))
        });
        infos.collect()
    }

    /// Connections in each channel that has any.
    pub(crate) fn population(&self) -> Vec<(Channel, usize)> {
        self.hub.borrow().population()
    }

    /// Broker → hub → sockets, one tick per wake-up, until the broker connection is closed.
    pub(crate) async fn pump(self: Rc<Self>, mut events: Box<dyn BrokerEvents>) {
        let mut batch = Vec::new();
        let mut scratch = BytesMut::new();
        while events.next_batch(&mut batch).await {
            self.tick(&mut batch, &mut scratch);
            // A shard that always finds messages must still read its sockets.
            tokio::task::yield_now().await;
        }
    }

    fn tick(self: &Rc<Self>, batch: &mut Vec<BrokerEvent>, scratch: &mut BytesMut) {
        let mut fanout = Fanout::default();
        let mut hub = self.hub.borrow_mut();
        let now = Instant::now();
        for event in batch.drain(..) {
            let (token, payload, stamp) = match event {
                BrokerEvent::Message { token, payload } => (token, payload, None),
                BrokerEvent::StreamMessage {
                    token,
                    payload,
                    stamp,
                } => (token, payload, Some(stamp)),
                BrokerEvent::Overflow { token, dropped } => {
                    hub.overflowed(token);
                    hub.doubt_roll(token);
                    if let Some(channel) = hub.channel(token) {
                        // 0 says that some are missing, but not how many.
                        let count = dropped.max(1);
                        self.metrics
                            .dropped(&channel, Dropped::BrokerOverflow, count);
                    }
                    continue;
                }
                BrokerEvent::HistoryRemoved { token, stamp } => {
                    hub.history_removed(token, stamp, scratch, &mut fanout, now);
                    continue;
                }
                BrokerEvent::Disconnected => {
                    tracing::warn!("broker connection lost");
                    self.broker_lost();
                    hub.disconnected();
                    continue;
                }
                BrokerEvent::Reconnected => {
                    tracing::info!("broker connection restored");
                    self.broker_restored();
                    hub.reconnected();
                    hub.doubt_rolls();
                    // What was published last may be lost as well.
                    self.fleet().miss();
                    continue;
                }
            };
            let recipients = hub.receive(token, payload, stamp, scratch, &mut fanout, now);
            self.metrics.fanned_out_to(recipients);
        }
        hub.flush(&mut fanout, now);
        drop(hub);
        self.metrics.fanned_out(&fanout);
        self.settle();
        self.repair_streams();
    }

    /// Reads what the broker has not delivered.
    pub(super) fn repair_streams(self: &Rc<Self>) {
        for (channel, fetch) in self.hub.borrow_mut().due_fetches() {
            self.fetch(channel, fetch);
        }
        for gap in self.hub.borrow_mut().due_repairs() {
            tokio::task::spawn_local(self.clone().repair(gap));
        }
    }

    /// Goes on behind gaps that could not be read in time.
    pub(super) fn give_up_overdue(&self, now: Instant) {
        let (mut fanout, mut scratch) = (Fanout::default(), BytesMut::new());
        let mut hub = self.hub.borrow_mut();
        hub.give_up_overdue(&mut scratch, &mut fanout, now);
        drop(hub);
        self.metrics.fanned_out(&fanout);
    }

    async fn repair(self: Rc<Self>, gap: GapQuery) {
        let page = match self.retention(&gap.channel) {
            Some(retention) => {
                self.broker
                    .history(&gap.channel, retention, gap.query)
                    .await
            }
            None => Err(BrokerError::Closed),
        };
        if let Err(error) = &page {
            tracing::debug!(%error, "a gap could not be read");
        }
        let (mut fanout, mut scratch) = (Fanout::default(), BytesMut::new());
        let now = Instant::now();
        let mut hub = self.hub.borrow_mut();
        let GapQuery { token, ticket, .. } = gap;
        hub.repaired(token, ticket, page.ok(), &mut scratch, &mut fanout, now);
        hub.flush(&mut fanout, now);
        drop(hub);
        self.metrics.fanned_out(&fanout);
        self.settle();
        self.repair_streams();
    }

    /// Tells members what happened to them without their asking.
    pub(super) fn settle(&self) {
        for (channel, gap) in self.hub.borrow_mut().take_gaps() {
            self.metrics.gap(&channel, gap);
        }
        let settled = self.hub.borrow_mut().take_settled();
        for settled in settled {
            match settled {
                Settled::Joined(channel, member, joined) => member.notify(Event::Subscribed {
                    channel,
                    result: Ok(joined),
                }),
                Settled::Insufficient(channel, member) => {
                    member.notify(Event::Insufficient(channel));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flotilla_shared::config::Problems;
    use prost::Message as _;
    use tokio::task::LocalSet;

    use super::*;
    use crate::config::{Config, RawConfig};
    use crate::connection::tests::{connect, enter, shard_with};

    /// The joins and leaves that are announced when a client comes, and ends so.
    async fn announced(ending: Ending) -> Vec<&'static str> {
        let mut raw = RawConfig::default();
        raw.client.allow_anonymous_connect_without_token = true;
        raw.channel.without_namespace.join_leave = true;
        let config = Config::resolve(&raw, &mut Problems::default()).unwrap();
        let shard = shard_with(&config).await;
        let (connection, _client) = connect(&shard).await;
        enter(&connection, "room").await;
        connection.end(ending);
        shard.leave_all(&connection);
        let channel = Channel::parse("room", 255).unwrap();
        assert_eq!(shard.announced_in(&channel), []);
        let mut announcements = shard.announcements.take().unwrap();
        let mut announced = Vec::new();
        while let Ok((_, payload)) = announcements.try_recv() {
            let push = Push::decode(payload).unwrap();
            announced.push(if push.join.is_some() { "join" } else { "leave" });
        }
        announced
    }

    #[tokio::test]
    async fn who_goes_on_at_another_worker_leaves_its_channels_without_a_word() {
        let set = LocalSet::new();
        let gone = set.run_until(Box::pin(announced(Ending::Gone))).await;
        assert_eq!(gone, ["join", "leave"]);
        let moved = set.run_until(Box::pin(announced(Ending::Moved))).await;
        assert_eq!(moved, ["join"]);
    }
}
