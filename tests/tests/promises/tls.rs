//! The gateway's TLS listener.

use anyhow::{Context, Result};
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_tests::client::Dial;
use flotilla_tests::fleet::Fleet;
use flotilla_tests::token;
use rcgen::CertifiedKey;
use tokio_rustls::rustls::pki_types::CertificateDer;

struct Secured {
    fleet: Fleet,
    url: String,
    certificate: CertificateDer<'static>,
    _files: tempfile::TempDir,
}

async fn secured(workers: usize) -> Result<Secured> {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let files = tempfile::tempdir()?;
    let (certificate, key) = (
        files.path().join("certificate.pem"),
        files.path().join("key.pem"),
    );
    std::fs::write(&certificate, cert.pem())?;
    std::fs::write(&key, signing_key.serialize_pem())?;
    let fleet = Fleet::builder()
        .workers(workers)
        .gateway("tls.listen", "127.0.0.1:0")
        .gateway("tls.certificate_file", certificate.display().to_string())
        .gateway("tls.key_file", key.display().to_string())
        .start()
        .await?;
    let address = fleet.gateways[0]
        .addresses()
        .tls
        .clone()
        .context("a TLS listener")?;
    let url = format!(
        "wss://{}/connection/websocket",
        address.replace("127.0.0.1", "localhost")
    );
    Ok(Secured {
        fleet,
        url,
        certificate: cert.der().clone(),
        _files: files,
    })
}

#[tokio::test]
async fn messages_pass_between_secure_and_plain_clients() -> Result<()> {
    let secured = secured(2).await?;
    for format in [Json, Protobuf] {
        let dial = Dial::to(&secured.url)
            .trusting(secured.certificate.clone())
            .format(format);
        let mut secure = dial.connect(&token::user("ada")?).await?;
        let mut plain = secured.fleet.user("bob", format).await?;
        for client in [&mut secure, &mut plain] {
            client.subscribe("room").await?;
        }
        // Longer than a TLS record.
        let long = format!("\"{}\"", "x".repeat(40_000));
        for payload in ["1", &long] {
            secure.publish("room", payload.to_owned()).await?;
            plain.publish("room", payload.to_owned()).await?;
            for client in [&mut secure, &mut plain] {
                assert_eq!(client.texts("room", 2).await?, [payload, payload]);
            }
        }
        secure.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_certificate_sends_nothing() -> Result<()> {
    let secured = secured(1).await?;
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let dial = Dial::to(&secured.url).trusting(other.cert.der().clone());
    assert!(dial.open().await.is_err());
    // Nor does the listener serve those who forget about TLS.
    let plain = secured.url.replace("wss://", "ws://");
    assert!(Dial::to(plain).open().await.is_err());
    // It still serves everybody else.
    Dial::to(&secured.url)
        .trusting(secured.certificate)
        .open()
        .await?;
    Ok(())
}
