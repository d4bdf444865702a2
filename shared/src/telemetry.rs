//! Logs: what is written, and how.
//!
//! Owns the options and the set-up of `tracing` for a process. It does not know who logs what; the
//! rule for everyone is that nothing a client has sent appears above debug, and tokens never.

use std::io::{self, IsTerminal};

use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, layer::SubscriberExt, util};

use crate::config::Problems;

/// Libraries that tell too much at the level of our own logs: every connection, subjects with the names of channels,
/// failed health checks with their whole configuration (the gateway says which worker is unhealthy). Whoever wants it
/// names them in `level`.
const QUIET: &str = "pingora=warn,pingora_load_balancing=error,async_nats=warn";

/// How a process logs, as written in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogOptions {
    /// What is logged: `error`, `warn`, `info`, `debug` or `trace`, or several settings for parts of
    /// the program, as in `info,flotilla_worker::session=debug`.
    pub level: String,
    /// How it is written.
    pub format: LogFormat,
}

/// The form of log lines, which go to the standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object for each line, the fields of the event at its top level.
    Json,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::default(),
        }
    }
}

impl LogOptions {
    /// Notes what is wrong with these options, which are found at `key` of the configuration.
    pub fn check(&self, key: &str, problems: &mut Problems) {
        problems.check(&format!("{key}.level"), self.filter());
    }

    fn filter(&self) -> Result<EnvFilter, TelemetryError> {
        if self.level.trim().is_empty() {
            return Err(TelemetryError::Level("is empty".to_owned()));
        }
        EnvFilter::builder()
            .parse(format!("{QUIET},{}", self.level))
            .map_err(|error| TelemetryError::Level(error.to_string()))
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is not understood.
    #[error("not a log level: {0}")]
    Level(String),
    /// Logging has been set up before.
    #[error("logging is set up already")]
    AlreadySet(#[from] util::TryInitError),
}

/// Sets up logging for the whole process, records of the `log` crate included.
///
/// # Errors
/// When the level is not understood, or when logging has been set up before.
pub fn init(options: &LogOptions) -> Result<(), TelemetryError> {
    let filter = options.filter()?;
    let output = layer(options.format, io::stderr);
    let subscriber = Registry::default().with(output).with(filter);
    Ok(util::SubscriberInitExt::try_init(subscriber)?)
}

/// The layer that writes events to `writer`.
fn layer<W>(format: LogFormat, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    match format {
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_writer(writer)
            .boxed(),
        LogFormat::Text => fmt::layer()
            .with_ansi(io::stderr().is_terminal())
            .with_writer(writer)
            .boxed(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Takes what is logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .expect("is not poisoned")
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(options: &LogOptions, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let output = layer(options.format, move || writer.clone());
        let filter = options.filter().expect("the level is understood");
        let subscriber = Registry::default().with(output).with(filter);
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(lines.0.lock().expect("is not poisoned").clone()).expect("is text")
    }

    fn options(level: &str, format: LogFormat) -> LogOptions {
        LogOptions {
            level: level.to_owned(),
            format,
        }
    }

    #[test]
    fn a_json_line_has_its_fields_at_the_top_level() {
        let line = logged(&options("info", LogFormat::Json), || {
            tracing::info!(websocket = %"127.0.0.1:1", admin = %"127.0.0.1:2", "listening");
        });
        let line: serde_json::Value = serde_json::from_str(&line).expect("is one JSON value");
        assert_eq!(line["message"], "listening");
        assert_eq!(line["websocket"], "127.0.0.1:1");
        assert_eq!(line["admin"], "127.0.0.1:2");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["target"], "flotilla_shared::telemetry::tests");
    }

    #[test]
    fn a_text_line_has_the_message_and_its_fields() {
        let line = logged(&options("info", LogFormat::Text), || {
            tracing::info!(admin = "here", "listening");
        });
        assert!(
            line.contains("listening") && line.contains("admin=\"here\""),
            "{line}"
        );
    }

    #[test]
    fn the_level_decides_what_is_logged() {
        let log = || {
            tracing::debug!("detail");
            tracing::warn!("trouble");
        };
        let text = logged(&options("warn", LogFormat::Text), log);
        assert!(
            text.contains("trouble") && !text.contains("detail"),
            "{text}"
        );
        let text = logged(&options("warn,flotilla_shared=debug", LogFormat::Text), log);
        assert!(
            text.contains("trouble") && text.contains("detail"),
            "{text}"
        );
    }

    #[test]
    fn pingora_is_quiet_unless_it_is_asked_for() {
        let log = || tracing::info!(target: "pingora_core::server", "chatter");
        assert_eq!(logged(&options("info", LogFormat::Text), log), "");
        let text = logged(&options("info,pingora=info", LogFormat::Text), log);
        assert!(text.contains("chatter"), "{text}");
    }

    #[test]
    fn a_level_that_makes_no_sense_is_a_problem() {
        for level in ["", " ", "loud=very", "info,,=,"] {
            let mut problems = Problems::default();
            options(level, LogFormat::Text).check("log", &mut problems);
            let text = problems.to_string();
            assert!(
                text.starts_with("log.level: not a log level: "),
                "{level:?}: {text}"
            );
        }
        let mut problems = Problems::default();
        LogOptions::default().check("log", &mut problems);
        assert!(problems.is_empty());
    }
}
