//! Options as people read them: one page for all, and a file of defaults for each process.

use std::fmt::Write as _;

use serde_json::Value;

use crate::declared::Setting;

const HEAD: &str = "# All options

Generated from the code: do not edit. Settings come from the defaults, a TOML file (`--config FILE`), the environment and
`--set KEY=VALUE`; what comes later in this list wins. `--print-config` shows what is in effect and where it comes from.
Durations have a unit, as in `25s`, `500ms` or `1h 30m`. Lists in the environment are written as in TOML: `[\"a\", \"b\"]`.

Each entry of `channel.namespaces` has a `name`, the part of a channel's name before `:`, and the same options as
`channel.without_namespace`.
";

/// A process and its options.
pub(crate) struct Process {
    pub(crate) name: &'static str,
    pub(crate) options: Vec<Setting>,
}

/// The page.
pub(crate) fn reference(processes: &[Process]) -> String {
    let mut out = HEAD.to_owned();
    for process in processes {
        let _ = writeln!(out, "\n## flotilla-{}", process.name);
        for option in &process.options {
            let variable = option.key.replace('.', "__").to_ascii_uppercase();
            let default = match &option.default {
                Value::Null => "not set".to_owned(),
                value => format!("`{}`", inline(value)),
            };
            let _ = write!(
                out,
                "\n### {}\n{}; default {default}; `FLOTILLA_{}__{variable}`\n\n{}\n",
                option.key,
                option.kind,
                process.name.to_ascii_uppercase(),
                option.about,
            );
        }
    }
    out
}

/// The file: tables in the order of their declaration, after the keys that are in none.
pub(crate) fn toml(process: &Process) -> String {
    let mut out = format!(
        "# Every option of flotilla-{} with its default. Generated from the code: copy it, and keep what you change.\n",
        process.name
    );
    let mut tables: Vec<&str> = Vec::new();
    for option in &process.options {
        let table = split(option).0;
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    tables.sort_by_key(|table| !table.is_empty());
    for table in tables {
        if !table.is_empty() {
            let _ = write!(out, "\n[{table}]\n");
        }
        for option in process
            .options
            .iter()
            .filter(|option| split(option).0 == table)
        {
            out.push('\n');
            for line in wrapped(&option.about) {
                let _ = writeln!(out, "# {line}");
            }
            let name = split(option).1;
            let _ = match &option.default {
                Value::Null => writeln!(out, "# {name} is not set: {}", option.kind),
                value => writeln!(out, "{name} = {}", inline(value)),
            };
        }
    }
    out
}

/// The table that the option is in, and its name there.
fn split(option: &Setting) -> (&str, &str) {
    option.key.rsplit_once('.').unwrap_or(("", &option.key))
}

fn inline(value: &Value) -> String {
    toml::Value::try_from(value).unwrap().to_string()
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().unwrap();
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + word.len() < 100 {
            let _ = write!(line, " {word}");
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
