//! What the launcher prints once everything is up. Only layout: it is told what to show.

use std::fmt;

use crate::member::Member;

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
    /// The workers and the gateway.
    pub(crate) processes: Vec<Member>,
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            profile,
            url,
            demo,
            token,
            token_note,
            channel,
            processes,
        } = self;
        writeln!(f, "\nFlotilla is up: {what}.\n")?;
        writeln!(f, "  Demo page   {demo} (open it in several tabs)")?;
        writeln!(f, "  WebSocket   {url}")?;
        writeln!(f, "  Profile     {profile}")?;
        writeln!(f, "  Token       {token_note}:\n\n{token}\n")?;
        writeln!(f, "From a command line, connect with\n")?;
        writeln!(f, "npx wscat -c {url}\n")?;
        writeln!(
            f,
            "and paste these lines (and answer each {{}} that comes with {{}}, to stay):\n"
        )?;
        writeln!(f, r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#)?;
        writeln!(f, r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#)?;
        writeln!(
            f,
            r#"{{"id":3,"publish":{{"channel":"{channel}","data":{{"text":"hello"}}}}}}"#
        )?;
        writeln!(f)?;
        for Member {
            name, pid, admin, ..
        } in processes
        {
            let pid = pid
                .map(|pid| format!("process {pid:<8} "))
                .unwrap_or_default();
            writeln!(f, "  {name:<10}  {pid}http://{admin}/metrics")?;
        }
        writeln!(f, "\nCtrl-C ends everything.")
    }
}
