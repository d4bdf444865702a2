//! What no longer counts, although its signature is good: users that are blocked, and tokens that are revoked.
//!
//! Owns: this worker's set of revocations, its file, and the question whether a client may come in. Every worker has the
//! same set; how they tell each other is the business of `fleet`. It is asked when a client connects, subscribes or
//! refreshes, never while anything is delivered.

mod file;
mod set;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use flotilla_shared::clock::{unix_millis, unix_seconds};
use flotilla_shared::protocol::codes::DisconnectCode;
use prost::{Message, Oneof};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use set::{Merged, RevocationSet};

/// One revocation, or the end of one. The same between workers and in the file; numbers and names are never used again
/// for something else.
#[derive(Clone, PartialEq, Eq, Hash, Message, Serialize, Deserialize)]
pub(crate) struct Revocation {
    /// What is revoked; `None`: something that this version does not know.
    #[prost(oneof = "Subject", tags = "1, 2, 3")]
    pub(crate) subject: Option<Subject>,
    /// Tokens issued before this are revoked, in Unix seconds. Of [`Subject::TokensOf`] only.
    #[prost(uint64, tag = "4")]
    #[serde(default)]
    pub(crate) issued_before: u64,
    /// When it ends by itself, in Unix seconds; 0: never.
    #[prost(uint64, tag = "5")]
    #[serde(default)]
    pub(crate) expire_at: u64,
    /// It is no longer in force.
    #[prost(bool, tag = "6")]
    #[serde(default)]
    pub(crate) is_lifted: bool,
    /// When it was said, in Unix milliseconds: what was said last counts.
    #[prost(uint64, tag = "7")]
    pub(crate) said_at: u64,
}

/// What a revocation is about.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Oneof, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Subject {
    /// A user may not connect.
    #[prost(string, tag = "1")]
    User(String),
    /// The token with this `jti` is not accepted.
    #[prost(string, tag = "2")]
    Token(String),
    /// Tokens of this user that were issued too early, or do not say when, are not accepted.
    #[prost(string, tag = "3")]
    TokensOf(String),
}

/// What identifies a client: its user, and the token by which it is that user.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Credentials<'a> {
    /// The user's id.
    pub(crate) user: &'a str,
    /// The token, if it came with one.
    pub(crate) token: Option<TokenMarks<'a>>,
}

/// What a token can be told by.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TokenMarks<'a> {
    /// `jti`.
    pub(crate) id: Option<&'a str>,
    /// `iat`, in Unix seconds.
    pub(crate) issued_at: Option<u64>,
}

/// Why a client may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its user is blocked.
    Blocked,
    /// Its token is revoked.
    Revoked,
}

impl Subject {
    /// The id of the user or of the token.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::User(id) | Self::Token(id) | Self::TokensOf(id) => id,
        }
    }
}

impl Refusal {
    /// The code by which the client is sent away.
    pub(crate) fn code(self) -> DisconnectCode {
        match self {
            Self::Blocked => DisconnectCode::ForceDisconnect,
            Self::Revoked => DisconnectCode::InvalidToken,
        }
    }
}

/// Why revocations were not taken in, or not all of them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevocationError {
    /// There is no room for more.
    #[error("too many revocations; let them end with the tokens that they are about")]
    Full,
    /// They are in force, but a restart of this worker would forget them.
    #[error("the revocations could not be written to their file")]
    File(#[from] io::Error),
}

/// See the module's documentation. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revocations(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    set: RwLock<RevocationSet>,
    file: Option<PathBuf>,
    /// The change of the set that the file holds; locked while it is written.
    saved: Mutex<u64>,
}

impl Revocations {
    /// The set that `file` holds, which is empty if there is none yet; without a file, an empty one that is forgotten
    /// when the process ends.
    ///
    /// # Errors
    /// When the file cannot be read or makes no sense: whoever was blocked would get in.
    pub(crate) fn load(file: Option<PathBuf>) -> io::Result<Self> {
        let mut set = RevocationSet::default();
        if let Some(path) = &file {
            for revocation in file::read(path)? {
                set.merge(revocation, unix_seconds());
            }
        }
        Ok(Self(Arc::new(Inner {
            set: RwLock::new(set),
            file,
            saved: Mutex::default(),
        })))
    }

    /// Whether `credentials` still count.
    pub(crate) fn refuse(&self, credentials: Credentials<'_>) -> Option<Refusal> {
        self.read().refuse(credentials, unix_seconds())
    }

    /// Whether a revocation of `subject` could be taken in.
    pub(crate) fn has_room_for(&self, subject: &Subject) -> bool {
        self.write().expire(unix_seconds());
        self.read().has_room_for(subject)
    }

    /// A revocation that is said now, in place of whatever was said of its subject before.
    pub(crate) fn say(&self, subject: Subject, expire_at: u64) -> Revocation {
        let said_at = self.read().next_moment(&subject, unix_millis());
        Revocation {
            subject: Some(subject),
            expire_at,
            said_at,
            ..Revocation::default()
        }
    }

    /// Takes revocations in and, if there is a file, writes it; returns those that are news.
    ///
    /// # Errors
    /// As [`RevocationError`] says. What found room is in force all the same.
    pub(crate) async fn take_in(
        &self,
        revocations: Vec<Revocation>,
    ) -> (Vec<Revocation>, Result<(), RevocationError>) {
        let now = unix_seconds();
        let mut news = Vec::new();
        let mut is_full = false;
        let change = {
            let mut set = self.write();
            set.expire(now);
            for revocation in revocations {
                match set.merge(revocation.clone(), now) {
                    Merged::News => news.push(revocation),
                    Merged::Known => {}
                    Merged::Full => is_full = true,
                }
            }
            set.change()
        };
        let saved = self.save(change).await.map_err(RevocationError::from);
        let room = if is_full {
            Err(RevocationError::Full)
        } else {
            Ok(())
        };
        (news, room.and(saved))
    }

    /// Everything, unless whoever asks knows it all; see [`Self::digest`].
    pub(crate) fn unknown_to(&self, digest: u64) -> Vec<Revocation> {
        let set = self.read();
        if set.digest() == digest {
            return Vec::new();
        }
        set.all()
    }

    /// Equal for equal sets.
    pub(crate) fn digest(&self) -> u64 {
        self.read().digest()
    }

    /// Writes the file, unless somebody has written this change already.
    async fn save(&self, change: u64) -> io::Result<()> {
        let Some(path) = self.0.file.clone() else {
            return Ok(());
        };
        let mut saved = self.0.saved.lock().await;
        if *saved >= change {
            return Ok(());
        }
        let (change, all) = {
            let set = self.read();
            (set.change(), set.all())
        };
        tokio::task::spawn_blocking(move || file::write(&path, &all)).await??;
        *saved = change;
        Ok(())
    }

    /// A panic while the set is held leaves it usable.
    fn read(&self) -> RwLockReadGuard<'_, RevocationSet> {
        self.0.set.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, RevocationSet> {
        self.0.set.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Revocation {
    /// Whether it is about a client with these credentials. `now` in Unix seconds.
    fn hits(&self, credentials: Credentials<'_>, now: u64) -> Option<Refusal> {
        if self.is_lifted || self.is_over(now) {
            return None;
        }
        let token = credentials.token;
        match self.subject.as_ref()? {
            Subject::User(user) => (user == credentials.user).then_some(Refusal::Blocked),
            Subject::Token(id) => (token?.id == Some(id.as_str())).then_some(Refusal::Revoked),
            Subject::TokensOf(user) => {
                let is_older = token?.issued_at.is_none_or(|at| at < self.issued_before);
                (user == credentials.user && is_older).then_some(Refusal::Revoked)
            }
        }
    }

    fn is_over(&self, now: u64) -> bool {
        self.expire_at != 0 && self.expire_at <= now
    }
}

#[cfg(test)]
mod tests;
