//! A client as the edge hands it over: admitted, identified, with the workers that may take it.

use flotilla_shared::http::Header;
use flotilla_shared::websocket::Upgrade;
use pingora::protocols::Stream;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::facts::Facts;
use crate::error::Refusal;
use crate::route::{Decision, Worker};

/// See the module's documentation.
pub(crate) struct Arrival {
    pub(crate) client: Stream,
    pub(crate) is_tls: bool,
    /// What came behind the head.
    pub(crate) early: Vec<u8>,
    pub(crate) upgrade: Upgrade,
    /// What an answer says, so that the page that asks may read it.
    pub(crate) cors: Vec<Header>,
    pub(crate) facts: Facts,
    pub(crate) candidates: Vec<(Worker, Decision)>,
    /// Its right to be here.
    pub(crate) permit: OwnedSemaphorePermit,
    /// Where it is said how it was answered.
    pub(crate) answered: oneshot::Sender<Result<(), Refusal>>,
}
