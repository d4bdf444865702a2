//! Whatever happens to workers, to NATS or to the ways between them: no client's connection ends, and none is told that
//! it was elsewhere.
//!
//! Each test has a fleet of its own, whose gateway speaks with its workers over links and with its clients over TLS. It
//! looks at the record of every client, at every stream and at who is present: see `stage`.

mod cut;
mod drained;
mod killed;
mod stage;
