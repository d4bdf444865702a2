//! A bounded set of revocations that becomes the same on every worker.
//!
//! Owns: which of two revocations of one subject counts, and when one is over. Pure: the time is an argument. What was
//! said last counts, whoever hears it first; so the end of a revocation has to be remembered, too, longer than any
//! worker that missed it may be away.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::{Credentials, Refusal, Revocation, Subject};

/// Most revocations, those that are lifted among them. About 20 MiB of identifiers of usual length.
pub(super) const ENTRIES_MAX: usize = 100_000;

/// Longest user or token id, in bytes.
const ID_MAX_BYTES: usize = 1024;

/// How long it is remembered that a revocation was lifted, in seconds.
const LIFTED_KEPT: u64 = 30 * 24 * 60 * 60;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct RevocationSet {
    entries: HashMap<Subject, Revocation>,
    digest: u64,
    changes: u64,
}

/// What became of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merged {
    /// It was not known.
    News,
    /// It, or something newer about its subject, was known; or it is over.
    Known,
    /// There is no room for it.
    Full,
}

impl RevocationSet {
    pub(super) fn merge(&mut self, mut revocation: Revocation, now: u64) -> Merged {
        if revocation.is_lifted {
            revocation.expire_at = revocation.said_at / 1000 + LIFTED_KEPT;
        }
        let Some(subject) = revocation.subject.clone() else {
            return Merged::Known;
        };
        if revocation.is_over(now) {
            return Merged::Known;
        }
        let before = self.entries.get(&subject);
        if before.is_some_and(|before| rank(before) >= rank(&revocation)) {
            return Merged::Known;
        }
        if !self.has_room_for(&subject) {
            return Merged::Full;
        }
        self.digest ^= digest(&revocation);
        if let Some(before) = self.entries.insert(subject, revocation) {
            self.digest ^= digest(&before);
        }
        self.changes += 1;
        Merged::News
    }

    pub(super) fn has_room_for(&self, subject: &Subject) -> bool {
        let is_known = self.entries.contains_key(subject);
        subject.id().len() <= ID_MAX_BYTES && (is_known || self.entries.len() < ENTRIES_MAX)
    }

    /// Forgets what is over.
    pub(super) fn expire(&mut self, now: u64) {
        let before = self.entries.len();
        let left = &mut self.digest;
        self.entries.retain(|_, entry| {
            let stays = !entry.is_over(now);
            if !stays {
                *left ^= digest(entry);
            }
            stays
        });
        self.changes += (before - self.entries.len()) as u64;
    }

    pub(super) fn refuse(&self, credentials: Credentials<'_>, now: u64) -> Option<Refusal> {
        if self.entries.is_empty() {
            return None;
        }
        let hits = |subject| self.entries.get(&subject)?.hits(credentials, now);
        let user = || credentials.user.to_owned();
        hits(Subject::User(user()))
            .or_else(|| hits(Subject::Token(credentials.token?.id?.to_owned())))
            .or_else(|| {
                credentials
                    .token
                    .and_then(|_| hits(Subject::TokensOf(user())))
            })
    }

    /// A time, in Unix milliseconds, that is later than whatever was said of `subject`, and not before `now`: clocks of
    /// workers differ.
    pub(super) fn next_moment(&self, subject: &Subject, now: u64) -> u64 {
        let before = self.entries.get(subject);
        before.map_or(now, |before| now.max(before.said_at + 1))
    }

    pub(super) fn all(&self) -> Vec<Revocation> {
        self.entries.values().cloned().collect()
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Grows with every change.
    pub(super) fn change(&self) -> u64 {
        self.changes
    }
}

/// Which of two revocations of one subject counts: the greater.
fn rank(revocation: &Revocation) -> (u64, bool, u64, u64) {
    (
        revocation.said_at,
        !revocation.is_lifted,
        revocation.issued_before,
        revocation.expire_at,
    )
}

/// The same in every process of one version. Between versions it may differ: they tell each other more than they need to.
fn digest(revocation: &Revocation) -> u64 {
    let mut hasher = DefaultHasher::new();
    revocation.hash(&mut hasher);
    hasher.finish()
}
