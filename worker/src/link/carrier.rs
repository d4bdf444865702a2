//! A link as its sessions and the hub know it.
//!
//! Owns: who is on the link, by the gateway's numbers, and what is said to the gateway. The socket is the task's.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use flotilla_shared::link::{ForGateway, ToGateway};

use super::outgoing::Outgoing;
use crate::connection::Connection;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Link {
    pub(super) outgoing: Outgoing,
    sessions: RefCell<HashMap<u64, Rc<Connection>>>,
    topics: Cell<u32>,
}

impl Link {
    /// Says something to the gateway, behind everything that was said before.
    pub(crate) fn say(&self, body: ForGateway) {
        self.outgoing.say(&body.into());
    }

    pub(super) fn heartbeat(&self) {
        self.outgoing.say(&ToGateway::default());
    }

    /// Bytes that the socket has not taken yet.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.outgoing.waiting_bytes()
    }

    /// Whether what clients have asked for has to wait.
    pub(crate) fn is_behind(&self) -> bool {
        self.outgoing.is_behind()
    }

    /// Waits until it need not.
    pub(crate) async fn caught_up(&self) {
        self.outgoing.caught_up().await;
    }

    /// Whether nothing reaches the gateway any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.outgoing.is_closed()
    }

    /// A number for a topic. When there is none left, after thousands of millions, the link ends and a new one begins.
    pub(super) fn draw_topic(&self) -> u32 {
        let number = self.topics.get().wrapping_add(1);
        self.topics.set(number);
        if number == 0 {
            self.outgoing.close();
        }
        number
    }

    /// Whether the gateway has a session of this number here.
    pub(crate) fn has(&self, session: u64) -> bool {
        self.sessions.borrow().contains_key(&session)
    }

    /// The gateway's messages for this session go to `connection` from now on.
    pub(crate) fn carry(&self, session: u64, connection: &Rc<Connection>) {
        self.sessions
            .borrow_mut()
            .insert(session, connection.clone());
    }

    /// The session is over here.
    pub(super) fn forget(&self, session: u64) {
        self.sessions.borrow_mut().remove(&session);
    }

    pub(super) fn session(&self, session: u64) -> Option<Rc<Connection>> {
        self.sessions.borrow().get(&session).cloned()
    }

    /// Everyone who is on the link; nobody is any longer.
    pub(super) fn abandon(&self) -> Vec<Rc<Connection>> {
        self.outgoing.close();
        let sessions = std::mem::take(&mut *self.sessions.borrow_mut());
        sessions.into_values().collect()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Link")
            .field("outgoing", &self.outgoing)
            .finish_non_exhaustive()
    }
}
