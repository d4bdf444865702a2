//! A load generator for servers of the Centrifuge protocol, Flotilla's or others'.
//!
//! It is a client many times over and knows servers only by their protocol. A [`scenario`] sets
//! moments by a [`pacer`], has [`client`]s act at them, and sums up in a [`report`] what its
//! [`stats`] gathered. [`target`] says who may be loaded, [`cli`] reads the flags.

pub mod cli;
pub mod client;
pub mod pacer;
pub mod report;
pub mod scenario;
pub mod stats;
pub mod target;
pub mod token;
