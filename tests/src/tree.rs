//! What a process has started.

use std::fs;

use rustix::process::Signal;

use crate::process::send;

/// A process that another one has started. It may end at any time, and is then not mixed up with
/// one that has its id later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relative {
    pid: u32,
    /// In ticks since boot: with the id, the identity of a process.
    started: u64,
    /// Its program and arguments.
    pub args: Vec<String>,
}

/// The processes that `parent` has started and that run.
///
/// # Panics
/// There is no `/proc`.
#[must_use]
pub fn children_of(parent: u32) -> Vec<Relative> {
    let all = fs::read_dir("/proc").expect("Linux has /proc");
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| {
        let stat = Stat::of(pid).filter(|stat| stat.parent == parent)?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let args = line.split(|byte| *byte == 0).filter(|arg| !arg.is_empty());
        Some(Relative {
            pid,
            started: stat.started,
            args: args
                .map(|arg| String::from_utf8_lossy(arg).into_owned())
                .collect(),
        })
    })
    .collect()
}

impl Relative {
    /// Whether it still runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.started == self.started)
    }

    /// Whether this is one of its arguments.
    #[must_use]
    pub fn has(&self, arg: &str) -> bool {
        self.args.iter().any(|one| one == arg)
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// It has ended.
    pub fn signal(&self, signal: Signal) {
        assert!(self.runs(), "{self:?} has ended");
        send(self.pid, signal);
    }
}

/// What `/proc` says of a process that runs; a zombie does not.
#[derive(Debug)]
struct Stat {
    parent: u32,
    started: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it may hold anything, brackets and spaces too.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_is_found_while_it_runs_and_not_after() {
        let mut child = Command::new("cat")
            .arg("-")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut found = children_of(std::process::id());
        found.retain(|relative| relative.has("-"));
        assert_eq!(found.len(), 1);
        assert!(found[0].runs());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!found[0].runs());
    }
}
