//! What clients post whose stream runs from the server to them only.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{is_default, nullable};

/// Commands of a client, on a way of their own: the replies come on its stream.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct EmulationRequest {
    /// Which worker has the stream, as its connect result said.
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub node: String,
    /// Which session it is for, as its connect result said: a secret of this client.
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub session: String,
    /// A frame of commands. In JSON a string, whose text it is: lines, not one value.
    #[prost(bytes = "bytes", tag = "3")]
    #[serde(
        serialize_with = "as_text",
        deserialize_with = "from_text",
        skip_serializing_if = "Bytes::is_empty"
    )]
    pub data: Bytes,
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    String::deserialize(deserializer).map(Bytes::from)
}

fn as_text<S: Serializer>(data: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    match std::str::from_utf8(data) {
        Ok(text) => serializer.serialize_str(text),
        Err(_) => Err(serde::ser::Error::custom("the commands are not text")),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn json_carries_the_commands_as_text_and_protobuf_as_they_are() {
        let lines = "{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}\n{}";
        let request = EmulationRequest {
            node: "worker-1".to_owned(),
            session: "s".to_owned(),
            data: Bytes::from_static(lines.as_bytes()),
        };
        let text = serde_json::to_string(&request).unwrap();
        let data = serde_json::to_string(lines).unwrap();
        let expected = format!("{{\"node\":\"worker-1\",\"session\":\"s\",\"data\":{data}}}");
        assert_eq!(text, expected);
        let read: EmulationRequest = serde_json::from_str(&text).unwrap();
        assert_eq!(read, request);
        let read = EmulationRequest::decode(request.encode_to_vec().as_slice()).unwrap();
        assert_eq!(read, request);
    }

    #[test]
    fn commands_that_are_no_text_do_not_go_into_json() {
        let request = EmulationRequest {
            data: Bytes::from_static(b"\xff"),
            ..EmulationRequest::default()
        };
        assert!(serde_json::to_string(&request).is_err());
        for odd in [r#"{"data":{}}"#, r#"{"data":null}"#, r#"{"session":1}"#] {
            assert!(
                serde_json::from_str::<EmulationRequest>(odd).is_err(),
                "{odd}"
            );
        }
    }
}
