//! Whatever dies, hangs or is cut off: in channels with history every client gets everything, once and in order.
//!
//! Each test has a fleet, clients and publishers of its own, and looks at the record of every client: see `stage`.

mod cluster;
mod gateway;
mod link;
mod nats;
mod queue;
mod stage;
mod told;
mod worker;
