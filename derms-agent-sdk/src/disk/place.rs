//! What tells a state directory from a copy of it.

use std::fs::File;
use std::time::UNIX_EPOCH;

/// The machine, and when the file was made there. A copy of the file is made anew; so the two
/// differ unless a whole disk was cloned together with the machine's identity.
pub(super) fn of(file: &File) -> String {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let metadata = file.metadata().ok();
    let created = metadata
        .as_ref()
        .and_then(|metadata| metadata.created().ok())
        .and_then(|created| created.duration_since(UNIX_EPOCH).ok());
    let file = match created {
        Some(created) => format!("made {}", created.as_nanos()),
        // A file system that keeps no time of birth: the number of the file.
        None => format!("file {}", metadata.as_ref().map_or(0, inode)),
    };
    format!("{} {file}", machine.trim())
}

#[cfg(unix)]
fn inode(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &std::fs::Metadata) -> u64 {
    0
}
