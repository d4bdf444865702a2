//! The places that settings are written in: a TOML file, environment variables, flags.
//!
//! Owns how each of them is read into settings with their origin. It does not know which settings
//! there are, nor which place wins.

use std::{ffi::OsString, fs, path::PathBuf};

use figment::value::Value;
use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

use super::problem::{ConfigError, ConfigErrors};

/// The places that a process' settings are read from, the weakest first. Values, not the process'
/// own environment: tests pass their own.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The process, as in the name of its variables: `worker` reads `FLOTILLA_WORKER__…`.
    pub program: &'static str,
    /// A TOML file, if there is one.
    pub file: Option<PathBuf>,
    /// The environment. Two underscores separate the parts of a key; one would collide with the
    /// variables that Kubernetes sets for a service.
    pub environment: Vec<(OsString, OsString)>,
    /// What flags set: dotted key and value.
    pub overrides: Vec<(String, String)>,
}

/// A value that was set, and where.
pub(super) struct Setting {
    pub(super) path: Vec<String>,
    pub(super) value: Value,
    pub(super) origin: String,
    /// The origins of the parts of a list: dotted path and origin.
    pub(super) parts: Vec<(String, String)>,
    /// Whether the value is text whose type is not known yet: `5` may be a number or a name.
    pub(super) is_text: bool,
}

impl Sources {
    /// What all variables of this process start with.
    pub(super) fn prefix(&self) -> String {
        format!("FLOTILLA_{}__", self.program.to_ascii_uppercase())
    }

    /// Everything that is set, the weakest first.
    ///
    /// # Errors
    /// When a place cannot be read at all.
    pub(super) fn settings(&self) -> Result<Vec<Setting>, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let mut settings = Vec::new();
        self.read_file(&mut settings, &mut errors);
        self.read_environment(&mut settings, &mut errors);
        for (key, value) in &self.overrides {
            text(
                key,
                ".",
                value,
                format!("flag --set {key}"),
                &mut settings,
                &mut errors,
            );
        }
        if errors.0.is_empty() {
            Ok(settings)
        } else {
            Err(errors)
        }
    }

    fn read_file(&self, settings: &mut Vec<Setting>, errors: &mut ConfigErrors) {
        let Some(path) = &self.file else { return };
        let name = path.display().to_string();
        let content = match fs::read_to_string(path) {
            Ok(content) => content,
            Err(error) => {
                return errors
                    .0
                    .push(ConfigError::general(format!("cannot read {name}: {error}")));
            }
        };
        let document = Document {
            name: &name,
            content: &content,
        };
        let (table, mistakes) = DeTable::parse_recoverable(&content);
        errors.0.extend(mistakes.iter().map(|mistake| {
            let origin = document.origin(mistake.span().map_or(0, |span| span.start));
            ConfigError::general(format!("not TOML: {} ({origin})", mistake.message()))
        }));
        if mistakes.is_empty() {
            document.settings(&[], table.into_inner(), settings, errors);
        }
    }

    fn read_environment(&self, settings: &mut Vec<Setting>, errors: &mut ConfigErrors) {
        let prefix = self.prefix();
        let mut variables: Vec<_> = self
            .environment
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?, value)))
            .filter_map(|(name, value)| Some((name, name.strip_prefix(&prefix)?, value)))
            .collect();
        // The environment has no order; errors should not change theirs between two runs.
        variables.sort();
        for (name, key, value) in variables {
            let origin = format!("environment variable {name}");
            match value.to_str() {
                Some(value) => {
                    text(
                        &key.to_ascii_lowercase(),
                        "__",
                        value,
                        origin,
                        settings,
                        errors,
                    );
                }
                None => errors
                    .0
                    .push(ConfigError::general(format!("not UTF-8 ({origin})"))),
            }
        }
    }
}

/// Adds a setting that is written as text.
fn text(
    key: &str,
    separator: &str,
    value: &str,
    origin: String,
    settings: &mut Vec<Setting>,
    errors: &mut ConfigErrors,
) {
    let path: Vec<String> = key.split(separator).map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return errors
            .0
            .push(ConfigError::general(format!("names no setting ({origin})")));
    }
    let value = Value::from(value);
    settings.push(Setting {
        path,
        value,
        origin,
        parts: Vec::new(),
        is_text: true,
    });
}

/// The value that the text is in TOML, such as `["a", "b"]`; `None` if it is none.
pub(super) fn toml_value(text: &str) -> Option<Value> {
    Deserialize::deserialize(ValueDeserializer::parse(text).ok()?).ok()
}

/// A TOML file, to tell lines from positions.
struct Document<'a> {
    name: &'a str,
    content: &'a str,
}

impl Document<'_> {
    fn origin(&self, position: usize) -> String {
        let before = self.content.as_bytes().iter().take(position);
        let line = before.filter(|byte| **byte == b'\n').count() + 1;
        format!("{}, line {line}", self.name)
    }

    /// One setting for each key that is not a table, so that other places can set its neighbours.
    fn settings(
        &self,
        parents: &[String],
        table: DeTable<'_>,
        settings: &mut Vec<Setting>,
        errors: &mut ConfigErrors,
    ) {
        for (key, value) in table {
            let origin = self.origin(key.span().start);
            let mut path = parents.to_vec();
            path.push(key.into_inner().into_owned());
            let span = value.span();
            let value = match value.into_inner() {
                DeValue::Table(inside) if !inside.is_empty() => {
                    self.settings(&path, inside, settings, errors);
                    continue;
                }
                other => Spanned::new(span, other),
            };
            let mut parts = Vec::new();
            self.parts(&path.join("."), value.get_ref(), &mut parts);
            match Deserialize::deserialize(ValueDeserializer::from(value)) {
                Ok(value) => settings.push(Setting {
                    path,
                    value,
                    origin,
                    parts,
                    is_text: false,
                }),
                Err(_) => errors.0.push(ConfigError {
                    key: path.join("."),
                    problem: "not a number that fits".to_owned(),
                    origin: Some(origin),
                    hint: None,
                }),
            }
        }
    }

    /// Where the parts of a list are.
    fn parts(&self, path: &str, value: &DeValue<'_>, parts: &mut Vec<(String, String)>) {
        match value {
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}.{index}");
                    parts.push((path.clone(), self.origin(item.span().start)));
                    self.parts(&path, item.get_ref(), parts);
                }
            }
            DeValue::Table(table) => {
                for (key, item) in table.iter() {
                    let path = format!("{path}.{}", key.get_ref());
                    parts.push((path.clone(), self.origin(key.span().start)));
                    self.parts(&path, item.get_ref(), parts);
                }
            }
            _ => {}
        }
    }
}
