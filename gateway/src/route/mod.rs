//! Which worker a client goes to.
//!
//! [`membership`] is the only writer: it gathers what is known of the workers and publishes a
//! snapshot. Everyone else reads the current snapshot through [`Pool`] and never waits.

mod balance;
mod cut_off;
mod key;
mod membership;
mod pool;
mod rendezvous;
mod roster;

pub(crate) use balance::Imbalance;
pub(crate) use cut_off::CutOff;
pub(crate) use key::{StickyKey, sticky_key};
pub(crate) use membership::Membership;
pub(crate) use pool::{Decision, Placement, Pool, Worker, WorkerState};
