//! How a transport carries messages: the encoding that was agreed on, and what stands around each message.
//!
//! Owns: the bytes of one message on one kind of transport. Knows nothing of sockets: the same bytes go to every client
//! that has the same wire.

use bytes::BytesMut;
use flotilla_shared::protocol::types::Reply;
use flotilla_shared::protocol::{EncodeError, Format, append_reply};
use flotilla_shared::websocket::{Opcode, append_frame};

/// What a client reads. Chosen once per connection; it never changes afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wire {
    /// One message per WebSocket frame.
    WebSocket(Format),
}

impl Wire {
    /// The encoding of payloads and messages.
    pub(crate) fn format(self) -> Format {
        let Self::WebSocket(format) = self;
        format
    }

    /// Appends one message as it is transmitted. `scratch` is empty before and after.
    ///
    /// # Errors
    /// The message cannot be expressed in this format; `out` is then as it was.
    pub(crate) fn append(
        self,
        reply: &Reply,
        out: &mut BytesMut,
        scratch: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let encoded = self.encode(reply, scratch);
        if encoded.is_ok() {
            self.frame(scratch, out);
        }
        scratch.clear();
        encoded
    }

    /// Encodes one message into `out`, which is empty, for [`Wire::frame`].
    ///
    /// # Errors
    /// As [`Wire::append`].
    pub(crate) fn encode(self, reply: &Reply, out: &mut BytesMut) -> Result<(), EncodeError> {
        append_reply(self.format(), reply, out)
    }

    /// Appends an encoded message with what stands around it.
    pub(crate) fn frame(self, message: &[u8], out: &mut BytesMut) {
        let opcode = if self.format().is_text() {
            Opcode::Text
        } else {
            Opcode::Binary
        };
        append_frame(opcode, message, out);
    }

    /// Appends a ping, which is a message, too.
    pub(crate) fn append_ping(self, out: &mut BytesMut) {
        self.frame(self.format().ping(), out);
    }
}
