//! A headend process for a step, ended in every case.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::shell::Result;

/// How long a headend on a busy machine may take until it listens.
const START: Duration = Duration::from_secs(30);

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running headend.
#[derive(Debug)]
pub(crate) struct Headend {
    process: Running,
    log: PathBuf,
    /// Where REST is served, `host:port`.
    pub(crate) http: String,
    /// Where agents are served, `host:port`.
    pub(crate) grpc: String,
}

impl Headend {
    /// Starts `program` with the sample fleet, no database and ports of the system's choice. Its
    /// log goes to `log`.
    pub(crate) fn start(program: &Path, log: &Path) -> Result<Self> {
        Self::start_with(program, &["--database-url", "memory"], log)
    }

    /// The same with the database and whatever else `flags` say.
    pub(crate) fn start_with(program: &Path, flags: &[&str], log: &Path) -> Result<Self> {
        let child = Command::new(program)
            .args(["--assets", "assets.yaml"])
            .args(["--http-addr", "127.0.0.1:0"])
            .args(["--grpc-addr", "127.0.0.1:0"])
            .args(["--log-format", "json"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(log)?)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let mut headend = Self {
            process: Running(child),
            log: log.to_owned(),
            http: String::new(),
            grpc: String::new(),
        };
        let line = headend.first_line()?;
        (headend.http, headend.grpc) = addresses(&line).ok_or_else(|| {
            format!(
                "the first line of the headend is {line:?} instead of its http_addr and grpc_addr; {}",
                headend.see_log()
            )
        })?;
        Ok(headend)
    }

    /// Where to look when something went wrong.
    pub(crate) fn see_log(&self) -> String {
        format!("the log of the headend is in {}", self.log.display())
    }

    /// Starts a gateway, `program`, that serves the simulated assets of a site.
    pub(crate) fn gateway(&self, program: &Path, site: &str, log: &Path) -> Result<Running> {
        let child = Command::new(program)
            .args(["--headend", &self.grpc])
            .args(["--assets", "assets.yaml"])
            .args(["--site-id", site])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log)?)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        Ok(Running(child))
    }

    /// What it answers to `GET path`, which must be 200.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        let address = &self.http;
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(ANSWER))?;
        write!(stream, "GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or("the headend did not answer")?;
        let status = head.lines().next().unwrap_or_default();
        if !status.contains(" 200 ") {
            return Err(format!("GET {path} was answered `{status}`").into());
        }
        Ok(body.to_owned())
    }

    fn first_line(&mut self) -> Result<String> {
        let stdout = self
            .process
            .0
            .stdout
            .take()
            .ok_or("the headend has no output")?;
        let (sender, receiver) = mpsc::channel();
        // Reads on to the end: a full pipe would stop the headend.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout)
                .lines()
                .map_while(std::io::Result::ok)
            {
                // The receiver takes the first line and leaves.
                let _ = sender.send(line);
            }
        });
        receiver.recv_timeout(START).map_err(|error| {
            let what = match error {
                mpsc::RecvTimeoutError::Timeout => "did not say that it listens in 30 s",
                mpsc::RecvTimeoutError::Disconnected => "ended before it listened",
            };
            format!("the headend {what}; {}", self.see_log()).into()
        })
    }
}

fn addresses(line: &str) -> Option<(String, String)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let address = |name: &str| line[name].as_str().map(str::to_owned);
    Some((address("http_addr")?, address("grpc_addr")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_addresses_are_taken_from_the_line() {
        assert_eq!(
            addresses(r#"{"http_addr":"127.0.0.1:1","grpc_addr":"127.0.0.1:2"}"#),
            Some(("127.0.0.1:1".into(), "127.0.0.1:2".into()))
        );
        assert_eq!(addresses("listening"), None);
        assert_eq!(addresses(r#"{"http_addr":"127.0.0.1:1"}"#), None);
    }
}
