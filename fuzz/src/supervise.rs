//! Starts a worker, and keeps the input that broke it.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::worker::{HUNG, PANICKED, SLOWEST};

/// What a worker takes to start and to end, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How an input broke its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A panic, a refused allocation among them.
    Panic,
    /// It took longer than [`SLOWEST`].
    Hang,
    /// SIGABRT: a stack overflow, or a refused allocation that could not even panic.
    Abort,
    /// Another signal.
    Crash,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panic => "panic",
            Self::Hang => "hang",
            Self::Abort => "abort",
            Self::Crash => "crash",
        })
    }
}

/// An input that broke a rule.
#[derive(Debug)]
pub struct Finding {
    /// How.
    pub kind: Kind,
    /// The input.
    pub path: PathBuf,
}

/// How a worker ended.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing was found; what it said on stdout.
    Clean(String),
    /// An input broke it.
    Broken(Finding),
}

/// Runs `worker`, which writes each input to `current` before it tries it, and keeps an input that
/// breaks it in `findings`. `time` is what the worker was told to take.
///
/// # Errors
/// The worker can't be started, or failed by itself; the finding can't be kept.
pub fn supervise(
    worker: &mut Command,
    target: &str,
    current: &Path,
    findings: &Path,
    time: Duration,
) -> Result<Outcome, Box<dyn Error>> {
    let mut child = worker.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut stdout = child.stdout.take().ok_or("a worker without stdout")?;
    let (sender, said) = channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stdout.read_to_string(&mut text);
        let _ = sender.send(text);
    });
    let limit = time + SLOWEST + PATIENCE;
    let kind = match said.recv_timeout(limit) {
        Ok(said) => match kind(child.wait()?) {
            None => return Ok(Outcome::Clean(said)),
            Some(kind) => kind?,
        },
        // Its own watch did not end it.
        Err(_) => {
            child.kill()?;
            child.wait()?;
            Kind::Hang
        }
    };
    let input = fs::read(current)?;
    fs::create_dir_all(findings)?;
    let name = format!("{target}-{kind}-{:08x}", crc32fast::hash(&input));
    let path = findings.join(name);
    fs::write(&path, input)?;
    Ok(Outcome::Broken(Finding { kind, path }))
}

fn kind(status: ExitStatus) -> Option<Result<Kind, Box<dyn Error>>> {
    const SIGABRT: i32 = 6;
    match (status.code(), signal(status)) {
        (Some(0), _) => None,
        (Some(code), _) if code == i32::from(HUNG) => Some(Ok(Kind::Hang)),
        (Some(code), _) if code == i32::from(PANICKED) => Some(Ok(Kind::Panic)),
        (_, Some(SIGABRT)) => Some(Ok(Kind::Abort)),
        (_, Some(_)) => Some(Ok(Kind::Crash)),
        _ => Some(Err(format!("the worker failed by itself: {status}").into())),
    }
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal(_: ExitStatus) -> Option<i32> {
    None
}
