//! The code tables keep what SDKs rely on.

use std::collections::HashSet;
use std::hash::Hash;

use crate::protocol::codes::{DisconnectCode, ErrorCode, UnsubscribeCode};
use crate::protocol::types::{Error, Request, Unsubscribe};
use crate::protocol::{Format, is_json};

fn assert_distinct<T: Eq + Hash>(what: &str, items: impl Iterator<Item = T>) {
    let mut seen = HashSet::new();
    let mut count = 0;
    for item in items {
        count += 1;
        seen.insert(item);
    }
    assert_eq!(seen.len(), count, "{what} are distinct");
}

/// A close reason travels in a control frame of at most 125 bytes with two bytes of code;
/// proxies and SDKs are known to cope with 32.
fn assert_safe_text(text: &str) {
    assert!(
        !text.is_empty() && text.len() <= 32 && text.is_ascii(),
        "{text:?} is short ASCII"
    );
    assert!(!is_json(text.as_bytes()), "{text:?} is not taken for JSON");
}

#[test]
fn every_code_has_its_own_number_and_label_and_a_safe_text() {
    assert_distinct("numbers", ErrorCode::ALL.iter().map(|code| code.code()));
    assert_distinct("labels", ErrorCode::ALL.iter().map(|code| code.label()));
    assert_distinct(
        "numbers",
        DisconnectCode::ALL.iter().map(|code| code.code()),
    );
    assert_distinct(
        "labels",
        DisconnectCode::ALL.iter().map(|code| code.label()),
    );
    assert_distinct(
        "numbers",
        UnsubscribeCode::ALL.iter().map(|code| code.code()),
    );
    assert_distinct(
        "labels",
        UnsubscribeCode::ALL.iter().map(|code| code.label()),
    );
    ErrorCode::ALL
        .iter()
        .for_each(|code| assert_safe_text(code.text()));
    DisconnectCode::ALL
        .iter()
        .for_each(|code| assert_safe_text(code.text()));
    UnsubscribeCode::ALL
        .iter()
        .for_each(|code| assert_safe_text(code.text()));
}

#[test]
fn numbers_stay_in_the_ranges_that_sdks_decide_by() {
    for code in ErrorCode::ALL {
        assert!(
            (100..400).contains(&code.code()),
            "{code} is the protocol's own"
        );
    }
    for code in DisconnectCode::ALL {
        let terminal = (3500..4000).contains(&code.code());
        let reconnecting = (3000..3500).contains(&code.code());
        assert!(terminal || reconnecting, "{code} is the protocol's own");
        assert_eq!(code.reconnects(), reconnecting, "{code}");
    }
    for code in UnsubscribeCode::ALL {
        assert!(
            (2000..3000).contains(&code.code()),
            "{code} is an unsubscribe code"
        );
        assert_eq!(code.resubscribes(), code.code() >= 2500, "{code}");
    }
}

#[test]
fn overload_and_shutdown_never_end_a_session_for_good() {
    use DisconnectCode::{Internal, NoPong, Shutdown, Slow, TooManyRequests, WriteError};
    for code in [
        Shutdown,
        Internal,
        Slow,
        WriteError,
        NoPong,
        TooManyRequests,
    ] {
        assert!(code.reconnects(), "{code}");
    }
}

#[test]
fn temporary_errors_are_the_ones_worth_another_try() {
    let temporary: Vec<u32> = ErrorCode::ALL
        .iter()
        .filter(|code| code.temporary())
        .map(|code| code.code())
        .collect();
    assert_eq!(temporary, [100, 111, 113]);
    assert!(Error::from(ErrorCode::TooManyRequests).temporary);
    assert!(!Error::from(ErrorCode::BadRequest).temporary);
}

#[test]
fn codes_become_messages_with_number_and_text() {
    let error = Error::from(ErrorCode::TokenExpired);
    assert_eq!((error.code, error.message.as_str()), (109, "token expired"));
    let push = Unsubscribe::from(UnsubscribeCode::Server);
    assert_eq!(
        (push.code, push.reason.as_str()),
        (2000, "server unsubscribe")
    );
    assert_eq!(DisconnectCode::Slow.to_string(), "3008 slow");
}

#[test]
fn a_subprotocol_names_its_format() {
    for format in Format::ALL {
        assert_eq!(Format::from_subprotocol(format.subprotocol()), Some(format));
    }
    for unknown in ["", "centrifuge", "CENTRIFUGE-JSON", "centrifuge-json "] {
        assert_eq!(Format::from_subprotocol(unknown), None, "{unknown:?}");
    }
}

#[test]
fn every_request_is_found_in_its_command_under_its_label() {
    let mut seen = HashSet::new();
    for (name, command) in super::commands::values() {
        assert_eq!(command.is_pong(), name == "pong", "{name}");
        let id = command.id;
        match command.clone().into_request() {
            None => assert_eq!(name, "pong"),
            Some(request) => {
                assert!(
                    name.starts_with(request.label()),
                    "{name} is a {}",
                    request.label()
                );
                seen.insert(request.label());
                assert_eq!(
                    crate::protocol::types::Command::new(id, request),
                    command,
                    "{name}"
                );
            }
        }
    }
    assert_eq!(
        seen,
        Request::LABELS.iter().copied().collect::<HashSet<_>>()
    );
}
