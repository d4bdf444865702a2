//! The fleet as real processes over NATS: children of this one, which run the same code as the two
//! service binaries.
//!
//! They stay in the launcher's process group, so that a terminal's Ctrl-C reaches them, and end when
//! the launcher does (`parent`). Only NATS has a group of its own: the others need it to leave. A
//! child that is killed stays dead until a person starts it again (`obey`): to see what happens meanwhile
//! is what this way of running is for.

mod child;
mod log_line;
mod nats;
mod obey;

use std::{
    env,
    io::{self, IsTerminal},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    task::{self, Waker},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use flotilla_shared::lifecycle::{Lifecycle, Phase};
use tokio::{
    process::Command,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time,
};
use toml::Table;

use crate::{
    args::NatsSource,
    member::{Member, NatsServer},
    orders::{Order, Orders},
    ports::{self, Reserved},
    settings::Settings,
    state::FleetDirectory,
};
use child::{Child, Ended, Ends};

/// How much later than a child the launcher may see a signal that was sent to both.
const SIGNAL_TIMEOUT: Duration = Duration::from_millis(250);

/// How long killed children are waited for.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// A fleet of child processes. They end soon after this is dropped.
#[derive(Debug)]
pub(crate) struct Processes {
    /// Workers and the gateway.
    services: Vec<Child>,
    /// Who watches over the nats-server that was started for this fleet.
    nats: Option<Child>,
    nats_server: Option<NatsServer>,
    ends: Ends,
    /// The command that starts each child again, by the child's name.
    commands: Vec<(String, String)>,
    /// The configuration of each worker, by the worker's name.
    workers: Vec<(String, PathBuf)>,
    members: Vec<Member>,
    /// What workers come back to.
    reserved: Vec<Reserved>,
    orders: Orders,
    asked: mpsc::Receiver<Order>,
    /// Starts of workers that are still leaving.
    starts: Vec<Order>,
    interrupts: Signal,
    log: tracing::Level,
}

impl Processes {
    /// Starts NATS if it has to be, then `workers` workers and the gateway.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub(crate) async fn start(
        settings: &Settings,
        workers: u16,
        nats: NatsSource,
        directory: &FleetDirectory,
    ) -> Result<Self> {
        let (orders, asked) = Orders::new();
        let mut fleet = Self {
            services: Vec::new(),
            nats: None,
            nats_server: None,
            ends: Ends::new(),
            commands: Vec::new(),
            workers: Vec::new(),
            members: Vec::new(),
            reserved: Vec::new(),
            orders,
            asked,
            starts: Vec::new(),
            interrupts: signal(SignalKind::interrupt())?,
            log: settings.log,
        };
        let url = match nats {
            NatsSource::Running(url) => url,
            NatsSource::Started(program) => fleet.start_nats(program, directory).await?,
        };
        let mut starting = Vec::new();
        for index in 1..=workers {
            let name = format!("worker-{index}");
            let (ports, reserved) = ports::for_worker()?;
            fleet.reserved.extend(reserved);
            let table = settings.worker(&name, Some(&url), ports);
            let config = write(directory, &name, &table)?;
            starting.push(fleet.start_service("worker", &name, &config)?);
            fleet.workers.push((name, config));
        }
        let table = settings.gateway(Some(&url));
        let config = write(directory, "gateway", &table)?;
        starting.push(fleet.start_service("gateway", "gateway", &config)?);
        for child in starting {
            fleet.up(child).await?;
        }
        Ok(fleet)
    }

    /// The workers, then the gateway.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The nats-server, if it was started for this fleet.
    pub(crate) fn nats_server(&self) -> Option<&NatsServer> {
        self.nats_server.as_ref()
    }

    /// What has workers killed, drained and started again while this runs.
    pub(crate) fn orders(&self) -> Orders {
        self.orders.clone()
    }

    async fn start_nats(
        &mut self,
        program: Option<PathBuf>,
        directory: &FleetDirectory,
    ) -> Result<String> {
        let program = nats::find(program.as_deref(), env::var_os("PATH").as_deref())?;
        let files = directory.subdirectory("nats")?;
        let command = nats::command(&program, &files)?;
        self.nats = Some(Child::start("nats", command, self.log, &mut self.ends)?);
        let server = nats::listening(&files).await?;
        let again = nats::same_again(&program, &files, &server);
        self.commands.push(("nats".to_owned(), again));
        Ok(self.nats_server.insert(server).url.clone())
    }

    fn start_service(&mut self, kind: &str, name: &str, config: &Path) -> Result<Child> {
        let program = env::current_exe().context("the path of this program")?;
        let mut command = Command::new(&program);
        command
            .arg(kind)
            .arg("--exit-with-parent")
            .arg("--config")
            .arg(config);
        // A variable that is meant for some other service must not change this fleet.
        for (variable, _) in env::vars_os() {
            if variable.to_string_lossy().starts_with("FLOTILLA_") {
                command.env_remove(variable);
            }
        }
        let child = Child::start(name, command, self.log, &mut self.ends)?;
        let again = format!(
            "{} {kind} --config {} --set log.format=text",
            program.display(),
            config.display()
        );
        self.commands.retain(|(known, _)| known != name);
        self.commands.push((name.to_owned(), again));
        Ok(child)
    }

    async fn up(&mut self, mut child: Child) -> Result<()> {
        let listening = child.listening().await?;
        self.members.push(Member {
            name: child.name().to_owned(),
            pid: Some(child.pid()),
            listening,
        });
        self.services.push(child);
        Ok(())
    }

    /// Reports children that end and obeys orders until the fleet is to drain, then has all of them
    /// drain and end.
    ///
    /// # Errors
    /// When no child is left.
    pub(crate) async fn run(mut self, lifecycle: &Lifecycle) -> Result<()> {
        loop {
            tokio::select! {
                ended = self.ends.join_next() => match ended {
                    Some(ended) => self.ended(&ended??, lifecycle).await,
                    None => bail!("every process of the fleet has ended"),
                },
                Some(order) = self.asked.recv() => self.obey(order),
                () = lifecycle.wait_for(Phase::Draining) => break,
            }
        }
        let drained = self.drain(lifecycle).await;
        self.kill().await;
        drained
    }

    /// Reports the end of a child, unless it ends because everything does.
    async fn ended(&mut self, ended: &Ended, lifecycle: &Lifecycle) {
        let Ended { name, status } = ended;
        self.services.retain(|service| service.name() != name);
        let draining = time::timeout(SIGNAL_TIMEOUT, lifecycle.wait_for(Phase::Draining));
        if draining.await.is_ok() {
            return;
        }
        eprintln!("{name} {}", in_words(*status));
        if let Some((_, command)) = self.commands.iter().find(|(known, _)| known == name) {
            eprintln!("  start it again with: {command}");
        }
        self.start_as_ordered(name);
    }

    async fn drain(&mut self, lifecycle: &Lifecycle) -> Result<()> {
        if !self.told_by_terminal() {
            self.services.iter_mut().for_each(Child::terminate);
        }
        let all_ended = async {
            while !self.services.is_empty()
                && let Some(ended) = self.ends.join_next().await
            {
                let Ended { name, .. } = ended??;
                self.services.retain(|service| service.name() != name);
            }
            anyhow::Ok(())
        };
        let deadline = lifecycle.deadline().unwrap_or_else(time::Instant::now);
        tokio::select! {
            ended = all_ended => ended,
            () = time::sleep_until(deadline) => Ok(()),
            () = lifecycle.wait_for(Phase::Stopped) => Ok(()),
        }
    }

    /// Ends every child that is left and sees it gone.
    async fn kill(mut self) {
        self.services.clear();
        self.nats = None;
        let all_ended = async { while self.ends.join_next().await.is_some() {} };
        // Whoever is not gone by then dies on its own time.
        let _ = time::timeout(KILL_TIMEOUT, all_ended).await;
    }

    /// Whether the signal that ends the fleet was typed on a terminal, which sends it to the whole
    /// process group. A second one would have the children stop at once.
    fn told_by_terminal(&mut self) -> bool {
        let interrupted = self
            .interrupts
            .poll_recv(&mut task::Context::from_waker(Waker::noop()));
        interrupted.is_ready() && io::stdin().is_terminal()
    }
}

/// Writes the configuration of the service called `name`.
fn write(directory: &FleetDirectory, name: &str, settings: &Table) -> Result<PathBuf> {
    Ok(directory.write(&format!("{name}.toml"), &toml::to_string(settings)?)?)
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("has ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "has ended".to_owned(),
    }
}
