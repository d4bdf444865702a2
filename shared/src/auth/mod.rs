//! Who a client is: tokens that applications sign for their users, and the passport that the
//! gateway signs for the workers.
//!
//! Everything here is pure: keys and the current time are arguments. It does not know connections,
//! and it does not decide what a user may do.

mod claims;
pub mod jwt;
pub mod passport;

pub use claims::{ConnectionClaims, SubscriptionClaims};
pub use jwt::{TokenError, TokenOptions, Verifier};
pub use passport::{Passport, PassportError, PassportKeys, PassportOptions};
