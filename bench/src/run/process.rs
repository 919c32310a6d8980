//! Another part of the benchmark, in a process of its own.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::words::Result;

/// Linux counts the time of processes in hundredths of a second, whatever the kernel's clock.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Closed first: a part ends when nobody talks to it.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a part of this program, on a core of its own and before all other work if asked.
    pub(super) fn part(core: Option<usize>, realtime: bool, args: &[&str]) -> Result<Self> {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(core) = core {
            words.extend(["taskset", "--cpu-list"].map(OsString::from));
            words.push(core.to_string().into());
        }
        if realtime {
            words.extend(["chrt", "--fifo", "1"].map(OsString::from));
        }
        words.push(std::env::current_exe()?.into());
        words.extend(args.iter().map(OsString::from));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        Self::start(command)
    }

    /// Starts any program whose output is read.
    pub(super) fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("can't start {:?}: {error}", command.get_program()))?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or("no output")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    pub(super) fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("a part of the benchmark ended early; its last words are above".into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    pub(super) fn ask<T: DeserializeOwned>(&mut self, what: &impl Serialize) -> Result<T> {
        let input = self.input.as_mut().ok_or("no input")?;
        writeln!(input, "{}", serde_json::to_string(what)?)?;
        self.hear()
    }

    /// Processor time since its start, of all its threads, seconds.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        Ok(ticks(&text).ok_or("/proc/PID/stat is not as expected")? / TICKS_PER_SECOND)
    }

    /// Memory that it holds, KiB.
    pub(super) fn rss_kib(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        Ok(rss(&text).ok_or("/proc/PID/status is not as expected")?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `utime` and `stime`, which are the 14th and 15th word; the second may have spaces in it.
fn ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split(' ').skip(11);
    let mut next = || words.next()?.parse::<f64>().ok();
    Some(next()? + next()?)
}

fn rss(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_memory_are_read_as_the_kernel_writes_them() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 100 0 0 0 120 34 0 0 20 0 2 0";
        assert_eq!(ticks(stat), Some(154.0));
        assert_eq!(rss("VmPeak:\t 9 kB\nVmRSS:\t    4096 kB\n"), Some(4096.0));
    }
}
