//! What the scenarios promise: everything that goes wrong is seen, counted by its kind, and
//! nothing else is.

mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use flotilla_loadtest::client::Dialer;
use flotilla_loadtest::pacer::Rate;
use flotilla_loadtest::report::{ConnectReport, EchoReport, Report};
use flotilla_loadtest::scenario::{ChannelName, Stop, connect, echo};
use flotilla_loadtest::target::Target;
use flotilla_loadtest::token::Tokens;
use flotilla_shared::protocol::Format;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use server::{Faults, Server};

/// Longer than anything takes that works.
const SOON: Duration = Duration::from_secs(10);

async fn dialer(url: &str, format: Format) -> Result<Arc<Dialer>> {
    Ok(Arc::new(Dialer {
        target: Target::resolve(url, false, 10).await?,
        format,
        tokens: Tokens::None,
        run: Duration::ZERO,
        timeout: SOON,
    }))
}

fn never() -> Stop {
    Stop::new(watch::channel(false).1)
}

fn rate(per_second: f64) -> Result<Rate> {
    Rate::per_second(per_second).context("not a rate")
}

async fn connect_to(server: &Server, format: Format) -> Result<ConnectReport> {
    let plan = connect::Plan {
        connections: 10,
        rate: rate(1000.0)?,
        channel: Some(ChannelName::new("news")),
        hold: Duration::from_millis(50),
    };
    connect::run(plan, dialer(&server.url, format).await?, never()).await
}

async fn echo_through(server: &Server, format: Format) -> Result<EchoReport> {
    let plan = echo::Plan {
        clients: 4,
        connect_rate: rate(1000.0)?,
        channel: ChannelName::new("own-{i}"),
        rate: rate(100.0)?,
        duration: Duration::from_millis(200),
        drain: Duration::from_secs(1),
        payload_bytes: 64,
    };
    echo::run(plan, dialer(&server.url, format).await?, never()).await
}

fn counts<const N: usize>(kinds: [(&str, u64); N]) -> BTreeMap<String, u64> {
    kinds.map(|(kind, count)| (kind.to_owned(), count)).into()
}

#[tokio::test]
async fn connections_come_up_in_either_encoding_and_answer_pings() -> Result<()> {
    for format in Format::ALL {
        let server = Server::start(Faults::default()).await?;
        let report = connect_to(&server, format).await?;
        assert_eq!(report.connected, 10);
        assert_eq!(report.connect.count, 10);
        assert_eq!(report.subscribe.unwrap().count, 10);
        assert_eq!(report.messages, 0, "pings are no messages");
        let mut pongs = server.pongs.subscribe();
        timeout(SOON, pongs.wait_for(|pongs| *pongs == 10)).await??;
        assert!(Report::Connect(report).is_clean());
    }
    Ok(())
}

#[tokio::test]
async fn a_closed_connection_is_counted_under_its_code() -> Result<()> {
    let server = Server::start(Faults {
        close_half: Some(3500),
        ..Faults::default()
    });
    let report = connect_to(&server.await?, Format::Json).await?;
    assert_eq!(report.connected, 5);
    assert_eq!(report.failed, counts([("closed 3500", 5)]));
    assert!(!Report::Connect(report).is_clean());
    Ok(())
}

#[tokio::test]
async fn a_refused_subscription_is_counted_under_its_error() -> Result<()> {
    let server = Server::start(Faults {
        refuse_subscribe: Some(103),
        ..Faults::default()
    });
    let report = connect_to(&server.await?, Format::Protobuf).await?;
    assert_eq!(report.failed, counts([("subscribe refused with 103", 10)]));
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_is_counted_as_refusal() -> Result<()> {
    let gone = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let plan = connect::Plan {
        connections: 3,
        rate: rate(1000.0)?,
        channel: None,
        hold: Duration::ZERO,
    };
    let dialer = dialer(&format!("ws://{gone}/"), Format::Json).await?;
    let report = connect::run(plan, dialer, never()).await?;
    assert_eq!(report.failed, counts([("connection refused", 3)]));
    Ok(())
}

#[tokio::test]
async fn what_is_published_comes_back_in_either_encoding() -> Result<()> {
    for format in Format::ALL {
        let server = Server::start(Faults::default()).await?;
        let report = echo_through(&server, format).await?;
        assert_eq!([report.sent, report.received], [80, 80]);
        assert_eq!(report.latency.count, 80);
        assert!(report.latency.p50 >= report.round_trip.p50, "{report:?}");
        assert!(Report::Echo(report).is_clean());
    }
    Ok(())
}

#[tokio::test]
async fn lost_messages_are_noticed() -> Result<()> {
    let server = Server::start(Faults {
        lose_half: true,
        ..Faults::default()
    });
    let report = echo_through(&server.await?, Format::Json).await?;
    assert_eq!([report.sent, report.received, report.lost], [80, 40, 40]);
    assert!(!Report::Echo(report).is_clean());
    Ok(())
}

#[tokio::test]
async fn repeated_messages_are_noticed() -> Result<()> {
    let server = Server::start(Faults {
        repeat: 1,
        ..Faults::default()
    });
    let report = echo_through(&server.await?, Format::Json).await?;
    assert_eq!([report.sent, report.received], [80, 80]);
    // The last repetition may come when nothing is waited for any more.
    assert!(report.out_of_order >= 76, "{report:?}");
    assert!(!Report::Echo(report).is_clean());
    Ok(())
}

#[tokio::test]
async fn clients_that_are_dropped_are_counted() -> Result<()> {
    let server = Server::start(Faults {
        close_after_publish: true,
        ..Faults::default()
    });
    let report = echo_through(&server.await?, Format::Json).await?;
    assert_eq!(report.connected, 4);
    assert_eq!(report.dropped, counts([("closed 3001", 4)]));
    Ok(())
}

#[tokio::test]
async fn a_run_that_is_stopped_reports_what_it_has() -> Result<()> {
    let server = Server::start(Faults::default()).await?;
    let (stop, stopped) = watch::channel(true);
    let plan = connect::Plan {
        connections: 10,
        rate: rate(0.01)?,
        channel: None,
        hold: Duration::from_secs(3600),
    };
    let dialer = dialer(&server.url, Format::Json).await?;
    let run = connect::run(plan, dialer, Stop::new(stopped));
    let report = timeout(SOON, run).await??;
    drop(stop);
    assert!(report.connected <= 1, "{report:?}");
    Ok(())
}
