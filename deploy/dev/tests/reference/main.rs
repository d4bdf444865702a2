//! The reference of all options, and the default configuration files, are what the options' declarations say.
//!
//! Defaults and types come from the `RawConfig`s themselves, descriptions from the comments where they are declared. To
//! write the files anew: `FLOTILLA_WRITE_REFERENCE=1 cargo test -p flotilla --test reference`.

#![allow(clippy::unwrap_used, reason = "what cannot be read fails the test")]

mod declared;
mod page;

use std::fs;
use std::path::{Path, PathBuf};

use declared::Declarations;
use page::Process;
use serde::{Serialize, de::DeserializeOwned};

/// Set to write the files instead of comparing them.
const WRITE: &str = "FLOTILLA_WRITE_REFERENCE";

/// Where options of both processes are declared.
const SHARED: [&str; 4] = [
    "shared/src/auth/options.rs",
    "shared/src/auth/passport.rs",
    "shared/src/broker/options.rs",
    "shared/src/telemetry.rs",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn process<R: Serialize + Default>(name: &'static str, own: &[&str]) -> Process {
    let mut declarations = Declarations::default();
    for path in SHARED.iter().chain(own) {
        declarations.read(&root().join(path));
    }
    Process {
        name,
        options: declarations.options(&serde_json::to_value(R::default()).unwrap()),
    }
}

fn worker() -> Process {
    process::<flotilla_worker::RawConfig>(
        "worker",
        &["worker/src/namespace.rs", "worker/src/config"],
    )
}

fn gateway() -> Process {
    process::<flotilla_gateway::RawConfig>("gateway", &["gateway/src/config"])
}

fn check(file: &str, wanted: &str) {
    let path = root().join("deploy/config").join(file);
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, wanted).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == wanted,
        "deploy/config/{file} is not what the options' declarations say: run {WRITE}=1 cargo test -p flotilla --test \
         reference"
    );
}

#[test]
fn the_reference_page_is_what_the_declarations_say() {
    check("REFERENCE.md", &page::reference(&[worker(), gateway()]));
}

#[test]
fn the_default_files_are_the_defaults_and_are_understood() {
    fn is_default<R: Serialize + DeserializeOwned + Default>(text: &str) {
        let read: R = toml::from_str(text).unwrap();
        let [read, default] = [read, R::default()].map(|raw| serde_json::to_value(raw).unwrap());
        assert_eq!(read, default);
    }
    let text = page::toml(&worker());
    is_default::<flotilla_worker::RawConfig>(&text);
    check("worker.toml", &text);
    let text = page::toml(&gateway());
    is_default::<flotilla_gateway::RawConfig>(&text);
    check("gateway.toml", &text);
}
