//! The fleet in this process, over memory: nothing else needs to be installed.
//!
//! Each worker and the gateway are what they are in production, with listeners, metrics and a life
//! of their own; only the broker is another.

use anyhow::{Context, Result, bail};
use flotilla_gateway::Gateway;
use flotilla_shared::{
    broker::{Brokers, MemoryBus},
    config::Problems,
    lifecycle::{Lifecycle, Phase},
};
use flotilla_worker::Worker;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use toml::Table;

use crate::{
    member::{Listening, Member},
    ports::WorkerPorts,
    settings::Settings,
};

/// A fleet of tasks and threads of this process.
#[derive(Debug)]
pub(crate) struct Embedded {
    members: Vec<Member>,
    lives: Vec<Lifecycle>,
    /// Each ends when its member does.
    tasks: JoinSet<Result<()>>,
}

impl Embedded {
    /// Starts `workers` workers and the gateway.
    ///
    /// # Errors
    /// When a port cannot be taken.
    pub(crate) async fn start(settings: &Settings, workers: u16) -> Result<Self> {
        let brokers = Brokers::Memory(MemoryBus::new());
        let mut fleet = Self {
            members: Vec::new(),
            lives: Vec::new(),
            tasks: JoinSet::new(),
        };
        for index in 1..=workers {
            let name = format!("worker-{index}");
            let table = settings.worker(&name, None, WorkerPorts::default());
            let config = resolve(table, flotilla_worker::Config::resolve).context("worker")?;
            let worker = Worker::bind(config).await?;
            let listening = Listening {
                admin: worker.admin_addr(),
                api: worker.api_addr(),
            };
            let life = fleet.add(Member {
                name,
                pid: None,
                listening,
            });
            let brokers = brokers.clone();
            fleet
                .tasks
                .spawn(async move { Ok(worker.serve(life, brokers).await?) });
        }
        let table = settings.gateway(None);
        let config = resolve(table, flotilla_gateway::Config::resolve).context("gateway")?;
        let gateway = Gateway::bind(config).await?;
        let listening = Listening {
            admin: gateway.admin_addr(),
            api: None,
        };
        let life = fleet.add(Member {
            name: "gateway".to_owned(),
            pid: None,
            listening,
        });
        fleet
            .tasks
            .spawn(async move { Ok(gateway.serve(life, Some(brokers)).await?) });
        Ok(fleet)
    }

    /// The workers, then the gateway.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    fn add(&mut self, member: Member) -> Lifecycle {
        let life = Lifecycle::new();
        self.members.push(member);
        self.lives.push(life.clone());
        life
    }

    /// Waits until the fleet is to drain, then has all of it drain.
    ///
    /// # Errors
    /// When a member ends before its time.
    pub(crate) async fn run(mut self, lifecycle: &Lifecycle) -> Result<()> {
        tokio::select! {
            ended = self.tasks.join_next() => {
                if let Some(ended) = ended {
                    ended??;
                }
                bail!("a part of the fleet has ended");
            }
            () = lifecycle.wait_for(Phase::Draining) => {}
        }
        if let Some(deadline) = lifecycle.deadline() {
            let timeout = deadline.saturating_duration_since(tokio::time::Instant::now());
            self.lives.iter().for_each(|life| life.drain(timeout));
        }
        let all_ended = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended??;
            }
            Ok(())
        };
        tokio::select! {
            ended = all_ended => ended,
            () = lifecycle.wait_for(Phase::Stopped) => Ok(()),
        }
    }
}

/// The configuration of a service with these settings.
fn resolve<R: DeserializeOwned, C>(
    settings: Table,
    resolve: impl FnOnce(&R, &mut Problems) -> Option<C>,
) -> Result<C> {
    let raw: R = settings.try_into()?;
    let mut problems = Problems::default();
    let config = resolve(&raw, &mut problems);
    Ok(problems.finish(config)?)
}

#[cfg(test)]
mod tests {
    use flotilla_shared::secret::Secret;

    use super::*;
    use crate::profile::{self, Profile};

    #[test]
    fn every_profile_makes_a_valid_fleet_in_each_way_that_it_can_run() {
        for name in profile::names() {
            let settings = Settings {
                profile: Profile::named(name).expect(name),
                token_secret: Secret::new("a secret of the tests"),
                passport_secret: Secret::new("a secret of the tests, for passports"),
                api_key: Secret::new("a secret of the tests, for back ends"),
                port: 8000,
                demo_port: 8001,
                log: tracing::Level::WARN,
            };
            for nats in [None, Some("nats://127.0.0.1:4222")] {
                let worker = settings.worker("worker-1", nats, WorkerPorts::default());
                resolve(worker, flotilla_worker::Config::resolve).expect(name);
                let gateway = settings.gateway(nats);
                resolve(gateway, flotilla_gateway::Config::resolve).expect(name);
            }
        }
    }
}
