//! The processes that were started: who has ended, and the end of all.
//!
//! Each child has a pipe on its stdin that is never written: when the launcher dies, however it
//! dies, the pipe closes and the child (`--exit-with-parent`) stops.

use std::convert::Infallible;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a child may take to drain before it is killed.
const DRAIN: Duration = Duration::from_secs(10);

/// What a child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Agent,
    Headend,
}

/// The end of a child.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) role: Role,
    pub(crate) name: String,
    pub(crate) pid: Option<u32>,
    pub(crate) status: io::Result<ExitStatus>,
    /// It did not end when told to.
    pub(crate) killed: bool,
}

/// All children; they are killed when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Children {
    tasks: JoinSet<Exit>,
    agents: usize,
    stop_agents: CancellationToken,
    stop_headend: CancellationToken,
    kill: CancellationToken,
}

/// Starts a process that ends with this one.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    command
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        // Ctrl-C in a terminal goes to the whole group, and the order of the end is ours.
        .process_group(0)
        .spawn()
}

impl Children {
    pub(crate) fn add(&mut self, role: Role, name: String, child: Child) {
        let stop = match role {
            Role::Agent => self.stop_agents.clone(),
            Role::Headend => self.stop_headend.clone(),
        };
        self.agents += usize::from(role == Role::Agent);
        self.tasks
            .spawn(watch(role, name, child, stop, self.kill.clone()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The next child that ends; `None` when there is none left. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Exit> {
        loop {
            // A task that fails has dropped its child, which kills it.
            match self.tasks.join_next().await? {
                Ok(exit) => {
                    self.agents -= usize::from(exit.role == Role::Agent);
                    return Some(exit);
                }
                Err(error) => tracing::error!(%error, "a child can't be watched any more"),
            }
        }
    }

    /// Stops the agents, then the headend. `hurry` ends the wait: what is left is killed.
    pub(crate) async fn stop(mut self, hurry: impl Future<Output = ()>) {
        let mut hurry = std::pin::pin!(hurry);
        self.stop_agents.cancel();
        loop {
            if self.agents == 0 {
                self.stop_headend.cancel();
            }
            let exit = tokio::select! {
                exit = self.next() => exit,
                () = &mut hurry, if !self.kill.is_cancelled() => {
                    self.kill.cancel();
                    continue;
                }
            };
            match exit {
                None => return,
                Some(exit) if exit.killed => {
                    tracing::warn!(
                        name = exit.name,
                        pid = exit.pid,
                        "did not stop and was killed"
                    );
                }
                Some(_) => {}
            }
        }
    }
}

async fn watch(
    role: Role,
    name: String,
    mut child: Child,
    stop: CancellationToken,
    kill: CancellationToken,
) -> Exit {
    let pid = child.id();
    // Kept here, for `wait` closes the pipe that tells the child that the launcher lives.
    let alive = child.stdin.take();
    let mut stdout = child.stdout.take();
    let drained = async {
        if let Some(stdout) = &mut stdout {
            let _ = tokio::io::copy(stdout, &mut tokio::io::sink()).await;
        }
        std::future::pending::<Infallible>().await
    };
    let mut killed = false;
    let status = tokio::select! {
        never = drained => match never {},
        status = child.wait() => status,
        () = stop.cancelled() => {
            terminate(&child);
            let ended = tokio::select! {
                ended = timeout(DRAIN, child.wait()) => ended.ok(),
                () = kill.cancelled() => None,
            };
            match ended {
                Some(status) => status,
                None => {
                    killed = true;
                    match child.kill().await {
                        Ok(()) => child.wait().await,
                        Err(error) => Err(error),
                    }
                }
            }
        }
    };
    // Not before: a child that is told to stop should not say that its launcher is gone.
    drop(alive);
    Exit {
        role,
        name,
        pid,
        status,
        killed,
    }
}

/// Sends SIGTERM. The process is still ours: nobody has waited for it, so its id is not reused.
fn terminate(child: &Child) {
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = kill_process(pid, Signal::TERM)
    {
        tracing::warn!(pid = pid.as_raw_nonzero(), %error, "can't send SIGTERM");
    }
}
