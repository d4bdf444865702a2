//! Where a running development fleet keeps its files, and how other commands find it.
//!
//! Each fleet has the directory `flotilla/dev-PORT` (mode 0700) under the user's runtime or state
//! directory, with `token-secret` (mode 0600) in it. The launcher holds a lock on that file, which
//! the kernel drops when the launcher dies in whatever way: who can take the lock has found a fleet
//! that is gone.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, bail};
use flotilla_shared::secret::Secret;

const SECRET_FILE: &str = "token-secret";
const FLEET_PREFIX: &str = "dev-";

/// The directories that may hold fleets, the best one first: in `$XDG_RUNTIME_DIR`, then in
/// `$XDG_STATE_HOME` or else `~/.local/state`.
pub(crate) fn roots(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    // The XDG base directory specification has relative paths ignored.
    let absolute = |name| {
        variable(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let runtime = absolute("XDG_RUNTIME_DIR").filter(|path| path.is_dir());
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local").join("state")));
    runtime
        .into_iter()
        .chain(state)
        .map(|root| root.join("flotilla"))
        .collect()
}

/// The files of a fleet that this process runs. Dropping it removes them.
#[derive(Debug)]
pub(crate) struct FleetDirectory {
    path: PathBuf,
    /// Held for the lock on it.
    _secret_file: File,
}

impl FleetDirectory {
    /// Makes the directory of the fleet on `port` in the first of `roots` that takes it, and clears
    /// away what killed fleets have left there.
    ///
    /// # Errors
    /// When none can be written to, or when a fleet on this port is running.
    pub(crate) fn create(roots: &[PathBuf], port: u16, token_secret: &Secret) -> Result<Self> {
        let root = roots
            .iter()
            .find(|root| private_directory(root).is_ok())
            .context("no directory for the fleet's secret: set XDG_RUNTIME_DIR or HOME")?;
        // One launcher at a time, so that nobody takes a directory for abandoned that is being made.
        let guard = File::open(root)?;
        guard.lock()?;
        clear_abandoned(root);
        let path = root.join(format!("{FLEET_PREFIX}{port}"));
        if path.exists() {
            bail!(
                "a fleet on port {port} is running already: {} exists",
                path.display()
            );
        }
        private_directory(&path)?;
        let mut secret_file = private_file(&path.join(SECRET_FILE))?;
        secret_file.lock()?;
        secret_file.write_all(token_secret.expose().as_bytes())?;
        Ok(Self {
            path,
            _secret_file: secret_file,
        })
    }

    /// Writes a file (mode 0600) into the directory and says where it is.
    ///
    /// # Errors
    /// When it exists, or cannot be written.
    pub(crate) fn write(&self, name: &str, content: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        private_file(&path)?.write_all(content.as_bytes())?;
        Ok(path)
    }

    /// Makes a directory (mode 0700) in the directory and says where it is.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn subdirectory(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        private_directory(&path)?;
        Ok(path)
    }
}

impl Drop for FleetDirectory {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next launcher.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A fleet that is running now.
#[derive(Debug)]
pub(crate) struct RunningFleet {
    /// The port of its gateway.
    pub(crate) port: u16,
    /// What its tokens are signed with.
    pub(crate) token_secret: Secret,
}

/// The fleets running now, the newest first.
pub(crate) fn running(roots: &[PathBuf]) -> Vec<RunningFleet> {
    let mut fleets: Vec<(SystemTime, RunningFleet)> = roots
        .iter()
        .flat_map(|root| fleet_directories(root))
        .filter_map(|(port, path)| {
            let path = path.join(SECRET_FILE);
            if !is_locked(&path) {
                return None;
            }
            let started = fs::metadata(&path).and_then(|file| file.modified()).ok()?;
            let token_secret = Secret::new(fs::read_to_string(&path).ok()?);
            Some((started, RunningFleet { port, token_secret }))
        })
        .collect();
    fleets.sort_by_key(|(started, _)| std::cmp::Reverse(*started));
    fleets.into_iter().map(|(_, fleet)| fleet).collect()
}

fn fleet_directories(root: &Path) -> Vec<(u16, PathBuf)> {
    let Ok(entries) = fs::read_dir(root) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let port = entry
                .file_name()
                .to_str()?
                .strip_prefix(FLEET_PREFIX)?
                .parse()
                .ok()?;
            Some((port, entry.path()))
        })
        .collect()
}

fn clear_abandoned(root: &Path) {
    for (_, path) in fleet_directories(root) {
        if !is_locked(&path.join(SECRET_FILE)) {
            // What cannot be removed only takes up room.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").permissions().mode() & 0o777
    }

    #[test]
    fn the_runtime_directory_comes_before_the_state_directory() {
        let scratch = tempfile::tempdir().expect("makes a directory");
        let runtime = scratch.path().to_owned();
        let check = |variables: &[(&str, &Path)], expected: &[PathBuf]| {
            let found = roots(|name| {
                variables
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, path)| path.into())
            });
            assert_eq!(found, expected, "{variables:?}");
        };
        let home = Path::new("/home/u");
        let state = PathBuf::from("/home/u/.local/state/flotilla");
        check(
            &[("XDG_RUNTIME_DIR", &runtime), ("HOME", home)],
            &[runtime.join("flotilla"), state.clone()],
        );
        check(
            &[("XDG_STATE_HOME", Path::new("/s")), ("HOME", home)],
            &["/s/flotilla".into()],
        );
        check(
            &[("XDG_STATE_HOME", Path::new("relative")), ("HOME", home)],
            std::slice::from_ref(&state),
        );
        check(
            &[
                ("XDG_RUNTIME_DIR", Path::new("/does/not/exist")),
                ("HOME", home),
            ],
            &[state],
        );
        check(&[], &[]);
    }

    #[test]
    fn only_the_user_can_read_a_fleets_files() {
        let scratch = tempfile::tempdir().expect("makes a directory");
        let root = scratch.path().join("flotilla");
        let fleet =
            FleetDirectory::create(std::slice::from_ref(&root), 8000, &Secret::new("s3cret"))
                .expect("is made");
        let config = fleet.write("gateway.toml", "a = 1").expect("writes");
        assert_eq!(mode(&root), 0o700);
        assert_eq!(mode(&root.join("dev-8000")), 0o700);
        assert_eq!(mode(&root.join("dev-8000").join(SECRET_FILE)), 0o600);
        assert_eq!(mode(&config), 0o600);
    }

    #[test]
    fn running_fleets_are_found_side_by_side_and_gone_ones_are_not() {
        let scratch = tempfile::tempdir().expect("makes a directory");
        let roots = [scratch.path().join("flotilla")];
        let first = FleetDirectory::create(&roots, 8000, &Secret::new("one")).expect("is made");
        let second = FleetDirectory::create(&roots, 8010, &Secret::new("two")).expect("is made");
        let found = || {
            let mut found: Vec<(u16, String)> = running(&roots)
                .into_iter()
                .map(|fleet| (fleet.port, fleet.token_secret.expose().to_owned()))
                .collect();
            found.sort_unstable();
            found
        };
        assert_eq!(
            found(),
            [(8000, "one".to_owned()), (8010, "two".to_owned())]
        );
        drop(first);
        assert_eq!(found(), [(8010, "two".to_owned())]);
        drop(second);
        assert_eq!(found(), []);
    }

    #[test]
    fn what_a_killed_fleet_left_is_not_running_and_goes_with_the_next_start() {
        let scratch = tempfile::tempdir().expect("makes a directory");
        let roots = [scratch.path().join("flotilla")];
        let abandoned = roots[0].join("dev-8000");
        private_directory(&abandoned).expect("is made");
        private_file(&abandoned.join(SECRET_FILE)).expect("is made");
        assert!(running(&roots).is_empty());
        let _fleet = FleetDirectory::create(&roots, 8010, &Secret::new("two")).expect("is made");
        assert!(!abandoned.exists());
    }

    #[test]
    fn a_second_fleet_on_the_same_port_is_refused() {
        let scratch = tempfile::tempdir().expect("makes a directory");
        let roots = [scratch.path().join("flotilla")];
        let _fleet = FleetDirectory::create(&roots, 8000, &Secret::new("one")).expect("is made");
        let error =
            FleetDirectory::create(&roots, 8000, &Secret::new("two")).expect_err("is refused");
        assert!(error.to_string().contains("8000"), "{error}");
    }
}
