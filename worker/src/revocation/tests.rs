//! What is refused, which of two revocations counts, and what a restart remembers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::set::ENTRIES_MAX;
use super::*;

const NOW: u64 = 1_800_000_000;

fn user(id: &str) -> Subject {
    Subject::User(id.to_owned())
}

fn said(subject: Subject, said_at: u64) -> Revocation {
    Revocation {
        subject: Some(subject),
        said_at,
        ..Revocation::default()
    }
}

fn lifted(subject: Subject, said_at: u64) -> Revocation {
    Revocation {
        is_lifted: true,
        ..said(subject, said_at)
    }
}

fn credentials<'a>(user: &'a str, id: Option<&'a str>, issued_at: Option<u64>) -> Credentials<'a> {
    Credentials {
        user,
        token: Some(TokenMarks { id, issued_at }),
    }
}

fn set(revocations: impl IntoIterator<Item = Revocation>) -> RevocationSet {
    let mut set = RevocationSet::default();
    for revocation in revocations {
        set.merge(revocation, NOW);
    }
    set
}

#[test]
fn what_is_revoked_is_refused_and_nothing_else() {
    let old_tokens = Revocation {
        issued_before: 100,
        ..said(Subject::TokensOf("2".to_owned()), 1)
    };
    let set = set([
        said(user("1"), 1),
        said(Subject::Token("t".to_owned()), 1),
        old_tokens,
    ]);
    for (credentials, expected) in [
        (credentials("1", None, None), Some(Refusal::Blocked)),
        (credentials("1", Some("t"), None), Some(Refusal::Blocked)),
        (credentials("3", Some("t"), None), Some(Refusal::Revoked)),
        (credentials("3", Some("u"), Some(1)), None),
        (credentials("2", None, Some(99)), Some(Refusal::Revoked)),
        (credentials("2", None, None), Some(Refusal::Revoked)),
        (credentials("2", None, Some(100)), None),
        (
            Credentials {
                user: "2",
                token: None,
            },
            None,
        ),
        (Credentials::default(), None),
    ] {
        assert_eq!(set.refuse(credentials, NOW), expected, "{credentials:?}");
    }
}

#[test]
fn what_was_said_last_counts_in_whatever_order_it_is_heard() {
    let all = [
        said(user("1"), 10_000),
        lifted(user("1"), 20_000 + NOW * 1000),
        said(user("2"), 30_000),
        lifted(user("2"), 5_000),
    ];
    let forth = set(all.clone());
    let back = set(all.into_iter().rev());
    assert_eq!(forth.digest(), back.digest());
    for set in [forth, back] {
        assert_eq!(set.refuse(credentials("1", None, None), NOW), None);
        let blocked = set.refuse(credentials("2", None, None), NOW);
        assert_eq!(blocked, Some(Refusal::Blocked));
    }
}

#[test]
fn a_revocation_ends_when_it_should() {
    let until = Revocation {
        expire_at: NOW + 10,
        ..said(user("1"), 1)
    };
    let mut set = set([until.clone()]);
    let one = credentials("1", None, None);
    assert_eq!(set.refuse(one, NOW + 9), Some(Refusal::Blocked));
    assert_eq!(set.refuse(one, NOW + 10), None);
    set.expire(NOW + 10);
    assert!(set.all().is_empty());
    assert_eq!(set.digest(), RevocationSet::default().digest());
    assert_eq!(set.merge(until, NOW + 10), Merged::Known, "it is over");
}

#[test]
fn the_set_is_bounded() {
    let many = (0..ENTRIES_MAX).map(|id| said(user(&id.to_string()), 1));
    let mut set = set(many);
    assert_eq!(set.merge(said(user("one more"), 1), NOW), Merged::Full);
    assert_eq!(set.merge(said(user("7"), 2), NOW), Merged::News);
    let mut empty = RevocationSet::default();
    let endless = said(user(&"x".repeat(2000)), 1);
    assert_eq!(empty.merge(endless, NOW), Merged::Full);
}

#[test]
fn clocks_that_differ_do_not_undo_what_is_said_later() {
    let ahead = said(user("1"), (NOW + 60) * 1000);
    let set = set([ahead.clone()]);
    assert!(set.next_moment(&user("1"), NOW * 1000) > ahead.said_at);
    assert_eq!(set.next_moment(&user("2"), NOW * 1000), NOW * 1000);
}

#[tokio::test]
async fn a_restart_remembers_what_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("revocations.json");
    let before = Revocations::load(Some(path.clone())).unwrap();
    for subject in [user("1"), Subject::Token("t".to_owned())] {
        let (news, result) = before.take_in(vec![before.say(subject, 0)]).await;
        assert_eq!(news.len(), 1);
        result.unwrap();
    }
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "others cannot read it");
    let after = Revocations::load(Some(path)).unwrap();
    assert_eq!(after.digest(), before.digest());
    let blocked = after.refuse(credentials("1", None, None));
    assert_eq!(blocked, Some(Refusal::Blocked));
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gone").join("revocations.json");
    let revocations = Revocations::load(Some(path)).unwrap();
    let said = revocations.say(user("1"), 0);
    let (_, result) = revocations.take_in(vec![said]).await;
    assert!(matches!(result, Err(RevocationError::File(_))));
    let blocked = revocations.refuse(credentials("1", None, None));
    assert_eq!(blocked, Some(Refusal::Blocked), "in force all the same");
}

#[test]
fn a_file_that_makes_no_sense_is_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("revocations.json");
    fs::write(&path, "[{").unwrap();
    assert!(Revocations::load(Some(path)).is_err());
}
