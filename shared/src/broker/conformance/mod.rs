//! The broker's contract as code: one function per promise, for any adapter.
//!
//! A function gets [`Brokers`](super::Brokers) to open connections from and says whether the promise was kept. Nobody else may use the
//! same topics meanwhile: give each call a bus or a subject prefix of its own. Nothing here waits for time to pass: that
//! something did *not* arrive is known once something published later did.

mod delivery;
mod ends;
mod peer;

pub use delivery::{
    a_publisher_receives_its_own_messages, a_subscription_is_open_once_subscribe_returned,
    batches_are_bounded, everyone_who_subscribes_receives,
    messages_of_one_publisher_arrive_in_order, odd_channel_names_are_kept_apart,
    only_what_is_subscribed_to_arrives, payloads_arrive_byte_for_byte, the_roster_is_no_channel,
};
pub use ends::{
    a_cancelled_subscribe_leaves_nothing_behind, a_missing_message_is_told,
    a_payload_that_is_too_large_is_refused, a_token_in_use_is_refused,
    a_token_may_be_used_again_at_once, dropping_either_half_closes_the_connection,
    nothing_arrives_after_unsubscribe,
};
pub use peer::Peer;

use super::BrokerError;

/// How a promise was broken.
#[derive(Debug, thiserror::Error)]
pub enum Violation {
    /// A call failed that had to succeed.
    #[error("unexpected error: {0}")]
    Failed(#[from] BrokerError),
    /// Anything else, in words.
    #[error("{0}")]
    Broken(String),
}

/// Whether a promise was kept.
pub type Outcome = Result<(), Violation>;

/// Breaks the promise with `reason` unless `kept`.
fn demand(kept: bool, reason: impl FnOnce() -> String) -> Outcome {
    if kept {
        Ok(())
    } else {
        Err(Violation::Broken(reason()))
    }
}
