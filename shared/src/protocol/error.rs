//! Why a frame cannot be read or a message cannot be written.
//!
//! Neither error carries text of the client: both may be logged.

/// What is wrong with a frame. The whole frame is lost from here on: what follows a malformed
/// message has no known beginning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A line is not a JSON object of the expected shape. The parser's own message is left out,
    /// because it quotes the client.
    #[error("malformed JSON at byte {column} of message: {problem}")]
    Json {
        /// Where in the line, counted from 1.
        column: usize,
        /// What kind of mistake it is.
        problem: JsonProblem,
    },
    /// A length prefix is not a varint of at most ten bytes and 64 bits.
    #[error("malformed length prefix")]
    Length,
    /// A message is shorter than its length prefix says. Nothing was allocated for it.
    #[error("message of {announced} bytes, {left} bytes left in the frame")]
    Truncated {
        /// Bytes, from the length prefix.
        announced: u64,
        /// Bytes that the frame still had.
        left: usize,
    },
    /// A message is not valid Protobuf. The text names fields of our own types only.
    #[error("malformed Protobuf: {0}")]
    Protobuf(#[from] prost::DecodeError),
}

/// Kinds of mistakes in a JSON message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonProblem {
    /// Not JSON.
    #[error("syntax")]
    Syntax,
    /// JSON, but a field has the wrong type or is out of range.
    #[error("type or range of a field")]
    Field,
    /// The line ends too early.
    #[error("unexpected end")]
    End,
}

impl From<serde_json::Error> for DecodeError {
    fn from(error: serde_json::Error) -> Self {
        use serde_json::error::Category;
        let problem = match error.classify() {
            Category::Syntax => JsonProblem::Syntax,
            Category::Data => JsonProblem::Field,
            // Reading from memory has no I/O errors.
            Category::Eof | Category::Io => JsonProblem::End,
        };
        Self::Json {
            column: error.column(),
            problem,
        }
    }
}

/// Why a message cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A payload is not one JSON value, so a JSON client cannot receive it. A connection that
    /// would have to is closed with
    /// [`InappropriateProtocol`](super::codes::DisconnectCode::InappropriateProtocol).
    #[error("a payload is not JSON and cannot be sent to a JSON client")]
    NotJson,
    /// The buffer cannot grow any further (its length is bounded by `usize`).
    #[error("no room in the frame: {0}")]
    Full(#[from] prost::EncodeError),
}
