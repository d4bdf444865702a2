//! Server addresses as configured, and the login that they may carry.
//!
//! async-nats parses a login in an address but does not use it; its logs show addresses, so it gets them without.
//! Addresses are never shown in errors or logs, since what is wrong with one may be its password.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use async_nats::ServerAddr;

use super::login::{NatsLogin, NatsSecret};
use crate::secret::Secret;

/// The addresses of one cluster.
pub(super) struct Servers {
    /// Without the login that was in them.
    pub(super) addresses: Vec<ServerAddr>,
    /// The first one found: all servers of a cluster know the same users.
    pub(super) login: Option<NatsLogin>,
}

/// An address that is none. It is named by its place alone, counted from 1.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("address number {0} is malformed")]
pub(crate) struct MalformedAddress(usize);

impl Servers {
    pub(super) fn parse(servers: &[String]) -> Result<Self, MalformedAddress> {
        let mut addresses = Vec::with_capacity(servers.len());
        let mut found = None;
        for (place, server) in (1..).zip(servers) {
            let address: Option<ServerAddr> = server.parse().ok().filter(is_supported);
            let address = address.ok_or(MalformedAddress(place))?;
            found = found.or_else(|| login(&address));
            addresses.push(without_login(address).ok_or(MalformedAddress(place))?);
        }
        Ok(Self {
            addresses,
            login: found,
        })
    }

    /// Whether an address asks for TLS.
    pub(super) fn want_tls(&self) -> bool {
        self.addresses.iter().any(ServerAddr::tls_required)
    }

    /// The address of this machine that packets to the first server leave from. Nothing is sent.
    pub(super) fn local_address(&self) -> Option<IpAddr> {
        let server = self.addresses.first()?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((server.host(), server.port())).ok()?;
        Some(socket.local_addr().ok()?.ip())
    }
}

fn is_supported(address: &ServerAddr) -> bool {
    matches!(address.scheme(), "nats" | "tls")
}

/// `nats://user:password@host` or `nats://token@host`.
fn login(address: &ServerAddr) -> Option<NatsLogin> {
    let user = percent_decode(address.username()?);
    Some(match address.password() {
        Some(password) => NatsLogin::Password {
            user,
            password: NatsSecret::Here(Secret::new(percent_decode(password))),
        },
        None => NatsLogin::Token(NatsSecret::Here(Secret::new(user))),
    })
}

fn without_login(address: ServerAddr) -> Option<ServerAddr> {
    let mut url = address.into_inner();
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    ServerAddr::from_url(url).ok()
}

/// RFC 3986 section 2.1; what is no escape stands for itself.
fn percent_decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if let (b'%', Some(value)) = (byte, hex_byte(tail)) {
            decoded.push(value);
            rest = &tail[2..];
        } else {
            decoded.push(byte);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The value of the two hexadecimal digits at the start of `text`.
fn hex_byte(text: &[u8]) -> Option<u8> {
    let digit = |index: usize| char::from(*text.get(index)?).to_digit(16);
    u8::try_from(digit(0)? << 4 | digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(servers: &[&str]) -> Servers {
        let servers: Vec<String> = servers.iter().map(|&server| server.to_owned()).collect();
        Servers::parse(&servers).unwrap()
    }

    /// User, password and token.
    fn login_of(servers: &[&str]) -> [Option<String>; 3] {
        let login = parse(servers).login.unwrap_or_default();
        let auth = login.answer(b"").unwrap();
        [auth.username, auth.password, auth.token]
    }

    #[test]
    fn a_login_in_an_address_is_used_as_it_was_meant() {
        let password =
            |user: &str, password: &str| [Some(user.to_owned()), Some(password.to_owned()), None];
        assert_eq!(
            login_of(&["nats://a:1", "tls://fleet:p%40ss%2f%C3%A9@b:2"]),
            password("fleet", "p@ss/é")
        );
        assert_eq!(
            login_of(&["nats://fleet:100%25@b"]),
            password("fleet", "100%")
        );
        assert_eq!(
            login_of(&["nats://s3cr3t@a"]),
            [None, None, Some("s3cr3t".to_owned())]
        );
        assert_eq!(login_of(&["127.0.0.1:4222"]), [None, None, None]);
    }

    #[test]
    fn the_library_whose_logs_show_addresses_gets_them_without_the_login() {
        for server in ["nats://fleet:s3cr3t@a:1", "tls://s3cr3t@a:1", "s3cr3t@a:1"] {
            let servers = parse(&[server]);
            let address = &servers.addresses[0];
            assert_eq!((address.host(), address.port()), ("a", 1), "{server}");
            assert_eq!(servers.want_tls(), server.starts_with("tls:"));
            assert!(!format!("{address:?}").contains("s3cr3t"), "{server}");
        }
    }

    #[test]
    fn the_local_address_is_the_one_towards_the_server() {
        for server in [
            "nats://127.0.0.1:4222",
            "nats://fleet:secret@127.0.0.1/",
            "127.0.0.1",
        ] {
            let servers = Servers::parse(&[server.to_owned()]).unwrap();
            assert_eq!(
                servers.local_address(),
                Some(Ipv4Addr::LOCALHOST.into()),
                "{server}"
            );
        }
    }

    #[test]
    fn what_looks_like_an_escape_but_is_none_stays() {
        for text in ["%", "%4", "%zz", "%+4", "%é", "100%"] {
            assert_eq!(percent_decode(text), text);
        }
    }

    #[test]
    fn a_bad_address_is_named_by_its_place_alone() {
        for bad in ["nats://u:secret@:::", "http://secret", "ws://secret"] {
            let servers = ["nats://good".to_owned(), bad.to_owned()];
            let refused = Servers::parse(&servers).err();
            assert_eq!(refused, Some(MalformedAddress(2)), "{bad}");
        }
    }
}
