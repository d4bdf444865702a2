//! What is wrong with a configuration, told all at once.
//!
//! Owns the form of an error and the list that gathers them. It does not know how settings are read
//! nor what makes one of them wrong.

use std::{error::Error, fmt};

use super::origin::Origins;

/// One mistake in a configuration.
///
/// Never holds the value that was found: it may be a secret in the wrong place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The setting, dotted, as in `client.ping_interval` or `channel.namespaces.0.name`. Empty when
    /// the mistake is not about one setting.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
    /// Where the setting comes from, if it was set: a file and line, a variable, a flag.
    pub origin: Option<String>,
    /// What would be right.
    pub hint: Option<String>,
}

impl ConfigError {
    /// A mistake that is not about one setting.
    pub(super) fn general(problem: String) -> Self {
        Self {
            key: String::new(),
            problem,
            origin: None,
            hint: None,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)?;
        if let Some(origin) = &self.origin {
            write!(f, " ({origin})")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// Every mistake of a configuration. Displays one line for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|error| writeln!(f, "{error}"))
    }
}

impl Error for ConfigErrors {}

/// Gathers what is wrong with settings that could be read but make no sense, with their origins.
///
/// `Problems::default()` knows no origins: for configurations built in code.
#[derive(Debug, Default)]
pub struct Problems {
    errors: ConfigErrors,
    origins: Origins,
}

impl Problems {
    pub(super) fn new(errors: ConfigErrors, origins: Origins) -> Self {
        Self { errors, origins }
    }

    /// Notes what is wrong with the setting `key` (dotted).
    pub fn add(&mut self, key: &str, problem: impl Into<String>) {
        self.errors.0.push(ConfigError {
            key: key.to_owned(),
            problem: problem.into(),
            origin: self.origins.of(key),
            hint: None,
        });
    }

    /// The value, or `None` and a note that the setting `key` is wrong because of the error.
    pub fn check<T, E: fmt::Display>(&mut self, key: &str, result: Result<T, E>) -> Option<T> {
        result
            .map_err(|error| self.add(key, error.to_string()))
            .ok()
    }

    /// Whether nothing is wrong so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.errors.0.is_empty()
    }

    /// `value` if nothing is wrong, else everything that is.
    ///
    /// # Errors
    /// What was noted.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, ConfigErrors> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            // A refusal always says something, even if whoever refused forgot to.
            None if self.is_empty() => {
                self.errors
                    .0
                    .push(ConfigError::general("refused without a reason".to_owned()));
                Err(self.errors)
            }
            _ => Err(self.errors),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.errors.fmt(f)
    }
}
