//! An agent that says exactly what a test wants, on a socket.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use derms_headend_sdk::proto::link::{
    AgentMessage, AssetState, Close, Control, HeadendMessage, LogHead, LogKind, Rating, Register,
    Registered, Sample, Software, TelemetryBatch,
};
use derms_headend_sdk::proto::{
    AgentId, AssetId, AssetKind, Availability, CloseReason, InstanceId, LogId, Measurements, Power,
    Timestamp, pb,
};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Far more than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// One stream to a headend, at the level of gRPC frames.
pub(crate) struct Agent {
    outbound: Option<mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>>,
    inbound: Incoming,
    buffer: BytesMut,
}

impl Agent {
    pub(crate) async fn dial(address: SocketAddr) -> Self {
        let (outbound, frames) = mpsc::channel(1_024);
        let body = StreamBody::new(ReceiverStream::new(frames));
        let client = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build_http();
        let request = http::Request::post(format!("http://{address}/derms.v1.AgentLink/Stream"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)
            .unwrap();
        let response = tokio::time::timeout(PATIENCE, client.request(request))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(response.status(), 200);
        Self {
            outbound: Some(outbound),
            inbound: response.into_body(),
            buffer: BytesMut::new(),
        }
    }

    /// Dials, registers for one asset and gives the answer.
    pub(crate) async fn registered(address: SocketAddr, asset: AssetId) -> (Self, Registered) {
        let mut agent = Self::dial(address).await;
        agent
            .send(AgentMessage::Register(register(asset.into(), &[asset])))
            .await;
        match agent.receive().await {
            Some(HeadendMessage::Registered(registered)) => (agent, registered),
            other => panic!("no Registered but {other:?}"),
        }
    }

    pub(crate) async fn send(&self, message: AgentMessage) {
        self.send_payload(&pb::AgentMessage::from(message).encode_to_vec())
            .await;
    }

    /// Any bytes as the payload of a gRPC message.
    pub(crate) async fn send_payload(&self, payload: &[u8]) {
        let mut frame = BytesMut::with_capacity(5 + payload.len());
        frame.put_u8(0);
        frame.put_u32(u32::try_from(payload.len()).unwrap());
        frame.put_slice(payload);
        self.send_raw(frame.freeze()).await;
    }

    /// Any bytes at all.
    pub(crate) async fn send_raw(&self, bytes: Bytes) {
        if let Some(outbound) = &self.outbound {
            // Fails when the headend has ended the stream: the test sees that when it reads.
            let _ = outbound.send(Ok(Frame::data(bytes))).await;
        }
    }

    /// Ends its half of the stream without a word.
    pub(crate) fn hang_up(&mut self) {
        self.outbound = None;
    }

    /// The next message; `None` at the end of the stream.
    pub(crate) async fn receive(&mut self) -> Option<HeadendMessage> {
        tokio::time::timeout(PATIENCE, self.next())
            .await
            .expect("the headend said nothing")
    }

    async fn next(&mut self) -> Option<HeadendMessage> {
        loop {
            if self.buffer.len() >= 5 {
                let length = (&self.buffer[1..5]).get_u32() as usize;
                if self.buffer.len() >= 5 + length {
                    self.buffer.advance(5);
                    let message = pb::HeadendMessage::decode(self.buffer.split_to(length)).unwrap();
                    return Some(HeadendMessage::try_from(message).unwrap());
                }
            }
            let frame = self.inbound.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// Reads on to the next message of interest.
    pub(crate) async fn find<T>(&mut self, mut pick: impl FnMut(HeadendMessage) -> Option<T>) -> T {
        while let Some(message) = self.receive().await {
            if let Some(found) = pick(message) {
                return found;
            }
        }
        panic!("the stream ended first");
    }

    /// The last message before the end of the stream.
    pub(crate) async fn close(&mut self) -> Option<Close> {
        let mut last = None;
        while let Some(message) = self.receive().await {
            last = Some(message);
        }
        match last {
            Some(HeadendMessage::Close(close)) => Some(close),
            _ => None,
        }
    }

    pub(crate) async fn closed_with(&mut self) -> CloseReason {
        self.close()
            .await
            .expect("the stream ended without Close")
            .reason
    }
}

pub(crate) fn log_of(kind: LogKind) -> LogId {
    LogId::new(uuid::Uuid::from_u128(if kind == LogKind::Telemetry {
        11
    } else {
        12
    }))
}

pub(crate) fn register(agent: AgentId, assets: &[AssetId]) -> Register {
    let head = |kind| LogHead {
        kind,
        log_id: log_of(kind),
        first_seq: 1,
        next_seq: 1,
    };
    let state = |asset: &AssetId| AssetState {
        asset_id: *asset,
        kind: AssetKind::Battery,
        rating: Rating {
            min: Power::from_mw(-1.0),
            max: Power::from_mw(1.0),
            capacity_mwh: None,
            ramp_mw_per_min: None,
        },
        last_revision: 0,
        control: Control::default(),
        availability: Availability::Available,
        limit_revision: 0,
    };
    Register {
        agent_id: agent,
        instance_id: InstanceId::generate(),
        protocol_minor: 0,
        capabilities: Vec::new(),
        software: Software {
            name: "scripted".into(),
            version: "1".into(),
        },
        last_epoch: 0,
        logs: vec![head(LogKind::Telemetry), head(LogKind::Report)],
        assets: assets.iter().map(|asset| Ok(state(asset))).collect(),
        durable: true,
        agent_time: None,
    }
}

pub(crate) fn telemetry(asset: AssetId, first_seq: u64, powers: &[f64]) -> AgentMessage {
    AgentMessage::Telemetry(TelemetryBatch {
        log_id: log_of(LogKind::Telemetry),
        first_seq,
        samples: powers
            .iter()
            .map(|mw| {
                Ok(Sample {
                    asset_id: asset,
                    measured_at: Timestamp::now(),
                    measurements: Measurements {
                        mw: Some(Power::from_mw(*mw)),
                        ..Measurements::default()
                    },
                })
            })
            .collect(),
        gaps: Vec::new(),
    })
}
