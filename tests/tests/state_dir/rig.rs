//! A scripted headend that remembers what it has acknowledged, and an agent that it can lose.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use derms_agent_sdk::testing::{FakeHeadend, FakeSession};
use derms_proto::link::{
    AgentMessage, HeadendMessage, LogCursor, LogKind, Report, SetpointPhase, SetpointReport,
};
use derms_proto::{LogId, Timestamp};
use derms_tests::{Process, Program};
use uuid::Uuid;

/// A folder that is gone with the test.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("derms-state-{}", Uuid::new_v4()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What the headend has of one log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Below this everything is stored or declared lost.
    pub(crate) next: u64,
    pub(crate) lost: Vec<(u64, u64)>,
}

/// The memory of a headend, over all its sessions with one agent.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) logs: BTreeMap<Uuid, Log>,
    /// Time of measurement by log and number.
    pub(crate) samples: BTreeMap<(Uuid, u64), Timestamp>,
    pub(crate) reports: Vec<SetpointReport>,
}

impl Memory {
    /// Answers Register with where each log goes on.
    pub(crate) async fn welcome(&self, session: &mut FakeSession, every: Duration) {
        let mut registered = session.registered();
        registered.telemetry_interval = every;
        registered.limits.backfill_spread = Duration::ZERO;
        registered.logs = session
            .register()
            .logs
            .iter()
            .filter_map(|head| {
                let log = self.logs.get(&head.log_id.uuid())?;
                Some(LogCursor {
                    kind: head.kind,
                    log_id: head.log_id,
                    next_seq: log.next,
                })
            })
            .collect();
        session.answers_by_itself(false);
        session.answer(registered).await;
    }

    fn log(&mut self, session: &FakeSession, log_id: LogId) -> &mut Log {
        let heads = &session.register().logs;
        let head = heads.iter().find(|head| head.log_id == log_id).unwrap();
        self.logs.entry(log_id.uuid()).or_insert(Log {
            next: head.first_seq,
            lost: Vec::new(),
        })
    }

    /// Takes one message, stores it, acknowledges it. Panics where a headend would.
    pub(crate) async fn take(&mut self, session: &FakeSession, message: AgentMessage) {
        match message {
            AgentMessage::Telemetry(batch) => {
                let id = batch.log_id.uuid();
                let log = self.log(session, batch.log_id);
                for gap in &batch.gaps {
                    assert!(gap.first_seq <= log.next, "a hole before {gap:?}");
                    if gap.last_seq >= log.next {
                        log.lost.push((log.next, gap.last_seq));
                        log.next = gap.last_seq + 1;
                    }
                }
                let (first, count) = (batch.first_seq, batch.samples.len() as u64);
                assert!(count == 0 || first <= log.next, "a hole before {first}");
                log.next = log.next.max(first + count);
                let next = log.next;
                for (seq, sample) in (first..).zip(batch.samples) {
                    let at = sample.unwrap().measured_at;
                    let known = self.samples.insert((id, seq), at);
                    assert!(
                        known.is_none_or(|known| known == at),
                        "number {seq} was another sample"
                    );
                }
                session
                    .ack(LogKind::Telemetry, batch.log_id, next - 1)
                    .await;
            }
            AgentMessage::Report(batch) => {
                let log = self.log(session, batch.log_id);
                assert!(batch.first_seq <= log.next, "a hole in the reports");
                let known = log.next - batch.first_seq;
                log.next = log.next.max(batch.first_seq + batch.entries.len() as u64);
                let next = log.next;
                for entry in batch.entries.into_iter().skip(known as usize) {
                    if let Report::Setpoint(report) = entry.unwrap().report {
                        self.reports.push(report);
                    }
                }
                session.ack(LogKind::Report, batch.log_id, next - 1).await;
            }
            AgentMessage::Heartbeat(beat) => {
                session
                    .send(HeadendMessage::HeartbeatAck {
                        monotonic: beat.monotonic,
                        server_time: Timestamp::now(),
                    })
                    .await;
            }
            _ => {}
        }
    }

    /// Serves a session until `enough`.
    pub(crate) async fn serve(
        &mut self,
        session: &mut FakeSession,
        what: &str,
        enough: impl Fn(&Self) -> bool,
    ) {
        let serving = async {
            while !enough(self) {
                let message = session.next().await.expect("the session goes on");
                self.take(session, message).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(40), serving)
            .await
            .unwrap_or_else(|_| panic!("waited in vain: {what}"));
    }

    pub(crate) fn phases(&self) -> Vec<SetpointPhase> {
        self.reports.iter().map(|report| report.phase).collect()
    }

    /// Each sample was measured at a time of its own: none is there twice.
    pub(crate) fn assert_no_sample_twice(&self) {
        let mut times: Vec<_> = self.samples.values().collect();
        let all = times.len();
        times.sort_unstable();
        times.dedup();
        assert_eq!(times.len(), all, "a sample is there under two numbers");
    }
}

pub(crate) fn agent(headend: &FakeHeadend, asset: &str, dir: &Path) -> Process {
    Program::new("edge_agent")
        .args(["--asset-id", asset, "--headend", &headend.uri().to_string()])
        .args(["--state-dir", dir.to_str().unwrap()])
        .start()
}
