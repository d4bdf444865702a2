//! What is cast to many sessions of one link at once.
//!
//! Owns: a topic's number on its link. Who is in it is known to whoever casts.

use std::rc::Rc;

use bytes::Bytes;
use flotilla_shared::channel::Channel;
use flotilla_shared::link::{Cast, ForGateway, Join, Placed, Send, Topic as Named};

use super::{Link, Seat};

/// See the module's documentation. Nobody is told that it is over: it is when nobody is in it any more, and its number is
/// not used again.
#[derive(Debug)]
pub(crate) struct Topic {
    link: Rc<Link>,
    number: u32,
}

impl Topic {
    /// A new topic of the link on which `seat` is, for sessions in `channel`.
    pub(crate) fn new(seat: &Seat, channel: &Channel) -> Rc<Self> {
        let link = seat.link().clone();
        let number = link.draw_topic();
        link.say(ForGateway::Topic(Named {
            topic: number,
            name: Bytes::copy_from_slice(channel.as_str().as_bytes()),
        }));
        Rc::new(Self { link, number })
    }

    /// Whether it is on the link on which `seat` is.
    pub(crate) fn is_near(&self, seat: &Seat) -> bool {
        Rc::ptr_eq(&self.link, seat.link())
    }

    /// Whether somebody still listens.
    pub(crate) fn is_heard(&self) -> bool {
        !self.link.is_closed()
    }

    /// A session has come this far, and gets what is cast from now on if it `takes_casts`.
    pub(crate) fn join(&self, seat: &Seat, offset: Option<u64>, takes_casts: bool) {
        self.link.say(ForGateway::Join(Join {
            session: seat.session(),
            topic: self.number,
            offset,
            takes_casts,
        }));
    }

    /// A session is in it no longer.
    pub(crate) fn leave(&self, seat: &Seat) {
        seat.left(self.number);
    }

    /// For everyone in it; with these frames they have come as far as `offset`.
    pub(crate) fn cast(&self, frames: &Bytes, offset: Option<u64>) {
        self.link.say(ForGateway::Cast(Cast {
            topic: self.number,
            offset,
            frames: frames.clone(),
        }));
    }

    /// For one of those who get no casts.
    pub(crate) fn send(&self, seat: &Seat, frames: &Bytes, offset: Option<u64>) {
        // A later attachment may have its number.
        if seat.is_silent() {
            return;
        }
        let topic = self.number;
        self.link.say(ForGateway::Send(Send {
            session: seat.session(),
            frames: frames.clone(),
            placed: offset.map(|offset| Placed { topic, offset }),
            is_answer: false,
        }));
    }
}
