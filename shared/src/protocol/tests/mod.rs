//! Promises of the protocol module.

mod commands;
mod frames;
mod golden;
mod properties;
mod replies;
mod strategies;
mod tables;

use bytes::BytesMut;

use super::types::{Command, Reply};
use super::{EncodeError, Format, append_command, append_reply};

/// A frame with one reply.
fn reply_frame(format: Format, reply: &Reply) -> Result<Vec<u8>, EncodeError> {
    let mut out = BytesMut::new();
    append_reply(format, reply, &mut out)?;
    Ok(out.to_vec())
}

/// A frame with one command.
fn command_frame(format: Format, command: &Command) -> Result<Vec<u8>, EncodeError> {
    let mut out = BytesMut::new();
    append_command(format, command, &mut out)?;
    Ok(out.to_vec())
}
