//! The process that feeds a target: it may be broken by any input, and is then replaced.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::mutate::Mutator;
use crate::{Target, Verdict};

/// The exit code of a worker that was at one input for longer than [`SLOWEST`].
pub const HUNG: u8 = 3;
/// The exit code of a worker in which anything panicked, a task in the background among it.
pub const PANICKED: u8 = 101;
/// One input may take so long; in a debug build beside others, so far above what is normal.
pub const SLOWEST: Duration = Duration::from_secs(10);

/// What a worker is to do.
#[derive(Debug)]
pub struct Work {
    /// Where each input is written before it is tried.
    pub current: PathBuf,
    /// How long to go on with mutations after the seeds.
    pub time: Duration,
    /// Chooses the mutations.
    pub seed: u64,
}

/// How much was done.
#[derive(Debug, Default, Clone, Copy)]
pub struct Done {
    /// Inputs tried.
    pub runs: u64,
    /// Those that were not refused.
    pub taken: u64,
}

/// Tries the seeds and then mutations of them until the time is over.
///
/// Ends the process when anything panics or hangs, and is ended when memory runs over its bound:
/// `current` then holds the input.
///
/// # Errors
/// The seeds can't be read, the current input can't be written, or nothing was taken: a corpus
/// that reaches nothing proves nothing.
pub fn work(target: &Target, work: &Work) -> Result<Done, Box<dyn Error>> {
    let seeds = (target.seeds)()?;
    let mut feeder = Feeder::start(target, &work.current)?;
    for seed in &seeds {
        feeder.feed(seed)?;
    }
    let mut mutator = Mutator::new(work.seed, target);
    let end = Instant::now() + work.time;
    while Instant::now() < end {
        feeder.feed(&mutator.next(&seeds))?;
    }
    if feeder.done.taken == 0 {
        return Err(format!("{}: no input was taken; look at its corpus", target.name).into());
    }
    Ok(feeder.done)
}

/// Tries one input under the same limits.
///
/// # Errors
/// The current input can't be written.
pub fn replay(target: &Target, current: &Path, input: &[u8]) -> Result<Verdict, Box<dyn Error>> {
    Feeder::start(target, current)?.feed(input)
}

struct Feeder<'a> {
    target: &'a Target,
    current: std::fs::File,
    beat: SyncSender<()>,
    done: Done,
}

impl<'a> Feeder<'a> {
    fn start(target: &'a Target, current: &Path) -> Result<Self, Box<dyn Error>> {
        let current = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(current)?;
        end_on_panic();
        let (beat, beats) = sync_channel(1);
        // A thread takes memory when it starts, which is later than it is made.
        let (up, is_up) = sync_channel(1);
        std::thread::spawn(move || {
            let _ = up.send(());
            watch(&beats);
        });
        is_up.recv()?;
        // What is made once, such as threads and tables, is not the input's.
        (target.run)(&[]);
        bound_memory(target.memory)?;
        Ok(Self {
            target,
            current,
            beat,
            done: Done::default(),
        })
    }

    fn feed(&mut self, input: &[u8]) -> Result<Verdict, Box<dyn Error>> {
        self.current.rewind()?;
        self.current.set_len(0)?;
        self.current.write_all(input)?;
        // Full: the watch has not looked yet, and will begin to count when it does.
        let _ = self.beat.try_send(());
        let verdict = (self.target.run)(input);
        self.done.runs += 1;
        self.done.taken += u64::from(verdict == Verdict::Taken);
        Ok(verdict)
    }
}

fn watch(beats: &Receiver<()>) {
    loop {
        match beats.recv_timeout(SLOWEST) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => std::process::exit(HUNG.into()),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// A panic in a task would else be kept by its handle, and one in a handler be answered with 500.
fn end_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // Telling takes memory, with a backtrace a lot.
        let _ = unbound_memory();
        tell(panic);
        std::process::exit(PANICKED.into());
    }));
}

/// Allocations beyond `bytes` more than there are now fail, which ends the process.
#[cfg(target_os = "linux")]
fn bound_memory(bytes: u64) -> Result<(), Box<dyn Error>> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let status = std::fs::read_to_string("/proc/self/status")?;
    let now = status
        .lines()
        .find_map(|line| line.strip_prefix("VmSize:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .ok_or("/proc/self/status has no VmSize")?;
    let limit = Rlimit {
        current: Some((now << 10) + bytes),
        maximum: getrlimit(Resource::As).maximum,
    };
    Ok(setrlimit(Resource::As, limit)?)
}

#[cfg(target_os = "linux")]
fn unbound_memory() -> Result<(), Box<dyn Error>> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::As).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    Ok(setrlimit(Resource::As, limit)?)
}

#[cfg(not(target_os = "linux"))]
fn unbound_memory() -> Result<(), Box<dyn Error>> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn bound_memory(_: u64) -> Result<(), Box<dyn Error>> {
    Err("memory can only be bounded on Linux; run the fuzzer there".into())
}
