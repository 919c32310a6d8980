//! Ctrl-C and SIGTERM.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Failure;

/// Both ways to ask a program to stop. From its making on they no longer end the process.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to listen; inside a tokio runtime.
    ///
    /// # Errors
    /// The system does not let it.
    pub fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::start(format!("can't listen to signals: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// The next of either. Cancel-safe.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The signal to read the configuration again: SIGHUP.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Begins to listen; inside a tokio runtime. From then on the signal does not end the program.
    ///
    /// # Errors
    /// The system does not let it.
    pub fn new() -> Result<Self, Failure> {
        let hangups = signal(SignalKind::hangup());
        hangups
            .map(Self)
            .map_err(|error| Failure::start(format!("can't listen to signals: {error}")))
    }

    /// The next one. Cancel-safe.
    pub async fn next(&mut self) {
        self.0.recv().await;
    }
}
