//! `flotilla dev`: one fleet from start to Ctrl-C.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result};
use flotilla_shared::{
    lifecycle::{Lifecycle, Phase, drain_on_signals},
    secret::Secret,
    telemetry::{self, LogOptions},
};
use tokio::net::TcpListener;

use crate::{
    args::{DevArguments, Transport},
    banner::Banner,
    demo::{self, Crew, Demo},
    embedded::Embedded,
    member::{Member, NatsServer},
    orders::Orders,
    ports,
    processes::Processes,
    profile::Profile,
    ready,
    settings::Settings,
    state::FleetDirectory,
    token,
};

/// How long the fleet may take to end; a little more than each process gets (`settings`).
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);

/// The user of the token that is printed.
const USER: &str = "demo";

/// How long the token that is printed is valid: a working day.
const TOKEN_TTL: Duration = Duration::from_secs(12 * 60 * 60);

/// Runs a fleet until it is told to end. Its secret lies in the first of `roots` that can be
/// written to.
///
/// # Errors
/// When something of it does not come up, or all of it is gone.
pub(crate) async fn run(arguments: &DevArguments, roots: &[PathBuf]) -> Result<()> {
    let log = LogOptions {
        level: arguments.log.to_string().to_lowercase(),
        ..LogOptions::default()
    };
    telemetry::init(&log)?;
    let lifecycle = Lifecycle::new();
    drain_on_signals(&lifecycle, DRAIN_TIMEOUT)?;
    let transport = arguments.transport()?;
    let profile = Profile::named(&arguments.profile)?;
    let reserved = ports::for_gateway(arguments.port)?;
    let port = reserved.port;
    let demo_listener = ports::for_demo(port).context("no free port for the demo page")?;
    let settings = Settings {
        token_secret: profile
            .token_secret
            .clone()
            .unwrap_or_else(throw_away_secret),
        passport_secret: throw_away_secret(),
        api_key: profile.api_key.clone().unwrap_or_else(throw_away_secret),
        profile,
        port,
        demo_port: demo_listener.local_addr()?.port(),
        log: arguments.log,
    };
    let directory = FleetDirectory::create(roots, port, &settings.token_secret)?;
    let started = tokio::select! {
        started = Fleet::start(&settings, arguments.workers, transport, &directory) => started?,
        () = lifecycle.wait_for(Phase::Draining) => return Ok(()),
    };
    drop(reserved);
    demo_listener.set_nonblocking(true)?;
    let crew = Crew::new(started.members(), settings.api_key.clone());
    let demo = Demo::new(&settings, crew, started.orders());
    let page = demo::serve(TcpListener::from_std(demo_listener)?, demo);
    let banner = banner(&settings, arguments, &started)?;
    io::stdout().write_all(banner.to_string().as_bytes())?;
    lifecycle.serving();
    tokio::select! {
        ended = started.run(&lifecycle) => ended,
        failed = page => failed.context("the demo page"),
    }
}

fn throw_away_secret() -> Secret {
    Secret::new(format!(
        "{:032x}{:032x}",
        rand::random::<u128>(),
        rand::random::<u128>()
    ))
}

/// A fleet that is up, in either way of running.
#[derive(Debug)]
enum Fleet {
    Embedded(Embedded),
    Processes(Box<Processes>),
}

impl Fleet {
    async fn start(
        settings: &Settings,
        workers: u16,
        transport: Transport,
        directory: &FleetDirectory,
    ) -> Result<Self> {
        let fleet = match transport {
            Transport::Embedded => Self::Embedded(Embedded::start(settings, workers).await?),
            Transport::Nats(server) => {
                let fleet = Processes::start(settings, workers, server, directory).await?;
                Self::Processes(Box::new(fleet))
            }
        };
        ready::wait(fleet.members()).await?;
        Ok(fleet)
    }

    fn members(&self) -> &[Member] {
        match self {
            Self::Embedded(fleet) => fleet.members(),
            Self::Processes(fleet) => fleet.members(),
        }
    }

    fn nats_server(&self) -> Option<&NatsServer> {
        match self {
            Self::Embedded(_) => None,
            Self::Processes(fleet) => fleet.nats_server(),
        }
    }

    /// What has workers killed and started again, where that is possible.
    fn orders(&self) -> Option<Orders> {
        match self {
            Self::Embedded(_) => None,
            Self::Processes(fleet) => Some(fleet.orders()),
        }
    }

    async fn run(self, lifecycle: &Lifecycle) -> Result<()> {
        match self {
            Self::Embedded(fleet) => fleet.run(lifecycle).await,
            Self::Processes(fleet) => fleet.run(lifecycle).await,
        }
    }
}

fn banner(settings: &Settings, arguments: &DevArguments, fleet: &Fleet) -> Result<Banner> {
    let workers = arguments.workers;
    let plural = if workers == 1 { "" } else { "s" };
    let how = match arguments.transport()? {
        Transport::Embedded => "in this process",
        Transport::Nats(_) => "as processes of their own, over NATS",
    };
    let profile = &settings.profile;
    Ok(Banner {
        what: format!("a gateway and {workers} worker{plural}, {how}"),
        profile: format!("{} ({})", arguments.profile, profile.about),
        url: settings.url(),
        demo: format!("http://{}/", ports::loopback(settings.demo_port)),
        token: token::mint(&settings.token_secret, USER, None, TOKEN_TTL)?,
        token_note: format!("for user {USER}, valid for 12 hours; others by `flotilla token`"),
        channel: profile.channel.clone(),
        api_key: settings.api_key.expose().to_owned(),
        members: fleet.members().to_vec(),
        nats: fleet.nats_server().cloned(),
    })
}
