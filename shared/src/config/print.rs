//! Settings in effect as a TOML document that can be read back.
//!
//! Owns the layout, and the redaction of passwords in URLs; secrets have redacted themselves when
//! they were serialised. It does not know any process' settings.

use figment::value::{Dict, Value};

use super::origin::Origins;
use crate::secret::REDACTED;

/// The tree as TOML, each key with its origin.
pub(super) fn document(tree: &Value, origins: &Origins) -> String {
    let mut printer = Printer {
        out: String::new(),
        origins,
    };
    if let Value::Dict(_, dict) = tree {
        printer.table("", "", dict);
    }
    printer.out
}

struct Printer<'a> {
    out: String,
    origins: &'a Origins,
}

impl Printer<'_> {
    /// A table's own keys, then the tables inside of it: TOML allows no other order. `path` names
    /// the table with its positions in lists, `name` without, as TOML does.
    fn table(&mut self, path: &str, name: &str, dict: &Dict) {
        for (key, value) in dict {
            if !is_table(value) && !is_list_of_tables(value) {
                self.key(path, key, value);
            }
        }
        for (key, value) in dict {
            let (path, name) = (join(path, key), join(name, key));
            match value {
                Value::Dict(_, inside) => {
                    self.line(&format!("\n[{name}]"));
                    self.table(&path, &name, inside);
                }
                Value::Array(_, items) if is_list_of_tables(value) => {
                    for (index, item) in items.iter().enumerate() {
                        if let Value::Dict(_, inside) = item {
                            self.line(&format!("\n[[{name}]]"));
                            self.table(&join(&path, &index.to_string()), &name, inside);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn key(&mut self, path: &str, key: &str, value: &Value) {
        let origin = self.origins.exactly(&join(path, key)).unwrap_or("default");
        match inline(value) {
            Some(text) => self.line(&format!("{key} = {text} # {origin}")),
            None => self.line(&format!("# {key} is not set")),
        }
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn is_table(value: &Value) -> bool {
    matches!(value, Value::Dict(..))
}

fn is_list_of_tables(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|items| !items.is_empty() && items.iter().all(is_table))
}

/// The value as TOML on one line; `None` if there is none.
fn inline(value: &Value) -> Option<String> {
    let mut value = toml::Value::try_from(value).ok()?;
    redact_urls(&mut value);
    Some(value.to_string())
}

fn redact_urls(value: &mut toml::Value) {
    match value {
        toml::Value::String(text) => {
            if let Some(redacted) = without_credentials(text) {
                *text = redacted;
            }
        }
        toml::Value::Array(items) => items.iter_mut().for_each(redact_urls),
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, item)| redact_urls(item)),
        _ => {}
    }
}

/// The URL without what stands before the `@` of its authority (RFC 3986 §3.2.1); `None` if the
/// text is no such URL.
fn without_credentials(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (_, host) = authority.rsplit_once('@')?;
    Some(format!("{scheme}://{REDACTED}@{host}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_urls_are_redacted() {
        for (url, shown) in [
            ("nats://u:p@host:4222", "nats://<redacted>@host:4222"),
            ("nats://to@ken@host/a@b", "nats://<redacted>@host/a@b"),
            ("tls://u@host?x", "tls://<redacted>@host?x"),
        ] {
            assert_eq!(without_credentials(url).as_deref(), Some(shown));
        }
        for plain in ["nats://host:4222", "a@b", "http://host/a@b", ""] {
            assert_eq!(without_credentials(plain), None, "{plain}");
        }
    }
}
