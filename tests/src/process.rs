//! The programs, as an operator runs them.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Once;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A machine that builds beside the tests may take this long for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of a program that a test shows when it fails.
const SHOWN: usize = 200;

/// Builds the programs, once; nothing is done when they are fresh.
///
/// # Panics
/// They don't build.
pub fn build_programs() {
    static BUILD: Once = Once::new();
    BUILD.call_once(|| {
        let folder = folder();
        let target = folder.parent().expect("a profile lies in a target folder");
        let mut cargo = std::process::Command::new(env!("CARGO"));
        // With a test among the targets, dependencies get the features that tests ask for: the
        // same as in `cargo test --workspace --all-features`, so nothing is compiled twice.
        cargo
            .args(["build", "--quiet", "--workspace", "--all-features"])
            .args(["--bins", "--test", "programs"])
            .arg("--target-dir")
            .arg(target)
            .current_dir(root());
        // Nor is it told of the test's crate: there are build scripts that run again for that.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                cargo.env_remove(&*name);
            }
        }
        match folder.file_name().and_then(|name| name.to_str()) {
            None | Some("debug") => {}
            Some(profile) => {
                cargo.args(["--profile", profile]);
            }
        }
        let built = cargo.status().is_ok_and(|status| status.success());
        assert!(built, "the programs don't build");
    });
}

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where a program lies: beside the folder of this test.
///
/// # Panics
/// The test does not run from a target folder.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    folder().join(name)
}

/// `target/<profile>`.
fn folder() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let folder = test.parent().and_then(|deps| deps.parent());
    folder.expect("tests lie in target/*/deps").to_owned()
}

/// A program that is to be started, in the root of the workspace, with no environment but what it
/// is given and `RUST_LOG=info`.
#[derive(Debug)]
#[must_use = "nothing runs until it is started"]
pub struct Program {
    name: String,
    command: Command,
}

/// What a program has left behind.
#[derive(Debug)]
pub struct Output {
    /// Its exit code; `None`: it was ended by a signal.
    pub code: Option<i32>,
    /// All it said on stdout.
    pub stdout: String,
    /// All it said on stderr.
    pub stderr: String,
}

impl Program {
    /// One of this workspace; built if it is not fresh.
    ///
    /// # Panics
    /// It does not build.
    pub fn new(name: &str) -> Self {
        build_programs();
        let mut command = Command::new(program(name));
        command
            .current_dir(root())
            .env_clear()
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Self {
            name: name.to_owned(),
            command,
        }
    }

    /// Adds arguments.
    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Its stdin is a pipe that stays open until [`Process::close_stdin`].
    pub fn with_stdin(mut self) -> Self {
        self.command.stdin(Stdio::piped());
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// It can't be started.
    #[must_use]
    pub fn start(mut self) -> Process {
        let child = self.command.spawn();
        let mut child = child.unwrap_or_else(|error| panic!("can't start {}: {error}", self.name));
        let (sender, lines) = mpsc::unbounded_channel();
        let mut readers = Vec::new();
        // Both streams in one: the order between them is of no interest here.
        if let Some(stdout) = child.stdout.take() {
            readers.push(tokio::spawn(forward(
                BufReader::new(stdout),
                sender.clone(),
            )));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(tokio::spawn(forward(BufReader::new(stderr), sender)));
        }
        Process {
            stdin: child.stdin.take(),
            child,
            name: self.name,
            lines,
            readers,
            seen: Vec::new(),
        }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// It can't be started, or goes on for a minute.
    pub async fn run(mut self) -> Output {
        let output = tokio::time::timeout(PATIENCE, self.command.output()).await;
        let Ok(Ok(output)) = output else {
            panic!("{:?} did not end: {output:?}", self.command);
        };
        let text = |bytes| String::from_utf8(bytes).expect("programs speak UTF-8");
        Output {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// A program that runs; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    name: String,
    lines: mpsc::UnboundedReceiver<String>,
    readers: Vec<JoinHandle<()>>,
    seen: Vec<String>,
}

impl Process {
    /// Starts a program with these arguments; see [`Program`].
    ///
    /// # Panics
    /// It can't be started.
    #[must_use]
    pub fn start(name: &str, args: &[&str]) -> Self {
        Program::new(name).args(args.iter().copied()).start()
    }

    /// The process id.
    ///
    /// # Panics
    /// It has ended.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().expect("the process runs")
    }

    /// Reads on to the first line that `pick` takes.
    ///
    /// # Panics
    /// The program ended or said nothing of the kind for a minute; shows what it said.
    pub async fn line<T>(&mut self, what: &str, mut pick: impl FnMut(&str) -> Option<T>) -> T {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let line = tokio::time::timeout_at(end, self.lines.recv()).await;
            let Ok(Some(line)) = line else {
                panic!(
                    "{} did not say {what}; it said:\n{}",
                    self.name,
                    self.seen.join("\n")
                );
            };
            let picked = pick(&line);
            self.seen.push(line);
            if let Some(picked) = picked {
                return picked;
            }
        }
    }

    /// Reads on to the first line with these words, and gives it.
    ///
    /// # Panics
    /// As [`line`](Self::line).
    pub async fn says(&mut self, words: &str) -> String {
        self.line(words, |line| line.contains(words).then(|| line.to_owned()))
            .await
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// It has ended.
    pub fn signal(&self, signal: Signal) {
        send(self.id(), signal);
    }

    /// Closes its stdin: what a program sees when whoever started it is gone.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Closes the other end of its stdout and stderr: what a program sees when whoever reads its
    /// log is gone.
    pub fn stop_reading(&mut self) {
        for reader in self.readers.drain(..) {
            reader.abort();
        }
    }

    /// Waits for its end; gives the exit code (`None`: ended by a signal) and all it and what it
    /// started said. Its stdin stays open.
    ///
    /// # Panics
    /// It, or what it started, goes on for a minute.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        // `wait` closes the child's own handle, which was taken out of it.
        let ended = async {
            let status = self.child.wait().await;
            while let Some(line) = self.lines.recv().await {
                self.seen.push(line);
            }
            status
        };
        let status = tokio::time::timeout(PATIENCE, ended).await;
        let said = self.seen.join("\n");
        match status {
            Ok(Ok(status)) => (status.code(), said),
            _ => panic!("{} did not end; it said:\n{said}", self.name),
        }
    }

    /// Asks it to end, by SIGTERM, and gives its exit code.
    ///
    /// # Panics
    /// It goes on for a minute.
    pub async fn terminated(self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.ended().await.0
    }
}

impl Drop for Process {
    /// A test that fails shows what its programs said last.
    #[allow(clippy::print_stderr, reason = "the output of a test that has failed")]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        while let Ok(line) = self.lines.try_recv() {
            self.seen.push(line);
        }
        let last = self.seen.len().saturating_sub(SHOWN);
        let (status, said) = (self.child.try_wait(), self.seen[last..].join("\n"));
        eprintln!("{} ({status:?}) said last:\n{said}", self.name);
    }
}

/// Sends a signal to a process of ours.
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process id");
    kill_process(pid, signal).expect("the process can be signalled");
}

async fn forward(
    reader: BufReader<impl tokio::io::AsyncRead + Unpin>,
    lines: mpsc::UnboundedSender<String>,
) {
    let mut reader = reader.lines();
    while let Ok(Some(line)) = reader.next_line().await {
        if lines.send(line).is_err() {
            // Reads on: a full pipe would stop the program.
        }
    }
}
