//! What the back end answers, read with suspicion: the envelope of every hook's answer.

use std::fmt;
use std::marker::PhantomData;

use flotilla_shared::protocol::types::Error;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Hook;
use crate::closing::Goodbye;

/// The codes that a back end may put into error replies; those below are the protocol's.
const ERROR_CODES: std::ops::RangeInclusive<u32> = 400..=1999;

/// The codes that a back end may close connections with.
const CLOSE_CODES: std::ops::RangeInclusive<u16> = 4000..=4999;

/// What came of a question. `T` is what the hook grants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer<T> {
    /// Yes, and with this.
    Granted(T),
    /// No, which the client is told like this.
    Refused(Error),
    /// No, and the client has to go.
    Disconnect(Goodbye),
    /// Nothing: the back end knows no such client. Only a connect hook may say so.
    Nobody,
    /// There was no answer of use.
    Failed,
}

/// Why an answer is none. Says where, never what: the back end's words are not for logs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Nonsense {
    #[error("it cannot be read at line {line}, column {column}")]
    Unreadable { line: usize, column: usize },
    #[error("it is not exactly one of `result`, `error` and `disconnect`")]
    NotOne,
    #[error("the error's code is not from {} to {}", ERROR_CODES.start(), ERROR_CODES.end())]
    ErrorCode,
    #[error("the disconnect's code is not from {} to {}", CLOSE_CODES.start(), CLOSE_CODES.end())]
    CloseCode,
    #[error("this hook can only be answered with `result`")]
    Refusal,
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Body<T> {
    result: Option<Object<T>>,
    error: Option<Object<RawError>>,
    disconnect: Option<Object<RawDisconnect>>,
}

#[derive(Deserialize)]
struct RawError {
    code: u32,
    #[serde(default)]
    message: String,
    #[serde(default)]
    temporary: bool,
}

#[derive(Deserialize)]
struct RawDisconnect {
    code: u16,
    #[serde(default)]
    reason: String,
}

/// The answer in a body. Not every hook may answer everything: nobody is there to be told when a refresh is refused, and
/// only a connect hook may leave open who the client is.
pub(super) fn parse<T: DeserializeOwned>(hook: Hook, body: &[u8]) -> Result<Answer<T>, Nonsense> {
    let Object(body) =
        serde_json::from_slice::<Object<Body<T>>>(body).map_err(|error| Nonsense::Unreadable {
            line: error.line(),
            column: error.column(),
        })?;
    let answer = match (body.result, body.error, body.disconnect) {
        (Some(Object(result)), None, None) => return Ok(Answer::Granted(result)),
        (None, None, None) if hook == Hook::Connect => return Ok(Answer::Nobody),
        (None, Some(Object(error)), None) => error.checked().map(Answer::Refused)?,
        (None, None, Some(Object(disconnect))) => disconnect.checked().map(Answer::Disconnect)?,
        _ => return Err(Nonsense::NotOne),
    };
    match hook {
        Hook::Refresh | Hook::SubRefresh => Err(Nonsense::Refusal),
        Hook::Connect | Hook::Rpc | Hook::Subscribe | Hook::Publish => Ok(answer),
    }
}

impl RawError {
    fn checked(self) -> Result<Error, Nonsense> {
        if !ERROR_CODES.contains(&self.code) {
            return Err(Nonsense::ErrorCode);
        }
        Ok(Error {
            code: self.code,
            message: self.message,
            temporary: self.temporary,
        })
    }
}

impl RawDisconnect {
    fn checked(self) -> Result<Goodbye, Nonsense> {
        if !CLOSE_CODES.contains(&self.code) {
            return Err(Nonsense::CloseCode);
        }
        Ok(Goodbye::new(self.code, &self.reason))
    }
}

/// A JSON object. A struct alone would be read from an array, too, by the order of its fields.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::RpcGrant;
    use super::*;

    fn read(hook: Hook, body: &str) -> Result<Answer<RpcGrant>, Nonsense> {
        parse(hook, body.as_bytes())
    }

    #[test]
    fn an_error_has_a_code_of_the_application() {
        let error = |code: u32| {
            let body =
                format!(r#"{{"error": {{"code": {code}, "message": "no", "temporary": true}}}}"#);
            read(Hook::Rpc, &body)
        };
        for code in [400, 1999] {
            let expected = Error {
                code,
                message: "no".to_owned(),
                temporary: true,
            };
            assert_eq!(error(code), Ok(Answer::Refused(expected)));
        }
        for code in [0, 100, 399, 2000] {
            assert_eq!(error(code), Err(Nonsense::ErrorCode), "{code}");
        }
    }

    #[test]
    fn a_goodbye_has_a_code_of_the_application() {
        let goodbye = |code: u32| {
            let body = serde_json::json!({"disconnect": {"code": code, "reason": "go"}});
            read(Hook::Rpc, &body.to_string())
        };
        for code in [4000, 4999_u16] {
            let expected = Answer::Disconnect(Goodbye::new(code, "go"));
            assert_eq!(goodbye(code.into()), Ok(expected));
        }
        for code in [1000, 3000, 3999, 5000] {
            assert_eq!(goodbye(code), Err(Nonsense::CloseCode), "{code}");
        }
        assert!(matches!(goodbye(70_000), Err(Nonsense::Unreadable { .. })));
    }

    #[test]
    fn what_is_no_answer_is_not_taken_for_one() {
        for nonsense in [
            "",
            "nonsense",
            "[]",
            "null",
            "{} {}",
            r#"[{"data": 1}]"#,
            r#"{"result": 1}"#,
            r#"{"result": []}"#,
            r#"{"result": {"data": }}"#,
            r#"{"result": {"b64data": "?"}}"#,
            r#"{"error": {}}"#,
            r#"{"error": [400]}"#,
            r#"{"disconnect": {"code": "4000"}}"#,
        ] {
            let read = read(Hook::Rpc, nonsense);
            assert!(
                matches!(read, Err(Nonsense::Unreadable { .. })),
                "{nonsense}"
            );
        }
        for nonsense in [
            r#"{"result": {}, "error": {"code": 400}}"#,
            r#"{"error": {"code": 400}, "disconnect": {"code": 4000}}"#,
            "{}",
            r#"{"result": null}"#,
        ] {
            assert_eq!(
                read(Hook::Rpc, nonsense),
                Err(Nonsense::NotOne),
                "{nonsense}"
            );
        }
    }

    #[test]
    fn only_a_connect_hook_may_leave_open_who_it_is() {
        for nothing in ["{}", r#"{"result": null, "unknown": 1}"#] {
            assert_eq!(read(Hook::Connect, nothing), Ok(Answer::Nobody));
            assert_eq!(read(Hook::Subscribe, nothing), Err(Nonsense::NotOne));
        }
    }

    #[test]
    fn nobody_is_there_to_be_told_that_a_refresh_is_refused() {
        for hook in [Hook::Refresh, Hook::SubRefresh] {
            for refusal in [
                r#"{"error": {"code": 400}}"#,
                r#"{"disconnect": {"code": 4000}}"#,
            ] {
                assert_eq!(read(hook, refusal), Err(Nonsense::Refusal));
            }
        }
    }
}
