//! The token each client connects with.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use flotilla_shared::auth::jwt;
use flotilla_shared::secret::Secret;
use serde::Serialize;

/// Signed tokens live this much longer than the run, so that none expires within it.
const MARGIN: Duration = Duration::from_secs(3600);

/// Where tokens come from.
#[derive(Clone, Debug)]
pub enum Tokens {
    /// Clients connect without one.
    None,
    /// All clients connect with this one.
    Fixed(Secret),
    /// Each client is a user of its own, whose token is signed by this secret (HS256).
    Signed(Secret),
}

#[derive(Serialize)]
struct Claims {
    sub: String,
    exp: u64,
}

impl Tokens {
    /// The token of a client, which lasts for a run of this duration and longer; empty for none.
    ///
    /// # Errors
    /// When signing fails.
    pub fn of(&self, number: u64, run: Duration) -> Result<String> {
        match self {
            Self::None => Ok(String::new()),
            Self::Fixed(token) => Ok(token.expose().to_owned()),
            Self::Signed(secret) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
                let claims = Claims {
                    sub: format!("load-{number}"),
                    exp: (now + run + MARGIN).as_secs(),
                };
                Ok(jwt::sign(&claims, secret)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_shared::auth::jwt::Verifier;

    #[test]
    fn each_client_is_a_user_of_its_own_for_the_whole_run() {
        let secret = Secret::new("secret");
        let verifier = Verifier::new([&secret], String::new(), String::new());
        let run = Duration::from_secs(7200);
        let token = Tokens::Signed(secret).of(7, run).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let claims = verifier.verify_connection(&token, (now + run).as_secs());
        assert_eq!(claims.unwrap().user, "load-7");
    }
}
