//! Orders of a person at the demo page: a worker is killed, drained or started again.

use crate::orders::{Action, Order, Refusal};

use super::{Child, Processes};

impl Processes {
    /// Carries an order out. A worker that was told to end is started again when it has.
    pub(super) fn obey(&mut self, order: Order) {
        let is_worker = self.is_worker(&order.worker);
        let outcome = match (order.action, self.running(&order.worker)) {
            _ if !is_worker => Err(Refusal::Unknown),
            (Action::Kill, Some(worker)) => {
                worker.kill();
                Ok(())
            }
            (Action::Drain, Some(worker)) => {
                // A second SIGTERM would have it stop at once.
                if !worker.is_leaving() {
                    worker.terminate();
                }
                Ok(())
            }
            (Action::Kill | Action::Drain, None) => Err(Refusal::NotRunning),
            (Action::Start, Some(worker)) if worker.is_leaving() => {
                self.starts.push(order);
                return;
            }
            (Action::Start, Some(_)) => Err(Refusal::Running),
            (Action::Start, None) => self.start_again(&order.worker),
        };
        // Whoever does not wait any more does not want to know.
        let _ = order.done.send(outcome);
    }

    /// Starts the worker called `name`, which has ended, if that was ordered before it had.
    pub(super) fn start_as_ordered(&mut self, name: &str) {
        while let Some(index) = self.starts.iter().position(|start| start.worker == name) {
            let start = self.starts.swap_remove(index);
            self.obey(start);
        }
    }

    fn start_again(&mut self, name: &str) -> Result<(), Refusal> {
        let config = self.workers.iter().find(|(known, _)| known == name);
        let (_, config) = config.cloned().ok_or(Refusal::Unknown)?;
        let child = self.start_service("worker", name, &config)?;
        eprintln!("{name} is started again as process {}", child.pid());
        self.services.push(child);
        Ok(())
    }

    fn is_worker(&self, name: &str) -> bool {
        self.workers.iter().any(|(known, _)| known == name)
    }

    fn running(&mut self, name: &str) -> Option<&mut Child> {
        self.services
            .iter_mut()
            .find(|service| service.name() == name)
    }
}
