//! One decoder and what it must keep to.

use std::io;
use std::path::Path;

use crate::Shape;

/// What a target made of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was understood, at least in part: what lies behind the decoder was reached.
    Taken,
    /// It was refused.
    Refused,
}

impl Verdict {
    /// `Taken` if something was.
    #[must_use]
    pub fn taken(taken: bool) -> Self {
        if taken { Self::Taken } else { Self::Refused }
    }
}

/// One decoder of what strangers send.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name on the command line, and of its folder in `corpus/`.
    pub name: &'static str,
    /// What it decodes.
    pub about: &'static str,
    /// Feeds it one input. Panics if a rule is broken.
    pub run: fn(&[u8]) -> Verdict,
    /// The inputs that mutation begins with.
    pub seeds: fn() -> io::Result<Vec<Vec<u8>>>,
    /// What its inputs are made of.
    pub shape: Shape,
    /// Words of its language, which chance alone would not find.
    pub tokens: &'static [&'static [u8]],
    /// Longest input, bytes: what the decoder takes in the field, or a little more.
    pub longest: usize,
    /// Memory that it may take above what the idle process has, bytes; all inputs together, so
    /// that what is never given back is found, too.
    pub memory: u64,
}

/// The files of a folder of this crate, by name; none if there is no such folder.
///
/// # Errors
/// The folder can't be read.
pub fn files_in(folder: &str, prefix: &str) -> io::Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(prefix) && entry.file_type()?.is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    paths.iter().map(std::fs::read).collect()
}
