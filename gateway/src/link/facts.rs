//! What workers are told of a client's request, whenever its session is opened.
//!
//! Owns: that, in as little memory as it takes, for as long as the client is here. The passport in it is signed anew when it
//! has become too old.

use flotilla_shared::auth::PassportKeys;
use flotilla_shared::auth::passport::{PASSPORT_HEADER, PASSPORT_TTL_SECONDS};
use flotilla_shared::clock::unix_seconds;
use flotilla_shared::link::Open;
use prost::Message as _;

use super::thread::Thread;

/// How old a passport may be that is shown, in seconds: half as old as it is valid for.
const SHOWN_UP_TO_SECONDS: u64 = PASSPORT_TTL_SECONDS / 2;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Facts {
    /// An encoded [`Open`].
    open: Box<[u8]>,
    /// When its passport was signed.
    signed_at: u64,
    /// What the client's worker is chosen by.
    sticky_key: Option<Box<str>>,
}

impl Facts {
    /// What `open` says, with a passport that has just been signed.
    pub(crate) fn new(open: &Open, sticky_key: Option<String>) -> Self {
        Self {
            open: open.encode_to_vec().into_boxed_slice(),
            signed_at: unix_seconds(),
            sticky_key: sticky_key.map(String::into_boxed_str),
        }
    }

    pub(super) fn sticky_key(&self) -> Option<&str> {
        self.sticky_key.as_deref()
    }

    /// What a worker is told now.
    pub(super) fn open(&self, thread: &Thread) -> Open {
        // What was encoded here can be decoded.
        let mut open = Open::decode(&*self.open).unwrap_or_default();
        let now = unix_seconds();
        if now.saturating_sub(self.signed_at) > SHOWN_UP_TO_SECONDS
            && let Some(keys) = thread.passport_keys()
        {
            let passports = open.headers.iter_mut();
            for passport in passports.filter(|header| header.name == PASSPORT_HEADER) {
                if let Some(fresh) = renewed(keys, &passport.value, self.signed_at, now) {
                    passport.value = fresh;
                }
            }
        }
        open
    }
}

/// The same passport, signed now.
fn renewed(keys: &PassportKeys, passport: &str, signed_at: u64, now: u64) -> Option<String> {
    let passport = keys.verify(passport, signed_at).ok()?;
    keys.sign(&passport, now).ok()
}
