//! Who a client is: tokens that applications sign for their users, and the passport that the
//! gateway signs for the workers.
//!
//! Verifying is pure: keys and the current time are arguments, and nothing waits. Keys that have to be
//! fetched are fetched beside it ([`JwksRefresher`]). It does not know connections, and it does not
//! decide what a user may do.

mod claims;
mod grant;
mod jwks;
pub mod jwt;
mod key;
mod options;
pub mod passport;
mod seal;
#[cfg(test)]
mod signer;

pub use claims::{ConnectionClaims, SubscriptionClaims};
pub use grant::{ChannelGrant, Overrides, Switch};
pub use jwks::JwksRefresher;
pub use jwt::{TokenError, Verifier};
pub use options::TokenOptions;
pub use passport::{Passport, PassportError, PassportKeys, PassportOptions};
pub use seal::Unsealed;
