//! HTTP/1.1 as both sides of the fleet speak it with clients and with each other.
//!
//! Requests are read strictly, because two parsers in a row that disagree about a request are how
//! requests are smuggled; answers say plainly where they end. What a request is for is not decided
//! here.

pub mod answer;
pub mod body;
pub mod cors;
pub mod head;
pub mod origin;
pub mod paths;

pub use answer::{Header, Persistence, refusal, short_answer, short_head, stream_head};
pub use body::{Body, BodyError, body_length, read_body};
pub use cors::{cors_headers, preflight};
pub use head::{HEAD_MAX_BYTES, HeadError, RequestHead, parse_head};
pub use origin::{is_asked_by_script, origin_entry_problem, origin_is_allowed};
