//! A string that never shows itself.
//!
//! Owns the redaction, and where a secret may come from: a setting, or a file that a setting names.
//! It does not know what the secret is for. Secrets are never compared here: whether a signature
//! fits a key is decided in constant time by the library that checks it.

use std::{fmt, path::Path};

use serde::{Deserialize, Serialize, Serializer};

use crate::config::Problems;

/// What is shown in place of a secret.
pub const REDACTED: &str = "<redacted>";

/// A secret from the configuration. `Debug` and `Serialize` write [`REDACTED`]; only
/// [`Secret::expose`] gives the content.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret that is already at hand.
    pub fn new(content: impl Into<String>) -> Self {
        Self(content.into())
    }

    /// The content, for the code that needs it. Never log it, never compare it with `==`.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The secret that the setting `key` gives directly, or in the file that the setting
    /// `<key>_file` names. One newline at the end of the file is not part of it: editors and
    /// `echo` add one. `None` when neither is set, or when there is a problem, which is then noted:
    /// both are set, the file cannot be read, or the secret is empty or [`REDACTED`].
    pub fn resolve(
        key: &str,
        direct: Option<&Self>,
        file: Option<&Path>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let file_key = format!("{key}_file");
        let (key, secret) = match (direct, file) {
            (None, None) => return None,
            (Some(_), Some(_)) => {
                problems.add(&file_key, format!("cannot be set together with {key}"));
                return None;
            }
            (Some(secret), None) => (key, secret.clone()),
            (None, Some(path)) => match std::fs::read_to_string(path) {
                Ok(content) => (file_key.as_str(), Self(without_newline(content))),
                Err(error) => {
                    problems.add(
                        &file_key,
                        format!("cannot read {}: {error}", path.display()),
                    );
                    return None;
                }
            },
        };
        if secret.0.is_empty() {
            problems.add(key, "the secret is empty");
            return None;
        }
        // A printed configuration that is used again must not make a well-known key of this.
        if secret.0 == REDACTED {
            problems.add(key, "is a redacted secret, not the secret itself");
            return None;
        }
        Some(secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

fn without_newline(mut content: String) -> String {
    if content.ends_with('\n') {
        content.pop();
        if content.ends_with('\r') {
            content.pop();
        }
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(content: &str) -> (Option<Secret>, Problems) {
        let file = tempfile::NamedTempFile::new().expect("creates a file");
        std::fs::write(file.path(), content).expect("writes");
        let mut problems = Problems::default();
        let secret = Secret::resolve("a.secret_key", None, Some(file.path()), &mut problems);
        (secret, problems)
    }

    #[test]
    fn a_secret_shows_neither_in_debug_nor_when_serialised() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{:?}", Some(&secret)), "Some(<redacted>)");
        assert_eq!(
            serde_json::to_string(&secret).expect("serialises"),
            "\"<redacted>\""
        );
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_secret_file_loses_exactly_one_newline() {
        for (content, secret) in [
            ("key", "key"),
            ("key\n", "key"),
            ("key\r\n", "key"),
            ("key\n\n", "key\n"),
            (" k ", " k "),
        ] {
            let (resolved, problems) = from_file(content);
            assert_eq!(resolved.expect("is resolved").expose(), secret);
            assert!(problems.is_empty());
        }
    }

    #[test]
    fn an_empty_secret_is_refused_wherever_it_comes_from() {
        let (secret, problems) = from_file("\n");
        assert!(secret.is_none());
        assert_eq!(
            problems.to_string(),
            "a.secret_key_file: the secret is empty\n"
        );

        let mut problems = Problems::default();
        assert!(
            Secret::resolve("a.secret_key", Some(&Secret::new("")), None, &mut problems).is_none()
        );
        assert_eq!(problems.to_string(), "a.secret_key: the secret is empty\n");
    }

    #[test]
    fn a_redacted_secret_is_not_taken_for_a_secret() {
        let mut problems = Problems::default();
        let printed = Secret::new(REDACTED);
        assert!(Secret::resolve("a.key", Some(&printed), None, &mut problems).is_none());
        assert_eq!(
            problems.to_string(),
            "a.key: is a redacted secret, not the secret itself\n"
        );
    }

    #[test]
    fn a_secret_given_twice_is_refused() {
        let mut problems = Problems::default();
        let direct = Secret::new("hunter2");
        let file = Path::new("/dev/null");
        assert!(Secret::resolve("a.key", Some(&direct), Some(file), &mut problems).is_none());
        assert_eq!(
            problems.to_string(),
            "a.key_file: cannot be set together with a.key\n"
        );
    }

    #[test]
    fn a_missing_secret_file_is_a_problem_that_names_the_file() {
        let mut problems = Problems::default();
        let file = Path::new("/nonexistent/key");
        assert!(Secret::resolve("a.key", None, Some(file), &mut problems).is_none());
        let text = problems.to_string();
        assert!(
            text.starts_with("a.key_file: cannot read /nonexistent/key: "),
            "{text}"
        );
    }
}
