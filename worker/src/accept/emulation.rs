//! Commands of a client that listens to a stream: one request for each frame of them. The replies come on the stream.

use bytes::Bytes;
use flotilla_shared::http::{Header, Persistence, read_body, short_answer};
use flotilla_shared::protocol::Format;
use flotilla_shared::protocol::types::EmulationRequest;
use prost::Message as _;
use tokio::net::TcpStream;

use super::Request;
use super::answer::Answer;
use super::stream::body_format;
use crate::emulation::Delivery;
use crate::fleet::{Answer as FleetAnswer, AskError, Emulate, Fleet, Question};
use crate::metrics::Rejected;
use crate::shard::Shard;

/// Commands on their way.
#[derive(Debug)]
pub(super) struct Post {
    request: EmulationRequest,
    cors: Vec<Header>,
}

/// Reads the request, which is bounded as a frame of commands is.
pub(super) async fn read(
    socket: &mut TcpStream,
    Request { head, rest }: Request,
    shard: &Shard,
    cors: Vec<Header>,
) -> Result<Post, Answer> {
    let body = read_body(socket, &head, rest, shard.limits().message_max_bytes).await?;
    let bytes = Bytes::from(body.bytes);
    let request = match body_format(&head) {
        Format::Json => serde_json::from_slice(&bytes).ok(),
        Format::Protobuf => EmulationRequest::decode(bytes).ok(),
    };
    match request {
        Some(request) if !request.session.is_empty() && !request.data.is_empty() => {
            Ok(Post { request, cors })
        }
        _ => {
            let message = "the body has to name a session and to have commands for it";
            Err(Answer::bad_request(message))
        }
    }
}

impl Post {
    /// Hands the commands to the worker that has the session, and answers once they are in order there.
    pub(super) async fn deliver(self, shard: &Shard) -> Result<Vec<u8>, Answer> {
        let EmulationRequest {
            node,
            session,
            data,
        } = self.request;
        let sessions = &shard.common().sessions;
        let delivery = if node == shard.policy().node {
            Ok(sessions.deliver(&session, data).await)
        } else if let Some(_place) = sessions.pass_on() {
            deliver_to(&node, session, data, shard.fleet()).await
        } else {
            Ok(Delivery::Full)
        };
        let refused = match delivery {
            Ok(Delivery::Taken) => {
                return Ok(short_answer(204, &self.cors, b"", Persistence::Close));
            }
            Ok(Delivery::Unknown) => {
                Answer::new(Rejected::NotFound, 404, "there is no such session")
            }
            Ok(Delivery::Full) => Answer::new(
                Rejected::Capacity,
                429,
                "there is more to do than can be done at once",
            ),
            Err(error) => Answer::unavailable(Rejected::Capacity, &error.to_string()),
        };
        Err(refused.readable(&self.cors))
    }
}

/// Hands commands to a session of another worker. One that cannot be reached has no sessions any more.
async fn deliver_to(
    node: &str,
    session: String,
    commands: Bytes,
    fleet: &Fleet,
) -> Result<Delivery, AskError> {
    let question = Question::Emulate(Emulate { session, commands });
    let mut answers = fleet.ask_one(node, question).await?.answers;
    Ok(match answers.pop() {
        Some((_, FleetAnswer::Emulated(emulated))) => emulated.delivery(),
        _ => Delivery::Unknown,
    })
}
