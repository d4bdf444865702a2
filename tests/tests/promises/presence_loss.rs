//! Who is in a channel is right, and its subscribers are told so once, when workers die, hang, come back or lose the
//! others.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_shared::protocol::types::{Command, PresenceRequest};
use flotilla_tests::SOON;
use flotilla_tests::client::{Client, Dial};
use flotilla_tests::eventually::eventually;
use flotilla_tests::fleet::{Builder, Fleet, namespace};
use flotilla_tests::token;
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};

const HALL: &str = "hall:1";

/// The worker that something happens to. Its members' subscribers are on the others.
const VICTIM: usize = 2;

/// A subscriber, and what it was told last of each client: whether it is there.
struct Watcher {
    client: Client,
    told: BTreeMap<String, bool>,
}

impl Watcher {
    /// A subscriber on this worker.
    async fn on(fleet: &Fleet, worker: usize, dial: impl Fn(Dial) -> Dial) -> Result<Self> {
        let dial = dial(Dial::to(fleet.workers[worker].url()));
        let mut client = dial.connect(&token::user("watcher")?).await?;
        client.subscribe(HALL).await?;
        Ok(Self {
            client,
            told: BTreeMap::new(),
        })
    }

    /// Takes in one join or leave, which is none that was told before.
    async fn hear(&mut self) -> Result<()> {
        let is_about_members = |push: &flotilla_shared::protocol::types::Push| {
            push.join.is_some() || push.leave.is_some()
        };
        let push = self.client.push(HALL, is_about_members).await?;
        let is_there = push.join.is_some();
        let info = push.join.and_then(|join| join.info);
        let info = info.or(push.leave.and_then(|leave| leave.info));
        let info = info.context("a client")?;
        let before = self.told.insert(info.client, is_there);
        ensure!(before != Some(is_there), "told twice of {}", info.user);
        Ok(())
    }

    /// Waits until all of these were told to be there, or not.
    async fn hears(&mut self, clients: &BTreeSet<String>, is_there: bool) -> Result<()> {
        while !clients
            .iter()
            .all(|client| self.told.get(client) == Some(&is_there))
        {
            let missing = || format!("of {clients:?} that is_there = {is_there}: {:?}", self.told);
            let missing = missing();
            self.hear().await.context(missing)?;
        }
        Ok(())
    }

    /// Who is in the channel, as this client is told when it asks.
    async fn presence(&mut self) -> Result<BTreeSet<String>> {
        let request = PresenceRequest {
            channel: HALL.to_owned(),
        };
        let command = Command {
            presence: Some(request),
            ..Default::default()
        };
        let reply = self.client.call(command).await?;
        let result = reply
            .presence
            .with_context(|| format!("{:?}", reply.error))?;
        Ok(result.presence.into_keys().collect())
    }

    async fn sees(&mut self, truth: &BTreeSet<String>) -> Result<()> {
        eventually("presence is right", SOON, async || {
            let seen = self.presence().await?;
            ensure!(seen == *truth, "{seen:?}");
            Ok(())
        })
        .await
    }

    fn id(&self) -> String {
        self.client.session().client.clone()
    }
}

fn builder() -> Builder {
    let options = [
        "allow_subscribe_for_client",
        "presence",
        "allow_presence_for_subscriber",
        "join_leave",
        "force_push_join_leave",
    ];
    Fleet::builder()
        .workers(3)
        .gateways(0)
        .worker("channel.namespaces", vec![namespace("hall", &options)])
}

/// A watcher on each worker but the victim, one of either encoding.
async fn watchers(fleet: &Fleet) -> Result<[Watcher; 2]> {
    Ok([
        Watcher::on(fleet, 0, |dial| dial.format(Json)).await?,
        Watcher::on(fleet, 1, |dial| dial.format(Protobuf)).await?,
    ])
}

/// Clients of the victim in the channel.
async fn members(fleet: &Fleet, count: usize) -> Result<Vec<Client>> {
    let mut members = Vec::new();
    for number in 0..count {
        let dial = Dial::to(fleet.workers[VICTIM].url());
        let mut client = dial
            .connect(&token::user(&format!("member-{number}"))?)
            .await?;
        client.subscribe(HALL).await?;
        members.push(client);
    }
    Ok(members)
}

fn ids<'a>(clients: impl IntoIterator<Item = &'a Client>) -> BTreeSet<String> {
    let clients = clients.into_iter();
    clients
        .map(|client| client.session().client.clone())
        .collect()
}

/// Members, some of whom were there before the watchers and some of whom came later, all known to the watchers' workers.
async fn gathered(fleet: &Fleet) -> Result<([Watcher; 2], Vec<Client>)> {
    let mut all = members(fleet, 3).await?;
    let mut watchers = watchers(fleet).await?;
    let later = members(fleet, 2).await?;
    for watcher in &mut watchers {
        watcher.hears(&ids(&later), true).await?;
    }
    all.extend(later);
    for worker in &fleet.workers[..VICTIM] {
        let known = all.len() + watchers.len();
        worker
            .metric_becomes("flotilla_worker_members_remembered", &[], known as f64)
            .await?;
    }
    Ok((watchers, all))
}

/// Both watchers hear that somebody comes and goes elsewhere: whatever was to come before that has come.
async fn nothing_else(fleet: &Fleet, watchers: &mut [Watcher; 2]) -> Result<()> {
    let mut marker = Watcher::on(fleet, 0, |dial| dial).await?;
    marker.client.unsubscribe(HALL).await?;
    for watcher in watchers {
        let marker = BTreeSet::from([marker.id()]);
        watcher.hears(&marker, true).await?;
        watcher.hears(&marker, false).await?;
    }
    Ok(())
}

fn and_watchers(watchers: &[Watcher; 2], members: &BTreeSet<String>) -> BTreeSet<String> {
    let watching = watchers.iter().map(Watcher::id);
    members.iter().cloned().chain(watching).collect()
}

#[tokio::test]
async fn the_members_of_a_killed_worker_leave_once() -> Result<()> {
    let mut fleet = builder().start().await?;
    let (mut watchers, members) = gathered(&fleet).await?;
    fleet.workers[VICTIM].process().kill().await?;
    let truth = and_watchers(&watchers, &BTreeSet::new());
    for watcher in &mut watchers {
        watcher.hears(&ids(&members), false).await?;
        watcher.sees(&truth).await?;
    }
    nothing_else(&fleet, &mut watchers).await
}

#[tokio::test]
async fn a_worker_that_is_started_again_has_none_of_the_members_it_had() -> Result<()> {
    let mut fleet = builder().start().await?;
    let (mut watchers, before) = gathered(&fleet).await?;
    fleet.workers[VICTIM].process().kill().await?;
    fleet.workers[VICTIM].restart().await?;
    fleet.workers[VICTIM].ready().await?;
    let after = members(&fleet, 2).await?;
    let truth = and_watchers(&watchers, &ids(&after));
    for watcher in &mut watchers {
        watcher.hears(&ids(&before), false).await?;
        watcher.hears(&ids(&after), true).await?;
        watcher.sees(&truth).await?;
    }
    nothing_else(&fleet, &mut watchers).await
}

#[tokio::test]
async fn the_members_of_a_worker_that_hangs_leave_and_join_again() -> Result<()> {
    let mut fleet = builder().start().await?;
    let (mut watchers, mut members) = gathered(&fleet).await?;
    fleet.workers[VICTIM].process().signal(SIGSTOP)?;
    for watcher in &mut watchers {
        watcher.hears(&ids(&members), false).await?;
    }
    // Nobody can notice before the worker does.
    drop(members.pop());
    fleet.workers[VICTIM].process().signal(SIGCONT)?;
    let truth = and_watchers(&watchers, &ids(&members));
    for watcher in &mut watchers {
        watcher.hears(&ids(&members), true).await?;
        watcher.sees(&truth).await?;
    }
    nothing_else(&fleet, &mut watchers).await?;
    for watcher in &watchers {
        let told = watcher.told.iter().filter(|(_, is_there)| **is_there);
        let told: BTreeSet<String> = told.map(|(client, _)| client.clone()).collect();
        assert!(told.is_subset(&truth), "{told:?} {truth:?}");
    }
    Ok(())
}

#[tokio::test]
async fn after_a_partition_everybody_is_told_what_has_changed_and_nothing_else() -> Result<()> {
    let fleet = builder().linked().start().await?;
    let (mut watchers, mut members) = gathered(&fleet).await?;
    let mut cut_off = Watcher::on(&fleet, VICTIM, |dial| dial).await?;
    for watcher in &mut watchers {
        watcher.hears(&BTreeSet::from([cut_off.id()]), true).await?;
    }
    fleet.links[VICTIM].cut();
    let mut gone = ids(&members);
    gone.insert(cut_off.id());
    for watcher in &mut watchers {
        watcher.hears(&gone, false).await?;
    }
    // Neither its coming nor another one's going can be told.
    members.pop().context("a member")?.close().await?;
    let newcomer = Watcher::on(&fleet, VICTIM, |dial| dial).await?;
    fleet.links[VICTIM].mend();
    let mut there = ids(&members);
    there.extend([cut_off.id(), newcomer.id()]);
    let truth = and_watchers(&watchers, &there);
    for watcher in &mut watchers {
        watcher.hears(&there, true).await?;
        watcher.sees(&truth).await?;
    }
    cut_off
        .hears(&BTreeSet::from([newcomer.id()]), true)
        .await?;
    cut_off.sees(&truth).await?;
    let others: Vec<String> = watchers.iter().map(Watcher::id).collect();
    assert!(
        others.iter().all(|id| !cut_off.told.contains_key(id)),
        "who is cut off takes nobody for dead"
    );
    nothing_else(&fleet, &mut watchers).await
}
