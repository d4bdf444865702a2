//! Three real nats-servers that are one cluster with JetStream, for one test.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, ensure};
use async_nats::ConnectOptions;
use flotilla_shared::broker::{Brokers, NatsConfig};
use tokio::time::{Duration, Instant, sleep};

use crate::nats_server::{NatsServer, namespaces};

/// How long the servers may take to find each other.
const START: Duration = Duration::from_secs(60);

/// Servers in the cluster; each message is kept on all of them.
const SERVERS: u32 = 3;

pub(crate) struct Cluster {
    pub(crate) servers: Vec<NatsServer>,
}

impl Cluster {
    /// Starts the servers, and waits until they can store.
    pub(crate) async fn start() -> Result<Self> {
        let ports = free_ports()?;
        let routes: Vec<String> = ports
            .iter()
            .map(|port| format!("nats://127.0.0.1:{port}"))
            .collect();
        let routes = routes.join(", ");
        let mut servers = Vec::new();
        for (number, port) in ports.iter().enumerate() {
            let configuration = format!(
                "server_name: s{number}\ncluster {{ name: c, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}\n"
            );
            servers.push(NatsServer::start_with_jetstream_and(&configuration).await?);
        }
        let cluster = Self { servers };
        for server in &cluster.servers {
            wait_for_leader(server).await?;
        }
        Ok(cluster)
    }

    /// Connections to one of the servers, below a prefix.
    pub(crate) fn brokers(&self, prefix: &str) -> Brokers {
        Brokers::Nats(self.config(prefix.len() % self.servers.len(), prefix))
    }

    /// A configuration that leads to one of the servers.
    pub(crate) fn config(&self, server: usize, prefix: &str) -> NatsConfig {
        let server = &self.servers[server];
        let mut config = NatsConfig {
            subject_prefix: prefix.to_owned(),
            request_timeout: Duration::from_secs(20),
            ..server.config()
        };
        config.history.partitions = 1;
        config.history.replicas = SERVERS;
        config.history.namespaces = namespaces();
        config
    }
}

/// Ports that nobody listens on now.
fn free_ports() -> Result<Vec<u16>> {
    let listeners = (0..SERVERS).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listeners = listeners.collect::<std::io::Result<Vec<_>>>()?;
    let ports = listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()));
    ports.collect()
}

/// Streams can be created once the servers have a leader that knows all of them.
async fn wait_for_leader(server: &NatsServer) -> Result<()> {
    let deadline = Instant::now() + START;
    let client = ConnectOptions::new()
        .connect(server.config().servers)
        .await?;
    let stream = |replicas| {
        format!(
            r#"{{"name":"ready","subjects":["ready"],"num_replicas":{replicas},"storage":"memory"}}"#
        )
    };
    loop {
        let request = client.request("$JS.API.STREAM.CREATE.ready", stream(SERVERS).into());
        let answer = request
            .await
            .map(|answer| answer.payload)
            .unwrap_or_default();
        if String::from_utf8_lossy(&answer).contains(r#""config""#) {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "the cluster has no leader: {answer:?}"
        );
        sleep(Duration::from_millis(50)).await;
    }
}
