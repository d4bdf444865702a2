//! Who a client is, is decided by its token alone, wherever it carries it.

use std::time::Duration;

use anyhow::{Context, Result};
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_shared::protocol::types::{Command, ConnectRequest, RefreshRequest};
use flotilla_tests::client::Dial;
use flotilla_tests::fleet::Fleet;
use flotilla_tests::token::{self, SECRET, seconds_from_now, sign, sign_with};
use jsonwebtoken::Algorithm::{HS384, HS512};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

/// Tokens that nobody may come in with, by what is wrong with them.
fn bad_tokens() -> Result<Vec<(&'static str, String)>> {
    let exp = seconds_from_now(MINUTE);
    let claims = json!({"sub": "mallory", "exp": exp});
    let good = sign(SECRET, &json!({"sub": "ada", "exp": exp}))?;
    Ok(vec![
        (
            "other claims under a good signature",
            token::tampered(&good, &claims),
        ),
        (
            "no signature",
            good[..=good.rfind('.').context("a dot")?].to_owned(),
        ),
        (
            "signed with another secret",
            sign("another secret", &claims)?,
        ),
        ("alg none", token::unsigned(&claims)),
        ("not a token", "not-a-token".to_owned()),
        (
            "for one channel only",
            sign(SECRET, &json!({"sub": "m", "channel": "x", "exp": exp}))?,
        ),
        (
            "not valid yet",
            sign(SECRET, &json!({"sub": "m", "nbf": exp, "exp": exp + 60}))?,
        ),
        (
            "a user that is a number",
            sign(SECRET, &json!({"sub": 7, "exp": exp}))?,
        ),
    ])
}

fn expired() -> Result<String> {
    sign(
        SECRET,
        &json!({"sub": "ada", "exp": seconds_from_now(Duration::ZERO) - 60}),
    )
}

#[tokio::test]
async fn a_bad_token_in_the_connect_command_ends_the_connection_for_good() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    for format in [Json, Protobuf] {
        for (what, token) in bad_tokens()? {
            let mut client = fleet.dial().format(format).open().await?;
            client.send(&[connect(1, &token)]).await?;
            let close = client.closed().await.context(what)?;
            assert_eq!(
                (close.code, close.reason.as_str()),
                (3500, "invalid token"),
                "{what}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_expired_token_in_the_connect_command_asks_for_a_new_one() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let mut client = fleet.dial().open().await?;
    let error = client.refusal(connect(0, &expired()?)).await?;
    assert_eq!((error.code, error.message.as_str()), (109, "token expired"));
    // After a refused connect the connection is of no use.
    client.send(&[connect(2, &token::user("ada")?)]).await?;
    assert_eq!(client.closed().await?.code, 3501);
    Ok(())
}

#[tokio::test]
async fn the_longer_hmac_algorithms_are_accepted() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    for algorithm in [HS384, HS512] {
        let claims = json!({"sub": "ada", "exp": seconds_from_now(MINUTE)});
        fleet
            .dial()
            .connect(&sign_with(algorithm, SECRET, &claims)?)
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn without_a_token_nobody_comes_in_unless_anonymous_users_may() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let mut client = fleet.dial().open().await?;
    client.send(&[connect(1, "")]).await?;
    assert_eq!(client.closed().await?.code, 3501);

    let open = Fleet::builder().worker("client.allow_anonymous_connect_without_token", true);
    open.start().await?.dial().connect("").await?;
    Ok(())
}

#[tokio::test]
async fn the_edge_takes_a_token_from_each_place_it_is_told_to_look() -> Result<()> {
    let fleet = edge().start().await?;
    for format in [Json, Protobuf] {
        for (place, dial) in places(&fleet, &token::user("ada")?) {
            let mut client = dial.format(format).connect("").await.context(place)?;
            client.subscribe("room").await?;
            client.publish("room", "1").await?;
            let info = client
                .publication("room")
                .await?
                .info
                .context("who published it")?;
            assert_eq!(info.user, "ada", "{place}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_edge_refuses_a_bad_token_before_it_upgrades() -> Result<()> {
    let fleet = edge().start().await?;
    let mut tokens = bad_tokens()?;
    tokens.push(("expired", expired()?));
    for (what, token) in tokens {
        for (place, dial) in places(&fleet, &token) {
            let (status, body) = dial.refused().await.context(what).context(place)?;
            assert_eq!(status, 401, "{what}, {place}: {body}");
            assert!(!body.contains(&token), "the token comes back: {body}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_token_in_the_query_is_ignored_unless_that_is_switched_on() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let mut client = fleet
        .dial()
        .query("token", &token::user("ada")?)
        .open()
        .await?;
    client.send(&[connect(1, "")]).await?;
    assert_eq!(client.closed().await?.code, 3501);
    Ok(())
}

#[tokio::test]
async fn where_identity_is_required_nobody_passes_the_edge_without_it() -> Result<()> {
    let fleet = edge().gateway("identity.mode", "required").start().await?;
    assert_eq!(fleet.dial().refused().await?.0, 401);
    for (place, dial) in places(&fleet, &token::user("ada")?) {
        dial.connect("").await.context(place)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_ends_when_its_token_has_expired_and_was_not_renewed() -> Result<()> {
    let fleet = Fleet::builder()
        .worker("client.expired_close_delay", "100ms")
        .start()
        .await?;
    let claims = json!({"sub": "ada", "exp": seconds_from_now(Duration::from_secs(2))});
    let mut forgetful = fleet.dial().connect(&sign(SECRET, &claims)?).await?;
    let mut renewed = fleet.dial().connect(&sign(SECRET, &claims)?).await?;
    assert!(forgetful.session().expires && forgetful.session().ttl <= 2);

    let token = token::user("ada")?;
    let refresh = Command {
        refresh: Some(RefreshRequest { token }),
        ..Default::default()
    };
    let answer = renewed
        .call(refresh)
        .await?
        .refresh
        .context("a refresh result")?;
    assert!(answer.expires && answer.ttl > 500, "{answer:?}");
    let close = forgetful.closed().await?;
    assert_eq!(
        (close.code, close.reason.as_str()),
        (3005, "connection expired")
    );
    renewed.subscribe("room").await?;
    Ok(())
}

#[tokio::test]
async fn a_token_of_another_user_does_not_renew_a_connection() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let mut client = fleet.user("ada", Json).await?;
    let refresh = Some(RefreshRequest {
        token: token::user("eve")?,
    });
    client
        .send(&[Command {
            id: 9,
            refresh,
            ..Default::default()
        }])
        .await?;
    assert_eq!(client.closed().await?.code, 3500);
    Ok(())
}

fn connect(id: u32, token: &str) -> Command {
    let request = ConnectRequest {
        token: token.to_owned(),
        ..Default::default()
    };
    Command {
        id,
        connect: Some(request),
        ..Default::default()
    }
}

/// A fleet whose gateway looks for tokens everywhere.
fn edge() -> flotilla_tests::fleet::Builder {
    Fleet::builder()
        .gateway("identity.cookie_name", "session")
        .gateway("identity.query_parameter", "token")
}

/// A connection with the token in each of the places where a client can put one.
fn places(fleet: &Fleet, token: &str) -> Vec<(&'static str, Dial)> {
    let dial = || fleet.dial();
    vec![
        (
            "header",
            dial().header("authorization", &format!("Bearer {token}")),
        ),
        (
            "cookie",
            dial().header("cookie", &format!("a=b; session={token}; c=d")),
        ),
        ("query", dial().query("x", "y").query("token", token)),
        (
            "subprotocol",
            dial()
                .protocol("centrifuge-json")
                .protocol(&format!("bearer.{token}")),
        ),
    ]
}
