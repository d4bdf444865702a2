//! What the application, or an operator, wants of this client.

use flotilla_shared::protocol::codes::DisconnectCode;
use flotilla_shared::protocol::types::{Push, Refresh, Reply};

use super::{Actions, Now, ServerCommand, ServerRefresh, Session, reply, ttl_of};

impl Session {
    pub(super) fn command(&mut self, command: ServerCommand, now: Now, actions: &mut Actions) {
        match command {
            ServerCommand::Disconnect(goodbye) => self.dismiss(goodbye, actions),
            // Who is not there yet is in no channel and has nothing to refresh.
            _ if !self.is_connected() => {}
            ServerCommand::Subscribe(wanted) => self.put_into(*wanted, now, actions),
            ServerCommand::Unsubscribe(channel) => self.take_out_of(&channel, actions),
            ServerCommand::Refresh(wanted) => self.refresh_by_server(wanted, now, actions),
        }
    }

    fn refresh_by_server(&mut self, wanted: ServerRefresh, now: Now, actions: &mut Actions) {
        let ttl_seconds = match ttl_of(wanted.expire_at, now) {
            Ok(ttl_seconds) if !wanted.expired => ttl_seconds,
            _ => return self.close(DisconnectCode::ConnectionExpired, actions),
        };
        if let Some(info) = wanted.info {
            self.info = info;
        }
        let by_client = matches!(self.expiry, super::Expiry::ByClient(_));
        self.expiry = self.expiry_after(ttl_seconds, by_client, now);
        self.is_changed = true;
        let push = Push {
            refresh: Some(Refresh {
                expires: ttl_seconds.is_some(),
                ttl: ttl_seconds.unwrap_or_default(),
            }),
            ..Push::default()
        };
        actions.push(reply(Reply::push(push)));
    }
}
