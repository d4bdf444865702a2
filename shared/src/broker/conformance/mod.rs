//! The broker's contract as code: one function per promise, for any adapter.
//!
//! A function gets [`Brokers`](super::Brokers) to open connections from and says whether the promise was kept. Nobody else may use the
//! same topics meanwhile: give each call a bus or a subject prefix of its own. Nothing here waits for time to pass: that
//! something did *not* arrive is known once something published later did.

mod delivery;
mod ends;
mod history;
mod peer;
mod streams;

pub use delivery::{
    a_publisher_receives_its_own_messages, a_subscription_is_open_once_subscribe_returned,
    batches_are_bounded, everyone_who_subscribes_receives,
    messages_of_one_publisher_arrive_in_order, odd_channel_names_are_kept_apart,
    only_the_addressed_worker_receives, only_what_is_subscribed_to_arrives,
    payloads_arrive_byte_for_byte, the_roster_is_no_channel,
};
pub use ends::{
    a_cancelled_subscribe_leaves_nothing_behind, a_missing_message_is_told,
    a_payload_that_is_too_large_is_refused, a_token_in_use_is_refused,
    a_token_may_be_used_again_at_once, dropping_either_half_closes_the_connection,
    nothing_arrives_after_unsubscribe,
};
pub use history::{
    a_fresh_broker_is_another_epoch, a_limit_is_kept, a_position_beyond_the_end_proves_nothing,
    a_removal_hides_no_loss, a_removed_history_is_told, a_removed_history_keeps_its_numbering,
    a_stream_is_read_page_by_page, a_stream_keeps_its_last_publications,
    history_is_read_in_reverse, streams_of_odd_channel_names_are_kept_apart,
    the_ends_of_many_channels_are_told, untouched_channels_have_an_end, what_was_appended_is_read,
    what_was_dropped_is_missed,
};
pub use peer::{Peer, RETENTION};
pub use streams::{
    a_full_queue_shows_in_the_stream, a_plain_publication_is_in_no_stream,
    a_repeated_key_gives_the_first_place, a_version_that_is_not_newer_is_dropped,
    an_append_that_is_too_large_is_refused, every_message_names_the_one_before_it,
    everyone_sees_the_offsets_in_order, keys_and_versions_outlive_what_they_came_with,
};

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
