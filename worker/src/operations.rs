//! What a shard does for others: for whoever calls the server API, on this worker or on another.
//!
//! Owns: the errands' execution. Each is done at once, between two batches of the shard's own work; none waits.

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::rc::Rc;

use flotilla_shared::auth::ChannelGrant;
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::Format;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::closing::Goodbye;
use crate::connection::Connection;
use crate::fleet::{
    Answer, ConnectionInfo, ConnectionList, Connections, Counts, Disconnect, Errand, Listed, Load,
    Members, Moved, Question, Refresh, Roll, Subscribe, Target,
};
use crate::glob::Glob;
use crate::link;
use crate::session::{Event, ServerCommand, ServerRefresh, ServerSubscribe};
use crate::shard::Shard;

/// Does errands until nobody has any more, which is never.
pub(crate) async fn serve(shard: Rc<Shard>, mut errands: mpsc::Receiver<Errand>) {
    while let Some(errand) = errands.recv().await {
        // Whoever asked may have lost patience.
        match errand {
            Errand::Question(question, reply) => drop(reply.send(answer(&shard, &question))),
            Errand::Load(reply) => drop(reply.send(load(&shard))),
            Errand::Link(arrival) => {
                tokio::task::spawn_local(link::serve(shard.clone(), *arrival));
            }
        }
        // A shard that always finds errands must still read its sockets.
        tokio::task::yield_now().await;
    }
}

fn answer(shard: &Rc<Shard>, question: &Question) -> Answer {
    match question {
        Question::Subscribe(wanted) => subscribe(shard, wanted),
        Question::Refresh(wanted) => refresh(shard, wanted),
        Question::Unsubscribe(wanted) => unsubscribe(shard, &wanted.target, &wanted.channel),
        Question::Disconnect(wanted) => disconnect(shard, wanted),
        Question::Presence(asked) => presence(shard, &asked.channel),
        Question::PresenceStats(asked) => users_in(shard, &asked.channel),
        Question::Roll(asked) => roll(shard, &asked.channels),
        Question::Channels(asked) => channels(shard, &asked.pattern),
        Question::Connections(asked) => connections(shard, asked),
        Question::Revoke(_) => revoke(shard),
        Question::Moved(moved) => forget(shard, moved),
        // Those are answered for the worker as a whole.
        Question::Info(_) | Question::Emulate(_) | Question::Revocations(_) => Answer::refused(),
    }
}

fn channel(shard: &Shard, name: &str) -> Option<Channel> {
    Channel::parse(name, shard.policy().channel_max_bytes).ok()
}

/// The connections that a command is for.
fn targets(shard: &Shard, target: &Target) -> Vec<Rc<Connection>> {
    let mut connections = shard.connections_of(&target.user);
    connections.retain(|connection| {
        let session = connection.session().borrow();
        session.is_connected()
            && (target.client.is_empty() || session.client().to_string() == target.client)
            && (target.session.is_empty() || session.session() == Some(&target.session))
    });
    connections
}

fn subscribe(shard: &Shard, wanted: &Subscribe) -> Answer {
    let Some(channel) = channel(shard, &wanted.channel) else {
        return Answer::refused();
    };
    let recover_since = wanted.recover_since.as_ref();
    let command = ServerSubscribe {
        channel,
        grant: ChannelGrant {
            info: wanted.info.clone(),
            data: wanted.data.clone(),
            overrides: (&wanted.overrides).into(),
        },
        expire_at: (wanted.expire_at > 0).then_some(wanted.expire_at),
        recover_since: recover_since.map(|since| (since.offset, since.epoch.clone())),
    };
    for connection in targets(shard, &wanted.target) {
        let command = ServerCommand::Subscribe(Box::new(command.clone()));
        connection.notify(Event::Command(command));
    }
    Answer::done()
}

fn refresh(shard: &Shard, wanted: &Refresh) -> Answer {
    let command = ServerRefresh {
        expired: wanted.expired,
        expire_at: (wanted.expire_at > 0).then_some(wanted.expire_at),
        info: Some(wanted.info.clone()).filter(|info| !info.is_empty()),
    };
    for connection in targets(shard, &wanted.target) {
        let command = ServerCommand::Refresh(command.clone());
        connection.notify(Event::Command(command));
    }
    Answer::done()
}

fn unsubscribe(shard: &Shard, target: &Target, name: &str) -> Answer {
    let Some(channel) = channel(shard, name) else {
        return Answer::refused();
    };
    for connection in targets(shard, target) {
        let command = ServerCommand::Unsubscribe(channel.clone());
        connection.notify(Event::Command(command));
    }
    Answer::done()
}

fn disconnect(shard: &Shard, wanted: &Disconnect) -> Answer {
    let Ok(code) = u16::try_from(wanted.code) else {
        return Answer::refused();
    };
    let goodbye = Goodbye::new(code, &wanted.reason);
    for connection in targets(shard, &wanted.target) {
        let client = connection.session().borrow().client().to_string();
        let newcomer = wanted.newcomer.as_ref();
        let gives_way = newcomer.is_none_or(|newcomer| connection.gives_way_to(newcomer));
        if gives_way && !wanted.whitelist.contains(&client) {
            let command = ServerCommand::Disconnect(goodbye.clone());
            connection.notify(Event::Command(command));
        }
    }
    Answer::done()
}

fn presence(shard: &Shard, name: &str) -> Answer {
    let members = channel(shard, name).map(|channel| shard.presence(&channel));
    Answer::Members(Members {
        members: members.unwrap_or_default(),
    })
}

fn users_in(shard: &Shard, name: &str) -> Answer {
    let by_name = channel(shard, name).map(|channel| shard.users_in(&channel));
    Answer::Counts(Counts {
        by_name: by_name.unwrap_or_default(),
    })
}

/// The worker adds which life of it answers.
fn roll(shard: &Shard, channels: &[String]) -> Answer {
    let mut entries = Vec::new();
    for (name, place) in channels.iter().zip(0..) {
        if let Some(channel) = channel(shard, name) {
            let members = shard.announced_in(&channel).into_iter();
            entries.extend(members.map(|(member, generation, is_elsewhere)| Listed {
                place,
                member,
                generation,
                is_elsewhere,
            }));
        }
    }
    Answer::Roll(Roll { life: 0, entries })
}

fn channels(shard: &Shard, pattern: &str) -> Answer {
    let Ok(glob) = Glob::new(pattern) else {
        return Answer::refused();
    };
    let population = shard.population().into_iter();
    let matching = population.filter(|(channel, _)| glob.matches(channel.as_str()));
    let by_name = matching.map(|(channel, members)| (channel.as_str().to_owned(), members as u64));
    Answer::Counts(Counts {
        by_name: by_name.collect(),
    })
}

fn connections(shard: &Shard, asked: &Connections) -> Answer {
    let after: Option<Uuid> = asked.after.parse().ok();
    let mut found: Vec<(Uuid, Rc<Connection>)> = Vec::new();
    for connection in shard.all_connections() {
        let session = connection.session().borrow();
        let is_wanted = asked
            .user
            .as_ref()
            .is_none_or(|user| session.user() == user);
        let client = session.client();
        let is_wanted = is_wanted && !connection.is_leaving();
        if session.is_connected() && is_wanted && after.is_none_or(|after| client > after) {
            drop(session);
            found.push((client, connection));
        }
    }
    // Ids and their texts have one order.
    found.sort_unstable_by_key(|(client, _)| *client);
    found.truncate(asked.limit as usize);
    let connections = found.into_iter().map(|(client, connection)| {
        let session = connection.session().borrow();
        let token = session.credentials().token.unwrap_or_default();
        ConnectionInfo {
            client: client.to_string(),
            user: session.user().to_owned(),
            transport: connection.wire().label().to_owned(),
            protocol: match connection.wire().format() {
                Format::Json => "json",
                Format::Protobuf => "protobuf",
            }
            .to_owned(),
            channels: session
                .channels()
                .map(|own| own.as_str().to_owned())
                .collect(),
            token_id: token.id.unwrap_or_default().to_owned(),
            token_issued_at: token.issued_at.unwrap_or_default(),
        }
    });
    Answer::Connections(ConnectionList {
        connections: connections.collect(),
    })
}

/// Ends the connections that revocations are about. This worker's set has them already.
fn revoke(shard: &Shard) -> Answer {
    let revocations = &shard.policy().revocations;
    for connection in shard.all_connections() {
        let refusal = revocations.refuse(connection.session().borrow().credentials());
        if let Some(refusal) = refusal {
            let command = ServerCommand::Disconnect(refusal.code().into());
            connection.notify(Event::Command(command));
        }
    }
    Answer::done()
}

/// Lets go of sessions that are elsewhere now.
fn forget(shard: &Shard, moved: &Moved) -> Answer {
    for session in &moved.sessions {
        let Ok(client) = Uuid::parse_str(&session.client) else {
            continue;
        };
        for connection in shard.connections_as(&session.user, client) {
            connection.moved(session.generation);
        }
    }
    Answer::done()
}

fn load(shard: &Shard) -> Load {
    let mut load = Load {
        clients: shard.connections(),
        ..Load::default()
    };
    for connection in shard.all_connections() {
        let session = connection.session().borrow();
        if session.is_connected() {
            load.users.insert(hash(session.user()));
        }
    }
    for (channel, members) in shard.population() {
        load.channels.insert(hash(channel.as_str()));
        load.subscriptions += members;
    }
    load
}

/// The same in every shard of a process.
fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}
