//! Options as they are declared in Rust: names, types and comments.
//!
//! Reads no more of Rust than declarations of options are written in: a `struct` or `enum` whose items stand on lines of
//! their own, under their comments. What it does not find it misses loudly.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// A declaration that stands for two: the other has a switch besides.
const SWITCHED: &str = "RawChannelHook";

/// One option.
pub(crate) struct Setting {
    /// Dotted.
    pub(crate) key: String,
    /// For people.
    pub(crate) kind: String,
    /// `Value::Null`: not set.
    pub(crate) default: Value,
    /// One line.
    pub(crate) about: String,
}

/// One line of a declaration: a field with its type, or a variant.
#[derive(Clone)]
struct Item {
    name: String,
    kind: String,
    about: String,
}

/// What has been read.
#[derive(Default)]
pub(crate) struct Declarations(HashMap<String, Vec<Item>>);

impl Declarations {
    /// Reads a file, or all files of a folder.
    pub(crate) fn read(&mut self, path: &Path) {
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.read(&entry.unwrap().path());
            }
            return;
        }
        let source = fs::read_to_string(path).unwrap();
        let mut open: Option<String> = None;
        let mut about = Vec::new();
        for line in source.lines() {
            let code = line.trim();
            if let Some(text) = code.strip_prefix("///") {
                about.push(text.trim().to_owned());
                continue;
            }
            if code.starts_with("#[") {
                continue;
            }
            match &open {
                None => open = opened(line),
                Some(name) if line == "}" => {
                    if name == SWITCHED {
                        self.switch_on();
                    }
                    open = None;
                }
                Some(name) => {
                    if let Some(item) = item(code, &about) {
                        self.0.entry(name.clone()).or_default().push(item);
                    }
                }
            }
            about.clear();
        }
    }

    /// The other declaration that the macro for hooks makes of the same options.
    fn switch_on(&mut self) {
        let enabled = Item {
            name: "enabled".to_owned(),
            kind: "bool".to_owned(),
            about: "The back end is asked.".to_owned(),
        };
        let options = self.0.get(SWITCHED).into_iter().flatten().cloned();
        let options = std::iter::once(enabled).chain(options).collect();
        self.0.insert("RawHook".to_owned(), options);
    }

    /// Every option of a `RawConfig` with these defaults, in the order of the declaration.
    pub(crate) fn options(&self, defaults: &Value) -> Vec<Setting> {
        let mut options = Vec::new();
        self.collect("RawConfig", "", Some(defaults), &mut options);
        options
    }

    fn collect(
        &self,
        kind: &str,
        path: &str,
        defaults: Option<&Value>,
        options: &mut Vec<Setting>,
    ) {
        let fields = self.0.get(kind);
        for field in fields.unwrap_or_else(|| panic!("{kind} ({path}) is not found in the sources"))
        {
            let key = match path {
                "" => field.name.clone(),
                path => format!("{path}.{}", field.name),
            };
            let default = defaults.map(|defaults| {
                let default = defaults.get(&field.name);
                default.unwrap_or_else(|| panic!("{key} is declared and has no default"))
            });
            if default.is_some_and(Value::is_object) && inside(&field.kind, "BTreeMap").is_none() {
                self.collect(&field.kind, &key, default, options);
                continue;
            }
            options.push(Setting {
                kind: self.kind(&field.kind),
                default: default.cloned().unwrap_or_default(),
                about: field.about.clone(),
                key,
            });
        }
    }

    /// The type as people would say it.
    fn kind(&self, kind: &str) -> String {
        if let Some(inner) = inside(kind, "Option") {
            return self.kind(inner);
        }
        if let Some(inner) = inside(kind, "Vec") {
            return format!("list of {}", self.kind(inner));
        }
        match kind {
            "bool" => "true or false".to_owned(),
            "usize" | "u16" | "u32" | "u64" => "whole number".to_owned(),
            "f64" => "number".to_owned(),
            "Duration" => "duration".to_owned(),
            "String" => "text".to_owned(),
            "Secret" => "secret text".to_owned(),
            "PathBuf" => "path".to_owned(),
            "SocketAddr" => "address `IP:port`".to_owned(),
            "BTreeMap<String, Secret>" => "table of secret texts".to_owned(),
            // Made by a macro: its options are those of channels without a namespace, and a name.
            "RawNamespace" => "table".to_owned(),
            declared => match self.0.get(declared) {
                Some(items) if items.iter().all(|item| item.kind.is_empty()) => {
                    let names = items.iter().map(|item| format!("`{}`", snake(&item.name)));
                    names.collect::<Vec<_>>().join(" or ")
                }
                Some(_) => "table".to_owned(),
                None => panic!("{declared} is not found in the sources"),
            },
        }
    }
}

/// The name of the declaration that begins with this line.
fn opened(line: &str) -> Option<String> {
    match line {
        "namespace_options! {" => return Some("RawNamespaceOptions".to_owned()),
        "hook_options! {" => return Some(SWITCHED.to_owned()),
        _ => {}
    }
    let rest = line
        .strip_prefix("pub struct ")
        .or(line.strip_prefix("pub enum "))?;
    Some(rest.strip_suffix(" {")?.to_owned())
}

fn item(code: &str, about: &[String]) -> Option<Item> {
    let code = code
        .strip_prefix("pub ")
        .unwrap_or(code)
        .strip_suffix(',')?;
    let (name, kind) = code.split_once(": ").unwrap_or((code, ""));
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(is_name).then(|| Item {
        name: name.to_owned(),
        kind: kind.to_owned(),
        about: about.join(" "),
    })
}

fn inside<'a>(kind: &'a str, outer: &str) -> Option<&'a str> {
    kind.strip_prefix(outer)?
        .strip_prefix('<')?
        .strip_suffix('>')
}

/// `JsonObject` as it is written in a configuration.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
