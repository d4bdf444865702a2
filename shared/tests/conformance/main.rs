//! Every adapter keeps every promise of the broker's contract, on the kinds of runtime that the fleet uses.

mod cluster;
mod jetstream;
mod nats_server;
mod outage;
mod secure;

use anyhow::{Context, Result};
use flotilla_shared::broker::conformance::{self, Peer};
use flotilla_shared::broker::{BrokerEvent, Brokers, MemoryBus, MemoryLimits, NatsConfig, Topic};
use flotilla_shared::channel::Channel;

use cluster::Cluster;
use nats_server::NatsServer;

/// Lists the promises once for all adapters.
macro_rules! promises {
    ($($promise:ident)*) => {
        mod memory {
            use super::*;
            $(
                #[tokio::test]
                async fn $promise() -> Result<()> {
                    Ok(conformance::$promise(&Brokers::Memory(MemoryBus::new())).await?)
                }
            )*
        }

        /// As in a worker's shard.
        mod nats_on_one_thread {
            use super::*;
            $(
                #[tokio::test]
                async fn $promise() -> Result<()> {
                    let server = NatsServer::start().await?;
                    Ok(conformance::$promise(&server.brokers()).await?)
                }
            )*
        }

        /// As in a gateway.
        mod nats_on_several_threads {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() -> Result<()> {
                    let server = NatsServer::start().await?;
                    Ok(conformance::$promise(&server.brokers()).await?)
                }
            )*
        }

        /// In which each call has a subject prefix of its own.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_cluster_keeps_every_promise() -> Result<()> {
            let cluster = Cluster::start().await?;
            $(
                let brokers = cluster.brokers(stringify!($promise));
                conformance::$promise(&brokers).await.context(stringify!($promise))?;
            )*
            Ok(())
        }
    };
}

/// Lists the promises about streams for the adapters that keep history.
macro_rules! promises_of_streams {
    ($($promise:ident)*) => {
        mod memory_streams {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() -> Result<()> {
                    Ok(conformance::$promise(&Brokers::Memory(MemoryBus::new())).await?)
                }
            )*
        }

        /// As in a worker's shard.
        mod jetstream_on_one_thread {
            use super::*;
            $(
                #[tokio::test]
                async fn $promise() -> Result<()> {
                    let server = NatsServer::start_with_jetstream().await?;
                    let brokers = Brokers::Nats(server.config_with_history());
                    Ok(conformance::$promise(&brokers).await?)
                }
            )*
        }

        /// In which each call has a subject prefix of its own.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_cluster_with_three_replicas_keeps_every_promise_of_streams() -> Result<()> {
            let cluster = Cluster::start().await?;
            $(
                let brokers = cluster.brokers(stringify!($promise));
                conformance::$promise(&brokers).await.context(stringify!($promise))?;
            )*
            Ok(())
        }
    };
}

promises! {
    a_cancelled_subscribe_leaves_nothing_behind
    a_payload_that_is_too_large_is_refused
    a_publisher_receives_its_own_messages
    a_subscription_is_open_once_subscribe_returned
    a_token_in_use_is_refused
    a_token_may_be_used_again_at_once
    batches_are_bounded
    dropping_either_half_closes_the_connection
    everyone_who_subscribes_receives
    messages_of_one_publisher_arrive_in_order
    nothing_arrives_after_unsubscribe
    odd_channel_names_are_kept_apart
    only_the_addressed_worker_receives
    only_what_is_subscribed_to_arrives
    payloads_arrive_byte_for_byte
    the_roster_is_no_channel
}

promises_of_streams! {
    a_limit_is_kept
    a_plain_publication_is_in_no_stream
    a_position_beyond_the_end_proves_nothing
    a_removal_hides_no_loss
    a_removed_history_is_told
    a_removed_history_keeps_its_numbering
    a_repeated_key_gives_the_first_place
    a_stream_is_read_page_by_page
    a_stream_keeps_its_last_publications
    a_version_that_is_not_newer_is_dropped
    an_append_that_is_too_large_is_refused
    every_message_names_the_one_before_it
    everyone_sees_the_offsets_in_order
    history_is_read_in_reverse
    keys_and_versions_outlive_what_they_came_with
    streams_of_odd_channel_names_are_kept_apart
    the_ends_of_many_channels_are_told
    untouched_channels_have_an_end
    what_was_appended_is_read
    what_was_dropped_is_missed
}

#[tokio::test]
async fn a_fresh_memory_bus_is_another_epoch() -> Result<()> {
    let fresh = || Brokers::Memory(MemoryBus::new());
    Ok(conformance::a_fresh_broker_is_another_epoch(&fresh(), &fresh()).await?)
}

#[tokio::test]
async fn a_full_memory_queue_shows_in_the_stream() -> Result<()> {
    let brokers = small_memory();
    Ok(conformance::a_full_queue_shows_in_the_stream(&brokers, 50, 200).await?)
}

/// A bus whose connections can queue only little.
fn small_memory() -> Brokers {
    Brokers::Memory(MemoryBus::with_limits(MemoryLimits {
        queue_bytes: 4096,
        ..MemoryLimits::default()
    }))
}

#[tokio::test]
async fn a_message_that_a_full_memory_queue_missed_is_told() -> Result<()> {
    let brokers = small_memory();
    Ok(conformance::a_missing_message_is_told(&brokers, 50, 200).await?)
}

#[tokio::test]
async fn a_message_that_a_full_nats_queue_missed_is_told() -> Result<()> {
    let server = NatsServer::start().await?;
    let brokers = Brokers::Nats(NatsConfig {
        subscription_capacity: 16,
        ..server.config()
    });
    Ok(conformance::a_missing_message_is_told(&brokers, 50, 200).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_a_full_nats_queue_missed_is_told_on_several_threads() -> Result<()> {
    let server = NatsServer::start().await?;
    let brokers = Brokers::Nats(NatsConfig {
        subscription_capacity: 16,
        ..server.config()
    });
    Ok(conformance::a_missing_message_is_told(&brokers, 50, 200).await?)
}

/// async-nats cannot report any number of drops one by one; from some number on everyone is warned.
#[tokio::test]
async fn a_flood_of_losses_is_told_to_every_subscription() -> Result<()> {
    let server = NatsServer::start().await?;
    let brokers = Brokers::Nats(NatsConfig {
        subscription_capacity: 16,
        ..server.config()
    });
    let mut peer = Peer::connect(&brokers).await?;
    let topic = |name| Channel::parse(name, 255).map(Topic::Channel);
    peer.broker.subscribe(&topic("flooded")?, 1).await?;
    peer.broker.subscribe(&topic("quiet")?, 2).await?;
    for _ in 0..1000 {
        peer.broker
            .publish(&topic("flooded")?, "drop".into())
            .await?;
    }
    while peer.next().await?
        != (BrokerEvent::Overflow {
            token: 2,
            dropped: 0,
        })
    {}
    Ok(())
}
