//! The demo page and the tokens it asks for: a small web server on loopback, in development only.
//!
//! It hands tokens to whoever asks, so it answers only requests that name it by a loopback host
//! (another site cannot reach it through a DNS name of its own), and it sends no CORS headers (another
//! site's script cannot read what it answers). What changes something has to come from the page itself.

mod crew;
mod workers;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Result;
use axum::{
    Router,
    extract::{Query, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use flotilla_shared::secret::Secret;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::{orders::Orders, settings::Settings, token};
pub(crate) use crew::Crew;

const PAGE: &str = include_str!("page.html");

/// How long a page's token is valid. Short, so that an open page shows that refreshing works.
const TOKEN_TTL: Duration = Duration::from_secs(10 * 60);

/// The longest user name, in bytes.
const USER_MAX_BYTES: usize = 64;

/// What the page needs to know of the fleet.
#[derive(Debug)]
pub(crate) struct Demo {
    /// Where clients connect.
    url: String,
    /// The channel the page starts in.
    channel: String,
    /// What tokens are signed with.
    token_secret: Secret,
    /// Whom it asks about clients.
    crew: Crew,
    /// What has workers killed, drained and started, where they are processes of their own.
    orders: Option<Orders>,
}

impl Demo {
    /// The page of the fleet with these settings and workers.
    pub(crate) fn new(settings: &Settings, crew: Crew, orders: Option<Orders>) -> Self {
        Self {
            url: settings.url(),
            channel: settings.profile.channel.clone(),
            token_secret: settings.token_secret.clone(),
            crew,
            orders,
        }
    }
}

/// The origins under which a browser may have opened the page.
pub(crate) fn origins(demo_port: u16) -> [String; 2] {
    hosts(demo_port).map(|host| format!("http://{host}"))
}

fn hosts(port: u16) -> [String; 2] {
    [format!("127.0.0.1:{port}"), format!("localhost:{port}")]
}

/// Serves the page until the task is dropped.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve(listener: TcpListener, demo: Demo) -> Result<()> {
    let app = router(demo, listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

fn router(demo: Demo, address: SocketAddr) -> Router {
    let port = address.port();
    let own = Arc::new((hosts(port), origins(port)));
    Router::new()
        .route("/", get(page))
        .route("/token", get(grant))
        .route("/where", get(workers::find))
        .route("/workers", get(workers::list))
        .route("/workers/{name}/{action}", post(workers::obey))
        .with_state(Arc::new(demo))
        .layer(middleware::from_fn(move |request, next| {
            let own = own.clone();
            async move { guard(&own.0, &own.1, request, next).await }
        }))
}

/// Lets through what names this server by one of its `hosts` and, if it may change something, comes
/// from a page of one of these `origins`.
async fn guard(hosts: &[String], origins: &[String], request: Request, next: Next) -> Response {
    if !is_one_of(hosts, &request, header::HOST) {
        return (
            StatusCode::MISDIRECTED_REQUEST,
            "Host: not a name of this server\n",
        )
            .into_response();
    }
    let only_reads = [Method::GET, Method::HEAD].contains(request.method());
    if !only_reads && !is_one_of(origins, &request, header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "Origin: not of this page\n").into_response();
    }
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

fn is_one_of(known: &[String], request: &Request, name: HeaderName) -> bool {
    let value = request.headers().get(name);
    let value = value.and_then(|value| value.to_str().ok());
    value.is_some_and(|value| known.iter().any(|known| known == value))
}

async fn page(State(demo): State<Arc<Demo>>) -> Result<Response, StatusCode> {
    // The page's own script and style carry the nonce; whatever else finds its way in does not run.
    let nonce = format!("{:032x}", rand::random::<u128>());
    let policy = content_security_policy(&nonce, &demo.url);
    let policy = HeaderValue::from_str(&policy).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let page = Html(PAGE.replace("{nonce}", &nonce));
    Ok(([(header::CONTENT_SECURITY_POLICY, policy)], page).into_response())
}

fn content_security_policy(nonce: &str, url: &str) -> String {
    let origin = url
        .match_indices('/')
        .nth(2)
        .map_or(url, |(path, _)| &url[..path]);
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
         connect-src 'self' {origin}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

#[derive(Deserialize)]
struct GrantQuery {
    user: String,
}

/// What a page needs to connect.
#[derive(Serialize)]
struct Grant<'a> {
    token: String,
    url: &'a str,
    channel: &'a str,
}

async fn grant(State(demo): State<Arc<Demo>>, Query(query): Query<GrantQuery>) -> Response {
    if query.user.is_empty() || query.user.len() > USER_MAX_BYTES {
        let text = format!("user: 1 to {USER_MAX_BYTES} bytes\n");
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    match token::mint(&demo.token_secret, &query.user, None, TOKEN_TTL) {
        Ok(token) => json(&Grant {
            token,
            url: &demo.url,
            channel: &demo.channel,
        }),
        Err(error) => {
            tracing::error!(%error, "no token for the demo page");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn json(answer: &impl Serialize) -> Response {
    match serde_json::to_string(answer) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer of the demo page cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests;
