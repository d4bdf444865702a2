//! Promises about configuration: which place wins, what is refused, and what is said about it.

use std::{
    ffi::OsString, io::Write as _, os::unix::ffi::OsStringExt, path::PathBuf, time::Duration,
};

use serde::Deserialize;

use super::*;
use crate::secret::{REDACTED, Secret};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kindness {
    Kind,
    Unkind,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Client {
    #[serde(with = "crate::config::duration")]
    ping_interval: Duration,
    limit: u16,
    secret_key: Option<Secret>,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            limit: 128,
            secret_key: None,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Namespace {
    name: String,
    allow: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    id: String,
    listen: String,
    kind: Kindness,
    factor: f64,
    maximum: Option<u64>,
    servers: Vec<String>,
    client: Client,
    namespaces: Vec<Namespace>,
    tls: Option<Namespace>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            id: String::new(),
            listen: "127.0.0.1:1".to_owned(),
            kind: Kindness::Kind,
            factor: 1.25,
            maximum: None,
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            client: Client::default(),
            namespaces: Vec::new(),
            tls: None,
        }
    }
}

/// Sources under construction.
#[derive(Default)]
struct Given {
    sources: Sources,
    /// Keeps the directory until the test is over.
    directory: Option<tempfile::TempDir>,
}

impl Given {
    fn new() -> Self {
        let sources = Sources {
            program: "worker",
            ..Sources::default()
        };
        Self {
            sources,
            directory: None,
        }
    }

    fn file(mut self, content: &str) -> Self {
        let directory = tempfile::tempdir().expect("makes a directory");
        let path = directory.path().join("worker.toml");
        let mut file = std::fs::File::create(&path).expect("creates a file");
        file.write_all(content.as_bytes()).expect("writes");
        self.sources.file = Some(path);
        self.directory = Some(directory);
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push((name.into(), value.into()));
        self
    }

    fn flag(mut self, key: &str, value: &str) -> Self {
        self.sources
            .overrides
            .push((key.to_owned(), value.to_owned()));
        self
    }

    fn load(&self) -> Result<Loaded<Raw>, ConfigErrors> {
        load(&self.sources, |raw: &Raw, _| Some(raw.clone()))
    }

    fn loaded(&self) -> Raw {
        self.load().expect("is right").config
    }

    /// What is wrong, a line for each mistake, the file's directory left out.
    fn mistakes(&self) -> String {
        self.without_directory(&self.load().expect_err("is wrong").to_string())
    }

    fn without_directory(&self, text: &str) -> String {
        match &self.directory {
            Some(directory) => text.replace(&format!("{}/", directory.path().display()), ""),
            None => text.to_owned(),
        }
    }
}

#[test]
fn a_later_place_wins_key_by_key() {
    let given = Given::new()
        .file("id = 'file'\nlisten = 'file'\n[client]\nlimit = 1\nping_interval = '1s'\n")
        .variable("FLOTILLA_WORKER__LISTEN", "variable")
        .variable("FLOTILLA_WORKER__CLIENT__PING_INTERVAL", "25s")
        .flag("client.ping_interval", "3s");
    let raw = given.loaded();
    assert_eq!(raw.id, "file");
    assert_eq!(raw.listen, "variable");
    assert_eq!(raw.client.limit, 1);
    assert_eq!(raw.client.ping_interval, Duration::from_secs(3));
    assert_eq!(raw.factor.to_string(), "1.25");
}

#[test]
fn text_is_read_as_the_type_that_is_wanted() {
    let raw = Given::new()
        .variable("FLOTILLA_WORKER__ID", "5")
        .variable("FLOTILLA_WORKER__LISTEN", "true")
        .variable("FLOTILLA_WORKER__KIND", "unkind")
        .variable("FLOTILLA_WORKER__FACTOR", "2")
        .variable("FLOTILLA_WORKER__MAXIMUM", "7")
        .variable("FLOTILLA_WORKER__SERVERS", r#"["a", "5"]"#)
        .variable("FLOTILLA_WORKER__CLIENT__SECRET_KEY", "[1]")
        .variable("FLOTILLA_WORKER__CLIENT__LIMIT", "9")
        .variable(
            "FLOTILLA_WORKER__NAMESPACES",
            r#"[{ name = "chat", allow = true }]"#,
        )
        .variable("FLOTILLA_WORKER__TLS", r#"{ name = "x" }"#)
        .loaded();
    assert_eq!((raw.id.as_str(), raw.listen.as_str()), ("5", "true"));
    assert_eq!(raw.kind, Kindness::Unkind);
    assert_eq!(raw.factor.to_string(), "2");
    assert_eq!(raw.maximum, Some(7));
    assert_eq!(raw.servers, ["a", "5"]);
    assert_eq!(raw.client.secret_key.expect("is set").expose(), "[1]");
    assert_eq!(raw.client.limit, 9);
    assert_eq!(
        raw.namespaces,
        [Namespace {
            name: "chat".to_owned(),
            allow: true
        }]
    );
    assert_eq!(raw.tls.expect("is set").name, "x");
}

#[test]
fn a_list_is_replaced_as_a_whole() {
    let given = Given::new()
        .file("servers = ['a', 'b']")
        .flag("servers", "['c']");
    assert_eq!(given.loaded().servers, ["c"]);
}

#[test]
fn variables_of_others_are_none_of_our_business() {
    let raw = Given::new()
        .variable("FLOTILLA_WORKER_PORT", "tcp://10.0.0.1:8001")
        .variable("FLOTILLA_WORKER_SERVICE_HOST", "10.0.0.1")
        .variable("FLOTILLA_GATEWAY__LISTEN", "there")
        .variable("LISTEN", "there")
        .loaded();
    assert_eq!(raw.listen, "127.0.0.1:1");
}

#[test]
fn a_misspelt_key_is_refused_with_the_variable_it_came_from() {
    let given = Given::new().variable("FLOTILLA_WORKER__CLIENT__PNIG_INTERVAL", "25s");
    assert_eq!(
        given.mistakes(),
        "client.pnig_interval: unknown key (environment variable \
         FLOTILLA_WORKER__CLIENT__PNIG_INTERVAL); known keys here: ping_interval, limit, \
         secret_key\n"
    );
}

#[test]
fn a_misspelt_key_is_refused_with_its_line_or_flag() {
    let given = Given::new()
        .file("# a comment\nlisten = 'x'\n\n[client]\nlimits = 5\n\n[clinet]\n[clients.a]\nb = 1\n")
        .flag("lisen", "x");
    let mistakes = given.mistakes();
    let places: Vec<&str> = mistakes
        .lines()
        .filter_map(|line| line.split_once(';'))
        .map(|(place, _)| place)
        .collect();
    assert_eq!(
        places,
        [
            "client.limits: unknown key (worker.toml, line 5)",
            "clients: unknown key (worker.toml, line 9)",
            "clinet: unknown key (worker.toml, line 7)",
            "lisen: unknown key (flag --set lisen)",
        ]
    );
}

#[test]
fn a_mistake_in_a_list_is_refused_with_its_own_line() {
    let given = Given::new().file(
        "[[namespaces]]\nname = 'a'\n\n[[namespaces]]\nname = 'b'\nallow = 'maybe'\nalow = true\n",
    );
    assert_eq!(
        given.mistakes(),
        "namespaces.1.allow: expected true or false, found text (worker.toml, line 6)\n\
         namespaces.1.alow: unknown key (worker.toml, line 7); known keys here: name, allow\n"
    );
}

#[test]
fn a_wrong_item_of_a_list_is_named() {
    let given = Given::new().file("namespaces = ['chat']\nservers = [1]\n");
    assert_eq!(
        given.mistakes(),
        "namespaces.0: expected a table, found text (worker.toml, line 1)\n\
         servers.0: expected text, found a whole number (worker.toml, line 2)\n"
    );
}

#[test]
fn every_mistake_is_reported_at_once() {
    let given = Given::new()
        .file("kind = 'cruel'\nmaximum = -1\nlisen = 'x'\n[client]\nping_interval = 25\n")
        .variable("FLOTILLA_WORKER__CLIENT__LIMIT", "70000")
        .variable("FLOTILLA_WORKER__FACTOR", "big")
        .flag("servers", "a");
    let errors = load(&given.sources, |raw: &Raw, problems| {
        if raw.id.is_empty() {
            problems.add("id", "is required");
        }
        // What was wrong has its default here, and is not reported twice.
        assert_eq!(raw.client.ping_interval, Duration::from_secs(25));
        Some(())
    });
    let mut mistakes: Vec<String> = given
        .without_directory(&errors.expect_err("is wrong").to_string())
        .lines()
        .map(str::to_owned)
        .collect();
    mistakes.sort();
    let duration = r#"a duration with its unit, such as "25s", "500ms" or "1h", of at most a year"#;
    assert_eq!(
        mistakes,
        [
            "client.limit: expected a whole number up to 65535 (environment variable \
             FLOTILLA_WORKER__CLIENT__LIMIT)",
            &format!(
                "client.ping_interval: expected {duration}, found a whole number (worker.toml, \
                 line 5)"
            ),
            "factor: expected a number, found text (environment variable FLOTILLA_WORKER__FACTOR)",
            "id: is required",
            "kind: expected one of: kind, unkind (worker.toml, line 1)",
            "lisen: unknown key (worker.toml, line 3); known keys here: id, listen, kind, factor, \
             maximum, servers, client, namespaces, tls",
            "maximum: expected a whole number that is not negative (worker.toml, line 2)",
            "servers: expected a list, found text (flag --set servers)",
        ]
    );
}

#[test]
fn what_makes_no_sense_is_refused_with_its_origin() {
    let given = Given::new().file("[client]\nlimit = 0\n");
    let errors = load(&given.sources, |_: &Raw, problems| {
        problems.add("client.limit", "has to be positive");
        problems.add("client.ping_interval", "has to be longer");
        Some(())
    });
    assert_eq!(
        given.without_directory(&errors.expect_err("is wrong").to_string()),
        "client.limit: has to be positive (worker.toml, line 2)\n\
         client.ping_interval: has to be longer\n"
    );
}

#[test]
fn a_refusal_is_never_silent() {
    let refused = load(&Given::new().sources, |_: &Raw, _| None::<()>);
    assert!(!refused.expect_err("is refused").to_string().is_empty());
}

#[test]
fn a_table_cannot_be_lost_to_a_single_value() {
    let given = Given::new()
        .file("[client]\nlimit = 1\n")
        .variable("FLOTILLA_WORKER__CLIENT", "{ limit = 2 }")
        .flag("listen.port", "1");
    assert_eq!(
        given.mistakes(),
        "client: is a table and cannot be set as a whole (environment variable \
         FLOTILLA_WORKER__CLIENT); set its keys, as in client.… or FLOTILLA_WORKER__CLIENT__…\n\
         listen.port: has no keys of its own (flag --set listen.port); set it as a whole\n"
    );
}

#[test]
fn a_name_that_names_nothing_is_refused() {
    let given = Given::new()
        .variable("FLOTILLA_WORKER__", "x")
        .variable("FLOTILLA_WORKER__CLIENT____LIMIT", "5")
        .flag("", "x")
        .flag("client.", "x");
    assert_eq!(
        given.mistakes(),
        "names no setting (environment variable FLOTILLA_WORKER__)\n\
         names no setting (environment variable FLOTILLA_WORKER__CLIENT____LIMIT)\n\
         names no setting (flag --set )\n\
         names no setting (flag --set client.)\n"
    );
}

#[test]
fn a_variable_that_is_not_text_is_refused() {
    let mut given = Given::new();
    let value = OsString::from_vec(vec![0xff]);
    given
        .sources
        .environment
        .push(("FLOTILLA_WORKER__ID".into(), value));
    assert_eq!(
        given.mistakes(),
        "not UTF-8 (environment variable FLOTILLA_WORKER__ID)\n"
    );
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_the_line() {
    let given = Given::new().file("id = 'x'\nlisten = \n");
    let mistakes = given.mistakes();
    assert!(mistakes.starts_with("not TOML: "), "{mistakes}");
    assert!(mistakes.ends_with(" (worker.toml, line 2)\n"), "{mistakes}");
}

#[test]
fn a_missing_file_is_refused_by_name() {
    let mut given = Given::new();
    given.sources.file = Some(PathBuf::from("/nonexistent/worker.toml"));
    let mistakes = given.mistakes();
    assert!(
        mistakes.starts_with("cannot read /nonexistent/worker.toml: "),
        "{mistakes}"
    );
}

#[test]
fn secrets_never_show_in_debug_or_print_config() {
    let given = Given::new()
        .file("servers = ['nats://user:hunter2@host:4222']\n")
        .variable("FLOTILLA_WORKER__CLIENT__SECRET_KEY", "hunter2");
    let loaded = given.load().expect("is right");
    let debug = format!("{:?}", loaded.config.client);
    let printed = loaded.print();
    for shown in [&debug, &printed] {
        assert!(
            !shown.contains("hunter2") && shown.contains(REDACTED),
            "{shown}"
        );
    }
    assert!(printed.contains("nats://<redacted>@host:4222"), "{printed}");
}

#[test]
fn secrets_never_show_in_a_mistake() {
    let mistakes = Given::new()
        .file("[client]\nlimit = 'hunter2'\nping_interval = 'hunter2'\n")
        .variable("FLOTILLA_WORKER__CLIENT", "hunter2")
        .variable("FLOTILLA_WORKER__KIND", "hunter2")
        .variable("FLOTILLA_WORKER__MAXIMUM", "hunter2")
        .flag("client.secret", "hunter2")
        .flag("factor", "hunter2")
        .mistakes();
    assert!(!mistakes.contains("hunter2"), "{mistakes}");
    assert_eq!(mistakes.lines().count(), 7, "{mistakes}");
}

#[test]
fn the_settings_in_effect_are_printed_with_their_origins() {
    let given = Given::new()
        .file("servers = ['a', 'b']\n[[namespaces]]\nname = 'chat'\n")
        .variable("FLOTILLA_WORKER__CLIENT__PING_INTERVAL", "90s")
        .variable("FLOTILLA_WORKER__CLIENT__SECRET_KEY", "hunter2")
        .flag("id", "w\"1");
    let printed = given.load().expect("is right").print();
    assert_eq!(
        given.without_directory(&printed),
        r#"factor = 1.25 # default
id = 'w"1' # flag --set id
kind = "kind" # default
listen = "127.0.0.1:1" # default
# maximum is not set
servers = ["a", "b"] # worker.toml, line 1
# tls is not set

[client]
limit = 128 # default
ping_interval = "1m 30s" # environment variable FLOTILLA_WORKER__CLIENT__PING_INTERVAL
secret_key = "<redacted>" # environment variable FLOTILLA_WORKER__CLIENT__SECRET_KEY

[[namespaces]]
allow = false # default
name = "chat" # worker.toml, line 3
"#
    );
}

#[test]
fn parts_of_a_list_have_the_origin_of_the_variable_that_holds_it() {
    let given = Given::new().variable(
        "FLOTILLA_WORKER__NAMESPACES",
        "[{ name = 'chat' }, { alow = 1 }]",
    );
    let mistakes = given.mistakes();
    let place = "namespaces.1.alow: unknown key (environment variable FLOTILLA_WORKER__NAMESPACES)";
    assert!(mistakes.starts_with(place), "{mistakes}");

    let given = Given::new().variable("FLOTILLA_WORKER__NAMESPACES", "[{ name = 'chat' }]");
    let printed = given.load().expect("is right").print();
    let part = "allow = false # default\n\
                name = \"chat\" # environment variable FLOTILLA_WORKER__NAMESPACES\n";
    assert!(printed.ends_with(part), "{printed}");
}

#[test]
fn a_number_too_large_for_toml_is_refused() {
    let huge = "9".repeat(60);
    let given = Given::new().file(&format!("client = {huge}\nmaximum = {huge}\n"));
    assert_eq!(
        given.mistakes(),
        "client: not a number that fits (worker.toml, line 1)\n\
         maximum: not a number that fits (worker.toml, line 2)\n"
    );
}

#[test]
fn what_is_printed_can_be_read_back() {
    let given = Given::new()
        .variable(
            "FLOTILLA_WORKER__NAMESPACES",
            "[{ name = 'a b' }, { allow = true }]",
        )
        .variable("FLOTILLA_WORKER__TLS", "{ name = '\u{1f600}\\n' }")
        .variable("FLOTILLA_WORKER__FACTOR", "3");
    let printed = given.load().expect("is right").print();
    let again = Given::new().file(&printed);
    let without_origins = |printed: &str| -> Vec<String> {
        let lines = printed
            .lines()
            .map(|line| line.split(" # ").next().unwrap_or_default());
        lines.map(str::to_owned).collect()
    };
    let reprinted = again.load().expect("reads back").print();
    assert_eq!(without_origins(&printed), without_origins(&reprinted));
}
