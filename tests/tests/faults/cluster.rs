//! A server of the cluster is killed, which leads streams.

use anyhow::{Context, Result, ensure};
use flotilla_tests::audit::Losses;
use flotilla_tests::nats::Layout;

use crate::stage::{Stage, builder, stores};

#[tokio::test]
async fn nothing_is_lost_when_the_streams_lose_their_leader() -> Result<()> {
    let cluster = Layout {
        servers: 3,
        ..stores()
    };
    let three_copies = builder()
        .nats(cluster)
        .worker("broker.nats.history.replicas", 3);
    let mut stage = Stage::set(three_copies).await?;
    let mut leaders = Vec::new();
    for server in stage.fleet.servers() {
        leaders.push(server.leads().await?);
    }
    let most = (0..leaders.len())
        .max_by_key(|at| leaders[*at])
        .context("a server")?;
    ensure!(leaders[most] > 0, "nobody leads: {leaders:?}");
    stage.fleet.servers()[most].kill().await?;
    stage.write(3).await?;
    stage.fleet.servers()[most].restart().await?;
    stage.judge(Losses::None).await
}
