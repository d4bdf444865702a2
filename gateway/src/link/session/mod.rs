//! One client's session as the gateway keeps it: where it lives, and what another worker would need to go on with it.
//!
//! Pure: no socket, no clock, no link; a link is a number here. Every event says which link it comes from, and what comes
//! from another one than that where the session lives changes nothing.
//!
//! ```text
//!            open                opened                release
//!   Lost ───────────▶ Opening ───────────▶ Attached ───────────▶ Detaching
//!    ▲                   │                     │                     │
//!    └─── refused, lost ─┴──────── lost ───────┴── detached, lost ───┘       close, from anywhere: Closed
//! ```

use bytes::Bytes;
use flotilla_shared::link::Message;

use super::window::Window;

/// Which link: each one of a thread has another number, also one that takes another's place.
pub(super) type LinkNumber = u64;

/// Where a session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attachment {
    /// Nowhere. It has not been opened yet, or is waiting for its turn to be opened again.
    Lost,
    /// A worker has been asked to take it.
    Opening(LinkNumber),
    /// A worker has it.
    Attached(LinkNumber),
    /// Its worker has been asked to hand it over, and may still have something for the client.
    Detaching(LinkNumber),
    /// Nowhere any more: the client is gone, or told to go.
    Closed,
}

/// What the worker that is asked to take a session has to know.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opening {
    /// How often it has been asked for, this time included.
    pub(super) generation: u32,
    /// The last state, if the session has lived somewhere before.
    pub(super) state: Option<Bytes>,
    /// What has not been acknowledged, in order.
    pub(super) messages: Vec<Message>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Session {
    number: u64,
    attachment: Attachment,
    generation: u32,
    /// A worker has had it.
    has_lived: bool,
    window: Window,
    state: Bytes,
}

impl Session {
    /// One that has not been opened yet.
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            attachment: Attachment::Lost,
            generation: 0,
            has_lived: false,
            window: Window::default(),
            state: Bytes::new(),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.attachment == Attachment::Closed
    }

    /// Whether the client has said something that nobody has acknowledged.
    pub(super) fn is_owed(&self) -> bool {
        !self.window.is_empty()
    }

    /// Whether the client may say something.
    pub(super) fn may_read(&self) -> bool {
        !self.window.is_full() && !self.is_closed()
    }

    /// The link that what the client says goes to at once.
    pub(super) fn sends_to(&self) -> Option<LinkNumber> {
        match self.attachment {
            Attachment::Attached(link) => Some(link),
            _ => None,
        }
    }

    /// Whether what comes over this link for the client is passed on. From a worker that has been asked and has not
    /// answered, too, unless the client has not been answered either.
    pub(super) fn takes_from(&self, link: LinkNumber) -> bool {
        match self.attachment {
            Attachment::Attached(at) | Attachment::Detaching(at) => at == link,
            Attachment::Opening(at) => at == link && self.has_lived,
            Attachment::Lost | Attachment::Closed => false,
        }
    }

    /// A worker is asked to take it. `None`: it is somewhere, or needs nobody any more.
    pub(super) fn open(&mut self, link: LinkNumber) -> Option<Opening> {
        if self.attachment != Attachment::Lost {
            return None;
        }
        self.attachment = Attachment::Opening(link);
        self.generation += 1;
        // A client that has not been answered yet may not have said anything, and nothing is lost if it has: that is said
        // once it has been opened.
        self.window.begin_anew();
        let messages = if self.has_lived {
            // Whose they are goes without saying.
            self.give(0)
        } else {
            Vec::new()
        };
        Some(Opening {
            generation: self.generation,
            state: self.has_lived.then(|| self.state.clone()),
            messages,
        })
    }

    /// The worker has taken it, and is given what was said meanwhile. `None`: it was not asked.
    pub(super) fn opened(&mut self, link: LinkNumber) -> Option<Vec<Message>> {
        if self.attachment != Attachment::Opening(link) {
            return None;
        }
        self.attachment = Attachment::Attached(link);
        self.has_lived = true;
        Some(self.give(self.number))
    }

    /// What the worker can be given now, as of this session.
    fn give(&mut self, session: u64) -> Vec<Message> {
        let given = self.window.give().into_iter();
        let messages = given.map(|kept| Message {
            session,
            number: kept.number,
            payload: kept.payload,
        });
        messages.collect()
    }

    /// The worker does not take it, or has not said so for too long. Whether it had been asked.
    pub(super) fn refused(&mut self, link: LinkNumber) -> bool {
        let was_asked = self.attachment == Attachment::Opening(link);
        if was_asked {
            self.attachment = Attachment::Lost;
        }
        was_asked
    }

    /// The link is gone. Whether that matters.
    pub(super) fn lost(&mut self, link: LinkNumber) -> bool {
        let was_there = self.takes_from(link) || self.attachment == Attachment::Opening(link);
        if was_there {
            self.attachment = Attachment::Lost;
        }
        was_there
    }

    /// The worker wants to be rid of it. Whether it is to be asked to hand it over.
    pub(super) fn release(&mut self, link: LinkNumber) -> bool {
        let is_there = self.attachment == Attachment::Attached(link);
        if is_there {
            self.attachment = Attachment::Detaching(link);
        }
        is_there
    }

    /// The worker has handed it over. False if it had not been asked to.
    pub(super) fn detached(&mut self, link: LinkNumber) -> bool {
        let was_asked = self.attachment == Attachment::Detaching(link);
        if was_asked {
            self.attachment = Attachment::Lost;
        }
        was_asked
    }

    /// The client has said something, which is kept until it is acknowledged.
    pub(super) fn said(&mut self, payload: Bytes) {
        if !self.is_closed() {
            self.window.push(payload);
        }
    }

    /// What is to be sent now, and where. To be asked when something was said, and when something was acknowledged.
    pub(super) fn unsent(&mut self) -> Option<(LinkNumber, Vec<Message>)> {
        let link = self.sends_to()?;
        Some((link, self.give(self.number)))
    }

    /// A message has been handled and answered. False if the worker cannot have had it.
    pub(super) fn acknowledged(&mut self, link: LinkNumber, number: u64) -> bool {
        !self.takes_from(link) || self.window.acknowledge(number)
    }

    /// What the session is has changed.
    pub(super) fn became(&mut self, link: LinkNumber, state: Bytes) {
        if self.takes_from(link) {
            self.state = state;
        }
    }

    /// The client is gone, or told to go. The link over which its worker has to hear it, if there is one.
    pub(super) fn close(&mut self) -> Option<LinkNumber> {
        let before = std::mem::replace(&mut self.attachment, Attachment::Closed);
        self.window = Window::default();
        self.state = Bytes::new();
        match before {
            Attachment::Opening(link)
            | Attachment::Attached(link)
            | Attachment::Detaching(link) => Some(link),
            Attachment::Lost | Attachment::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests;
