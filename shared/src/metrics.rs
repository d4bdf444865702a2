//! The registry that a process' metrics live in, and the metrics that every process has.
//!
//! Owns `flotilla_build_info`, `process_*` and `flotilla_tokio_*`. The registry is passed down, not
//! global: what a module measures, it registers itself, so this module knows none of the others.

mod register;

use prometheus::{
    Encoder, IntGauge, Registry, TextEncoder,
    core::{Collector, Desc},
    process_collector::ProcessCollector,
    proto::MetricFamily,
};
use tokio::runtime::Handle;

pub use register::Register;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The source revision of this build; whoever builds a release sets `FLOTILLA_REVISION`.
pub const REVISION: &str = match option_env!("FLOTILLA_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// The compiler of this build; whoever builds a release sets `FLOTILLA_RUSTC`.
pub const RUSTC: &str = match option_env!("FLOTILLA_RUSTC") {
    Some(rustc) => rustc,
    None => "unknown",
};

/// A registry with what every process tells: its build, and what the kernel knows of it.
///
/// # Errors
/// None that is known; the library's signatures ask for it.
pub fn new_registry() -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let register = Register(&registry);
    let build = register.gauges(
        "flotilla_build_info",
        "What this process was built from; always 1.",
        &["version", "revision", "rustc"],
    )?;
    build.with_label_values(&[VERSION, REVISION, RUSTC]).set(1);
    register.collector(ProcessCollector::for_self())?;
    Ok(registry)
}

/// Adds how busy the given tokio runtimes are, summed over them.
///
/// # Errors
/// When the registry has these metrics already: call it once, with all runtimes of the process.
pub fn watch_runtimes(registry: &Registry, runtimes: Vec<Handle>) -> Result<(), prometheus::Error> {
    let collector = RuntimeCollector {
        runtimes,
        alive_tasks: IntGauge::new(
            "flotilla_tokio_alive_tasks",
            "Tasks that are running or waiting, in all runtimes of this process.",
        )?,
        global_queue_depth: IntGauge::new(
            "flotilla_tokio_global_queue_depth",
            "Tasks that are due and wait in the global queues of the runtimes.",
        )?,
    };
    Register(registry).collector(collector)
}

/// Everything in the registry, in the Prometheus text format.
///
/// # Errors
/// When a metric is not well-formed, as when a family has two types.
pub fn encode(registry: &Registry) -> Result<String, prometheus::Error> {
    TextEncoder::new().encode_to_string(&registry.gather())
}

/// The content type of [`encode`]'s text.
#[must_use]
pub fn content_type() -> String {
    TextEncoder::new().format_type().to_owned()
}

/// Asks the runtimes at the moment of a scrape, so that nothing runs in between.
struct RuntimeCollector {
    runtimes: Vec<Handle>,
    alive_tasks: IntGauge,
    global_queue_depth: IntGauge,
}

impl Collector for RuntimeCollector {
    fn desc(&self) -> Vec<&Desc> {
        [self.alive_tasks.desc(), self.global_queue_depth.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let sum = |of: fn(&Handle) -> usize| {
            let total: usize = self.runtimes.iter().map(of).sum();
            i64::try_from(total).unwrap_or(i64::MAX)
        };
        self.alive_tasks
            .set(sum(|runtime| runtime.metrics().num_alive_tasks()));
        self.global_queue_depth
            .set(sum(|runtime| runtime.metrics().global_queue_depth()));
        [
            self.alive_tasks.collect(),
            self.global_queue_depth.collect(),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_tells_its_build_and_its_resources() {
        let text = encode(&new_registry().expect("registers")).expect("encodes");
        let build = format!(
            "flotilla_build_info{{revision=\"{REVISION}\",rustc=\"{RUSTC}\",version=\"{VERSION}\"}} 1\n"
        );
        assert!(text.contains(&build), "{text}");
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_max_fds",
            "process_start_time_seconds",
        ] {
            assert!(
                text.contains(&format!("\n{name} ")),
                "{name} is missing in {text}"
            );
        }
    }

    #[tokio::test]
    async fn runtimes_tell_how_many_tasks_are_alive() {
        let registry = Registry::new();
        watch_runtimes(&registry, vec![Handle::current()]).expect("registers");
        let (release, wait) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(wait);
        let text = encode(&registry).expect("encodes");
        assert!(text.contains("\nflotilla_tokio_alive_tasks 1\n"), "{text}");
        assert!(
            text.contains("\nflotilla_tokio_global_queue_depth "),
            "{text}"
        );
        release.send(()).expect("the task waits");
        task.await.expect("does not panic").expect("is released");
        let text = encode(&registry).expect("encodes");
        assert!(text.contains("\nflotilla_tokio_alive_tasks 0\n"), "{text}");
    }
}
