//! Minting tokens, for the demo page, the examples that are printed and `flotilla token`.
//!
//! Only development needs this: in production an application's own back end signs tokens.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use flotilla_shared::{auth::jwt, secret::Secret};
use serde::Serialize;

use crate::{args::TokenArguments, state};

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    iat: u64,
    exp: u64,
}

/// A token (HS256) for `user` that is valid for `ttl` from now: a subscription token if a `channel`
/// is given, else a connection token.
///
/// # Errors
/// When the clock stands before 1970 or the secret cannot be used.
pub(crate) fn mint(
    secret: &Secret,
    user: &str,
    channel: Option<&str>,
    ttl: Duration,
) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = Claims {
        sub: user,
        channel,
        iat: now,
        exp: now.saturating_add(ttl.as_secs()),
    };
    Ok(jwt::sign(&claims, secret)?)
}

/// The token that `flotilla token` prints.
///
/// # Errors
/// When no secret is given and no fleet runs (on the port that is asked for).
pub(crate) fn for_command(arguments: &TokenArguments, roots: &[PathBuf]) -> Result<String> {
    let secret = match &arguments.secret {
        Some(secret) => Secret::new(secret),
        None => running_secret(arguments.port, roots)?,
    };
    mint(
        &secret,
        &arguments.user,
        arguments.channel.as_deref(),
        arguments.ttl,
    )
}

fn running_secret(port: Option<u16>, roots: &[PathBuf]) -> Result<Secret> {
    let fleet = state::running(roots)
        .into_iter()
        .find(|fleet| port.is_none_or(|port| fleet.port == port))
        .with_context(|| match port {
            Some(port) => format!("no development fleet of yours runs on port {port}"),
            None => "no development fleet of yours is running: start `flotilla`, or give --secret"
                .into(),
        })?;
    Ok(fleet.token_secret)
}
