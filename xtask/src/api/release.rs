//! What changed since a release, and whether the version says so.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::shell::Result;

/// A version without anything behind the patch number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u64,
    minor: u64,
    patch: u64,
}

impl Version {
    /// Reads such as `0.1.0`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| part.parse().ok());
        let version = Self {
            major: parts.next()??,
            minor: parts.next()??,
            patch: parts.next()??,
        };
        parts.next().is_none().then_some(version)
    }

    /// The first version that may break with this one.
    fn next_breaking(self) -> Self {
        if self.major == 0 {
            Self {
                minor: self.minor + 1,
                patch: 0,
                ..self
            }
        } else {
            Self {
                major: self.major + 1,
                minor: 0,
                patch: 0,
            }
        }
    }

    /// The first version that may have more than this one: before 1.0 every one.
    fn next_growing(self) -> Self {
        if self.major == 0 {
            self
        } else {
            Self {
                minor: self.minor + 1,
                patch: 0,
                ..self
            }
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The newest release whose API is kept, and where.
pub(crate) fn newest(folder: &Path) -> Result<Option<(Version, PathBuf)>> {
    if !folder.exists() {
        return Ok(None);
    }
    let mut newest = None;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let version = Version::parse(&name)
            .ok_or_else(|| format!("{} is named after no version", path.display()))?;
        newest = newest.max(Some((version, path)));
    }
    Ok(newest)
}

/// Lines that one listing has and the other has not.
#[derive(Debug)]
pub(crate) struct Change {
    removed: Vec<String>,
    added: Vec<String>,
    /// Added where users have to follow: a method of a trait that they implement, a variant or a
    /// field of what they match or make.
    binding: Vec<String>,
}

impl Change {
    pub(crate) fn between(old: &str, new: &str) -> Self {
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        for line in old.lines() {
            *counts.entry(line).or_default() -= 1;
        }
        for line in new.lines() {
            *counts.entry(line).or_default() += 1;
        }
        let lines = |wanted: i64| {
            let found = counts
                .iter()
                .filter(move |(_, count)| count.signum() == wanted);
            found
                .map(|(line, _)| (*line).to_owned())
                .collect::<Vec<_>>()
        };
        let added = lines(1);
        let binding = added
            .iter()
            .filter(|line| binds(line, old))
            .cloned()
            .collect();
        Self {
            removed: lines(-1),
            added,
            binding,
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.removed {
            writeln!(f, "  - {line}")?;
        }
        for line in &self.added {
            writeln!(f, "  + {line}")?;
        }
        Ok(())
    }
}

/// Whether a new line belongs to a trait, enum or struct that was there and may not grow. Strict:
/// a provided method and a field beside private ones bind nobody, and count all the same.
fn binds(line: &str, old: &str) -> bool {
    let Some(item) = line.strip_prefix("pub ") else {
        return false;
    };
    let is_method = item.contains("fn ") || item.starts_with("type ") || item.starts_with("const ");
    let path = item
        .split(['(', '<', ' ', '='])
        .find(|word| word.contains("::"));
    let path = path.unwrap_or_default().trim_end_matches(':');
    let Some((parent, _)) = path.rsplit_once("::") else {
        return false;
    };
    let kinds: &[&str] = if is_method {
        &["trait"]
    } else {
        &["enum", "struct"]
    };
    old.lines().any(|known| {
        kinds.iter().any(|kind| {
            known
                .strip_prefix(&format!("pub {kind} {parent}"))
                .is_some_and(|rest| {
                    !rest.starts_with(|c: char| {
                        c.is_alphanumeric() || c == '_' || c == ':' && !rest.starts_with(": ")
                    })
                })
        })
    })
}

/// Fails if the version does not allow what changed since the release.
pub(crate) fn check(released: Version, now: Version, change: &Change) -> Result<()> {
    if now < released {
        return Err(format!("version {now} is older than the release {released}").into());
    }
    let broken = !(change.removed.is_empty() && change.binding.is_empty());
    let (wanted, because) = if broken {
        (released.next_breaking(), "broken")
    } else if change.is_nothing() {
        return Ok(());
    } else {
        (released.next_growing(), "grown")
    };
    if now >= wanted {
        return Ok(());
    }
    Err(format!(
        "the API has {because} since {released}, and the version is {now}; make it {wanted} or take \
         the change back:\n{change}"
    )
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "\
pub enum a::Open
#[non_exhaustive] pub enum a::Closed
pub struct a::Plain
pub trait a::Store: core::fmt::Debug
pub fn a::Store::get(&self)
pub struct a::Client
pub fn a::Client::new()
";

    fn verdict(released: &str, now: &str, new: &str) -> std::result::Result<(), String> {
        let version = |text| Version::parse(text).unwrap();
        let change = Change::between(OLD, new);
        check(version(released), version(now), &change).map_err(|error| error.to_string())
    }

    #[test]
    fn versions_are_numbers_and_nothing_else() {
        let parse = |text| Version::parse(text).map(|version| version.to_string());
        assert_eq!(parse("0.10.3").as_deref(), Some("0.10.3"));
        for bad in ["", "1", "1.2", "1.2.3.4", "1.2.x", "v1.2.3", "1.2.3-rc1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert!(Version::parse("0.10.0") > Version::parse("0.9.9"));
    }

    #[test]
    fn a_line_that_is_gone_needs_a_breaking_version() {
        let new = OLD.replace("pub fn a::Client::new()\n", "");
        for (released, now, good) in [
            ("0.1.0", "0.1.0", false),
            ("0.1.0", "0.1.9", false),
            ("0.1.0", "0.2.0", true),
            ("1.1.0", "1.2.0", false),
            ("1.1.0", "2.0.0", true),
        ] {
            let verdict = verdict(released, now, &new);
            assert_eq!(verdict.is_ok(), good, "{released} {now} {verdict:?}");
        }
        let error = verdict("0.1.0", "0.1.1", &new).unwrap_err();
        assert!(error.contains("make it 0.2.0"), "{error}");
        assert!(error.contains("  - pub fn a::Client::new()"), "{error}");
    }

    #[test]
    fn a_signature_that_changed_is_a_line_that_is_gone() {
        let new = OLD.replace("a::Client::new()", "a::Client::new(u64)");
        assert!(verdict("0.1.0", "0.1.1", &new).is_err());
    }

    #[test]
    fn what_is_new_and_binds_nobody_is_no_break() {
        for line in [
            "pub fn a::Client::old()",
            "pub a::Closed::New",
            "pub enum a::Other",
            "pub a::Other::One",
        ] {
            let new = format!("{OLD}{line}\n");
            assert_eq!(verdict("0.1.0", "0.1.0", &new), Ok(()), "{line}");
            assert!(verdict("1.1.0", "1.1.7", &new).is_err(), "{line}");
            assert_eq!(verdict("1.1.0", "1.2.0", &new), Ok(()), "{line}");
        }
    }

    #[test]
    fn what_users_implement_match_or_make_may_not_grow_silently() {
        for line in [
            "pub fn a::Store::put(&self)",
            "pub async fn a::Store::put(&self)",
            "pub type a::Store::Error",
            "pub a::Open::New",
            "pub a::Plain::field: u64",
        ] {
            let new = format!("{OLD}{line}\n");
            assert!(verdict("0.1.0", "0.1.9", &new).is_err(), "{line}");
            assert_eq!(verdict("0.1.0", "0.2.0", &new), Ok(()), "{line}");
        }
    }

    #[test]
    fn a_version_does_not_go_back() {
        assert!(verdict("0.2.0", "0.1.0", OLD).is_err());
    }
}
