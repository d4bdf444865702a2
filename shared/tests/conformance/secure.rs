//! Who is let in by a NATS server, which servers are trusted, and that no secret is told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flotilla_shared::broker::conformance::Peer;
use flotilla_shared::broker::{
    BrokerConnection, BrokerError, BrokerEvent, BrokerMetrics, Brokers, NatsConfig, NatsLogin,
    NatsSecret, NatsTls,
};
use flotilla_shared::secret::Secret;
use nkeys::KeyPair;
use prometheus::Registry;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair as TlsKey};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::nats_server::NatsServer;

fn here(secret: &str) -> NatsSecret {
    NatsSecret::Here(Secret::new(secret))
}

fn password(user: &str, password: &str) -> NatsLogin {
    NatsLogin::Password {
        user: user.to_owned(),
        password: here(password),
    }
}

async fn connect(config: NatsConfig) -> Result<Result<BrokerConnection, BrokerError>> {
    let metrics = BrokerMetrics::register(&Registry::new())?;
    Ok(Brokers::Nats(config).connect("secure", &metrics).await)
}

/// `right` is let in, `wrong` is not, and the error has nothing secret in it.
async fn lets_in_only(server: &NatsServer, right: NatsLogin, wrong: NatsLogin) -> Result<()> {
    let with = |login: NatsLogin| NatsConfig {
        login: login.into(),
        ..server.config()
    };
    for stranger in [wrong, NatsLogin::Nobody] {
        let answer = connect(with(stranger)).await?;
        let error = answer.err().context("was let in")?;
        let said = "refused by the broker: NATS does not accept the login";
        ensure!(error.to_string() == said, "{error}");
        ensure!(!error.is_temporary());
    }
    connect(with(right)).await??;
    Ok(())
}

#[tokio::test]
async fn a_user_needs_its_password() -> Result<()> {
    let server = NatsServer::start_with("authorization { user: fleet, password: s3cr3t }").await?;
    lets_in_only(
        &server,
        password("fleet", "s3cr3t"),
        password("fleet", "guess"),
    )
    .await
}

#[tokio::test]
async fn a_token_opens_a_server_that_wants_one() -> Result<()> {
    let server = NatsServer::start_with("authorization { token: s3cr3t }").await?;
    let (right, wrong) = (here("s3cr3t"), here("guess"));
    lets_in_only(&server, NatsLogin::Token(right), NatsLogin::Token(wrong)).await
}

#[tokio::test]
async fn a_key_opens_a_server_that_knows_its_public_half() -> Result<()> {
    let (known, unknown) = (KeyPair::new_user(), KeyPair::new_user());
    let users = format!(
        "authorization {{ users = [ {{ nkey: {} }} ] }}",
        known.public_key()
    );
    let server = NatsServer::start_with(&users).await?;
    let (right, wrong) = (here(&known.seed()?), here(&unknown.seed()?));
    lets_in_only(&server, NatsLogin::Nkey(right), NatsLogin::Nkey(wrong)).await
}

/// A JWT as `nsc` makes it.
fn jwt(issuer: &KeyPair, subject: &KeyPair, nats: &Value) -> Result<String> {
    let claims = json!({
        "jti": "test", "iat": 1_700_000_000, "iss": issuer.public_key(), "name": "test",
        "sub": subject.public_key(), "nats": nats,
    });
    let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    let signed = format!(
        "{}.{}",
        encode(head.to_string().as_bytes()),
        encode(claims.to_string().as_bytes())
    );
    let signature = encode(&issuer.sign(signed.as_bytes())?);
    Ok(format!("{signed}.{signature}"))
}

fn credentials(account: &KeyPair) -> Result<String> {
    let user = KeyPair::new_user();
    let unlimited = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    Ok(format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        jwt(account, &user, &unlimited)?,
        user.seed()?
    ))
}

#[tokio::test]
async fn credentials_open_a_server_that_trusts_who_signed_them() -> Result<()> {
    let operator = KeyPair::new_operator();
    let (account, stranger) = (KeyPair::new_account(), KeyPair::new_account());
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1,
    });
    let of_account = json!({ "type": "account", "version": 2, "limits": limits });
    let of_operator = json!({ "type": "operator", "version": 2 });
    let configuration = format!(
        "operator: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {} }}",
        jwt(&operator, &operator, &of_operator)?,
        account.public_key(),
        jwt(&operator, &account, &of_account)?,
    );
    let server = NatsServer::start_with(&configuration).await?;
    let (right, wrong) = (credentials(&account)?, credentials(&stranger)?);
    lets_in_only(
        &server,
        NatsLogin::Credentials(here(&right)),
        NatsLogin::Credentials(here(&wrong)),
    )
    .await
}

#[tokio::test]
async fn a_new_secret_in_the_file_is_used_without_a_restart() -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "old\n")?;
    let mut server = NatsServer::start_with("authorization { token: old }").await?;
    let login = NatsLogin::Token(NatsSecret::File {
        key: "broker.nats.token".to_owned(),
        path: file.path().to_owned(),
    });
    let config = NatsConfig {
        login: login.into(),
        ..server.config()
    };
    let mut peer = Peer::connect(&Brokers::Nats(config)).await?;
    server.kill().await?;
    ensure!(peer.next().await? == BrokerEvent::Disconnected);
    server.configure("authorization { token: new }")?;
    server.restart().await?;
    std::fs::write(file.path(), "new\n")?;
    ensure!(peer.next().await? == BrokerEvent::Reconnected);
    Ok(())
}

/// Certificates for one test.
struct Authority {
    issuer: CertifiedIssuer<'static, TlsKey>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, TlsKey::generate()?)?;
        let authority = Self {
            issuer,
            folder: tempfile::tempdir()?,
        };
        std::fs::write(authority.file("ca.pem"), authority.issuer.pem())?;
        Ok(authority)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The files of a certificate for `name`, and of its key.
    fn certify(&self, name: &str) -> Result<(PathBuf, PathBuf)> {
        let key = TlsKey::generate()?;
        let params = CertificateParams::new([name.to_owned()])?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let files = (
            self.file(&format!("{name}.pem")),
            self.file(&format!("{name}.key")),
        );
        std::fs::write(&files.0, certificate.pem())?;
        std::fs::write(&files.1, key.serialize_pem())?;
        Ok(files)
    }

    /// A server whose certificate is for `name`; with `verifies`, it asks for one, too.
    async fn serve(&self, name: &str, verifies: bool) -> Result<NatsServer> {
        let (certificate, key) = self.certify(name)?;
        let show = |path: &Path| format!("{:?}", path.display().to_string());
        let verify = format!("ca_file: {}, verify: true", show(&self.file("ca.pem")));
        let configuration = format!(
            "tls {{ cert_file: {}, key_file: {}, {} }}",
            show(&certificate),
            show(&key),
            if verifies { &verify } else { "" }
        );
        NatsServer::start_with(&configuration).await
    }

    /// How to connect to `server` when this authority is trusted.
    fn trusted(&self, server: &NatsServer) -> NatsConfig {
        let tls = NatsTls {
            ca_file: Some(self.file("ca.pem")),
            certificate: None,
        };
        NatsConfig {
            tls: tls.into(),
            ..server.config()
        }
    }
}

/// The error of a connection that was refused for good because of TLS.
async fn refusal(config: NatsConfig) -> Result<String> {
    let error = connect(config).await?.err().context("connected")?;
    let text = error.to_string();
    ensure!(!error.is_temporary(), "{text}");
    ensure!(
        text.starts_with("refused by the broker: no TLS with the NATS server: "),
        "{text}"
    );
    Ok(text)
}

#[tokio::test]
async fn a_server_is_trusted_by_whoever_vouches_for_it() -> Result<()> {
    let (ours, another) = (Authority::new()?, Authority::new()?);
    let server = ours.serve("127.0.0.1", false).await?;
    connect(ours.trusted(&server)).await??;
    let unknown = refusal(another.trusted(&server)).await?;
    ensure!(unknown.contains("invalid peer certificate"), "{unknown}");
    // Who trusts nobody in particular trusts whom the system does.
    refusal(server.config()).await?;
    Ok(())
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() -> Result<()> {
    let ours = Authority::new()?;
    let server = ours.serve("nats.example.com", false).await?;
    let error = refusal(ours.trusted(&server)).await?;
    ensure!(error.contains("not valid for name"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_ours() -> Result<()> {
    let (ours, another) = (Authority::new()?, Authority::new()?);
    let server = ours.serve("127.0.0.1", true).await?;
    let with = |certificate: (PathBuf, PathBuf)| NatsConfig {
        tls: NatsTls {
            ca_file: Some(ours.file("ca.pem")),
            certificate: Some(certificate),
        }
        .into(),
        ..server.config()
    };
    connect(with(ours.certify("worker")?)).await??;
    for stranger in [ours.trusted(&server), with(another.certify("worker")?)] {
        ensure!(connect(stranger).await?.is_err(), "was let in");
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_told_to_a_server_without_tls_when_tls_was_asked_for() -> Result<()> {
    let ours = Authority::new()?;
    let server = NatsServer::start().await?;
    let config = ours.trusted(&server);
    let by_address = server.config().servers;
    let by_address = by_address.iter().map(|url| url.replace("nats:", "tls:"));
    let by_address = NatsConfig {
        servers: by_address.collect(),
        connect_timeout: Duration::from_secs(5),
        ..server.config()
    };
    for config in [config, by_address] {
        ensure!(connect(config).await?.is_err(), "connected without TLS");
    }
    Ok(())
}
