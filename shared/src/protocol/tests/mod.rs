//! Promises of the protocol module.
