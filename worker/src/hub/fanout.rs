//! Fan-out by tick: what the broker delivered in one wake-up is encoded once per channel and wire format into one
//! buffer, and the same bytes are written to each member.
//!
//! Owns: the encoding of a publication into frames, and the order of one tick. Knows nothing of who the members are.

use bytes::{Bytes, BytesMut};
use flotilla_shared::protocol::types::{Push, Reply};
use flotilla_shared::protocol::{Format, append_reply};
use flotilla_shared::websocket::{Opcode, append_frame};
use indexmap::IndexMap;
use prost::Message as _;

use super::{Hub, Member, Slot, index_of, slot_of};

/// A slot's frames are written out when they reach this size, even within a tick, so that one busy channel cannot
/// make a buffer of any size.
const TICK_MAX_BYTES: usize = 128 * 1024;

/// What one tick did, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fanout {
    /// Copies put into members' sockets or outboxes.
    pub(crate) delivered: u64,
    /// Copies that a member's outbox refused.
    pub(crate) refused: u64,
    /// Broker payloads that are no publication of ours.
    pub(crate) malformed: u64,
}

impl<M: Member> Hub<M> {
    /// Takes one message off the broker: encodes it for the formats that have members, and returns how many members
    /// there are. `scratch` is empty before and after.
    pub(crate) fn receive(
        &mut self,
        token: u64,
        payload: Bytes,
        scratch: &mut BytesMut,
        fanout: &mut Fanout,
    ) -> usize {
        let Some((index, slot)) = slot_of(&mut self.slots, token) else {
            return 0;
        };
        let recipients = slot.members.iter().map(IndexMap::len).sum();
        let (Some(channel), true) = (&slot.channel, recipients > 0) else {
            return 0;
        };
        let Ok(mut push) = Push::decode(payload) else {
            fanout.malformed += 1;
            return 0;
        };
        push.channel = channel.as_str().to_owned();
        let reply = Reply {
            push: Some(push),
            ..Reply::default()
        };
        for format in [Format::Json, Format::Protobuf] {
            slot.encode(format, &reply, scratch);
        }
        if !slot.is_dirty {
            slot.is_dirty = true;
            self.dirty.push(index);
        }
        slot.unflushed += 1;
        if slot
            .tick
            .iter()
            .any(|frames| frames.len() >= TICK_MAX_BYTES)
        {
            slot.flush(fanout);
        }
        recipients
    }

    /// Ends the tick: writes what was received since the last one.
    pub(crate) fn flush(&mut self, fanout: &mut Fanout) {
        for index in self.dirty.drain(..) {
            if let Some(slot) = self.slots.get_mut(index as usize) {
                slot.is_dirty = false;
                slot.flush(fanout);
            }
        }
    }
}

impl<M: Member> Slot<M> {
    fn encode(&mut self, format: Format, reply: &Reply, scratch: &mut BytesMut) {
        let at = index_of(format);
        let (Some(members), Some(frames)) = (self.members.get(at), self.tick.get_mut(at)) else {
            return;
        };
        if members.is_empty() {
            return;
        }
        scratch.clear();
        match append_reply(format, reply, scratch) {
            Ok(()) => {
                let opcode = if format.is_text() {
                    Opcode::Text
                } else {
                    Opcode::Binary
                };
                append_frame(opcode, scratch, frames);
            }
            Err(_) => members.values().for_each(|member| member.inexpressible()),
        }
        scratch.clear();
    }

    fn flush(&mut self, fanout: &mut Fanout) {
        let messages = std::mem::take(&mut self.unflushed);
        for (members, frames) in self.members.iter().zip(&mut self.tick) {
            if frames.is_empty() {
                continue;
            }
            let frames = std::mem::take(frames).freeze();
            for member in members.values() {
                if member.deliver(&frames) {
                    fanout.delivered += messages;
                } else {
                    fanout.refused += messages;
                }
            }
        }
    }
}
