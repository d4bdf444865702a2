//! Server addresses as configured, and the login that they may carry.
//!
//! async-nats parses a login in an address but does not use it. Addresses are never shown in errors or logs, since
//! what is wrong with one may be its password.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use async_nats::ServerAddr;

use crate::broker::BrokerError;

/// The addresses of one cluster.
pub(super) struct Servers {
    pub(super) addresses: Vec<ServerAddr>,
    /// The first one found: all servers of a cluster know the same users.
    pub(super) login: Option<Login>,
}

/// How to introduce ourselves.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// `nats://user:password@host`
    Password { user: String, password: String },
    /// `nats://token@host`
    Token(String),
}

impl Servers {
    pub(super) fn parse(servers: &[String]) -> Result<Self, BrokerError> {
        let parse = |(index, server): (usize, &String)| {
            server.parse().ok().filter(is_supported).ok_or_else(|| {
                let place = index + 1;
                BrokerError::Refused(format!("NATS server address number {place} is malformed"))
            })
        };
        let addresses: Vec<ServerAddr> = servers
            .iter()
            .enumerate()
            .map(parse)
            .collect::<Result<_, _>>()?;
        let login = addresses.iter().find_map(login);
        Ok(Self { addresses, login })
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

fn login(address: &ServerAddr) -> Option<Login> {
    let user = percent_decode(address.username()?);
    Some(match address.password() {
        Some(password) => Login::Password {
            user,
            password: percent_decode(password),
        },
        None => Login::Token(user),
    })
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

    fn login_of(servers: &[&str]) -> Option<Login> {
        let servers: Vec<String> = servers.iter().map(|&server| server.to_owned()).collect();
        Servers::parse(&servers).unwrap().login
    }

    #[test]
    fn a_login_in_an_address_is_used_as_it_was_meant() {
        let password = |user: &str, password: &str| {
            Some(Login::Password {
                user: user.to_owned(),
                password: password.to_owned(),
            })
        };
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
            Some(Login::Token("s3cr3t".to_owned()))
        );
        assert_eq!(login_of(&["127.0.0.1:4222"]), None);
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
            let Err(BrokerError::Refused(reason)) = Servers::parse(&servers).map(|_| ()) else {
                panic!("{bad} was taken");
            };
            assert_eq!(reason, "NATS server address number 2 is malformed");
        }
    }
}
