//! Who asks, and whether it may: the passport, the origin, and whether clients are taken at all.

use flotilla_shared::auth::Passport;
use flotilla_shared::auth::passport::PASSPORT_HEADER;
use flotilla_shared::http::{Header, RequestHead, cors_headers, origin_is_allowed};
use flotilla_shared::lifecycle::Phase;

use super::answer::Answer;
use crate::capacity::Permit;
use crate::metrics::Rejected;
use crate::shard::Shard;

/// Whoever asks, once that is checked.
#[derive(Debug)]
pub(super) struct Visitor {
    /// What the gateway vouches for; nothing, for a client that came without one.
    pub(super) passport: Passport,
    /// What answers say to the page that asks, if one does.
    pub(super) cors: Vec<Header>,
}

/// Checks the passport; without one, the origin.
pub(super) fn visitor(head: &RequestHead, shard: &Shard) -> Result<Visitor, Answer> {
    let admission = shard.admission();
    let origin = head.once("Origin")?;
    let passport = passport(head, shard)?;
    // The gateway has checked the origin.
    if passport.is_none() && !origin_is_allowed(origin, head.host()?, &admission.allowed_origins) {
        let message = "the Origin is not allowed";
        return Err(Answer::new(Rejected::Origin, 403, message));
    }
    Ok(Visitor {
        passport: passport.unwrap_or_default(),
        cors: cors_headers(origin),
    })
}

/// Refuses new clients while the worker does not serve, or not any more.
pub(super) fn is_open(shard: &Shard) -> Result<(), Answer> {
    if shard.lifecycle().phase() == Phase::Serving {
        return Ok(());
    }
    let message = "the worker takes no new clients";
    Err(Answer::unavailable(Rejected::Draining, message))
}

/// A place for one more client.
pub(super) fn room(shard: &Shard) -> Result<Permit, Answer> {
    let full = || Answer::unavailable(Rejected::Capacity, "the worker is full");
    shard.admission().capacity.take().ok_or_else(full)
}

/// What the gateway vouches for, if the client came through one.
fn passport(head: &RequestHead, shard: &Shard) -> Result<Option<Passport>, Answer> {
    let refused = |message| Err(Answer::new(Rejected::Passport, 403, message));
    let admission = shard.admission();
    let mut presented = head.all(PASSPORT_HEADER);
    match (presented.next(), presented.next(), &admission.passport_keys) {
        (None, _, _) if admission.passport_required => {
            refused("clients connect to the gateway, not to the worker")
        }
        (None, _, _) => Ok(None),
        (Some(_), Some(_), _) => refused("more than one passport"),
        (Some(_), None, None) => refused("this worker has no key to verify a passport with"),
        (Some(passport), None, Some(keys)) => match keys.verify(passport, shard.now().unix_seconds)
        {
            Ok(passport) => Ok(Some(passport)),
            Err(error) => {
                // Only gateways connect here: their keys differ from ours, or their clocks do.
                tracing::warn!(%error, "a passport is refused");
                refused("the passport is not valid")
            }
        },
    }
}
