//! How many clients and requests there may be, and whether new clients are still taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::error::Refusal;

/// Who may come in.
pub(crate) struct Admission {
    handshakes: Semaphore,
    errands: Semaphore,
    connections: Arc<Semaphore>,
    closed: AtomicBool,
}

impl Admission {
    /// At most so many clients that have not been answered yet, so many short requests that workers
    /// are answering, and so many connections.
    pub(crate) fn new(handshakes_max: usize, requests_max: usize, connections_max: u64) -> Self {
        let permits = |most: usize| Semaphore::new(most.min(Semaphore::MAX_PERMITS));
        let connections = usize::try_from(connections_max).unwrap_or(usize::MAX);
        Self {
            handshakes: permits(handshakes_max),
            errands: permits(requests_max),
            connections: Arc::new(permits(connections)),
            closed: AtomicBool::new(false),
        }
    }

    /// From now on nobody is taken.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// A place for a client that has just connected, until it is answered.
    pub(crate) fn handshake(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.handshakes.try_acquire().map_err(|_| Refusal::Capacity)
    }

    /// A place for a short request, until it is answered. Also when nobody is taken any more: it may
    /// be that of a client that is still here.
    pub(crate) fn errand(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.errands.try_acquire().map_err(|_| Refusal::Busy)
    }

    /// Whether nobody is taken any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// A place for a connection, until it ends.
    pub(crate) fn connection(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if self.is_closed() {
            return Err(Refusal::Draining);
        }
        self.connections
            .clone()
            .try_acquire_owned()
            .map_err(|_| Refusal::Capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_once_it_is_left() {
        let admission = Admission::new(1, 1, 1);
        let place = admission.connection().unwrap();
        assert!(matches!(admission.connection(), Err(Refusal::Capacity)));
        drop(place);
        assert!(admission.connection().is_ok());
        let place = admission.handshake().unwrap();
        assert!(matches!(admission.handshake(), Err(Refusal::Capacity)));
        drop(place);
        assert!(admission.handshake().is_ok());
        let place = admission.errand().unwrap();
        assert!(matches!(admission.errand(), Err(Refusal::Busy)));
        drop(place);
        assert!(admission.errand().is_ok());
    }

    #[test]
    fn nobody_is_taken_once_it_is_closed() {
        let admission = Admission::new(1, 1, 1);
        admission.close();
        assert!(matches!(admission.connection(), Err(Refusal::Draining)));
        assert!(admission.errand().is_ok());
    }
}
