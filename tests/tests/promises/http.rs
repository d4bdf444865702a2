//! How the gateway answers HTTP requests: which become a WebSocket, and what the others are told.

use anyhow::Result;
use flotilla_tests::fleet::Fleet;
use flotilla_tests::raw::{End, Frame, Socket, upgrade_head};

const PATH: &str = "/connection/websocket";

fn status(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or(head)
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_is_told_what_to_do() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let address = &fleet.gateways[0].addresses().websocket;
    let response = reqwest::get(format!("http://{address}{PATH}")).await?;
    assert_eq!(response.status(), 426);
    assert_eq!(response.headers()["upgrade"], "websocket");
    assert!(!response.text().await?.is_empty());
    for path in ["/", "/metrics", "/connection", "/connection/websocket/x"] {
        let response = reqwest::get(format!("http://{address}{path}")).await?;
        assert_eq!(response.status(), 404, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn an_upgrade_that_is_not_by_the_book_is_refused_by_the_name_of_the_header() -> Result<()> {
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    const VERSION: &str = "Sec-WebSocket-Version: 13";
    const UPGRADE: &str = "Upgrade: websocket";
    let fleet = Fleet::builder().start().await?;
    let address = &fleet.gateways[0].addresses().websocket;
    let host = &format!("Host: {address}");
    // What is replaced by what, and the status and the words that answer it.
    let cases = [
        ("GET", "POST", "405", "GET"),
        ("HTTP/1.1", "HTTP/1.0", "426", "websocket"),
        (UPGRADE, "Upgrade: h2c", "400", "Upgrade"),
        (UPGRADE, "Upgrade: websocket, h2c", "400", "Upgrade"),
        (
            "Connection: Upgrade",
            "Connection: keep-alive",
            "400",
            "Connection",
        ),
        (
            VERSION,
            "Sec-WebSocket-Version: 12",
            "426",
            "Sec-WebSocket-Version: 13",
        ),
        (VERSION, "A: b", "426", "Sec-WebSocket-Version: 13"),
        (KEY, "A: b", "400", "Sec-WebSocket-Key"),
        (KEY, "Sec-WebSocket-Key: short", "400", "Sec-WebSocket-Key"),
        (host, "A: b", "400", "Host"),
        (host, "Host: a\r\nHost: b", "400", "Host"),
        (
            KEY,
            &format!("{KEY}\r\nContent-Length: 5"),
            "400",
            "Content-Length",
        ),
        (
            KEY,
            &format!("{KEY}\r\nTransfer-Encoding: chunked"),
            "400",
            "Transfer-Encoding",
        ),
        (KEY, &format!("{KEY}\r\n Folded: x"), "400", ""),
        (KEY, &format!("{KEY}\r\nName : x"), "400", ""),
    ];
    for (good, bad, status, told) in cases {
        let head = upgrade_head(address, &[]).replacen(good, bad, 1);
        let answer = Socket::connect(address).await?.exchange(&head).await?;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{bad}: {answer}"
        );
        assert!(answer.contains(told), "{bad}: {answer}");
    }
    Ok(())
}

#[tokio::test]
async fn the_gateway_is_no_proxy_to_elsewhere() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let address = &fleet.gateways[0].addresses().websocket;
    for line in [
        "CONNECT example.org:443 HTTP/1.1",
        "GET http://example.org/ HTTP/1.1",
    ] {
        let head = format!("{line}\r\nHost: example.org\r\n\r\n");
        let answer = Socket::connect(address).await?.exchange(&head).await?;
        let status = status(&answer);
        assert!(["400", "404", "405"].contains(&status), "{line}: {answer}");
    }
    Ok(())
}

#[tokio::test]
async fn a_request_smuggled_behind_the_upgrade_reaches_nobody() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let address = &fleet.gateways[0].addresses().websocket;
    let smuggled = format!(
        "{}GET /admin HTTP/1.1\r\nHost: x\r\n\r\n",
        upgrade_head(address, &[])
    );
    let mut socket = Socket::connect(address).await?;
    let head = socket.request(&smuggled).await?;
    assert_eq!(status(&head), "101", "{head}");
    // What follows the upgrade is frames, and this is none.
    assert!(matches!(socket.end().await?, End::Closed(1002, _)));
    Ok(())
}

#[tokio::test]
async fn frames_sent_along_with_the_upgrade_are_not_lost() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let address = &fleet.gateways[0].addresses().websocket;
    let mut together = upgrade_head(address, &[]).into_bytes();
    let connect = r#"{"id":1,"connect":{"token":"nonsense"}}"#;
    together.extend(Frame::new(1, connect).to_bytes());
    let mut socket = Socket::connect(address).await?;
    socket.send(&together).await?;
    assert_eq!(status(&socket.request("").await?), "101");
    assert_eq!(
        socket.end().await?,
        End::Closed(3500, "invalid token".to_owned())
    );
    Ok(())
}

#[tokio::test]
async fn an_empty_list_of_subprotocols_counts_as_none() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let address = &fleet.gateways[0].addresses().websocket;
    let mut socket = Socket::connect(address).await?;
    let head = socket
        .request(&upgrade_head(address, &["Sec-WebSocket-Protocol:"]))
        .await?;
    assert_eq!(status(&head), "101", "{head}");
    assert!(
        !head.to_lowercase().contains("sec-websocket-protocol"),
        "{head}"
    );
    socket
        .send(Frame::new(1, r#"{"id":1,"connect":{"token":"nonsense"}}"#).to_bytes())
        .await?;
    assert_eq!(
        socket.end().await?,
        End::Closed(3500, "invalid token".to_owned())
    );
    Ok(())
}

#[tokio::test]
async fn only_pages_of_the_listed_origins_may_connect() -> Result<()> {
    let listed = vec!["https://app.example.org".to_owned()];
    let fleet = Fleet::builder()
        .gateway("allowed_origins", listed)
        .start()
        .await?;
    let open = async |origin: &str| fleet.dial().header("origin", origin).refused().await;
    for origin in [
        "https://evil.example.org",
        "http://app.example.org",
        "null",
        "https://app.example.org.evil.org",
        "https://app.example.org:8443",
    ] {
        let (status, body) = open(origin).await?;
        assert_eq!(status, 403, "{origin}");
        assert!(body.to_lowercase().contains("origin"), "{body}");
    }
    fleet
        .dial()
        .header("origin", "https://app.example.org")
        .open()
        .await?;
    // Not a browser: nothing to protect.
    fleet.dial().open().await?;
    Ok(())
}

#[tokio::test]
async fn a_head_that_is_too_long_or_never_ends_is_given_up() -> Result<()> {
    let fleet = Fleet::builder()
        .gateway("head_timeout", "500ms")
        .start()
        .await?;
    let address = &fleet.gateways[0].addresses().websocket;
    let long = format!(
        "GET {PATH} HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n",
        "a".repeat(20_000)
    );
    let answer = Socket::connect(address).await?.request(&long).await?;
    assert!(["400", "431"].contains(&status(&answer)), "{answer}");

    let mut slow = Socket::connect(address).await?;
    slow.send("GET ").await?;
    let answer = slow.request("").await;
    assert!(answer.is_err() || answer.is_ok_and(|head| status(&head) == "408"));
    Ok(())
}
