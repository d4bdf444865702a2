//! What only a gateway may say, nobody else can.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use flotilla_shared::auth::ConnectionClaims;
use flotilla_shared::auth::passport::{
    PASSPORT_HEADER, PASSPORT_TTL_SECONDS, Passport, PassportKeys,
};
use flotilla_shared::protocol::types::{Command, ConnectRequest};
use flotilla_shared::secret::Secret;
use flotilla_tests::client::Dial;
use flotilla_tests::fleet::{Fleet, PASSPORT_SECRET};
use flotilla_tests::token;

/// A passport for the user "admin", signed `age` seconds ago.
fn passport(secret: &str, age: u64) -> Result<String> {
    let admin = ConnectionClaims {
        user: "admin".to_owned(),
        ..Default::default()
    };
    let passport = Passport {
        identity: Some(admin),
        ..Default::default()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(PassportKeys::new(Secret::new(secret), None)?.sign(&passport, now - age)?)
}

/// The user that the worker takes this connection for.
async fn user_of(dial: &Dial, token: &str) -> Result<String> {
    let mut client = dial.connect(token).await?;
    client.subscribe("who am I").await?;
    client.publish("who am I", "1").await?;
    let info = client.publication("who am I").await?.info;
    Ok(info.context("who published it")?.user)
}

async fn must_bring_a_token(dial: &Dial) -> Result<()> {
    let mut client = dial.open().await?;
    let connect = Some(ConnectRequest::default());
    client
        .send(&[Command {
            id: 1,
            connect,
            ..Default::default()
        }])
        .await?;
    assert_eq!(client.closed().await?.code, 3501);
    Ok(())
}

#[tokio::test]
async fn a_client_cannot_bring_its_own_passport_through_the_gateway() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    // Even a genuine one does not pass: it is the gateway that says who somebody is.
    let genuine = passport(PASSPORT_SECRET, 0)?;
    for name in [
        PASSPORT_HEADER,
        "X-Flotilla-Passport",
        "X-FLOTILLA-PASSPORT",
    ] {
        let dial = fleet.dial().header(name, &genuine);
        must_bring_a_token(&dial).await?;
        assert_eq!(user_of(&dial, &token::user("ada")?).await?, "ada");
        let bearer = format!("Bearer {}", token::user("ada")?);
        assert_eq!(
            user_of(&dial.header("authorization", &bearer), "").await?,
            "ada"
        );
    }
    // That same passport is believed when it comes from where a gateway would be.
    let direct = Dial::to(fleet.workers[0].url()).header(PASSPORT_HEADER, &genuine);
    assert_eq!(user_of(&direct, "").await?, "admin");
    Ok(())
}

#[tokio::test]
async fn a_worker_refuses_a_passport_that_no_gateway_signed() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let genuine = passport(PASSPORT_SECRET, 0)?;
    let forged = [
        passport("another secret, and it is long enough", 0)?,
        passport(PASSPORT_SECRET, PASSPORT_TTL_SECONDS + 5)?,
        genuine[..=genuine.rfind('.').expect("a dot")].to_owned(),
        token::user("admin")?,
        "admin".to_owned(),
        String::new(),
    ];
    for passport in forged {
        let dial = Dial::to(fleet.workers[0].url()).header(PASSPORT_HEADER, &passport);
        let (status, body) = dial.refused().await?;
        assert_eq!(status, 403, "{passport:?}: {body}");
        assert!(body.contains("passport"), "{body}");
    }
    Ok(())
}

#[tokio::test]
async fn two_passports_are_as_bad_as_none() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let (genuine, forged) = (passport(PASSPORT_SECRET, 0)?, token::user("admin")?);
    for (first, second) in [(&genuine, &forged), (&forged, &genuine)] {
        let dial = Dial::to(fleet.workers[0].url());
        let dial = dial
            .header(PASSPORT_HEADER, first)
            .header(PASSPORT_HEADER, second);
        assert_eq!(dial.refused().await?.0, 403);
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_can_insist_that_everybody_comes_through_a_gateway() -> Result<()> {
    let fleet = Fleet::builder()
        .worker("require_passport", true)
        .start()
        .await?;
    let direct = Dial::to(fleet.workers[0].url());
    assert_eq!(direct.refused().await?.0, 403);
    assert_eq!(user_of(&fleet.dial(), &token::user("ada")?).await?, "ada");
    Ok(())
}
