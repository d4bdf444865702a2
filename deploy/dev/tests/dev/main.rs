//! What `flotilla dev` and `flotilla token` promise, tried on the real program: in one process, and
//! as real processes over a real nats-server.

mod embedded;
mod launcher;
mod processes;
mod profiles;
