//! How the sources are put together.

use flotilla_shared::roster::Life;

use super::*;
use crate::health::HealthCheck;

fn membership(workers: &[&str]) -> Membership {
    let pool = Arc::new(Pool::new(1.25, Duration::from_secs(5)));
    let health_check = HealthCheck {
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        failures: 1,
        successes: 1,
    };
    let config = PoolConfig {
        workers: workers.iter().map(|worker| (*worker).to_owned()).collect(),
        load_factor: 1.25,
        ejection: Duration::from_secs(5),
        health_check,
    };
    Membership::new(pool, config)
}

fn entry(id: &str, address: &str, phase: Phase) -> WorkerEntry {
    WorkerEntry {
        id: id.to_owned(),
        life: Life(1),
        address: address.to_owned(),
        phase,
        connections: 3,
        connections_limit: 10,
        version: String::new(),
        missed: 0,
    }
}

/// `address label state` of each worker.
async fn gathered(
    membership: &mut Membership,
    entries: &[WorkerEntry],
    sick: &[&str],
) -> Vec<String> {
    let sick = sick
        .iter()
        .map(|address| address.parse().unwrap())
        .collect();
    membership.resolve(entries).await;
    let workers = membership.gather(entries, &sick);
    let tell = |worker: &Worker| {
        let address = worker
            .address
            .map_or("?".to_owned(), |address| address.to_string());
        format!("{address} {} {}", worker.label, worker.state.label())
    };
    workers.iter().map(tell).collect()
}

#[tokio::test]
async fn what_the_roster_says_is_added_to_the_list() {
    let mut membership = membership(&["127.0.0.1:1", "127.0.0.1:2"]);
    let entries = [
        entry("b", "127.0.0.1:2", Phase::Serving),
        entry("c", "127.0.0.1:3", Phase::Draining),
        entry("d", "127.0.0.1:4", Phase::Starting),
        entry("e", "127.0.0.1:5", Phase::Stopped),
    ];
    let expected = [
        "127.0.0.1:1 127.0.0.1:1 active",
        "127.0.0.1:2 b active",
        "127.0.0.1:3 c draining",
        "127.0.0.1:4 d starting",
    ];
    assert_eq!(gathered(&mut membership, &entries, &[]).await, expected);
    let expected = [
        "127.0.0.1:1 127.0.0.1:1 unhealthy",
        "127.0.0.1:2 127.0.0.1:2 active",
    ];
    assert_eq!(
        gathered(&mut membership, &[], &["127.0.0.1:1"]).await,
        expected
    );
}

#[tokio::test]
async fn a_worker_that_has_started_anew_speaks_for_its_address() {
    let mut membership = membership(&[]);
    let (old, new) = (
        entry("z", "127.0.0.1:1", Phase::Draining),
        entry("a", "127.0.0.1:1", Phase::Serving),
    );
    for entries in [[old.clone(), new.clone()], [new, old]] {
        let workers = gathered(&mut membership, &entries, &[]).await;
        assert_eq!(workers, ["127.0.0.1:1 a active"]);
    }
}

#[tokio::test]
async fn a_name_is_resolved_and_one_that_does_not_is_unhealthy() {
    let mut membership = membership(&["localhost:1", "no-such-host.invalid:2"]);
    let workers = gathered(&mut membership, &[], &[]).await;
    assert!(workers[0].ends_with(":1 localhost:1 active"), "{workers:?}");
    assert_eq!(workers[1], "? no-such-host.invalid:2 unhealthy");
}

#[tokio::test]
async fn connections_are_remembered_over_snapshots_and_forgotten_with_the_worker() {
    let mut membership = membership(&["127.0.0.1:1"]);
    membership.resolve(&[]).await;
    let first = membership.gather(&[], &BTreeSet::new());
    let placement = super::super::Placement::at(&first[0]);
    let second = membership.gather(&[], &BTreeSet::new());
    assert_eq!(second[0].connections(), 1);
    drop(placement);
    assert_eq!(second[0].connections(), 0);
    membership.config.workers.clear();
    assert!(membership.gather(&[], &BTreeSet::new()).is_empty());
    assert!(membership.members.is_empty());
}
