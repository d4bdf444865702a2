//! Durations as people write them: `25s`, `500ms`, `1h 30m`. The unit is required, so that nobody
//! has to guess what a bare number means.
//!
//! For a field: `#[serde(with = "flotilla_shared::config::duration")]`.

use std::{fmt, time::Duration};

use serde::{
    Deserializer, Serializer,
    de::{Error, Unexpected, Visitor},
};

/// The longest duration that is taken, a year. Whoever writes a longer one has made a mistake, and
/// added to the time of day it could be more than a clock can tell.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Writes the duration with its unit.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// Reads a duration with its unit.
///
/// # Errors
/// When it is not text, not a duration, or longer than a year.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(DurationVisitor)
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            r#"a duration with its unit, such as "25s", "500ms" or "1h", of at most a year"#,
        )
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        humantime::parse_duration(text)
            .ok()
            .filter(|duration| *duration <= LONGEST)
            .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Timing {
        #[serde(with = "super")]
        after: Duration,
    }

    fn read(value: &str) -> Result<Duration, String> {
        let timing: Result<Timing, _> = toml::from_str(&format!("after = {value}"));
        timing
            .map(|timing| timing.after)
            .map_err(|error| error.message().to_owned())
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(read(r#""25s""#), Ok(Duration::from_secs(25)));
        assert_eq!(read(r#""500ms""#), Ok(Duration::from_millis(500)));
        assert_eq!(read(r#""1h 30m""#), Ok(Duration::from_secs(5_400)));
        assert_eq!(read(r#""0s""#), Ok(Duration::ZERO));
    }

    #[test]
    fn a_duration_without_a_unit_is_refused() {
        for value in [r#""25""#, "25", r#""""#, r#""-1s""#, r#""soon""#] {
            let error = read(value).expect_err(value);
            assert!(
                error.contains("a duration with its unit"),
                "{value}: {error}"
            );
        }
    }

    #[test]
    fn a_duration_that_no_clock_could_take_is_refused() {
        assert_eq!(read(r#""1y""#), Ok(Duration::from_secs(31_557_600)));
        for value in [r#""2y""#, r#""18446744073709551615s""#] {
            let error = read(value).expect_err(value);
            assert!(error.contains("at most a year"), "{value}: {error}");
        }
    }

    #[test]
    fn a_duration_reads_back_as_it_was_written() {
        for milliseconds in [0, 1, 500, 25_000, 90_000, 86_400_000, 90_061_001] {
            let timing = Timing {
                after: Duration::from_millis(milliseconds),
            };
            let text = toml::to_string(&timing).expect("serialises");
            assert_eq!(
                toml::from_str::<Timing>(&text).as_ref(),
                Ok(&timing),
                "{text}"
            );
        }
    }
}
