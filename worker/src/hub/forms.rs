//! One message in all the forms in which the groups of a channel want it.
//!
//! Owns: that each form is encoded once, as long as groups that want the same come one after the other.

use bytes::{Bytes, BytesMut};
use flotilla_shared::protocol::types::Reply;

use super::mode::in_chain;
use crate::wire::Wire;

/// What stands for a publication's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The payload.
    Plain,
    /// The payload, as those get it who take deltas.
    Whole,
    /// What makes it out of the payload before.
    Delta,
}

/// See the module's documentation.
pub(super) struct Forms<'a> {
    /// The message; if it is a publication, in the form that was encoded last.
    reply: Reply,
    payload: Bytes,
    delta: Option<Bytes>,
    /// Of what `scratch` holds the encoding.
    encoded: Option<(Wire, Form)>,
    scratch: &'a mut BytesMut,
}

impl<'a> Forms<'a> {
    /// `delta` is what makes the publication's payload out of the one before it, where it is known and worth sending.
    pub(super) fn new(reply: Reply, delta: Option<Bytes>, scratch: &'a mut BytesMut) -> Self {
        let push = reply.push.as_ref();
        let publication = push.and_then(|push| push.publication.as_ref());
        let payload = publication.map(|publication| publication.data.clone());
        Self {
            payload: payload.unwrap_or_default(),
            reply,
            delta,
            encoded: None,
            scratch,
        }
    }

    /// The form for members that take deltas, who may have the publication before.
    pub(super) fn in_chain(&self, wire: Wire, has_base: bool) -> Form {
        if has_base && self.delta.is_some() {
            Form::Delta
        } else if wire.format().is_text() {
            Form::Whole
        } else {
            Form::Plain
        }
    }

    /// The encoded message; `None` if it cannot be expressed on this wire.
    pub(super) fn encode(&mut self, wire: Wire, form: Form) -> Option<&[u8]> {
        if self.encoded != Some((wire, form)) {
            self.put_on(wire, form);
            self.scratch.clear();
            let result = wire.encode(&self.reply, self.scratch);
            self.encoded = result.is_ok().then_some((wire, form));
        }
        self.encoded.map(|_| &self.scratch[..])
    }

    fn put_on(&mut self, wire: Wire, form: Form) {
        let push = self.reply.push.as_mut();
        let Some(publication) = push.and_then(|push| push.publication.as_mut()) else {
            return;
        };
        let delta = self.delta.as_ref().filter(|_| form == Form::Delta);
        publication.delta = delta.is_some();
        publication.data = match form {
            Form::Plain => self.payload.clone(),
            Form::Whole | Form::Delta => in_chain(&self.payload, delta, wire.format()),
        };
    }
}
