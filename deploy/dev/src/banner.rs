//! What the launcher prints once everything is up. Only layout: it is told what to show.

use std::fmt;

use crate::member::{Member, NatsServer};

/// Everything a developer needs to use the fleet.
#[derive(Debug)]
pub(crate) struct Banner {
    /// What runs, in a few words.
    pub(crate) what: String,
    /// The built-in configuration.
    pub(crate) profile: String,
    /// Where clients connect.
    pub(crate) url: String,
    /// The demo page.
    pub(crate) demo: String,
    /// A valid connection token.
    pub(crate) token: String,
    /// Whom it is for, and for how long.
    pub(crate) token_note: String,
    /// The channel of the examples.
    pub(crate) channel: String,
    /// What a back end presents to publish.
    pub(crate) api_key: String,
    /// The workers and the gateway.
    pub(crate) members: Vec<Member>,
    /// The nats-server that was started for them.
    pub(crate) nats: Option<NatsServer>,
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            profile,
            url,
            demo,
            ..
        } = self;
        let Self {
            token,
            token_note,
            channel,
            api_key,
            ..
        } = self;
        write!(
            f,
            r#"
Flotilla is up: {what}.

  Demo page   {demo} (open it in several tabs)
  WebSocket   {url}
  Profile     {profile}
  Token       {token_note}:

{token}

From a command line, connect with

npx wscat -c '{url}?cf_ws_frame_ping_pong=true'

and paste these lines:

{{"id":1,"connect":{{"token":"{token}"}}}}
{{"id":2,"subscribe":{{"channel":"{channel}"}}}}
{{"id":3,"publish":{{"channel":"{channel}","data":{{"text":"hello"}}}}}}

"#
        )?;
        if let Some(api) = self.members.iter().find_map(|member| member.listening.api) {
            write!(
                f,
                r#"A back end publishes through any worker, as in

curl -H 'X-API-Key: {api_key}' http://{api}/api/publish \
  -d '{{"channel":"{channel}","data":{{"text":"hello from the back end"}}}}'

"#
            )?;
        }
        for Member {
            name,
            pid,
            listening,
        } in &self.members
        {
            let about = format!("http://{}/metrics", listening.admin);
            process(f, name, *pid, &about)?;
        }
        if let Some(NatsServer { pid, url }) = &self.nats {
            process(f, "nats", Some(*pid), url)?;
        }
        writeln!(f, "\nCtrl-C ends everything.")
    }
}

/// A line on one process; those that are a part of this one have no id.
fn process(f: &mut fmt::Formatter<'_>, name: &str, pid: Option<i32>, about: &str) -> fmt::Result {
    match pid {
        Some(pid) => writeln!(f, "  {name:<10}  process {pid:<8}  {about}"),
        None => writeln!(f, "  {name:<10}  {about}"),
    }
}
