//! An agent that does what a test says, on the real wire messages.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use derms_headend_sdk::Headend;
use derms_headend_sdk::proto::link::{
    AgentHeartbeat, AgentMessage, AssetHealth, AssetLimits, AssetState, AssetUpdate, Control,
    EventReport, Gap, Grant, HeadendMessage, LIMITS, LimitPhase, LimitReport, LogAck, LogHead,
    LogKind, Rating, Register, Registered, ReleaseOrder, Report, ReportBatch, ReportEntry, Sample,
    SetpointOrder, SetpointPhase, SetpointReport, Software, TelemetryBatch,
};
use derms_headend_sdk::proto::pb;
use derms_headend_sdk::proto::pb::agent_link_client::AgentLinkClient;
use derms_headend_sdk::proto::{
    AgentId, AssetId, AssetKind, Availability, InstanceId, LogId, Measurements, Power, Timestamp,
};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::client::GrpcService;
use tonic::codegen::StdError as BoxError;

#[derive(Debug)]
pub(crate) struct Agent {
    to: mpsc::Sender<pb::AgentMessage>,
    from: Streaming<pb::HeadendMessage>,
    logs: BTreeMap<u8, (LogId, u64)>,
    pub(crate) registered: Registered,
    assets: Vec<AssetId>,
}

impl Agent {
    /// Connects as `agent` and claims `assets`.
    pub(crate) async fn connect(headend: &Headend, agent: &str, assets: &[&str]) -> Self {
        Self::connect_over(AgentLinkClient::new(headend.service()), agent, assets).await
    }

    /// The same over TCP.
    pub(crate) async fn dial(address: SocketAddr, agent: &str, assets: &[&str]) -> Self {
        let client = legacy::Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build_http();
        let origin = format!("http://{address}").parse().unwrap();
        Self::connect_over(AgentLinkClient::with_origin(client, origin), agent, assets).await
    }

    async fn connect_over<T>(mut client: AgentLinkClient<T>, agent: &str, assets: &[&str]) -> Self
    where
        T: GrpcService<tonic::body::Body, Error: Into<BoxError>>,
        T::ResponseBody:
            http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
    {
        let assets: Vec<AssetId> = assets.iter().map(|id| id.parse().unwrap()).collect();
        let logs: BTreeMap<u8, (LogId, u64)> =
            [(0, (LogId::generate(), 1)), (1, (LogId::generate(), 1))].into();
        let (to, queue) = mpsc::channel(64);
        let agent: AgentId = agent.parse().unwrap();
        to.send(AgentMessage::Register(register(agent, &assets, &logs)).into())
            .await
            .unwrap();
        let mut from = client
            .stream(ReceiverStream::new(queue))
            .await
            .unwrap()
            .into_inner();
        let first = from
            .message()
            .await
            .unwrap()
            .expect("an answer to Register");
        let HeadendMessage::Registered(registered) = first.try_into().unwrap() else {
            panic!("not registered");
        };
        Self {
            to,
            from,
            logs,
            registered,
            assets,
        }
    }

    pub(crate) fn grants(&self) -> &[Grant] {
        &self.registered.grants
    }

    async fn send(&self, message: AgentMessage) {
        self.to.send(message.into()).await.unwrap();
    }

    /// The next message; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<HeadendMessage> {
        let message = self.from.message().await.ok().flatten()?;
        Some(message.try_into().unwrap())
    }

    /// Sends one measurement and waits until it is stored.
    pub(crate) async fn measured(&mut self, asset: &str, at: Timestamp, values: Measurements) {
        let (log_id, seq) = self.number(LogKind::Telemetry);
        let sample = Sample {
            asset_id: asset.parse().unwrap(),
            measured_at: at,
            measurements: values,
        };
        self.send(AgentMessage::Telemetry(TelemetryBatch {
            log_id,
            first_seq: seq,
            samples: vec![Ok(sample)],
            gaps: Vec::new(),
        }))
        .await;
        self.acked(LogKind::Telemetry, seq).await;
    }

    /// Sends part of the telemetry log as it is said, and waits until it is stored up to its end.
    pub(crate) async fn part(&mut self, first_seq: u64, samples: Vec<Sample>, gaps: Vec<Gap>) {
        let log = self.logs.get_mut(&0).unwrap();
        let log_id = log.0;
        let lost = gaps.iter().map(|gap| gap.last_seq).max().unwrap_or(0);
        let last = lost.max(first_seq + samples.len() as u64 - 1);
        log.1 = log.1.max(last + 1);
        self.send(AgentMessage::Telemetry(TelemetryBatch {
            log_id,
            first_seq,
            samples: samples.into_iter().map(Ok).collect(),
            gaps,
        }))
        .await;
        self.acked(LogKind::Telemetry, last).await;
    }

    pub(crate) async fn measured_mw(&mut self, asset: &str, at: Timestamp, mw: f64) {
        let values = Measurements {
            mw: Some(Power::from_mw(mw)),
            ..Measurements::default()
        };
        self.measured(asset, at, values).await;
    }

    /// Waits for the next order.
    pub(crate) async fn order(&mut self) -> SetpointOrder {
        loop {
            match self.next().await.expect("an order") {
                HeadendMessage::Setpoint(order) => return order,
                _ => continue,
            }
        }
    }

    /// Waits for the next release.
    pub(crate) async fn release(&mut self) -> ReleaseOrder {
        loop {
            match self.next().await.expect("a release") {
                HeadendMessage::Release(release) => return release,
                _ => continue,
            }
        }
    }

    /// Waits for the next limits.
    pub(crate) async fn limits(&mut self) -> AssetLimits {
        loop {
            match self.next().await.expect("limits") {
                HeadendMessage::AssetLimits(limits) => return limits,
                _ => continue,
            }
        }
    }

    /// Reports what became of limits and waits until it is stored.
    pub(crate) async fn report_limits(
        &mut self,
        limits: &AssetLimits,
        phase: LimitPhase,
        text: &str,
    ) {
        let report = LimitReport {
            revision: limits.revision,
            phase,
            reason: None,
            text: Some(text.to_owned()).filter(|text| !text.is_empty()),
        };
        let seq = self
            .report_entry(
                limits.asset_id,
                Timestamp::UNIX_EPOCH,
                Report::Limit(report),
            )
            .await;
        self.acked(LogKind::Report, seq).await;
    }

    /// Reports a step of an order and waits until it is stored.
    pub(crate) async fn report(&mut self, order: &SetpointOrder, phase: SetpointPhase) {
        let seq = self.says(order, phase).await;
        self.acked(LogKind::Report, seq).await;
    }

    /// Reports a step of an order, whether it is stored or not; with its number in the log.
    pub(crate) async fn says(&mut self, order: &SetpointOrder, phase: SetpointPhase) -> u64 {
        let report = SetpointReport {
            dispatch_id: order.dispatch_id,
            revision: order.revision,
            phase,
            reason: None,
            text: None,
            applied: Some(order.power),
        };
        self.report_entry(
            order.asset_id,
            order.start_deadline,
            Report::Setpoint(report),
        )
        .await
    }

    /// Raises an event and waits until it is stored.
    pub(crate) async fn raises(&mut self, asset: &str, at: Timestamp, severity: &str, code: &str) {
        let event = EventReport {
            severity: serde_json::from_value(severity.into()).unwrap(),
            code: code.to_owned(),
            text: "by the device".to_owned(),
        };
        let asset = asset.parse().unwrap();
        let seq = self.report_entry(asset, at, Report::Event(event)).await;
        self.acked(LogKind::Report, seq).await;
    }

    async fn report_entry(&mut self, asset_id: AssetId, at: Timestamp, report: Report) -> u64 {
        let (log_id, seq) = self.number(LogKind::Report);
        let entry = ReportEntry {
            at,
            asset_id,
            report,
        };
        self.send(AgentMessage::Report(ReportBatch {
            log_id,
            first_seq: seq,
            entries: vec![Ok(entry)],
        }))
        .await;
        seq
    }

    /// Claims one more asset.
    pub(crate) async fn adds(&mut self, asset: &str) {
        self.adds_doing(asset, Control::default()).await;
    }

    /// Claims one more asset, and says what it is doing.
    pub(crate) async fn adds_doing(&mut self, asset: &str, control: Control) {
        let asset = asset.parse().unwrap();
        self.assets.push(asset);
        let state = AssetState {
            control,
            ..state(asset)
        };
        self.send(AgentMessage::AssetUpdate(AssetUpdate {
            epoch: self.registered.epoch,
            upserted: vec![Ok(state)],
            removed: Vec::new(),
        }))
        .await;
    }

    /// Serves an asset no more.
    pub(crate) async fn removes(&self, asset: &str) {
        self.send(AgentMessage::AssetUpdate(AssetUpdate {
            epoch: self.registered.epoch,
            upserted: Vec::new(),
            removed: vec![asset.parse().unwrap()],
        }))
        .await;
    }

    /// Sends a heartbeat and waits for its answer: everything before it has been read then.
    pub(crate) async fn heartbeat(&mut self) {
        let health = |asset: &AssetId| AssetHealth {
            asset_id: *asset,
            availability: Availability::Available,
            limit_revision: 0,
            control: Control::default(),
            read_errors: 3,
        };
        self.send(AgentMessage::Heartbeat(AgentHeartbeat {
            agent_time: None,
            monotonic: Duration::from_secs(7),
            epoch: self.registered.epoch,
            outbox_depth: 2,
            dropped_samples: 1,
            assets: self.assets.iter().map(health).collect(),
            uptime: Some(Duration::from_secs(9)),
        }))
        .await;
        while !matches!(
            self.next().await.expect("an answer"),
            HeadendMessage::HeartbeatAck { .. }
        ) {}
    }

    async fn acked(&mut self, wanted: LogKind, seq: u64) {
        loop {
            match self.next().await.expect("an acknowledgement") {
                HeadendMessage::LogAck(LogAck {
                    kind,
                    up_to_seq,
                    refused,
                    ..
                }) if kind == wanted && up_to_seq >= seq => {
                    assert!(refused.is_empty(), "{refused:?}");
                    return;
                }
                _ => continue,
            }
        }
    }

    fn number(&mut self, kind: LogKind) -> (LogId, u64) {
        let log = self
            .logs
            .get_mut(&u8::from(kind == LogKind::Report))
            .unwrap();
        log.1 += 1;
        (log.0, log.1 - 1)
    }
}

fn state(asset_id: AssetId) -> AssetState {
    AssetState {
        asset_id,
        kind: AssetKind::Battery,
        rating: Rating {
            min: Power::from_mw(-60.0),
            max: Power::from_mw(60.0),
            capacity_mwh: None,
            ramp_mw_per_min: None,
        },
        last_revision: 0,
        control: Control::default(),
        availability: Availability::Available,
        limit_revision: 0,
    }
}

fn register(agent: AgentId, assets: &[AssetId], logs: &BTreeMap<u8, (LogId, u64)>) -> Register {
    let claim = |asset: &AssetId| Ok(state(*asset));
    let head = |(kind, (log_id, next_seq)): (&u8, &(LogId, u64))| LogHead {
        kind: if *kind == 0 {
            LogKind::Telemetry
        } else {
            LogKind::Report
        },
        log_id: *log_id,
        first_seq: *next_seq,
        next_seq: *next_seq,
    };
    Register {
        agent_id: agent,
        instance_id: InstanceId::generate(),
        protocol_minor: 0,
        capabilities: vec![LIMITS.to_owned()],
        software: Software {
            name: "scripted".into(),
            version: "1.2".into(),
        },
        last_epoch: 0,
        logs: logs.iter().map(head).collect(),
        assets: assets.iter().map(claim).collect(),
        durable: false,
        agent_time: None,
    }
}
