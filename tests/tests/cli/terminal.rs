//! `derms` on a terminal, with somebody who types.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use derms_tests::{build_programs, program, root};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

const PATIENCE: Duration = Duration::from_secs(60);

/// A program whose stdin, stdout and stderr are one terminal.
pub(crate) struct Typed {
    child: Child,
    keyboard: File,
    shown: mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Typed {
    pub(crate) fn start(url: &str, args: &[&str]) -> Self {
        Self::with(url, args, &[])
    }

    pub(crate) fn with(url: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        build_programs();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        let child = Command::new(program("derms"))
            .current_dir(root())
            .env_clear()
            .env("DERMS_URL", url)
            .env("TERM", "xterm-256color")
            .envs(env.iter().copied())
            .args(args)
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave)
            .spawn()
            .unwrap();
        let keyboard = File::from(master);
        let mut screen = keyboard.try_clone().unwrap();
        let (sender, shown) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Fails when the program and with it the last other end is gone.
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                if sender.send(bytes[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            keyboard,
            shown,
            seen: String::new(),
        }
    }

    /// Reads on until this is on the screen; all that was shown until then.
    pub(crate) fn sees(&mut self, words: &str) -> &str {
        let end = Instant::now() + PATIENCE;
        while !self.seen.contains(words) {
            let left = end.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("no `{words}` was shown:\n{}", self.seen),
            }
        }
        &self.seen
    }

    pub(crate) fn types(&mut self, line: &str) {
        self.keyboard
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
    }

    pub(crate) fn interrupt(&self) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
    }

    /// Its exit code, and all that was shown.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    panic!("it did not end:\n{}", self.seen);
                }
            }
        }
        let status = self.child.wait().unwrap();
        (status.code(), self.seen)
    }
}
