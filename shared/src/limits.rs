//! What the system lets a process have: open files, and so connections.
//!
//! Owns the limit on open files and what follows from it for the number of connections. It does not
//! know what the connections are for.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that a process needs besides its connections: listeners, runtimes, the broker, the admin
/// listener, health checks, and some to refuse clients with.
const FILES_RESERVED: u64 = 128;

/// Raises the limit on open files as far as the system allows, and answers how many connections the
/// process may then hold: `wanted`, or as many as there are files for, if each of them needs
/// `files_each`. Says in the log what it is and why.
#[must_use]
pub fn connections_cap(wanted: u64, files_each: u64) -> u64 {
    let Some(files) = raise_open_files() else {
        return wanted;
    };
    let cap = cap_for(wanted, files_each, files);
    if cap < wanted {
        tracing::warn!(
            cap,
            wanted,
            open_files = files,
            files_per_connection = files_each,
            "fewer connections than configured: the limit on open files is too low"
        );
    } else {
        tracing::info!(cap, open_files = files, "connections are limited");
    }
    cap
}

/// How many of the `wanted` connections `files` open files are enough for.
fn cap_for(wanted: u64, files_each: u64, files: u64) -> u64 {
    let free = files.saturating_sub(FILES_RESERVED);
    wanted.min(free.checked_div(files_each).unwrap_or(wanted))
}

/// Raises the soft limit on open files to the hard limit; answers the limit that is then in force,
/// or `None` if the system does not tell.
fn raise_open_files() -> Option<u64> {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            tracing::warn!(%error, "the limit on open files is unknown");
            return None;
        }
    };
    if soft >= hard {
        return Some(soft);
    }
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => Some(hard),
        Err(error) => {
            tracing::warn!(%error, soft, hard, "the limit on open files cannot be raised");
            Some(soft)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_clamped_to_what_open_files_allow() {
        assert_eq!(cap_for(1_000, 1, 20_000), 1_000);
        assert_eq!(cap_for(100_000, 1, 20_000), 19_872);
        assert_eq!(cap_for(100_000, 2, 20_000), 9_936);
        assert_eq!(cap_for(100_000, 2, 100), 0);
        assert_eq!(cap_for(100_000, 0, 100), 100_000);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_limit() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("is known");
        assert_eq!(raise_open_files(), Some(hard));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((hard, hard)));
    }
}
