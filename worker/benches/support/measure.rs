//! How CPU time is measured and told. Only ratios count: of two processes, or of two loads of one, that take turns.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// CPU time of a process, all threads together. The clock of `schedstat` counts every nanosecond,
/// where that of `stat` counts hundredths of a second.
pub(crate) fn cpu_nanoseconds(pid: u32) -> Result<u64> {
    let mut total = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let schedstat = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let used = schedstat.split_whitespace().next().context("schedstat")?;
        total += used.parse::<u64>()?;
    }
    Ok(total)
}

/// Puts this process, and the children it starts from now on, on one core.
pub(crate) fn pin_to(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}

/// Prints what each pair of times comes to, but for the first: how much more or less the second is.
pub(crate) fn report(load: &str, base: &str, each: &str, rounds: &[(f64, f64)]) -> Result<()> {
    let counted = rounds.get(1..).unwrap_or_default();
    let spread = |of: fn(&(f64, f64)) -> f64| {
        let mut numbers: Vec<_> = counted.iter().map(of).collect();
        numbers.sort_by(f64::total_cmp);
        let at = |index: usize| numbers.get(index).copied().context("no rounds");
        anyhow::Ok([at(0)?, at(numbers.len() / 2)?, at(numbers.len() - 1)?])
    };
    let [_, before, _] = spread(|(before, _)| *before)?;
    let [_, after, _] = spread(|(_, after)| *after)?;
    let [least, ratio, most] = spread(|(before, after)| after / before)?;
    println!(
        "{load:<22} {ratio:.3} x {base} ({least:.3} to {most:.3}); \
         {:.2} µs over {:.2} µs of CPU for each {each}",
        after / 1000.0,
        before / 1000.0
    );
    Ok(())
}
