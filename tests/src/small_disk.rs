//! A disk that is soon full.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::folder::Folder;

/// A file system in memory, gone with the test.
#[derive(Debug)]
pub struct SmallDisk(Folder);

impl SmallDisk {
    /// Mounts one with these options of tmpfs.
    ///
    /// # Panics
    /// It can't be mounted.
    #[must_use]
    pub fn mount(options: &str) -> Self {
        let folder = Folder::new();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(folder.path())
            .status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "this test mounts a small tmpfs and must run as root, with CAP_SYS_ADMIN"
        );
        Self(folder)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Somebody else fills it to the last byte. Pages that others have begun keep their room.
    ///
    /// # Panics
    /// The file for that can't be opened.
    pub fn fill(&self) {
        for size in [64 << 10, 4 << 10, 1] {
            let mut file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(self.filler())
                .expect("a file to fill the disk with");
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    /// There is room again.
    ///
    /// # Panics
    /// It was not filled.
    pub fn make_room(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.0.file("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .status();
    }
}
