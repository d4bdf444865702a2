//! Layered configuration.

mod origin;
mod problem;

pub use problem::{ConfigError, ConfigErrors, Problems};
