//! What a thread counts while it works, and adds to the metrics now and then: the counters are shared by all threads.

use std::cell::Cell;

use prometheus::IntCounter;

use crate::metrics::Metrics;

/// One count, and where it goes.
#[derive(Debug)]
struct Count {
    pending: Cell<u64>,
    total: IntCounter,
}

impl Count {
    fn new(total: IntCounter) -> Self {
        Self {
            pending: Cell::new(0),
            total,
        }
    }

    fn add(&self, count: usize) {
        self.pending.set(self.pending.get() + count as u64);
    }

    fn flush(&self) {
        let pending = self.pending.take();
        if pending > 0 {
            self.total.inc_by(pending);
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Counts {
    from_clients: Count,
    to_clients: Count,
    from_workers: Count,
    to_workers: Count,
    casts: Count,
    deliveries: Count,
}

impl Counts {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let traffic = metrics.traffic();
        let links = &metrics.links;
        let (from_workers, to_workers) = links.traffic();
        Self {
            from_clients: Count::new(traffic.inbound),
            to_clients: Count::new(traffic.outbound),
            from_workers: Count::new(from_workers),
            to_workers: Count::new(to_workers),
            casts: Count::new(links.casts.clone()),
            deliveries: Count::new(links.cast_deliveries.clone()),
        }
    }

    /// A client has sent a message.
    pub(super) fn received(&self, bytes: usize) {
        self.from_clients.add(bytes);
    }

    /// Frames were queued for a client.
    pub(super) fn sent(&self, bytes: usize) {
        self.to_clients.add(bytes);
    }

    /// Frames were queued for so many clients at once.
    pub(super) fn cast(&self, members: usize, bytes: usize) {
        self.casts.add(1);
        self.deliveries.add(members);
        self.to_clients.add(members * bytes);
    }

    pub(super) fn link_read(&self, bytes: usize) {
        self.from_workers.add(bytes);
    }

    pub(super) fn link_written(&self, bytes: usize) {
        self.to_workers.add(bytes);
    }

    /// Adds everything to the metrics.
    pub(super) fn flush(&self) {
        for count in [
            &self.from_clients,
            &self.to_clients,
            &self.from_workers,
            &self.to_workers,
            &self.casts,
            &self.deliveries,
        ] {
            count.flush();
        }
    }
}
