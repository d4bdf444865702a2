//! Sessions whose clients listen to a stream and send their commands in requests of their own.
//!
//! Owns: which session is whose, and the way from a request to the connection. A request may arrive in any shard, so
//! this is the one thing that the shards share; it is touched when such a client comes, sends or goes, and never while
//! something is delivered. Knows nothing of what is sent.
//!
//! Each connection has a bounded queue. When it is full, whoever brings the next commands waits for a moment; what finds
//! no room then is not taken, and the client is told so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rand::distr::{Alphanumeric, SampleString as _};
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

/// Requests that may wait for one connection, each of at most `client.message_size_limit` bytes.
const QUEUE_LENGTH: usize = 16;

/// How long a request may wait for room in the queue. A worker that asks another waits longer for the answer.
const ROOM_TIMEOUT: Duration = Duration::from_secs(1);

/// Requests for sessions of other workers that may be on their way at one time. Each takes one of the questions that this
/// worker may ask, of which there are more, so that no client can keep the others from being asked.
const PASSED_ON_MAX: usize = 64;

/// The length of a session's id. A character stands for almost six random bits, and whoever knows the id may speak for
/// the client.
const ID_CHARS: usize = 32;

/// What becomes of commands that were sent for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Delivery {
    /// There is no such session here.
    Unknown = 0,
    /// The session gets them, behind those that were taken before.
    Taken = 1,
    /// The session has got too much already.
    Full = 2,
}

/// The sessions of this worker that take commands from requests. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Sessions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queues: Mutex<Queues>,
    passing_on: Semaphore,
}

/// By the session's id.
type Queues = HashMap<Box<str>, mpsc::Sender<Bytes>>;

/// What is sent for one session. Nothing finds the session any more once this is dropped.
#[derive(Debug)]
pub(crate) struct Posts {
    id: Box<str>,
    queue: mpsc::Receiver<Bytes>,
    sessions: Sessions,
}

/// An id that nobody can guess.
pub(crate) fn session_id() -> Box<str> {
    Alphanumeric
        .sample_string(&mut rand::rng(), ID_CHARS)
        .into_boxed_str()
}

impl Default for Sessions {
    fn default() -> Self {
        Self(Arc::new(Inner {
            queues: Mutex::default(),
            passing_on: Semaphore::new(PASSED_ON_MAX),
        }))
    }
}

impl Sessions {
    /// A place for a request on its way to another worker, if there is one.
    pub(crate) fn pass_on(&self) -> Option<SemaphorePermit<'_>> {
        self.0.passing_on.try_acquire().ok()
    }

    /// A session of its own, for whose id see [`Posts::id`].
    pub(crate) fn open(&self) -> Posts {
        let (sender, queue) = mpsc::channel(QUEUE_LENGTH);
        let id = session_id();
        self.lock().insert(id.clone(), sender);
        Posts {
            id,
            queue,
            sessions: self.clone(),
        }
    }

    /// Hands a frame of commands to the session with this id.
    pub(crate) async fn deliver(&self, id: &str, commands: Bytes) -> Delivery {
        let Some(queue) = self.lock().get(id).cloned() else {
            return Delivery::Unknown;
        };
        match queue.send_timeout(commands, ROOM_TIMEOUT).await {
            Ok(()) => Delivery::Taken,
            Err(SendTimeoutError::Timeout(_)) => Delivery::Full,
            Err(SendTimeoutError::Closed(_)) => Delivery::Unknown,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        let queues = self.0.queues.lock();
        // Nothing is ever half done in there.
        queues.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Posts {
    /// What requests have to name.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The next frame of commands. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Bytes {
        match self.queue.recv().await {
            Some(commands) => commands,
            // The other end is in the map until this is dropped.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Posts {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commands_find_their_session_in_their_order() {
        let sessions = Sessions::default();
        let (mut one, other) = (sessions.open(), sessions.open());
        assert_ne!(one.id(), other.id());
        for command in ["a", "b"] {
            let taken = sessions.deliver(one.id(), Bytes::from(command)).await;
            assert_eq!(taken, Delivery::Taken);
        }
        assert_eq!(one.next().await, "a");
        assert_eq!(one.next().await, "b");
    }

    #[tokio::test]
    async fn a_session_that_has_ended_is_unknown_and_leaves_nothing_behind() {
        let sessions = Sessions::default();
        let posts = sessions.open();
        let id = posts.id().to_owned();
        drop(posts);
        let delivery = sessions.deliver(&id, Bytes::new()).await;
        assert_eq!(delivery, Delivery::Unknown);
        assert!(sessions.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_is_waited_for_and_keeps_its_order() {
        let sessions = Sessions::default();
        let mut posts = sessions.open();
        let id = posts.id().to_owned();
        for _ in 0..QUEUE_LENGTH {
            let delivery = sessions.deliver(&id, Bytes::new()).await;
            assert_eq!(delivery, Delivery::Taken);
        }
        // Nobody takes anything.
        let delivery = sessions.deliver(&id, Bytes::new()).await;
        assert_eq!(delivery, Delivery::Full);
        // Somebody does, while two wait.
        let bring = |name: &'static str| {
            let (sessions, id) = (sessions.clone(), id.clone());
            tokio::spawn(async move { sessions.deliver(&id, Bytes::from(name)).await })
        };
        let waiting = [bring("first"), bring("second")];
        tokio::task::yield_now().await;
        let mut taken = Vec::new();
        for _ in 0..QUEUE_LENGTH + 2 {
            taken.push(posts.next().await);
        }
        assert_eq!(taken[QUEUE_LENGTH..], ["first", "second"]);
        for delivery in waiting {
            assert_eq!(delivery.await.unwrap(), Delivery::Taken);
        }
    }

    #[test]
    fn what_is_on_its_way_to_others_is_bounded() {
        let sessions = Sessions::default();
        let mut places: Vec<_> = std::iter::from_fn(|| sessions.pass_on()).collect();
        assert_eq!(places.len(), PASSED_ON_MAX);
        places.pop();
        assert!(sessions.pass_on().is_some());
    }

    #[tokio::test]
    async fn a_session_that_ends_lets_nobody_wait() {
        let sessions = Sessions::default();
        let posts = sessions.open();
        let id = posts.id().to_owned();
        for _ in 0..QUEUE_LENGTH {
            sessions.deliver(&id, Bytes::new()).await;
        }
        let waiting = tokio::spawn(async move { sessions.deliver(&id, Bytes::new()).await });
        tokio::task::yield_now().await;
        drop(posts);
        assert_eq!(waiting.await.unwrap(), Delivery::Unknown);
    }
}
