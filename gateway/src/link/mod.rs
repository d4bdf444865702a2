//! Links: the clients' WebSockets end here, and their sessions are carried to workers, many over one connection.
//!
//! A client outlives its worker: its session is opened at another one with everything that this one needs to go on, and the
//! client sees nothing of it. What is meant for many clients comes once over each link. Nothing here knows a channel or a
//! command: topics are numbers with opaque names, states are opaque bytes, and frames are ready-made.
//!
//! | file | owns |
//! |---|---|
//! | `thread` | a thread's clients, links and timer |
//! | `arrival`, `facts` | what the edge hands over; what of it workers are told |
//! | `carry` | the task of a client: its answer, reading, writing, its end |
//! | `client` | how what is known of a client moves together |
//! | `session`, `window` | where a session lives; what nobody has acknowledged |
//! | `topics`, `places` | who gets what is cast; how far everybody has come |
//! | `keepalive` | whether a client is still there |
//! | `outbox`, `queue` | what a client's stream has not taken |
//! | `reader`, `ending` | what a client says; how it is let go |
//! | `peers`, `dial`, `line`, `peer` | which links there are; how one begins; its bytes; its messages |
//! | `attach`, `moves` | who takes a session; who waits to be taken |
//! | `cut_off` | which links lead to workers that can do nothing, and who leaves them |
//! | `counts` | what is counted on the way |

mod arrival;
mod attach;
mod carry;
mod client;
mod counts;
mod cut_off;
mod dial;
mod ending;
mod facts;
mod keepalive;
mod line;
mod moves;
mod outbox;
mod peer;
mod peers;
mod places;
mod queue;
mod reader;
mod session;
mod thread;
mod threads;
mod topics;
mod window;

pub(crate) use arrival::Arrival;
pub(crate) use facts::Facts;
pub(crate) use threads::{Door, LinkThreads};
