//! What the back end is asked: the questions, and the JSON that puts them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Caller, Endpoint, Hook};

/// A question, in most cases about one client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    /// The connection's id; `None`: a back end asks, by the server API.
    pub(crate) client: Option<Uuid>,
    /// Empty: not known yet, or anonymous.
    pub(crate) user: String,
    /// What the back end, or a token, said of the connection for the server's eyes only; JSON, or empty.
    pub(crate) meta: Bytes,
    /// What is to be known.
    pub(crate) question: Question,
}

/// What is asked. Payloads are as the client sent them; empty where it sent none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Question {
    /// Who is it?
    Connect {
        name: String,
        version: String,
        data: Bytes,
        /// What the client would like to be subscribed to.
        channels: Vec<String>,
    },
    /// May the connection go on?
    Refresh,
    /// What is the answer to this?
    Rpc { method: String, data: Bytes },
    /// May the client come into the channel?
    Subscribe {
        channel: String,
        /// One that this worker has no keys to verify; empty in most cases.
        token: String,
        data: Bytes,
    },
    /// May this be published?
    Publish { channel: String, data: Bytes },
    /// May the subscription go on?
    SubRefresh { channel: String },
}

impl Question {
    /// Which hook is asked.
    pub(crate) fn hook(&self) -> Hook {
        match self {
            Self::Connect { .. } => Hook::Connect,
            Self::Refresh => Hook::Refresh,
            Self::Rpc { .. } => Hook::Rpc,
            Self::Subscribe { .. } => Hook::Subscribe,
            Self::Publish { .. } => Hook::Publish,
            Self::SubRefresh { .. } => Hook::SubRefresh,
        }
    }
}

/// A payload that is no JSON cannot be put into a question whose payloads are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotJson;

/// The request as it is written.
#[derive(Default, Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    transport: &'static str,
    protocol: &'static str,
    encoding: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    channels: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    channel: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
}

/// The body of the request.
pub(super) fn body(call: &Call, caller: &Caller, endpoint: &Endpoint) -> Result<Vec<u8>, NotJson> {
    let binary = endpoint.is_binary;
    let mut body = Body {
        client: call.client.map(|client| client.to_string()),
        transport: caller.transport,
        protocol: caller.protocol,
        encoding: if binary { "binary" } else { "json" },
        user: &call.user,
        ..Body::default()
    };
    let none = Bytes::new();
    let payload = match &call.question {
        Question::Connect {
            name,
            version,
            data,
            channels,
        } => {
            (body.name, body.version, body.channels) = (name, version, channels);
            data
        }
        Question::Rpc { method, data } => {
            body.method = Some(method);
            data
        }
        Question::Subscribe {
            channel,
            token,
            data,
        } => {
            (body.channel, body.token) = (channel, token);
            data
        }
        Question::Publish { channel, data } => {
            body.channel = channel;
            data
        }
        Question::SubRefresh { channel } => {
            body.channel = channel;
            &none
        }
        Question::Refresh => &none,
    };
    if binary && !payload.is_empty() {
        body.b64data = Some(BASE64_STANDARD.encode(payload));
    } else {
        body.data = json(payload)?;
    }
    if endpoint.includes_meta {
        body.meta = json(&call.meta)?;
    }
    serde_json::to_vec(&body).map_err(|_| NotJson)
}

/// The payload as it is; `None` if there is none.
fn json(payload: &Bytes) -> Result<Option<&RawValue>, NotJson> {
    if payload.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(payload).map_err(|_| NotJson)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use http::header::HeaderMap;
    use serde_json::{Value, json};

    use super::*;

    fn asked(question: Question, is_binary: bool, includes_meta: bool) -> Result<Value, NotJson> {
        let call = Call {
            client: Some(Uuid::nil()),
            user: "42".to_owned(),
            meta: Bytes::from_static(br#"{"a":1}"#),
            question,
        };
        let endpoint = Endpoint {
            uri: "http://localhost/".parse().unwrap(),
            timeout: Duration::from_secs(1),
            forwarded: Vec::new(),
            fixed: HeaderMap::new(),
            is_binary,
            includes_meta,
        };
        let endpoints = HashMap::from([(Hook::Rpc, endpoint.clone())]);
        let caller = Caller::new("websocket", "json", [].into_iter(), &endpoints);
        body(&call, &caller, &endpoint).map(|body| serde_json::from_slice(&body).unwrap())
    }

    fn publish(data: &'static [u8]) -> Question {
        Question::Publish {
            channel: "news".to_owned(),
            data: Bytes::from_static(data),
        }
    }

    /// What every question says of who asks, with `others` of the question itself.
    fn with(others: &Value) -> Value {
        let mut whole = json!({
            "client": Uuid::nil().to_string(), "transport": "websocket", "protocol": "json", "encoding": "json",
            "user": "42",
        });
        for (name, value) in others.as_object().unwrap() {
            whole[name] = value.clone();
        }
        whole
    }

    #[test]
    fn a_question_says_who_asks_and_what() {
        let data = Bytes::from_static(b"[1, 2]");
        let channel = "news".to_owned();
        for (question, expected) in [
            (
                Question::Connect {
                    name: "js".to_owned(),
                    version: "1".to_owned(),
                    data: data.clone(),
                    channels: vec!["a".to_owned()],
                },
                json!({"name": "js", "version": "1", "data": [1, 2], "channels": ["a"]}),
            ),
            (Question::Refresh, json!({})),
            (
                Question::Rpc {
                    method: "sum".to_owned(),
                    data: Bytes::new(),
                },
                json!({"method": "sum"}),
            ),
            (
                Question::Subscribe {
                    channel: channel.clone(),
                    token: "t".to_owned(),
                    data,
                },
                json!({"channel": "news", "token": "t", "data": [1, 2]}),
            ),
            (publish(b"{}"), json!({"channel": "news", "data": {}})),
            (Question::SubRefresh { channel }, json!({"channel": "news"})),
        ] {
            assert_eq!(asked(question, false, false), Ok(with(&expected)));
        }
    }

    #[test]
    fn what_is_known_of_a_connection_is_told_where_that_is_wanted() {
        let expected = with(&json!({"meta": {"a": 1}}));
        assert_eq!(asked(Question::Refresh, false, true), Ok(expected));
    }

    #[test]
    fn a_binary_hook_gets_payloads_in_base64() {
        let expected = with(&json!({"encoding": "binary", "channel": "news", "b64data": "/wA="}));
        assert_eq!(asked(publish(b"\xff\x00"), true, false), Ok(expected));
    }

    #[test]
    fn what_is_no_json_is_not_put_to_a_hook_that_reads_json() {
        assert_eq!(asked(publish(b"\xff\x00"), false, false), Err(NotJson));
        // It would end the member that it stands in, and begin others.
        assert_eq!(
            asked(publish(b"1,\"user\":\"43\""), false, false),
            Err(NotJson)
        );
    }
}
