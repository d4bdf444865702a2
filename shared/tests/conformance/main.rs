//! Every adapter keeps every promise of the broker's contract, on the kinds of runtime that the fleet uses.

mod nats_server;
mod outage;

use anyhow::Result;
use flotilla_shared::broker::conformance::{self, Peer};
use flotilla_shared::broker::{BrokerEvent, Brokers, MemoryBus, MemoryLimits, NatsConfig, Topic};
use flotilla_shared::channel::Channel;

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
    only_what_is_subscribed_to_arrives
    payloads_arrive_byte_for_byte
    the_roster_is_no_channel
}

#[tokio::test]
async fn a_message_that_a_full_memory_queue_missed_is_told() -> Result<()> {
    let brokers = Brokers::Memory(MemoryBus::with_limits(MemoryLimits {
        queue_bytes: 4096,
        ..MemoryLimits::default()
    }));
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
