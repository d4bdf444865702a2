//! A session that moves from worker to worker, at both ends.

use super::Connection;
use crate::closing::Ending;
use crate::fleet::MovedSession;
use crate::session::Origin;

impl Connection {
    /// The session has been attached elsewhere, for the time with this number. It is not here any more if it was attached
    /// here before that. One that is not on a link cannot have moved.
    pub(crate) fn moved(&self, generation: u32) {
        let own = self.session.borrow().generation();
        if (1..generation).contains(&own) {
            self.end(Ending::Moved);
        }
    }

    /// The session is here, in all its channels.
    pub(super) fn arrived(&self, origin: Origin) {
        let session = self.session.borrow();
        let moved = MovedSession {
            client: session.client().to_string(),
            user: session.user().to_owned(),
            generation: session.generation(),
        };
        self.shard.moved(origin, moved);
    }
}
