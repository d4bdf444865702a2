//! The file in which a worker keeps its revocations, so that a restart does not forget them.
//!
//! Owns: its form, JSON, and that it is always whole: a new one is written beside it, brought to the disk, and takes its
//! place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::Revocation;

/// What is in the file at `path`; nothing, if there is none.
///
/// # Errors
/// When it cannot be read or is not of this form.
pub(super) fn read(path: &Path) -> io::Result<Vec<Revocation>> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Replaces the file at `path`.
///
/// # Errors
/// When it cannot be written; what was there is left as it was.
pub(super) fn write(path: &Path, revocations: &[Revocation]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    // User ids are nobody else's business.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    let mut writer = BufWriter::new(file);
    serde_json::to_writer(&mut writer, revocations)?;
    writer.flush()?;
    writer.get_ref().sync_all()?;
    fs::rename(&beside, path)?;
    // The new name is in the folder, which has to reach the disk as well.
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
