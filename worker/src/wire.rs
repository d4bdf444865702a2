//! How a transport carries messages: the encoding that was agreed on, and what stands around each message.
//!
//! Owns: the bytes of one message on one kind of transport. Knows nothing of sockets: the same bytes go to every client
//! that has the same wire.

use bytes::{Bytes, BytesMut};
use flotilla_shared::protocol::types::{Connect, ConnectResult, Disconnect, Push, Reply};
use flotilla_shared::protocol::{EncodeError, Format, append_push, append_reply};
use flotilla_shared::websocket::{Opcode, append_frame, close_frame};

/// What a client reads. Chosen once per connection; it never changes afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wire {
    /// One message per WebSocket frame.
    WebSocket(Format),
    /// One message per server-sent event, in JSON.
    Sse,
    /// An HTTP answer that goes on: a line per message, or each message behind its length.
    HttpStream(Format),
    /// As [`Wire::WebSocket`] in JSON, for a client that only listens: pushes, without a reply around them.
    UniWebSocket,
    /// As [`Wire::Sse`], for a client that only listens.
    UniSse,
    /// As [`Wire::HttpStream`] in JSON, for a client that only listens.
    UniHttpStream,
}

/// What stands around a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    WebSocket(Opcode),
    Event,
    Line,
    /// The message says itself how long it is.
    Nothing,
}

impl Wire {
    /// The encoding of payloads and messages.
    pub(crate) fn format(self) -> Format {
        match self {
            Self::WebSocket(format) | Self::HttpStream(format) => format,
            Self::Sse | Self::UniWebSocket | Self::UniSse | Self::UniHttpStream => Format::Json,
        }
    }

    /// Whether its clients only listen, once they have said who they are.
    pub(crate) fn is_one_way(self) -> bool {
        matches!(
            self,
            Self::UniWebSocket | Self::UniSse | Self::UniHttpStream
        )
    }

    /// The transport's name, for logs.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::WebSocket(_) => "websocket",
            Self::Sse => "sse",
            Self::HttpStream(_) => "http_stream",
            Self::UniWebSocket => "uni_websocket",
            Self::UniSse => "uni_sse",
            Self::UniHttpStream => "uni_http_stream",
        }
    }

    fn framing(self) -> Framing {
        match self {
            Self::WebSocket(Format::Protobuf) => Framing::WebSocket(Opcode::Binary),
            Self::WebSocket(Format::Json) | Self::UniWebSocket => Framing::WebSocket(Opcode::Text),
            Self::Sse | Self::UniSse => Framing::Event,
            Self::HttpStream(Format::Json) | Self::UniHttpStream => Framing::Line,
            Self::HttpStream(Format::Protobuf) => Framing::Nothing,
        }
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
        if !self.is_one_way() {
            return append_reply(self.format(), reply, out);
        }
        match (&reply.push, &reply.connect) {
            (Some(push), _) => append_push(self.format(), push, out),
            (None, Some(result)) => append_push(self.format(), &welcome(result), out),
            // Whoever asks nothing gets no answers: what remains is a ping.
            (None, None) => append_push(self.format(), &Push::default(), out),
        }
    }

    /// Appends an encoded message with what stands around it.
    pub(crate) fn frame(self, message: &[u8], out: &mut BytesMut) {
        match self.framing() {
            Framing::WebSocket(opcode) => append_frame(opcode, message, out),
            // A message has no line ends, so it is one line of an event, too.
            Framing::Event => surround(b"data: ", message, b"\n\n", out),
            Framing::Line => surround(b"", message, b"\n", out),
            Framing::Nothing => out.extend_from_slice(message),
        }
    }

    /// Appends a ping, which is a message, too.
    pub(crate) fn append_ping(self, out: &mut BytesMut) {
        self.frame(self.format().ping(), out);
    }

    /// The last that a client is told: why its connection ends.
    pub(crate) fn goodbye(self, code: u16, reason: &str) -> Bytes {
        if matches!(self.framing(), Framing::WebSocket(_)) {
            return close_frame(code, reason);
        }
        let push = Push {
            disconnect: Some(Disconnect {
                code: u32::from(code),
                reason: reason.to_owned(),
                ..Disconnect::default()
            }),
            ..Push::default()
        };
        let mut goodbye = BytesMut::new();
        // There is no payload in it that could be inexpressible.
        let _ = self.append(&Reply::push(push), &mut goodbye, &mut BytesMut::new());
        goodbye.freeze()
    }
}

/// A connect result as it is told to a client that only listens.
fn welcome(result: &ConnectResult) -> Push {
    let result = result.clone();
    let connect = Connect {
        client: result.client,
        version: result.version,
        data: result.data,
        subs: result.subs,
        expires: result.expires,
        ttl: result.ttl,
        ping: result.ping,
        pong: result.pong,
        session: result.session,
        node: result.node,
        time: result.time,
    };
    Push {
        connect: Some(Box::new(connect)),
        ..Push::default()
    }
}

fn surround(before: &[u8], message: &[u8], after: &[u8], out: &mut BytesMut) {
    out.reserve(before.len() + message.len() + after.len());
    out.extend_from_slice(before);
    out.extend_from_slice(message);
    out.extend_from_slice(after);
}

#[cfg(test)]
mod tests {
    use flotilla_shared::protocol::types::Publication;

    use super::*;

    const STREAMS: [Wire; 5] = [
        Wire::Sse,
        Wire::HttpStream(Format::Json),
        Wire::HttpStream(Format::Protobuf),
        Wire::UniSse,
        Wire::UniHttpStream,
    ];

    fn sent(wire: Wire, reply: &Reply) -> BytesMut {
        let mut out = BytesMut::new();
        wire.append(reply, &mut out, &mut BytesMut::new()).unwrap();
        out
    }

    fn publication(data: &'static [u8]) -> Reply {
        let publication = Publication {
            data: Bytes::from_static(data),
            ..Publication::default()
        };
        Reply::push(Push::publication("news", publication))
    }

    #[test]
    fn a_message_stands_in_the_frame_of_its_transport() {
        let reply = publication(b"{\"a\":\n1}");
        let push = r#"{"channel":"news","pub":{"data":{"a": 1}}}"#;
        let wrapped = format!(r#"{{"push":{push}}}"#);
        assert_eq!(sent(Wire::Sse, &reply), format!("data: {wrapped}\n\n"));
        let lines = Wire::HttpStream(Format::Json);
        assert_eq!(sent(lines, &reply), format!("{wrapped}\n"));
        assert_eq!(sent(Wire::UniSse, &reply), format!("data: {push}\n\n"));
        assert_eq!(sent(Wire::UniHttpStream, &reply), format!("{push}\n"));
        let mut frame = BytesMut::new();
        append_frame(Opcode::Text, push.as_bytes(), &mut frame);
        assert_eq!(sent(Wire::UniWebSocket, &reply), frame);
    }

    #[test]
    fn messages_of_a_protobuf_stream_follow_each_other_as_in_one_frame() {
        let mut out = BytesMut::new();
        let mut scratch = BytesMut::new();
        let wire = Wire::HttpStream(Format::Protobuf);
        let sent = [publication(b"\xff"), Reply::publish(3)];
        for reply in &sent {
            wire.append(reply, &mut out, &mut scratch).unwrap();
        }
        wire.append_ping(&mut out);
        let read = flotilla_shared::protocol::replies(Format::Protobuf, &out);
        let read: Vec<Reply> = read.map(Result::unwrap).collect();
        assert_eq!(read[..2], sent);
        assert_eq!(read[2], Reply::default());
    }

    #[test]
    fn who_only_listens_is_welcomed_by_a_push() {
        let result = ConnectResult {
            client: "c".to_owned(),
            session: "s".to_owned(),
            node: "n".to_owned(),
            ping: 25,
            ..ConnectResult::default()
        };
        let welcome = r#"{"connect":{"client":"c","ping":25,"session":"s","node":"n"}}"#;
        let reply = Reply::connect(1, result);
        assert_eq!(sent(Wire::UniHttpStream, &reply), format!("{welcome}\n"));
    }

    #[test]
    fn a_stream_says_why_it_ends() {
        let disconnect = r#"{"disconnect":{"code":3001,"reason":"shutdown"}}"#;
        let wrapped = format!(r#"{{"push":{disconnect}}}"#);
        let goodbye = |wire: Wire| wire.goodbye(3001, "shutdown");
        assert_eq!(goodbye(Wire::Sse), format!("data: {wrapped}\n\n"));
        let lines = Wire::HttpStream(Format::Json);
        assert_eq!(goodbye(lines), format!("{wrapped}\n"));
        assert_eq!(goodbye(Wire::UniSse), format!("data: {disconnect}\n\n"));
        let close = close_frame(3001, "shutdown");
        assert_eq!(goodbye(Wire::WebSocket(Format::Json)), close);
        assert_eq!(goodbye(Wire::UniWebSocket), close);
    }

    #[test]
    fn a_ping_is_an_empty_message_on_every_wire() {
        let ping = |wire: Wire| {
            let mut out = BytesMut::new();
            wire.append_ping(&mut out);
            out
        };
        let expected: [&[u8]; 5] = [b"data: {}\n\n", b"{}\n", b"\0", b"data: {}\n\n", b"{}\n"];
        assert_eq!(STREAMS.map(ping), expected);
    }
}
