//! Promises of the files under `deploy/`, kept as far as that goes without a container engine:
//! the tools that know their formats accept them, the services' own binaries accept the
//! configuration they carry, and a real Prometheus answers every query of the dashboard about a
//! running fleet.

mod compose;
mod dashboard;
mod images;
mod monitoring;
mod prometheus;
mod running;
mod tools;
