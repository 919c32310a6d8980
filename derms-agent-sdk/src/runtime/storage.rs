//! The state directory at work: one job after the other, never on a thread of the runtime.

use std::time::Duration;

use derms_proto::LogId;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::disk::Dir;
use crate::session::Input;
use crate::state::{Commit, Shelved};

/// The session has one job of each kind under way at most; and there is the last one.
const JOBS: usize = 8;
/// What the last words may take.
const LAST_WORDS: Duration = Duration::from_millis(800);

/// Something to be done with the directory.
#[derive(Debug)]
pub(super) enum Job {
    Persist {
        number: u64,
        commit: Commit,
    },
    Shelve {
        log_id: LogId,
        shelved: Shelved,
    },
    Fetch {
        log_id: LogId,
        from: u64,
        to: u64,
    },
    LastWords {
        commit: Commit,
        shelved: Vec<Shelved>,
        done: oneshot::Sender<()>,
    },
}

/// The way to the directory.
#[derive(Debug)]
pub(super) struct Storage {
    jobs: mpsc::Sender<Job>,
}

impl Storage {
    pub(super) fn start(
        dir: Dir,
        inputs: mpsc::Sender<Input>,
        tasks: &TaskTracker,
        life: &CancellationToken,
    ) -> Self {
        let (jobs, queue) = mpsc::channel(JOBS);
        let work = work(dir, queue, inputs, tasks.clone());
        tasks.spawn(life.clone().run_until_cancelled_owned(work));
        Self { jobs }
    }

    /// Hands a job over. Its answer is an input; here only if it can't be done at all.
    pub(super) fn hand(&self, job: Job) -> Option<Input> {
        let refused = match self.jobs.try_send(job) {
            Ok(()) => return None,
            Err(mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) => {
                job
            }
        };
        tracing::error!("the task of the state directory has ended");
        match refused {
            Job::Persist { number, .. } => Some(Input::Persisted {
                number,
                stored: false,
            }),
            Job::Shelve { log_id, .. } => Some(Input::Shelved { log_id, kept: None }),
            Job::Fetch { log_id, .. } => Some(Input::Fetched {
                log_id,
                fetched: None,
            }),
            Job::LastWords { .. } => None,
        }
    }

    /// Writes what is left, if the disk does it soon.
    pub(super) async fn finish(self, commit: Commit, shelved: Vec<Shelved>) {
        let (done, finished) = oneshot::channel();
        let job = Job::LastWords {
            commit,
            shelved,
            done,
        };
        if self.jobs.try_send(job).is_ok()
            && tokio::time::timeout(LAST_WORDS, finished).await.is_err()
        {
            tracing::warn!("the state directory was not written to its end in time");
        }
    }
}

async fn work(
    mut dir: Dir,
    mut queue: mpsc::Receiver<Job>,
    inputs: mpsc::Sender<Input>,
    tasks: TaskTracker,
) {
    while let Some(job) = queue.recv().await {
        let doing = tasks.spawn_blocking(move || {
            let answer = perform(&mut dir, job);
            (dir, answer)
        });
        let Ok((back, answer)) = doing.await else {
            // What is asked next finds the queue closed, and is told so.
            return;
        };
        dir = back;
        if let Some(answer) = answer {
            // Fails only when the agent has ended; the last words may still come.
            let _ = inputs.send(answer).await;
        }
    }
}

fn perform(dir: &mut Dir, job: Job) -> Option<Input> {
    match job {
        Job::Persist { number, commit } => {
            let stored = told(dir.commit(&commit), "orders and reports can't be stored");
            Some(Input::Persisted {
                number,
                stored: stored.is_some(),
            })
        }
        Job::Shelve { log_id, shelved } => Some(Input::Shelved {
            log_id,
            kept: told(dir.shelve(shelved), "samples can't be stored"),
        }),
        Job::Fetch { log_id, from, to } => Some(Input::Fetched {
            log_id,
            fetched: told(dir.fetch(from, to), "samples can't be read back"),
        }),
        Job::LastWords {
            commit,
            shelved,
            done,
        } => {
            told(dir.commit(&commit), "orders and reports can't be stored");
            for shelved in shelved {
                told(dir.shelve(shelved), "samples can't be stored");
            }
            // Nobody waits any more if it took too long.
            let _ = done.send(());
            None
        }
    }
}

fn told<T>(result: std::io::Result<T>, what: &str) -> Option<T> {
    result
        .inspect_err(|error| tracing::error!(%error, "{what}"))
        .ok()
}
