//! Watches whether workers can be reached at all, by Pingora's health checks.
//!
//! A check is a TCP connection: it holds for any WebSocket back end and costs the worker nothing.
//! Finer knowledge (draining, full) comes from the roster and from the handshakes themselves.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use pingora::lb::discovery::ServiceDiscovery;
use pingora::lb::health_check::TcpHealthCheck;
use pingora::lb::{Backend, Backends};
use tokio::sync::watch;
use tokio::time::sleep;

/// How workers are watched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HealthCheck {
    /// Time between two checks.
    pub(crate) interval: Duration,
    /// Time that a check may take.
    pub(crate) timeout: Duration,
    /// Failures in a row that make a worker unhealthy.
    pub(crate) failures: usize,
    /// Successes in a row that make it healthy again.
    pub(crate) successes: usize,
}

impl HealthCheck {
    /// Checks `targets` until their sender is gone, and publishes those that are unhealthy. A new
    /// target is healthy until checks say otherwise.
    pub(crate) async fn run(
        self,
        mut targets: watch::Receiver<BTreeSet<SocketAddr>>,
        unhealthy: watch::Sender<BTreeSet<SocketAddr>>,
    ) {
        let mut probe = TcpHealthCheck::new();
        probe.consecutive_failure = self.failures;
        probe.consecutive_success = self.successes;
        probe.peer_template.options.connection_timeout = Some(self.timeout);
        let mut backends = Backends::new(Box::new(Targets(targets.clone())));
        backends.set_health_check(probe);
        loop {
            targets.mark_unchanged();
            if let Err(error) = backends.update(|_| {}).await {
                tracing::error!(%error, "health checks have lost their targets");
            }
            backends.run_health_check(true).await;
            let found: BTreeSet<SocketAddr> = backends
                .get_backend()
                .iter()
                .filter(|backend| !backends.ready(backend))
                .filter_map(|backend| backend.addr.as_inet().copied())
                .collect();
            unhealthy.send_if_modified(|known| {
                let is_news = *known != found;
                *known = found;
                is_news
            });
            tokio::select! {
                () = sleep(self.interval) => {}
                changed = targets.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Tells Pingora what to check.
struct Targets(watch::Receiver<BTreeSet<SocketAddr>>);

#[async_trait]
impl ServiceDiscovery for Targets {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let targets = self.0.borrow().clone();
        let backends = targets
            .iter()
            .map(|address| Backend::new(&address.to_string()));
        Ok((backends.collect::<pingora::Result<_>>()?, HashMap::new()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_worker_is_unhealthy_while_it_cannot_be_reached() {
        let check = HealthCheck {
            interval: Duration::from_millis(10),
            timeout: Duration::from_secs(1),
            failures: 2,
            successes: 1,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (targets, watched) = watch::channel(BTreeSet::from([address]));
        let (publish, mut unhealthy) = watch::channel(BTreeSet::new());
        let task = tokio::spawn(check.run(watched, publish));
        let mut becomes = async |wanted: BTreeSet<SocketAddr>| {
            let wait = unhealthy.wait_for(|found| *found == wanted);
            timeout(Duration::from_secs(10), wait)
                .await
                .unwrap()
                .unwrap();
        };
        drop(listener);
        becomes(BTreeSet::from([address])).await;
        let _listener = TcpListener::bind(address).await.unwrap();
        becomes(BTreeSet::new()).await;
        drop(targets);
        timeout(Duration::from_secs(10), task)
            .await
            .unwrap()
            .unwrap();
    }
}
