//! From layers of settings to one typed configuration, or to all that is wrong with them.
//!
//! Owns which place wins (defaults < file < environment < flags), the reading of text as whatever
//! type is wanted, and the search for further mistakes after the first. It does not know any
//! process' settings: those are a type that the process passes.

use std::collections::BTreeSet;

use figment::{
    error::{Actual, Kind},
    value::{Dict, Tag, Value},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    origin::Origins,
    print,
    problem::{ConfigError, ConfigErrors, Problems},
    source::{Setting, Sources, toml_value},
};

/// A configuration that makes sense, with the settings that it was made from.
#[derive(Debug)]
pub struct Loaded<C> {
    /// The configuration that the process runs with.
    pub config: C,
    effective: Value,
    origins: Origins,
}

impl<C> Loaded<C> {
    /// The settings in effect as a TOML document, each with its origin in a comment. Secrets are
    /// redacted.
    #[must_use]
    pub fn print(&self) -> String {
        print::document(&self.effective, &self.origins)
    }
}

/// Loads a configuration: reads the settings `R` from all places, then lets `resolve` make the
/// configuration from them and note what makes no sense.
///
/// Every struct in `R` needs `#[serde(default, deny_unknown_fields)]`; `flatten` and untagged enums
/// would take away where a mistake is.
///
/// # Errors
/// Everything that is wrong, at once: keys that do not exist, values of the wrong type, and what
/// `resolve` noted.
pub fn load<R, C>(
    sources: &Sources,
    resolve: impl FnOnce(&R, &mut Problems) -> Option<C>,
) -> Result<Loaded<C>, ConfigErrors>
where
    R: Serialize + DeserializeOwned + Default,
{
    let defaults = serialize(&R::default())?;
    let mut reader = Reader::new(defaults);
    for setting in sources.settings()? {
        reader.apply(setting, &sources.prefix());
    }
    let raw: R = reader.read()?;
    let mut problems = Problems::new(reader.errors, reader.origins.clone());
    let config = resolve(&raw, &mut problems);
    let config = problems.finish(config)?;
    Ok(Loaded {
        config,
        effective: serialize(&raw)?,
        origins: reader.origins,
    })
}

fn serialize<R: Serialize>(raw: &R) -> Result<Value, ConfigErrors> {
    Value::serialize(raw)
        .map_err(|error| ConfigErrors(vec![ConfigError::general(error.kind.to_string())]))
}

/// The settings so far, and what is wrong with them.
struct Reader {
    defaults: Value,
    tree: Value,
    origins: Origins,
    /// Where the tree holds text whose type is not known yet.
    texts: BTreeSet<Vec<String>>,
    errors: ConfigErrors,
}

impl Reader {
    fn new(defaults: Value) -> Self {
        Self {
            tree: defaults.clone(),
            defaults,
            origins: Origins::default(),
            texts: BTreeSet::new(),
            errors: ConfigErrors::default(),
        }
    }

    /// Puts a setting over those before it.
    fn apply(&mut self, setting: Setting, prefix: &str) {
        let key = setting.path.join(".");
        if let Err(clash) = insert(&mut self.tree, &setting.path, setting.value) {
            let variable = setting.path.join("__").to_ascii_uppercase();
            let (problem, hint) = match clash {
                Clash::Table => (
                    "is a table and cannot be set as a whole",
                    format!("set its keys, as in {key}.… or {prefix}{variable}__…"),
                ),
                Clash::NotTable => ("has no keys of its own", "set it as a whole".to_owned()),
            };
            self.errors.0.push(ConfigError {
                problem: problem.to_owned(),
                origin: Some(setting.origin),
                hint: Some(hint),
                key,
            });
            return;
        }
        self.origins.set(&key, setting.origin);
        for (path, origin) in setting.parts {
            self.origins.set_part(path, origin);
        }
        if setting.is_text {
            self.texts.insert(setting.path);
        } else {
            self.texts.remove(&setting.path);
        }
    }

    /// Reads the tree as `R`. The deserializer stops at the first mistake; each time it does, the
    /// mistake is noted, its place gets its default back, and reading starts again. A place that
    /// holds text gets a second chance as a TOML value first.
    ///
    /// The result is a whole `R` although there may be errors, so that the caller can look for more
    /// of them. `Err` is for a mistake that cannot be got out of the way.
    fn read<R: DeserializeOwned>(&mut self) -> Result<R, ConfigErrors> {
        loop {
            let error = match R::deserialize(&self.tree) {
                Ok(raw) => return Ok(raw),
                Err(error) => error,
            };
            if matches!(error.kind, Kind::InvalidType(..)) && self.retype(&error.path) {
                continue;
            }
            let described = self.describe(&error.path, &error.kind);
            self.errors.0.push(described);
            if !self.restore(&error.path) {
                return Err(std::mem::take(&mut self.errors));
            }
        }
    }

    /// Takes the text at `path` for a TOML value from now on, if it is one.
    fn retype(&mut self, path: &[String]) -> bool {
        if !self.texts.remove(path) {
            return false;
        }
        let Some(slot) = at(&mut self.tree, path) else {
            return false;
        };
        let Some(value) = slot.as_str().and_then(toml_value) else {
            return false;
        };
        let key = path.join(".");
        if let Some(origin) = self.origins.of(&key) {
            set_parts(&mut self.origins, &key, &value, &origin);
        }
        *slot = value;
        true
    }

    /// Puts the default back at `path`, or removes what has none. What cannot be removed, such as an
    /// item of a list, takes what is around it along. `false` if there is nothing left to put back.
    fn restore(&mut self, path: &[String]) -> bool {
        let Some((last, parents)) = path.split_last() else {
            return false;
        };
        let default = at(&mut self.defaults, path).cloned();
        let restored = match (at(&mut self.tree, parents), default) {
            (Some(Value::Dict(_, dict)), Some(default)) => {
                dict.insert(last.clone(), default.clone()) != Some(default)
            }
            (Some(Value::Dict(_, dict)), None) => dict.remove(last).is_some(),
            _ => false,
        };
        restored || self.restore(parents)
    }

    fn describe(&self, path: &[String], kind: &Kind) -> ConfigError {
        let mut key = path.join(".");
        let origin = self.origins.of(&key);
        let (problem, hint) = match kind {
            Kind::UnknownField(_, known) => {
                let hint = format!("known keys here: {}", known.join(", "));
                ("unknown key".to_owned(), Some(hint))
            }
            Kind::UnknownVariant(_, known) => {
                (format!("expected one of: {}", known.join(", ")), None)
            }
            Kind::MissingField(field) => {
                key = format!("{key}.{field}");
                ("is missing".to_owned(), None)
            }
            Kind::InvalidType(found, expected) => (
                format!("expected {}, found {}", plain(expected), type_of(found)),
                None,
            ),
            Kind::InvalidValue(_, expected) | Kind::InvalidLength(_, expected) => {
                (format!("expected {}", plain(expected)), None)
            }
            Kind::Message(message) => (message.clone(), None),
            // Numbers of a width that TOML does not have.
            _ => ("not acceptable".to_owned(), None),
        };
        ConfigError {
            key,
            problem,
            origin,
            hint,
        }
    }
}

/// Why a setting cannot be put where it says.
enum Clash {
    /// There is a table, and the setting is not one.
    Table,
    /// The setting is inside of something that is not a table.
    NotTable,
}

/// Puts `value` at `path`, making tables on the way where nothing is set.
fn insert(tree: &mut Value, path: &[String], value: Value) -> Result<(), Clash> {
    let Some((first, rest)) = path.split_first() else {
        return match (&*tree, &value) {
            // An empty table in a file sets nothing.
            (Value::Dict(..), Value::Dict(..)) => Ok(()),
            (Value::Dict(..), _) => Err(Clash::Table),
            _ => {
                *tree = value;
                Ok(())
            }
        };
    };
    if matches!(tree, Value::Empty(..)) {
        *tree = Value::from(Dict::new());
    }
    match tree {
        Value::Dict(_, dict) => {
            let unset = Value::Empty(Tag::Default, figment::value::Empty::None);
            insert(dict.entry(first.clone()).or_insert(unset), rest, value)
        }
        _ => Err(Clash::NotTable),
    }
}

/// The value at `path`, where a list has its positions as keys.
fn at<'a>(tree: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(tree, |value, key| match value {
        Value::Dict(_, dict) => dict.get_mut(key),
        Value::Array(_, items) => items.get_mut(key.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Notes that all parts of the value at `path` come from where it comes from.
fn set_parts(origins: &mut Origins, path: &str, value: &Value, origin: &str) {
    let parts: Vec<(String, &Value)> = match value {
        Value::Dict(_, dict) => dict.iter().map(|(key, part)| (key.clone(), part)).collect(),
        Value::Array(_, items) => items
            .iter()
            .enumerate()
            .map(|(index, part)| (index.to_string(), part))
            .collect(),
        _ => Vec::new(),
    };
    for (key, part) in parts {
        let path = format!("{path}.{key}");
        set_parts(origins, &path, part, origin);
        origins.set_part(path, origin.to_owned());
    }
}

/// What the deserializer expects, in the words of someone who writes TOML.
fn plain(expected: &str) -> String {
    match expected {
        "u8" => "a whole number up to 255".to_owned(),
        "u16" => "a whole number up to 65535".to_owned(),
        "u32" => "a whole number up to 4294967295".to_owned(),
        "u64" | "usize" => "a whole number that is not negative".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a string" => "text".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other => other.to_owned(),
    }
}

/// The type of what was found, never its content: it may be a secret in the wrong place.
fn type_of(found: &Actual) -> &'static str {
    match found {
        Actual::Bool(_) => "a boolean",
        Actual::Unsigned(_) | Actual::Signed(_) => "a whole number",
        Actual::Float(_) => "a number with a fraction",
        Actual::Char(_) | Actual::Str(_) => "text",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests;
