//! The decoders of the SDKs make the right payloads of our deltas.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flotilla_shared::delta::fossil_delta;
use flotilla_shared::protocol::is_json;
use flotilla_tests::process::Process;
use serde_json::json;
use tempfile::NamedTempFile;

use crate::scripts::{SCRIPT_MAX, command, python};

/// Where a payload is changed, in parts of it.
const PLACES: usize = 8;

#[tokio::test]
async fn javascript_decodes_our_deltas() -> Result<()> {
    decode("node".into(), "fossil.mjs").await
}

#[tokio::test]
async fn python_decodes_our_deltas() -> Result<()> {
    decode(python(), "fossil.py").await
}

async fn decode(interpreter: PathBuf, script: &str) -> Result<()> {
    let mut file = NamedTempFile::new()?;
    let mut cases = 0;
    for (name, source) in payloads() {
        for (change, target) in changed(&source) {
            write_case(&mut file, &format!("{name}, {change}"), &source, &target)?;
            cases += 1;
        }
    }
    let mut command = command(interpreter, script);
    command.env("CASES", file.path());
    let mut script = Process::spawn(script, &mut command).context("run `tests/run setup`")?;
    script.completes(cases, SCRIPT_MAX).await
}

fn write_case(file: &mut NamedTempFile, name: &str, source: &[u8], target: &[u8]) -> Result<()> {
    let delta = fossil_delta(source, target);
    let is_json = is_json(target);
    ensure!(
        !is_json || str::from_utf8(&delta).is_ok(),
        "{name}: cannot be a JSON string"
    );
    let case = json!({
        "name": name,
        "is_json": is_json,
        "source": STANDARD.encode(source),
        "target": STANDARD.encode(target),
        "delta": STANDARD.encode(delta),
    });
    writeln!(file, "{case}").context("the file of cases")
}

/// Payloads of many kinds, and their names.
fn payloads() -> Vec<(&'static str, Vec<u8>)> {
    let list = |item: &str, count: usize| {
        let items: Vec<String> = (0..count)
            .map(|n| format!("{{\"n\":{n},\"text\":\"{item}\"}}"))
            .collect();
        format!("[{}]", items.join(",")).into_bytes()
    };
    let all_bytes: Vec<u8> = (0..=255).collect();
    vec![
        ("nothing", Vec::new()),
        ("a small object", br#"{"price":100}"#.to_vec()),
        ("a list", list("the same text each time", 20)),
        ("a large list", list("the same text each time", 1_000)),
        ("accents", list("où est le café où l'été", 20)),
        ("ideographs", list("日本語の文章がここにある", 20)),
        ("emoji", list("⚓😀🤖⛵", 20)),
        ("escapes", list(r#"a \"quote\", a \\ and a \n"#, 20)),
        ("one letter", b"a".repeat(500)),
        ("zeros", vec![0; 500]),
        ("all bytes", all_bytes.repeat(3)),
        ("continuation bytes", vec![0x80; 100]),
    ]
}

/// What a payload may become, and what was done to it.
fn changed(source: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut targets = vec![
        ("unchanged".to_owned(), source.to_vec()),
        ("emptied".to_owned(), Vec::new()),
        ("doubled".to_owned(), source.repeat(2)),
        (
            "reversed".to_owned(),
            source.iter().rev().copied().collect(),
        ),
        ("replaced".to_owned(), "\"etwas völlig anderes\"".into()),
    ];
    for part in 0..=PLACES {
        let at = source.len() * part / PLACES;
        let (front, back) = source.split_at(at);
        let mut add = |change: &str, target| targets.push((format!("{change} at {at}"), target));
        add("swapped", [back, front].concat());
        add("cut", front.to_vec());
        add("extended", [front, b" \xff ", back].concat());
        if let Ok(text) = str::from_utf8(source) {
            add("edited", edited(text, at).into_bytes());
        }
    }
    targets
}

/// The text with other characters in place of the first digit, and of the first character that is not ASCII, from a
/// place on. JSON mostly stays JSON.
fn edited(text: &str, from: usize) -> String {
    let find = |wanted: fn(char) -> bool| {
        let mut rest = text.char_indices().filter(|(at, _)| *at >= from);
        rest.find(|(_, letter)| wanted(*letter))
    };
    let digit = find(|letter| letter.is_ascii_digit());
    let other = find(|letter| !letter.is_ascii());
    let exchanged = |(at, letter)| match letter {
        '9' if digit == Some((at, letter)) => '1',
        _ if [digit, other].contains(&Some((at, letter))) => {
            char::from_u32(u32::from(letter) + 1).unwrap_or(letter)
        }
        _ => letter,
    };
    text.char_indices().map(exchanged).collect()
}
