//! A worker that dies takes nothing with it but its own connections, and those come back.

use anyhow::Result;
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_tests::fleet::Fleet;
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};

const MESSAGES: usize = 500;

#[tokio::test]
async fn the_clients_of_a_killed_worker_are_told_and_come_back_elsewhere() -> Result<()> {
    let mut fleet = Fleet::builder().workers(3).start().await?;
    let mut clients = fleet.spread(&[Json, Protobuf, Json]).await?;
    let mut survivor = clients.pop().expect("three clients");
    survivor.subscribe("room").await?;
    // The second is killed when the first has come back, so there is a choice both times.
    for (mut lost, format) in clients.into_iter().zip([Json, Protobuf]) {
        let node = lost.node().to_owned();
        fleet.worker(&node)?.process().kill().await?;
        let close = lost.closed().await?;
        assert_eq!(close.code, 1012, "{close:?}");
        assert!(
            !close.reason.is_empty(),
            "an SDK ignores a code without a reason"
        );

        let mut back = fleet.user("back", format).await?;
        assert_ne!(back.node(), node);
        back.publish("room", "1").await?;
        assert_eq!(survivor.publication("room").await?.data, "1");
    }
    fleet.sees_workers(1).await
}

#[tokio::test]
async fn the_clients_of_other_workers_notice_nothing() -> Result<()> {
    let mut fleet = Fleet::builder().workers(3).start().await?;
    let mut clients = fleet.spread(&[Json, Protobuf, Json]).await?;
    let victim = clients.pop().expect("three clients").node().to_owned();
    let [publisher, listener] = &mut clients[..] else {
        panic!("two clients")
    };
    publisher.subscribe("room").await?;
    listener.subscribe("room").await?;

    let sent: Vec<String> = (0..MESSAGES).map(|number| number.to_string()).collect();
    for (number, payload) in sent.iter().enumerate() {
        if number == MESSAGES / 3 {
            fleet.worker(&victim)?.process().kill().await?;
        }
        publisher.publish("room", payload.clone()).await?;
    }
    assert_eq!(listener.texts("room", MESSAGES).await?, sent);
    assert_eq!(publisher.texts("room", MESSAGES).await?, sent);
    Ok(())
}

#[tokio::test]
async fn a_restarted_worker_takes_clients_again() -> Result<()> {
    let mut fleet = Fleet::builder().workers(2).start().await?;
    fleet.workers[0].process().kill().await?;
    fleet.sees_workers(1).await?;
    fleet.workers[0].restart().await?;
    fleet.sees_workers(2).await?;
    fleet.spread(&[Json, Json]).await?;
    Ok(())
}

#[tokio::test]
async fn a_worker_that_hangs_is_no_longer_chosen() -> Result<()> {
    let mut fleet = Fleet::builder().workers(2).start().await?;
    let clients = fleet.spread(&[Json, Json]).await?;
    let node = clients[0].node().to_owned();
    fleet.worker(&node)?.process().signal(SIGSTOP)?;
    fleet.sees_workers(1).await?;
    for number in 0..10 {
        let client = fleet.user(&format!("late-{number}"), Json).await?;
        assert_ne!(client.node(), node);
    }
    fleet.worker(&node)?.process().signal(SIGCONT)?;
    fleet.sees_workers(2).await
}
