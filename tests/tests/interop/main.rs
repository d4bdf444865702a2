//! Client libraries that nobody here wrote connect through the gateway, unchanged.
//!
//! Most tests run the same story with two users on two workers: connect, subscribe, publish both
//! ways, unsubscribe, be refused, renew a token, and come back when a worker was killed.

mod back_end;
mod delta;
mod filter;
mod fossil;
mod hooks;
mod insecure;
mod rust_sdk;
mod scripts;
mod stage;
