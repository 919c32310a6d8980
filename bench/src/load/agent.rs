//! One simulated agent: registers, numbers its telemetry, answers orders at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use derms_headend_sdk::proto::pb::{self, agent_message, headend_message};
use prost::Message as _;
use uuid::Uuid;

use crate::fleet;

/// An agent of the SDK has no more unacknowledged batches than this.
const WINDOW: usize = 12;

#[derive(Debug)]
pub(crate) struct Agent {
    id: String,
    telemetry_log: String,
    report_log: String,
    epoch: u64,
    next_seq: u64,
    next_report: u64,
    /// When each unacknowledged batch was sent, oldest first, with the number of its last sample.
    unacked: VecDeque<(u64, Instant)>,
}

/// What a message of the server means.
#[derive(Debug)]
pub(crate) enum Heard {
    Registered,
    /// Acknowledged: when each was sent.
    Acked(Vec<Instant>),
    Rewound,
    /// An order was taken; this is the answer.
    Order(Box<pb::AgentMessage>),
    /// This is the answer to a ping.
    Ping(Box<pb::AgentMessage>),
    Closed(pb::Close),
    Nothing,
}

impl Agent {
    pub(crate) fn new(number: u32) -> Self {
        Self {
            id: fleet::asset_id(number).to_string(),
            telemetry_log: Uuid::new_v4().to_string(),
            report_log: Uuid::new_v4().to_string(),
            epoch: 0,
            next_seq: 1,
            next_report: 1,
            unacked: VecDeque::new(),
        }
    }

    /// The first message on a connection.
    pub(crate) fn register(&mut self, instance: &str) -> pb::AgentMessage {
        self.unacked.clear();
        let log = |kind: pb::LogKind, log_id: &String, next_seq| pb::LogHead {
            kind: kind.into(),
            log_id: log_id.clone(),
            first_seq: next_seq,
            next_seq,
        };
        message(agent_message::Body::Register(pb::Register {
            agent_id: self.id.clone(),
            instance_id: instance.to_owned(),
            software: Some(pb::Software {
                name: "derms-bench".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            }),
            last_epoch: self.epoch,
            logs: vec![
                log(pb::LogKind::Telemetry, &self.telemetry_log, self.next_seq),
                log(pb::LogKind::Report, &self.report_log, self.next_report),
            ],
            assets: vec![pb::AssetState {
                asset_id: self.id.clone(),
                kind: pb::AssetKind::Battery.into(),
                rating: Some(pb::Rating {
                    min_mw: -10.0,
                    max_mw: 10.0,
                    ..pb::Rating::default()
                }),
                control: Some(pb::Control {
                    source: pb::ControlSource::Default.into(),
                    ..pb::Control::default()
                }),
                availability: pb::Availability::Available.into(),
                ..pb::AssetState::default()
            }],
            agent_time: Some(SystemTime::now().into()),
            ..pb::Register::default()
        }))
    }

    /// Whether another batch may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.unacked.len() < WINDOW
    }

    pub(crate) fn unacked(&self) -> usize {
        self.unacked.len()
    }

    /// A batch of so many samples, a microsecond apart, the last one measured now.
    pub(crate) fn telemetry(&self, samples: u32) -> pb::AgentMessage {
        let now = SystemTime::now();
        let samples = (0..samples).map(|number| {
            let at = now - Duration::from_micros(u64::from(samples - 1 - number));
            self.sample(at, self.next_seq + u64::from(number))
        });
        message(agent_message::Body::Telemetry(pb::Telemetry {
            log_id: self.telemetry_log.clone(),
            first_seq: self.next_seq,
            samples: samples.collect(),
            gaps: Vec::new(),
        }))
    }

    fn sample(&self, at: SystemTime, number: u64) -> pb::Sample {
        let moving = number as f64;
        pb::Sample {
            asset_id: self.id.clone(),
            measured_at: Some(at.into()),
            quality: pb::Quality::Good.into(),
            mw: Some(moving % 10.0),
            voltage_v: Some(400.0),
            frequency_hz: Some(50.0),
            soc_pct: Some(moving % 100.0),
            status: pb::DeviceStatus::Running.into(),
            ..pb::Sample::default()
        }
    }

    /// A batch of so many samples is on its way.
    pub(crate) fn sent(&mut self, samples: u32, now: Instant) {
        self.next_seq += u64::from(samples);
        self.unacked.push_back((self.next_seq - 1, now));
    }

    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Heard {
        let Ok(message) = pb::HeadendMessage::decode(bytes) else {
            return Heard::Nothing;
        };
        match message.body {
            Some(headend_message::Body::Registered(registered)) => {
                self.epoch = registered.epoch;
                for cursor in registered.logs {
                    if cursor.log_id == self.telemetry_log {
                        self.next_seq = cursor.next_seq;
                    } else if cursor.log_id == self.report_log {
                        self.next_report = cursor.next_seq;
                    }
                }
                Heard::Registered
            }
            Some(headend_message::Body::LogAck(ack))
                if ack.kind == pb::LogKind::Telemetry as i32 =>
            {
                if ack.rewind {
                    return Heard::Rewound;
                }
                let covered = self
                    .unacked
                    .iter()
                    .take_while(|(seq, _)| *seq <= ack.up_to_seq)
                    .count();
                Heard::Acked(self.unacked.drain(..covered).map(|(_, at)| at).collect())
            }
            Some(headend_message::Body::Setpoint(setpoint)) => {
                Heard::Order(Box::new(self.report(&setpoint)))
            }
            Some(headend_message::Body::Ping(ping)) => {
                let pong = pb::Pong { nonce: ping.nonce };
                Heard::Ping(Box::new(self::message(agent_message::Body::Pong(pong))))
            }
            Some(headend_message::Body::Close(close)) => Heard::Closed(close),
            _ => Heard::Nothing,
        }
    }

    /// Received and started, in one batch.
    fn report(&mut self, setpoint: &pb::Setpoint) -> pb::AgentMessage {
        let entry = |phase: pb::SetpointPhase| pb::ReportEntry {
            at: Some(SystemTime::now().into()),
            asset_id: setpoint.asset_id.clone(),
            entry: Some(pb::report_entry::Entry::Setpoint(pb::SetpointReport {
                dispatch_id: setpoint.dispatch_id.clone(),
                revision: setpoint.revision,
                phase: phase.into(),
                applied_mw: Some(setpoint.mw),
                ..pb::SetpointReport::default()
            })),
        };
        let first_seq = self.next_report;
        self.next_report += 2;
        message(agent_message::Body::Report(pb::Report {
            log_id: self.report_log.clone(),
            first_seq,
            entries: vec![
                entry(pb::SetpointPhase::Received),
                entry(pb::SetpointPhase::Started),
            ],
        }))
    }
}

fn message(body: agent_message::Body) -> pb::AgentMessage {
    pb::AgentMessage {
        traceparent: None,
        body: Some(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(agent: &Agent, up_to_seq: u64, rewind: bool) -> Vec<u8> {
        let ack = pb::LogAck {
            kind: pb::LogKind::Telemetry.into(),
            log_id: agent.telemetry_log.clone(),
            up_to_seq,
            rewind,
            ..pb::LogAck::default()
        };
        let body = Some(headend_message::Body::LogAck(ack));
        pb::HeadendMessage {
            traceparent: None,
            body,
        }
        .encode_to_vec()
    }

    #[test]
    fn a_full_window_waits_for_an_acknowledgement() {
        let mut agent = Agent::new(0);
        for _ in 0..WINDOW {
            assert!(agent.has_room());
            agent.sent(1, Instant::now());
        }
        assert!(!agent.has_room());
        let bytes = ack(&agent, 2, false);
        assert!(matches!(agent.hear(&bytes), Heard::Acked(sent) if sent.len() == 2));
        assert!(agent.has_room());
        let bytes = ack(&agent, 2, true);
        assert!(matches!(agent.hear(&bytes), Heard::Rewound));
    }

    #[test]
    fn a_batch_is_acknowledged_with_its_last_sample() {
        let mut agent = Agent::new(0);
        agent.sent(64, Instant::now());
        let bytes = ack(&agent, 63, false);
        assert!(matches!(agent.hear(&bytes), Heard::Acked(sent) if sent.is_empty()));
        let bytes = ack(&agent, 64, false);
        assert!(matches!(agent.hear(&bytes), Heard::Acked(sent) if sent.len() == 1));
    }
}
