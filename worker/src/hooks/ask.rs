//! One question over HTTP, within its bounds.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use flotilla_shared::protocol::codes::ErrorCode;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;

use super::answer::{self, Answer, Nonsense};
use super::gate::Gate;
use super::{Call, Caller, Endpoint, Gates, Hook, call};
use crate::metrics::{HookCalls, HookResult};

/// Largest answer, in bytes.
pub(super) const ANSWER_MAX_BYTES: usize = 1024 * 1024;

/// Connections that have been idle for longer are closed: servers close them soon, and the request that meets this is
/// lost. (Five seconds is a common limit.)
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// One shard's way to the back end. It has its own pool of connections; what bounds the calls is the worker's [`Gates`].
#[derive(Debug)]
pub(crate) struct Hooks {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    gates: Gates,
    metrics: HookCalls,
}

impl Hooks {
    /// To be used on one runtime, which runs the connections.
    pub(crate) fn new(gates: Gates, metrics: HookCalls) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        // Somebody waits for each call.
        http.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(gates.options().tls.clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        // Idle connections need no bound of their own: there are no more than there were calls at a time.
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Self {
            client,
            gates,
            metrics,
        }
    }

    /// The hooks that can be asked.
    pub(crate) fn endpoints(&self) -> &HashMap<Hook, Endpoint> {
        &self.gates.options().endpoints
    }

    /// Asks, within the hook's time. `T` is what the hook grants. A call that is dropped is broken off.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, caller: &Caller, call: &Call) -> Answer<T> {
        let hook = call.question.hook();
        let (Some(endpoint), Some(gate)) = (self.endpoints().get(&hook), self.gates.of(hook))
        else {
            return Answer::Failed;
        };
        let Ok(body) = call::body(call, caller, endpoint) else {
            return Answer::Refused(ErrorCode::BadRequest.into());
        };
        let counted = self.metrics.begin(hook);
        let answer = self.fetch(endpoint, gate, caller, Bytes::from(body));
        let answer = tokio::time::timeout(endpoint.timeout, answer)
            .await
            .unwrap_or(Err(Failure::Timeout))
            .and_then(|body| Ok(answer::parse(hook, &body)?));
        match answer {
            Ok(answer) => {
                counted.end(match &answer {
                    Answer::Granted(_) | Answer::Nobody | Answer::Failed => HookResult::Ok,
                    Answer::Refused(_) => HookResult::Error,
                    Answer::Disconnect(_) => HookResult::Disconnect,
                });
                answer
            }
            Err(failure) => {
                counted.end(failure.result());
                if gate.may_warn() {
                    tracing::warn!(hook = hook.label(), %failure, "the back end does not answer");
                }
                Answer::Failed
            }
        }
    }

    /// The answer's body.
    async fn fetch(
        &self,
        endpoint: &Endpoint,
        gate: &Gate,
        caller: &Caller,
        body: Bytes,
    ) -> Result<Bytes, Failure> {
        let _turn = gate.turn().await.ok_or(Failure::Overload)?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = endpoint.uri.clone();
        *request.headers_mut() = caller.headers_for(endpoint);
        let response = self.client.request(request).await?;
        // A redirect is not followed: the question would go where nobody configured it to.
        if response.status() != StatusCode::OK {
            return Err(Failure::Status(response.status()));
        }
        // Whatever type it says it is: back ends that write JSON do not always say so.
        let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES);
        let body = body.collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Failure::TooLarge
            } else {
                Failure::Body(error)
            }
        })?;
        Ok(body.to_bytes())
    }
}

/// Why there is no answer of use.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("too many calls wait already")]
    Overload,
    #[error("there is no answer in time")]
    Timeout,
    #[error("there is no answer: {}", with_cause(.0))]
    Request(#[from] hyper_util::client::legacy::Error),
    #[error("the answer broke off: {0}")]
    Body(Box<dyn Error + Send + Sync>),
    #[error("the answer's status is {0}, not 200")]
    Status(StatusCode),
    #[error("the answer is longer than {ANSWER_MAX_BYTES} bytes")]
    TooLarge,
    #[error("the answer makes no sense: {0}")]
    Nonsense(#[from] Nonsense),
}

impl Failure {
    fn result(&self) -> HookResult {
        match self {
            Self::Overload => HookResult::Overload,
            Self::Timeout => HookResult::Timeout,
            Self::Request(_) | Self::Body(_) => HookResult::Unreachable,
            Self::Status(_) => HookResult::Status,
            Self::TooLarge | Self::Nonsense(_) => HookResult::Nonsense,
        }
    }
}

/// The library's own words say only what it was doing.
fn with_cause(error: &hyper_util::client::legacy::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
