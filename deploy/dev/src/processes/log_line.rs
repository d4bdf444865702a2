//! Lines that children log: how loud they are, what they say, and the one that tells that they listen.
//!
//! Workers and gateways write JSON, nats-server its own format, and anything may end with the plain
//! text of a panic.

use serde_json::{Map, Value};
use tracing::Level;

use crate::member::Listening;

/// What a child's log line says.
#[derive(Debug, PartialEq)]
pub(super) struct LogLine {
    /// How loud it is. Text in no known format is an error: nobody formats a last cry.
    pub(super) level: Level,
    /// It as a person would like to read it.
    pub(super) text: String,
    /// Where it listens, if this is the line that says so.
    pub(super) listening: Option<Listening>,
}

/// Reads a line without its line break.
pub(super) fn parse(line: &str) -> LogLine {
    match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => from_json(&fields),
        _ => LogLine {
            level: plain_level(line),
            text: line.to_owned(),
            listening: None,
        },
    }
}

fn from_json(fields: &Map<String, Value>) -> LogLine {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let level = text("level")
        .and_then(|level| level.parse().ok())
        .unwrap_or(Level::ERROR);
    let message = text("message").unwrap_or_default();
    let listening = (message == "listening")
        .then(|| {
            Some(Listening {
                admin: text("admin")?.parse().ok()?,
                api: text("api").and_then(|api| api.parse().ok()),
            })
        })
        .flatten();
    let mut readable = format!("{level:<5} {message}");
    for (name, value) in fields {
        match value {
            // Where in the sources a record of the `log` crate was made: only debuggers want that.
            _ if name.starts_with("log.") => {}
            _ if ["timestamp", "level", "message", "target"].contains(&name.as_str()) => {}
            Value::String(value) => readable.extend([" ", name, "=", value]),
            value => readable.extend([" ", name, "=", &value.to_string()]),
        }
    }
    LogLine {
        level,
        text: readable,
        listening,
    }
}

/// The level of a line such as `[42] 2026/01/31 12:00:00.000000 [INF] Server is ready`.
fn plain_level(line: &str) -> Level {
    [
        ("[INF]", Level::INFO),
        ("[WRN]", Level::WARN),
        ("[DBG]", Level::DEBUG),
        ("[TRC]", Level::TRACE),
    ]
    .into_iter()
    .find(|(mark, _)| line.contains(mark))
    .map_or(Level::ERROR, |(_, level)| level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_tells_that_a_child_listens_is_understood() {
        let line = parse(
            r#"{"timestamp":"2026-01-31T12:00:00Z","level":"INFO","message":"listening","websocket":"127.0.0.1:41234","admin":"127.0.0.1:41235","api":"127.0.0.1:41236","target":"flotilla_worker"}"#,
        );
        let listening = Listening {
            admin: ([127, 0, 0, 1], 41235).into(),
            api: Some(([127, 0, 0, 1], 41236).into()),
        };
        assert_eq!(line.listening, Some(listening));
        assert_eq!(line.level, Level::INFO);
    }

    #[test]
    fn a_json_line_becomes_readable() {
        let line = parse(
            r#"{"timestamp":"t","level":"WARN","message":"broker lost","error":"refused","attempt":3,"target":"x","log.line":7}"#,
        );
        assert_eq!(line.text, "WARN  broker lost attempt=3 error=refused");
        assert_eq!((line.level, line.listening), (Level::WARN, None));
    }

    #[test]
    fn the_levels_of_other_formats() {
        let check = |line: &str, level: Level| assert_eq!(parse(line).level, level, "{line}");
        check(
            "[42] 2026/01/31 12:00:00.000000 [INF] Server is ready",
            Level::INFO,
        );
        check("[42] 2026/01/31 12:00:00.000000 [WRN] slow", Level::WARN);
        check("[42] 2026/01/31 12:00:00.000000 [ERR] no", Level::ERROR);
        check("thread 'main' panicked at src/main.rs:1:1:", Level::ERROR);
        check(r#"{"level":"nonsense"}"#, Level::ERROR);
        check("", Level::ERROR);
    }

    #[test]
    fn a_line_about_listening_without_an_address_is_only_a_line() {
        assert_eq!(
            parse(r#"{"level":"INFO","message":"listening"}"#).listening,
            None
        );
    }
}
