//! The server API: how a back end publishes, over HTTP, on a listener of its own; for development also on that of clients.
//!
//! Owns: the routes, who may call them, and the shape of an answer. What a method does is `methods`' business. Every
//! answer that reaches a method has status 200 and says in its body how it went, as this API's client libraries expect;
//! a caller that prefers HTTP's own statuses asks for them with [`ERROR_MODE_HEADER`].

mod keys;
mod methods;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use flotilla_shared::protocol::codes::ErrorCode;
use serde::Serialize;
use tokio::net::TcpListener;

pub(crate) use keys::ApiKeys;
use methods::Outcome;
pub(crate) use methods::{METHODS, Methods};

use crate::metrics::ApiCalls;

/// A request with the value [`ERROR_MODE_TRANSPORT`] gets errors as HTTP statuses.
const ERROR_MODE_HEADER: &str = "x-centrifugo-error-mode";
const ERROR_MODE_TRANSPORT: &str = "transport";

/// How the server API is reached.
#[derive(Clone, Debug)]
pub(crate) struct ApiOptions {
    /// Its own listener, if it has one.
    pub(crate) listen: Option<SocketAddr>,
    /// Clients' listener answers it, too.
    pub(crate) on_client_listener: bool,
    /// Who may call.
    pub(crate) keys: Arc<ApiKeys>,
    /// Largest request.
    pub(crate) body_max_bytes: usize,
}

/// A bound API listener. It is for back ends, not for clients.
#[derive(Debug)]
pub(crate) struct Api {
    listener: TcpListener,
    address: SocketAddr,
}

/// What went wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Failure {
    code: u32,
    message: String,
}

impl Failure {
    fn new(code: ErrorCode) -> Self {
        Self {
            code: code.code(),
            message: code.text().to_owned(),
        }
    }

    /// In the words of somebody else.
    fn told(code: u32, message: String) -> Self {
        Self { code, message }
    }

    /// The caller's mistake, with what it is.
    fn bad_request(what: impl std::fmt::Display) -> Self {
        let code = ErrorCode::BadRequest;
        Self {
            code: code.code(),
            message: format!("{}: {what}", code.text()),
        }
    }

    /// The HTTP status that says the same.
    fn status(&self) -> StatusCode {
        match self.code {
            102 | 104 => StatusCode::NOT_FOUND,
            106..=108 => StatusCode::BAD_REQUEST,
            111 => StatusCode::TOO_MANY_REQUESTS,
            112 => StatusCode::RANGE_NOT_SATISFIABLE,
            113 => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The body of an answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer<T> {
    Result(T),
    Error(Failure),
}

impl<T> From<Result<T, Failure>> for Answer<T> {
    fn from(result: Result<T, Failure>) -> Self {
        match result {
            Ok(result) => Self::Result(result),
            Err(failure) => Self::Error(failure),
        }
    }
}

/// The body of an answer to a whole call. A batch stands without `result` around its replies, which is how this API's
/// client libraries read it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Body {
    Batch(Outcome),
    Answer(Answer<Outcome>),
}

impl From<Result<Outcome, Failure>> for Body {
    fn from(result: Result<Outcome, Failure>) -> Self {
        match result {
            Ok(batch @ Outcome::Batch { .. }) => Self::Batch(batch),
            result => Self::Answer(result.into()),
        }
    }
}

/// What answers calls, on whichever listener they come. Clones share it.
#[derive(Clone)]
pub(crate) struct ApiService(Arc<Context>);

struct Context {
    keys: Arc<ApiKeys>,
    body_max_bytes: usize,
    methods: Methods,
    calls: ApiCalls,
}

/// How a call is answered.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Api {
    /// Binds the listener; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub(crate) async fn bind(listen: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address that is listened on.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is dropped. Also while the worker drains: it can still publish.
    ///
    /// # Errors
    /// None: failures to accept are retried.
    pub(crate) async fn serve(self, service: ApiService) -> io::Result<()> {
        let body_max_bytes = service.body_max_bytes();
        let routes = Router::new()
            .route("/api/{method}", post(call))
            .layer(DefaultBodyLimit::max(body_max_bytes))
            .with_state(service);
        axum::serve(self.listener, routes).await
    }
}

async fn call(
    State(service): State<ApiService>,
    Path(method): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answered = service.call(&method, uri.query(), &headers, &body).await;
    let Answered {
        status,
        content_type,
        body,
    } = answered;
    (status, [("content-type", content_type)], body).into_response()
}

impl ApiService {
    /// What answers with these methods, and counts.
    pub(crate) fn new(options: &ApiOptions, methods: Methods, calls: ApiCalls) -> Self {
        Self(Arc::new(Context {
            keys: options.keys.clone(),
            body_max_bytes: options.body_max_bytes,
            methods,
            calls,
        }))
    }

    /// Largest request.
    pub(crate) fn body_max_bytes(&self) -> usize {
        self.0.body_max_bytes
    }

    /// Answers a call, be it allowed or not.
    pub(crate) async fn call(
        &self,
        method: &str,
        query: Option<&str>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Answered {
        let context = &self.0;
        if !context.keys.admit(headers, query) {
            context.calls.unauthorized(method);
            return Answered {
                status: StatusCode::UNAUTHORIZED,
                content_type: "text/plain; charset=utf-8",
                body: b"the API key is missing or wrong\n".to_vec(),
            };
        }
        let result = context.methods.call(method, body).await;
        context.calls.called(method, result.is_ok());
        match result {
            Err(failure) if wants_statuses(headers) => json(failure.status(), &failure),
            result => json(StatusCode::OK, &Body::from(result)),
        }
    }
}

fn wants_statuses(headers: &HeaderMap) -> bool {
    headers
        .get(ERROR_MODE_HEADER)
        .is_some_and(|mode| mode.as_bytes() == ERROR_MODE_TRANSPORT.as_bytes())
}

fn json(status: StatusCode, body: &impl Serialize) -> Answered {
    let written = serde_json::to_vec(body);
    let status = match &written {
        Ok(_) => status,
        Err(error) => {
            tracing::error!(%error, "an answer of the API cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    Answered {
        status,
        content_type: "application/json",
        body: written.unwrap_or_default(),
    }
}
