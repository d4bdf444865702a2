//! What only JetStream can do to a history: streams that are lost, changed, or made by others.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::ConnectOptions;
use flotilla_shared::broker::conformance::{Peer, RETENTION};
use flotilla_shared::broker::{
    Append, BrokerError, BrokerEvent, BrokerMetrics, Brokers, HistoryPage, HistoryQuery,
    NatsConfig, NatsStorage, Retention, StreamPosition,
};
use flotilla_shared::channel::Channel;
use prometheus::Registry;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::nats_server::NatsServer;

fn channel(name: &str) -> Result<Channel> {
    Ok(Channel::parse(name, 255)?)
}

async fn append(peer: &Peer, name: &str) -> Result<StreamPosition> {
    let append = Append {
        payload: "x".into(),
        ..Append::default()
    };
    let appended = peer
        .broker
        .append(&channel(name)?, RETENTION, append)
        .await?;
    Ok(appended.position())
}

async fn since(peer: &Peer, name: &str, since: u64) -> Result<HistoryPage> {
    let query = HistoryQuery {
        limit: usize::MAX,
        since: Some(since),
        reverse: false,
    };
    Ok(peer
        .broker
        .history(&channel(name)?, RETENTION, query)
        .await?)
}

/// Why a connection cannot be made.
async fn refused(config: NatsConfig) -> Result<BrokerError> {
    let metrics = BrokerMetrics::register(&Registry::new())?;
    let connected = Brokers::Nats(config).connect("jetstream", &metrics).await;
    connected.err().context("it was taken")
}

async fn reconnected(peer: &mut Peer) -> Result<()> {
    while peer.next().await? != BrokerEvent::Reconnected {}
    Ok(())
}

/// A question to the server itself.
async fn ask(server: &NatsServer, subject: &str) -> Result<Value> {
    let client = ConnectOptions::new()
        .connect(server.config().servers)
        .await?;
    let answer = client.request(subject.to_owned(), "{}".into()).await?;
    Ok(serde_json::from_slice(&answer.payload)?)
}

async fn stream_names(server: &NatsServer) -> Result<Vec<String>> {
    let answer = ask(server, "$JS.API.STREAM.NAMES").await?;
    let names = answer["streams"].as_array().into_iter().flatten();
    Ok(names
        .filter_map(|name| Some(name.as_str()?.to_owned()))
        .collect())
}

#[tokio::test]
async fn who_connects_first_creates_the_streams_and_all_find_the_same_ones() -> Result<()> {
    let server = NatsServer::start_with_jetstream().await?;
    // Each configuration stands for a process of its own.
    let processes = (0..4).map(|_| Brokers::Nats(server.config_with_history()));
    let processes: Vec<Brokers> = processes.collect();
    let peers = processes.iter().map(Peer::connect);
    let peers = futures_util::future::try_join_all(peers).await?;
    let mut positions = Vec::new();
    for peer in &peers {
        positions.push(append(peer, "news").await?);
    }
    let offsets: Vec<u64> = positions.iter().map(|position| position.offset).collect();
    ensure!(offsets.is_sorted(), "{offsets:?}");
    ensure!(
        positions.iter().all(|it| it.epoch == positions[0].epoch),
        "{positions:?}"
    );
    let config = server.config_with_history().history;
    let expected = config.partitions as usize * config.namespaces.len();
    ensure!(stream_names(&server).await?.len() == expected);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_changed_is_refused_in_so_many_words() -> Result<()> {
    let server = NatsServer::start_with_jetstream().await?;
    Peer::connect(&Brokers::Nats(server.config_with_history())).await?;
    let mut other = server.config_with_history();
    other.history.partitions = 8;
    let error = refused(other).await?;
    ensure!(
        !error.is_temporary() && error.to_string().contains("has 4 partitions, not 8"),
        "{error}"
    );
    let mut other = server.config_with_history();
    other.history.storage = NatsStorage::Memory;
    let error = refused(other).await?;
    ensure!(
        !error.is_temporary() && error.to_string().contains("file storage, not memory"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn a_server_without_jetstream_is_refused_for_history_and_for_nothing_else() -> Result<()> {
    let server = NatsServer::start().await?;
    let error = refused(server.config_with_history()).await?;
    ensure!(
        !error.is_temporary() && error.to_string().contains("needs JetStream"),
        "{error}"
    );
    let peer = Peer::connect(&server.brokers()).await?;
    let refused = append(&peer, "news").await;
    ensure!(refused.is_err(), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_cannot_hold_the_streams_says_why() -> Result<()> {
    let server = NatsServer::start_with_jetstream().await?;
    let mut config = server.config_with_history();
    config.history.replicas = 3;
    let error = refused(config).await?;
    ensure!(
        !error.is_temporary() && error.to_string().contains("replicas"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn a_namespace_without_history_has_none() -> Result<()> {
    let server = NatsServer::start_with_jetstream().await?;
    let peer = Peer::connect(&Brokers::Nats(server.config_with_history())).await?;
    let refused = append(&peer, "other:news").await;
    ensure!(refused.is_err(), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn the_documented_permissions_suffice() -> Result<()> {
    let users = r#"authorization { users = [
        { user: keeper, password: secret, permissions: {
            subscribe: [ "flotilla.barrier.*", "flotilla.ch.*", "flotilla.inbox.>" ],
            publish: [ "flotilla.barrier.*", "flotilla.h.>", "$JS.API.STREAM.LIST", "$JS.API.STREAM.CREATE.*",
                "$JS.API.STREAM.UPDATE.*", "$JS.API.STREAM.DELETE.*", "$JS.API.STREAM.PURGE.*",
                "$JS.API.DIRECT.GET.*" ] } },
        { user: stranger, password: secret, permissions: { publish: "flotilla.>", subscribe: "flotilla.>" } },
    ] }"#;
    let server = NatsServer::start_with_jetstream_and(users).await?;
    let as_user = |user: &str| {
        let mut config = server.config_with_history();
        for url in &mut config.servers {
            *url = url.replace("//", &format!("//{user}:secret@"));
        }
        config.request_timeout = Duration::from_millis(500);
        config
    };
    let error = refused(as_user("stranger")).await?;
    ensure!(error.to_string().contains("permissions"), "{error}");
    let mut config = as_user("keeper");
    config.request_timeout = Duration::from_secs(5);
    let peer = Peer::connect(&Brokers::Nats(config)).await?;
    let position = append(&peer, "news").await?;
    let page = since(&peer, "news", 0).await?;
    ensure!(page.end == position && page.is_complete, "{page:?}");
    ensure!(peer.broker.ends(&[channel("news")?]).await? == [position]);
    peer.broker.remove_history(&channel("news")?).await?;
    Ok(())
}

#[tokio::test]
async fn histories_on_disk_outlive_a_crash_of_the_server() -> Result<()> {
    let mut server = NatsServer::start_with_jetstream().await?;
    let mut peer = Peer::connect(&Brokers::Nats(server.config_with_history())).await?;
    let first = append(&peer, "news").await?;
    server.kill().await?;
    server.restart().await?;
    reconnected(&mut peer).await?;
    let second = append(&peer, "news").await?;
    ensure!(
        second.epoch == first.epoch && second.offset > first.offset,
        "{second:?}"
    );
    let page = since(&peer, "news", first.offset).await?;
    ensure!(page.is_complete && page.publications.len() == 1, "{page:?}");
    Ok(())
}

#[tokio::test]
async fn histories_in_memory_begin_anew_when_the_server_does() -> Result<()> {
    let mut server = NatsServer::start_with_jetstream().await?;
    let mut config = server.config_with_history();
    config.history.storage = NatsStorage::Memory;
    let mut peer = Peer::connect(&Brokers::Nats(config)).await?;
    let first = append(&peer, "news").await?;
    server.kill().await?;
    server.restart().await?;
    reconnected(&mut peer).await?;
    let [end] = peer.broker.ends(&[channel("news")?]).await?[..] else {
        anyhow::bail!("not one end");
    };
    ensure!(end.offset == 0 && end.epoch != first.epoch, "{end:?}");
    let second = append(&peer, "news").await?;
    ensure!(second.epoch == end.epoch, "{second:?}");
    Ok(())
}

#[tokio::test]
async fn a_deleted_stream_begins_anew_for_everyone() -> Result<()> {
    let server = NatsServer::start_with_jetstream().await?;
    let one = Peer::connect(&Brokers::Nats(server.config_with_history())).await?;
    let other = Peer::connect(&Brokers::Nats(server.config_with_history())).await?;
    for (first, then) in [(&one, &other), (&other, &one)] {
        let before = append(first, "news").await?;
        for name in stream_names(&server).await? {
            ask(&server, &format!("$JS.API.STREAM.DELETE.{name}")).await?;
        }
        let page = since(first, "news", 0).await?;
        ensure!(
            page.end.epoch != before.epoch && page.is_complete,
            "{page:?}"
        );
        let after = append(then, "news").await?;
        ensure!(after.epoch == page.end.epoch, "{after:?} after {page:?}");
        let page = since(first, "news", 0).await?;
        ensure!(page.end == after, "{page:?} after {after:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_that_lost_its_end_begins_anew() -> Result<()> {
    let mut server = NatsServer::start_with_jetstream().await?;
    let mut peer = Peer::connect(&Brokers::Nats(server.config_with_history())).await?;
    append(&peer, "news").await?;
    server.kill().await?;
    let copy = tempfile::tempdir()?;
    copy_all(&server.store(), copy.path())?;
    server.restart().await?;
    reconnected(&mut peer).await?;
    let before = append(&peer, "news").await?;
    server.kill().await?;
    std::fs::remove_dir_all(server.store())?;
    copy_all(copy.path(), &server.store())?;
    server.restart().await?;
    reconnected(&mut peer).await?;
    let after = append(&peer, "news").await?;
    ensure!(after.epoch != before.epoch, "{after:?} after {before:?}");
    Ok(())
}

#[tokio::test]
async fn a_retention_that_changes_changes_the_streams_and_proves_nothing_false() -> Result<()> {
    let server = NatsServer::start_with_jetstream().await?;
    let peer = Peer::connect(&Brokers::Nats(server.config_with_history())).await?;
    let mut last = append(&peer, "news").await?;
    for _ in 0..RETENTION.size + 1 {
        last = append(&peer, "news").await?;
    }
    let mut config = server.config_with_history();
    let larger = Retention {
        size: RETENTION.size * 2,
        ..RETENTION
    };
    for (_, retention) in &mut config.history.namespaces {
        *retention = larger;
    }
    let peer = Peer::connect(&Brokers::Nats(config)).await?;
    for _ in 0..RETENTION.size / 2 {
        append(&peer, "news").await?;
    }
    let query = HistoryQuery {
        limit: usize::MAX,
        since: Some(0),
        reverse: false,
    };
    let page = peer
        .broker
        .history(&channel("news")?, larger, query)
        .await?;
    ensure!(
        page.publications.len() > RETENTION.size as usize,
        "{page:?}"
    );
    ensure!(!page.is_complete, "what was dropped before is missing");
    let query = HistoryQuery {
        since: Some(last.offset),
        ..query
    };
    let page = peer
        .broker
        .history(&channel("news")?, larger, query)
        .await?;
    ensure!(page.is_complete, "{page:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_older_than_the_time_to_live_is_not_read_and_its_position_stays() -> Result<()> {
    let server = NatsServer::start_with_jetstream().await?;
    let peer = Peer::connect(&Brokers::Nats(server.config_with_history())).await?;
    let first = append(&peer, "news").await?;
    let last = append(&peer, "news").await?;
    let expired = Retention {
        ttl: Duration::ZERO,
        ..RETENTION
    };
    for (since, complete) in [(0, false), (first.offset, false), (last.offset, true)] {
        let query = HistoryQuery {
            limit: usize::MAX,
            since: Some(since),
            reverse: false,
        };
        let page = peer
            .broker
            .history(&channel("news")?, expired, query)
            .await?;
        ensure!(page.publications.is_empty() && page.end == last, "{page:?}");
        ensure!(page.is_complete == complete, "since {since}: {page:?}");
    }
    Ok(())
}

/// Whichever streams it led: they get another leader, and lack nothing that was confirmed.
#[tokio::test]
async fn a_cluster_that_loses_a_server_goes_on_where_it_was() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let mut config = cluster.config(0, "flotilla");
    config.history.partitions = 4;
    let peer = Peer::connect(&Brokers::Nats(config)).await?;
    let names: Vec<String> = (0..12).map(|number| format!("news-{number}")).collect();
    let mut before = Vec::new();
    for name in &names {
        before.push(append(&peer, name).await?);
    }
    cluster.servers[1].kill().await?;
    for (name, before) in names.iter().zip(before) {
        let after = append(&peer, name).await?;
        ensure!(after.epoch == before.epoch, "{after:?} after {before:?}");
        let page = since(&peer, name, before.offset).await?;
        ensure!(
            page.is_complete && page.end == after,
            "{page:?} after {before:?}"
        );
        ensure!(peer.broker.ends(&[channel(name)?]).await? == [after]);
    }
    Ok(())
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
