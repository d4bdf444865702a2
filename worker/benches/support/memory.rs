//! How much memory a process holds for itself.

use anyhow::{Context, Result};

/// Private bytes of a process; what the kernel holds for its sockets is not in it.
pub(crate) fn private_bytes(pid: u32) -> Result<u64> {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kibibytes = |name: &str| -> Result<u64> {
        let mut lines = smaps.lines().filter_map(|line| line.strip_prefix(name));
        let value = lines.next().with_context(|| format!("no {name}"))?;
        Ok(value.trim_end_matches("kB").trim().parse()?)
    };
    Ok((kibibytes("Private_Clean:")? + kibibytes("Private_Dirty:")?) * 1024)
}
