//! The admin listener: metrics and health, for Prometheus and for whatever supervises the process.
//!
//! Owns the routes and their answers. It does not know what makes a process ready beyond its phase:
//! the process passes a function that does.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::Registry;
use tokio::net::TcpListener;

use crate::{
    lifecycle::{Lifecycle, Phase},
    metrics,
};

/// A bound admin listener. It is for the operator's network, not for clients.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Binds the listener; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address that is listened on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is dropped, through drain and stop: whoever watches a process wants to see
    /// it leave.
    ///
    /// - `GET /metrics`: the registry in the Prometheus text format.
    /// - `GET /livez`: 200 until the process is stopped, then 503.
    /// - `GET /readyz`: 200 if the process is serving and `ready` says so too, else 503 with the
    ///   reason. `ready` must not block.
    ///
    /// # Errors
    /// None: failures to accept are retried.
    pub async fn serve(
        self,
        registry: Registry,
        lifecycle: Lifecycle,
        ready: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> io::Result<()> {
        let process = Arc::new(Process {
            registry,
            lifecycle,
            ready: Box::new(ready),
        });
        let routes = Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .with_state(process);
        axum::serve(self.listener, routes).await
    }
}

/// What the routes tell about.
struct Process {
    registry: Registry,
    lifecycle: Lifecycle,
    ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

async fn metrics(State(process): State<Arc<Process>>) -> Response {
    match metrics::encode(&process.registry) {
        Ok(text) => ([(CONTENT_TYPE, metrics::content_type())], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
    }
}

async fn livez(State(process): State<Arc<Process>>) -> (StatusCode, String) {
    let phase = process.lifecycle.phase();
    let status = if phase == Phase::Stopped {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    (status, format!("{phase}\n"))
}

async fn readyz(State(process): State<Arc<Process>>) -> (StatusCode, String) {
    let phase = process.lifecycle.phase();
    let ready = match (phase, (process.ready)()) {
        (Phase::Serving, ready) => ready,
        (Phase::Starting, Err(obstacle)) => Err(format!("{phase}: {obstacle}")),
        _ => Err(phase.to_string()),
    };
    match ready {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {reason}\n"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    struct Running {
        address: SocketAddr,
        lifecycle: Lifecycle,
        ready: Arc<AtomicBool>,
    }

    impl Running {
        async fn start() -> Self {
            let admin = Admin::bind(([127, 0, 0, 1], 0).into())
                .await
                .expect("binds");
            let address = admin.local_addr();
            let lifecycle = Lifecycle::new();
            let ready = Arc::new(AtomicBool::new(true));
            let registry = metrics::new_registry().expect("registers");
            let check = {
                let ready = Arc::clone(&ready);
                move || match ready.load(Ordering::Relaxed) {
                    true => Ok(()),
                    false => Err("broker disconnected".to_owned()),
                }
            };
            tokio::spawn(admin.serve(registry, lifecycle.clone(), check));
            Self {
                address,
                lifecycle,
                ready,
            }
        }

        /// The whole answer to a request for `path`.
        async fn get(&self, path: &str) -> String {
            let exchange = async {
                let mut stream = TcpStream::connect(self.address).await.expect("connects");
                let request =
                    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
                stream.write_all(request.as_bytes()).await.expect("writes");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.expect("reads");
                answer
            };
            tokio::time::timeout(Duration::from_secs(5), exchange)
                .await
                .expect("answers in time")
        }

        async fn check(&self, path: &str, status: u16, body: &str) {
            let answer = self.get(path).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{path}: {answer}"
            );
            assert!(
                answer.ends_with(&format!("\r\n\r\n{body}\n")),
                "{path}: {answer}"
            );
        }
    }

    #[tokio::test]
    async fn only_a_serving_process_is_ready() {
        let running = Running::start().await;
        running.check("/readyz", 503, "not ready: starting").await;
        running.ready.store(false, Ordering::Relaxed);
        let why = "not ready: starting: broker disconnected";
        running.check("/readyz", 503, why).await;
        running.ready.store(true, Ordering::Relaxed);
        running.lifecycle.serving();
        running.check("/readyz", 200, "ready").await;
        running.lifecycle.drain(Duration::from_secs(1));
        running.check("/readyz", 503, "not ready: draining").await;
    }

    #[tokio::test]
    async fn a_serving_process_that_lacks_something_says_what() {
        let running = Running::start().await;
        running.lifecycle.serving();
        running.ready.store(false, Ordering::Relaxed);
        running
            .check("/readyz", 503, "not ready: broker disconnected")
            .await;
    }

    #[tokio::test]
    async fn a_process_lives_until_it_is_stopped() {
        let running = Running::start().await;
        running.check("/livez", 200, "starting").await;
        running.lifecycle.drain(Duration::from_secs(1));
        running.check("/livez", 200, "draining").await;
        running.lifecycle.stop();
        running.check("/livez", 503, "stopped").await;
    }

    #[tokio::test]
    async fn metrics_are_served_as_text() {
        let running = Running::start().await;
        let answer = running.get("/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(
            answer.contains("\r\ncontent-type: text/plain; version=0.0.4"),
            "{answer}"
        );
        assert!(answer.contains("\nflotilla_build_info{"), "{answer}");
    }
}
