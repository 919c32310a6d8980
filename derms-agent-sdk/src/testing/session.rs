//! One session of a fake headend.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use derms_proto::link::{
    AgentMessage, Close, FollowUp, Grant, GrantStatus, HeadendMessage, Limits, LogAck, LogCursor,
    LogKind, Register, Registered, ReleaseOrder, Report, SetpointOrder, SetpointPhase,
    SetpointReport, TelemetryBatch,
};
use derms_proto::{AssetId, DispatchId, LogId, Power, Timestamp};
use tokio::sync::mpsc;

use super::patiently;
use super::service::{Shared, ToAgent};

/// One session of a fake headend. Dropping it ends the stream without a word.
///
/// Heartbeats are answered and logs acknowledged by themselves unless
/// [`answers_by_itself`](Self::answers_by_itself) says otherwise. A message that a method does
/// not wait for is kept for the one that does.
#[derive(Debug)]
pub struct FakeSession {
    shared: Arc<Shared>,
    register: Register,
    epoch: u64,
    to_agent: Option<ToAgent>,
    from_agent: mpsc::Receiver<AgentMessage>,
    kept: VecDeque<AgentMessage>,
    reports: VecDeque<(AssetId, SetpointReport)>,
    answers: Arc<AtomicBool>,
}

impl FakeSession {
    pub(super) fn new(
        shared: Arc<Shared>,
        register: Register,
        to_agent: ToAgent,
        from_agent: mpsc::Receiver<AgentMessage>,
        answers: Arc<AtomicBool>,
    ) -> Self {
        let epoch = 1 + shared.epochs.fetch_add(1, Ordering::SeqCst);
        Self {
            shared,
            register,
            epoch,
            to_agent: Some(to_agent),
            from_agent,
            kept: VecDeque::new(),
            reports: VecDeque::new(),
            answers,
        }
    }

    /// What the agent said of itself.
    #[must_use]
    pub fn register(&self) -> &Register {
        &self.register
    }

    /// Its epoch: 1 for the first session of a fake headend.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether heartbeats and logs are acknowledged at once. Default true.
    pub fn answers_by_itself(&self, answers: bool) {
        self.answers.store(answers, Ordering::SeqCst);
    }

    /// The usual answer to Register, to be changed and given to [`answer`](Self::answer):
    /// everything granted, telemetry every 4 s, heartbeat every 30 s, liveness 45 s, each log
    /// from its head on.
    #[must_use]
    pub fn registered(&self) -> Registered {
        let claims = self
            .register
            .assets
            .iter()
            .filter_map(|claim| claim.as_ref().ok());
        let grants = claims.map(|claim| Grant {
            asset_id: claim.asset_id,
            status: GrantStatus::Granted,
            last_revision: claim.last_revision,
            text: None,
        });
        let logs = self.register.logs.iter().map(|head| LogCursor {
            kind: head.kind,
            log_id: head.log_id,
            next_seq: head.first_seq,
        });
        Registered {
            epoch: self.epoch,
            server_time: self.now(),
            telemetry_interval: Duration::from_secs(4),
            heartbeat_interval: Duration::from_secs(30),
            liveness_timeout: Duration::from_secs(45),
            limits: Limits::default(),
            logs: logs.collect(),
            grants: grants.collect(),
            durable_acks: false,
            capabilities: Vec::new(),
            protocol_minor: 0,
        }
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now().wall
    }

    /// Answers Register.
    pub async fn answer(&mut self, registered: Registered) {
        self.epoch = registered.epoch;
        self.send(HeadendMessage::Registered(registered)).await;
    }

    /// Sends any message; nothing happens when the stream has ended.
    pub async fn send(&self, message: HeadendMessage) {
        if let Some(to_agent) = &self.to_agent {
            let _ = to_agent.send(Ok(message.into())).await;
        }
    }

    /// An order of this session with the next revision: no lease, to be started within 30 s, then
    /// the default. Change what the test is about and send it with [`setpoint`](Self::setpoint).
    #[must_use]
    pub fn order(&self, asset_id: AssetId, power: Power) -> SetpointOrder {
        SetpointOrder {
            asset_id,
            dispatch_id: DispatchId::generate(),
            revision: self.next_revision(),
            epoch: self.epoch,
            power,
            duration: None,
            start_at: None,
            start_deadline: self.now().saturating_add(Duration::from_secs(30)),
            ramp_mw_per_min: None,
            then: FollowUp::Default,
        }
    }

    fn next_revision(&self) -> u64 {
        1 + self.shared.revisions.fetch_add(1, Ordering::SeqCst)
    }

    /// Sends an order.
    pub async fn setpoint(&self, order: &SetpointOrder) {
        self.send(HeadendMessage::Setpoint(order.clone())).await;
    }

    /// Releases an order with the next revision.
    pub async fn release(&self, order: &SetpointOrder) {
        let release = ReleaseOrder {
            asset_id: order.asset_id,
            dispatch_id: order.dispatch_id,
            revision: self.next_revision(),
            epoch: self.epoch,
        };
        self.send(HeadendMessage::Release(release)).await;
    }

    /// Acknowledges a log up to a number.
    pub async fn ack(&self, kind: LogKind, log_id: LogId, up_to_seq: u64) {
        self.send(HeadendMessage::LogAck(LogAck {
            kind,
            log_id,
            up_to_seq,
            refused: Vec::new(),
            rewind: false,
        }))
        .await;
    }

    /// The next message that was not given out; `None` when the agent has ended its side.
    pub async fn next(&mut self) -> Option<AgentMessage> {
        match self.kept.pop_front() {
            Some(message) => Some(message),
            None => self.from_agent.recv().await,
        }
    }

    /// The next message for which `wanted` gives something; the others are kept.
    ///
    /// # Panics
    /// If none comes within 60 s or before the agent ends its side; `what` is in the text.
    pub async fn wait_for<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&AgentMessage) -> Option<T>,
    ) -> T {
        let mut index = 0;
        let search = async {
            loop {
                if let Some(message) = self.kept.get(index) {
                    if let Some(found) = wanted(message) {
                        self.kept.remove(index);
                        return Some(found);
                    }
                    index += 1;
                } else {
                    self.kept.push_back(self.from_agent.recv().await?);
                }
            }
        };
        patiently(what, search).await
    }

    /// The next batch of telemetry.
    ///
    /// # Panics
    /// If none comes within 60 s.
    pub async fn telemetry(&mut self) -> TelemetryBatch {
        self.wait_for("telemetry", |message| match message {
            AgentMessage::Telemetry(batch) => Some(batch.clone()),
            _ => None,
        })
        .await
    }

    /// The next report about an order.
    ///
    /// # Panics
    /// If none comes within 60 s.
    pub async fn report(&mut self) -> (AssetId, SetpointReport) {
        loop {
            if let Some(report) = self.reports.pop_front() {
                return report;
            }
            let batch = self.wait_for("a report", |message| match message {
                AgentMessage::Report(batch) => Some(batch.clone()),
                _ => None,
            });
            let entries = batch.await.entries.into_iter().flatten();
            self.reports
                .extend(entries.filter_map(|entry| match entry.report {
                    Report::Setpoint(report) => Some((entry.asset_id, report)),
                    _ => None,
                }));
        }
    }

    /// Waits until this order is reported in this phase; reports before it are dropped.
    ///
    /// # Panics
    /// If it does not come within 60 s.
    pub async fn reported(
        &mut self,
        dispatch_id: DispatchId,
        phase: SetpointPhase,
    ) -> SetpointReport {
        loop {
            let (_, report) = self.report().await;
            if report.dispatch_id == dispatch_id && report.phase == phase {
                return report;
            }
        }
    }

    /// Ends the session with a last message.
    pub async fn close(mut self, close: Close) {
        self.send(HeadendMessage::Close(close)).await;
        self.to_agent = None;
    }

    /// Ends the stream without a word, as a lost link does.
    pub fn cut(self) {
        drop(self);
    }

    /// Waits until the agent ends its side; its `Close`, if it sent one.
    ///
    /// # Panics
    /// If it does not end within 60 s.
    pub async fn ended(mut self) -> Option<Close> {
        let mut last = None;
        let end = async {
            while let Some(message) = self.next().await {
                last = Some(message);
            }
            Some(())
        };
        patiently("the end of the agent's side", end).await;
        match last {
            Some(AgentMessage::Close(close)) => Some(close),
            _ => None,
        }
    }
}
