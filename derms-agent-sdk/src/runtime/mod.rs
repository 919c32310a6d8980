//! The runtime: one task owns the session; a task per connection, two per device.

mod changes;
mod core;
mod device;
mod handle;
mod journal;
mod storage;
mod traces;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::AssetId;
use http::Uri;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::changes::{CHANGES, Change};
use self::core::Core;
use self::handle::Publisher;
pub use self::handle::{AgentEvents, AgentHandle};
use crate::builder::BoxFuture;
use crate::clock::Clock;
use crate::connect::{Dial, Security};
use crate::disk::Dir;
use crate::session::Config;
use crate::{AgentBuilder, DerAdapter, RunError};

/// Tasks get this long to end after the session's last word.
const LAST: Duration = Duration::from_millis(1_100);

/// Everything an agent is made of.
pub(crate) struct Parts {
    pub(crate) headend: Uri,
    pub(crate) config: Config,
    pub(crate) devices: Vec<(AssetId, Arc<dyn DerAdapter>)>,
    pub(crate) adapter_timeout: Duration,
    /// `None`: all is kept in memory.
    pub(crate) state: Option<Dir>,
    pub(crate) shutdown: Vec<BoxFuture>,
    pub(crate) signals: bool,
    pub(crate) dialer: Arc<dyn Dial>,
    pub(crate) security: Security,
    pub(crate) clock: Arc<dyn Clock>,
}

/// An agent, ready to run.
#[must_use = "an agent does nothing until `run`"]
pub struct AgentRuntime {
    parts: Parts,
    publisher: Publisher,
    change: mpsc::Sender<Change>,
    changes: mpsc::Receiver<Change>,
    shutdown: CancellationToken,
}

impl AgentRuntime {
    /// Starts to put an agent together that dials this headend (`http://host:port`).
    pub fn builder(headend: Uri) -> AgentBuilder {
        AgentBuilder::new(headend)
    }

    pub(crate) fn new(parts: Parts) -> Self {
        let (change, changes) = mpsc::channel(CHANGES);
        Self {
            parts,
            publisher: Publisher::new(),
            change,
            changes,
            shutdown: CancellationToken::new(),
        }
    }

    /// A handle to watch the agent and to stop it; as many as you like, before and during `run`.
    #[must_use]
    pub fn handle(&self) -> AgentHandle {
        AgentHandle::new(&self.publisher, self.change.clone(), self.shutdown.clone())
    }

    /// Runs the agent until it is shut down.
    ///
    /// Devices are read and kept to their orders with or without a link; the link is built up
    /// again for ever. **Shutdown**, in this order and within 5 s: no new orders; every asset
    /// with a setpoint in force goes to its default and the order is reported as `failed`
    /// (`interrupted`), for an agent that has stopped could not end its lease; reports and samples
    /// in hand are sent, and reports acknowledged; `Close(NORMAL)`; the stream ends. The same
    /// happens when the headend closes the session with `NORMAL`.
    ///
    /// If the future is dropped instead, all tasks end at once and devices stay as they are.
    ///
    /// # Errors
    /// See [`RunError`]; a headend that is not there is none.
    pub async fn run(self) -> Result<(), RunError> {
        let Self {
            mut parts,
            publisher,
            change: _,
            changes,
            shutdown,
        } = self;
        let tasks = TaskTracker::new();
        let life = CancellationToken::new();
        let _all_tasks_end_with_this_future = life.clone().drop_guard();
        if parts.signals {
            parts.shutdown.push(signals().map_err(RunError::Signal)?);
        }
        for future in std::mem::take(&mut parts.shutdown) {
            let (life, shutdown) = (life.clone(), shutdown.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = future => shutdown.cancel(),
                    () = life.cancelled() => {}
                }
            });
        }
        Core::start(parts, changes, publisher, &tasks, &life)
            .run(&shutdown)
            .await;
        tasks.close();
        // The stream's goodbye is awaited; devices and futures of others are not.
        life.cancel();
        if tokio::time::timeout(LAST, tasks.wait()).await.is_err() {
            tracing::warn!("some tasks of the agent did not end in time");
        }
        Ok(())
    }
}

#[cfg(unix)]
fn signals() -> std::io::Result<BoxFuture> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(Box::pin(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }))
}

#[cfg(not(unix))]
fn signals() -> std::io::Result<BoxFuture> {
    Ok(Box::pin(async {
        // Without a handler there is nothing to wait for; the process ends at Ctrl-C as usual.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }))
}

impl fmt::Debug for AgentRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentRuntime")
            .field("headend", &self.parts.headend)
            .field("agent_id", &self.parts.config.agent_id)
            .field("assets", &self.parts.devices.len())
            .finish_non_exhaustive()
    }
}
