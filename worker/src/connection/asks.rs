//! What a connection asks the back end.
//!
//! Owns: the calls in flight. They end with the connection: nobody could be told of an answer any more.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::task::JoinSet;

use super::Connection;
use crate::hooks::{Caller, Hooks};
use crate::session::{About, Answered, Ask, Event};

/// Calls that run beside the connection's task; no memory before the first.
#[derive(Debug, Default)]
pub(super) struct Asks(RefCell<Option<Box<JoinSet<()>>>>);

impl Asks {
    fn begin(&self, call: impl Future<Output = ()> + 'static) {
        self.tidy();
        self.0
            .borrow_mut()
            .get_or_insert_default()
            .spawn_local(call);
    }

    /// Lets go of the calls that have ended.
    pub(super) fn tidy(&self) {
        let mut calls = self.0.borrow_mut();
        if let Some(running) = calls.as_mut() {
            while running.try_join_next().is_some() {}
            if running.is_empty() {
                *calls = None;
            }
        }
    }

    /// Breaks off every call.
    pub(super) fn break_off(&self) {
        self.0.take();
    }
}

impl Connection {
    /// Takes headers from a connect command. Only the first is taken: a second connect command ends the connection.
    pub(super) fn emulate(&self, headers: &BTreeMap<String, String>) {
        let endpoints = self.shard.hooks().endpoints();
        self.caller.borrow_mut().emulate(headers, endpoints);
    }

    /// Asks without anybody waiting.
    pub(super) fn ask(self: &Rc<Self>, ask: Box<Ask>) {
        let shard = self.shard.clone();
        let caller = self.caller.borrow().clone();
        let connection = Rc::downgrade(self);
        self.asks.begin(async move {
            let answered = answer(shard.hooks(), &caller, *ask).await;
            if let Some(connection) = connection.upgrade()
                && connection.is_listening()
            {
                connection.notify(Event::Answered(Box::new(answered)));
            }
        });
    }

    /// Asks, for whoever waits.
    pub(super) async fn answer_to(&self, ask: Ask) -> Answered {
        let caller = self.caller.borrow().clone();
        answer(self.shard.hooks(), &caller, ask).await
    }
}

async fn answer(hooks: &Hooks, caller: &Caller, ask: Ask) -> Answered {
    let Ask { call, about } = ask;
    match about {
        About::Connect(id, request) => {
            Answered::Connect(id, request, hooks.ask(caller, &call).await)
        }
        About::Refresh(renewal) => Answered::Refresh(renewal, hooks.ask(caller, &call).await),
        About::Rpc(id) => Answered::Rpc(id, hooks.ask(caller, &call).await),
        About::Subscribe(channel) => Answered::Subscribe(channel, hooks.ask(caller, &call).await),
        About::Publish { id, channel, data } => Answered::Publish {
            id,
            channel,
            data,
            answer: hooks.ask(caller, &call).await,
        },
        About::SubRefresh(channel, renewal) => {
            Answered::SubRefresh(channel, renewal, hooks.ask(caller, &call).await)
        }
    }
}
