//! Which workers there are.

use std::time::Duration;

use flotilla_shared::config::Problems;

use super::RawPool;
use crate::health::HealthCheck;

/// Which workers there are.
#[derive(Clone, Debug)]
pub(crate) struct PoolConfig {
    pub(crate) workers: Vec<String>,
    pub(crate) load_factor: f64,
    pub(crate) ejection: Duration,
    pub(crate) health_check: HealthCheck,
}

/// Makes sense of `raw`; notes everything that makes none.
pub(super) fn resolve(raw: &RawPool, problems: &mut Problems) -> PoolConfig {
    check(raw, problems);
    PoolConfig {
        workers: raw.workers.clone(),
        load_factor: raw.load_factor,
        ejection: raw.ejection,
        health_check: HealthCheck {
            interval: raw.health_check.interval,
            timeout: raw.health_check.timeout,
            failures: raw.health_check.failures,
            successes: raw.health_check.successes,
        },
    }
}

fn check(raw: &RawPool, problems: &mut Problems) {
    for (at, worker) in raw.workers.iter().enumerate() {
        let port = worker.rsplit_once(':').and_then(|(host, port)| {
            port.parse::<u16>()
                .ok()
                .filter(|port| *port > 0 && !host.is_empty())
        });
        if port.is_none() {
            problems.add(&format!("pool.workers.{at}"), "has to be host:port");
        }
    }
    if raw.workers.is_empty() && !raw.roster {
        problems.add(
            "pool.workers",
            "is empty, and pool.roster is off: there are no workers",
        );
    }
    if !(1.0..=100.0).contains(&raw.load_factor) {
        problems.add("pool.load_factor", "has to be between 1 and 100");
    }
    let counts = [
        ("pool.tries", raw.tries),
        ("pool.health_check.failures", raw.health_check.failures),
        ("pool.health_check.successes", raw.health_check.successes),
    ];
    for (key, count) in counts {
        if count == 0 {
            problems.add(key, "must not be zero");
        }
    }
}
