//! The link threads together: their start, their end, and which of them takes the next client.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;

use super::arrival::Arrival;
use super::thread::Thread;
use crate::edge::Edge;

/// Clients that may wait to be taken in by one thread. Those behind them wait in the edge, which bounds them, too.
const ARRIVALS_MAX: usize = 1024;

/// Where the edge hands clients over.
pub(crate) struct Door {
    threads: Vec<mpsc::Sender<Arrival>>,
    next: AtomicUsize,
}

/// The other sides of a [`Door`].
pub(crate) struct Doors(Vec<mpsc::Receiver<Arrival>>);

impl Door {
    /// A door to so many threads.
    pub(crate) fn new(threads: NonZeroUsize) -> (Self, Doors) {
        let channels = (0..threads.get()).map(|_| mpsc::channel(ARRIVALS_MAX));
        let (threads, arrivals) = channels.unzip();
        let door = Self {
            threads,
            next: AtomicUsize::new(0),
        };
        (door, Doors(arrivals))
    }

    /// Hands a client to one thread after the other. Gives it back if the thread is not there any more.
    pub(crate) async fn enter(&self, arrival: Arrival) -> Result<(), Arrival> {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.threads.len();
        match self.threads.get(next) {
            Some(thread) => thread.send(arrival).await.map_err(|refused| refused.0),
            None => Err(arrival),
        }
    }
}

/// The running threads. They are told to end when this is dropped.
pub(crate) struct LinkThreads {
    stop: watch::Sender<bool>,
    ended: Vec<oneshot::Receiver<()>>,
}

impl LinkThreads {
    /// Starts a thread for each of the `doors`.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(crate) fn start(edge: &Arc<Edge>, doors: Doors, gateway: &str) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let threads = doors.0.len();
        let mut ended = Vec::with_capacity(threads);
        for (index, arrivals) in doors.0.into_iter().enumerate() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (edge, gateway, stopped) = (edge.clone(), Arc::from(gateway), stopped.clone());
            let (over, is_over) = oneshot::channel();
            thread::Builder::new()
                .name(format!("link-{index}"))
                .spawn(move || {
                    let tasks = LocalSet::new();
                    tasks.block_on(&runtime, async {
                        let thread = Thread::new(edge, (index, threads), gateway);
                        thread.run(arrivals, stopped).await;
                    });
                    // Also when it panics, by being dropped.
                    drop(over);
                })?;
            ended.push(is_over);
        }
        Ok(Self { stop, ended })
    }

    /// Resolves when one of them has ended, which it does not do by itself.
    pub(crate) async fn crashed(&mut self) {
        let waits = self.ended.iter_mut();
        let _ = futures_util::future::select_all(waits).await;
    }
}

impl Drop for LinkThreads {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
