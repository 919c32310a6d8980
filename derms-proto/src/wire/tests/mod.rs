//! What the conversions keep, refuse and survive.

mod bounds;
mod headend;
mod newer_peer;
mod property;
mod register;
mod telemetry;

use crate::link::{AgentMessage, HeadendMessage, Refusal, ReportEntry, WireError};
use crate::pb::{self, agent_message, headend_message};

const ID: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";

fn read_agent(body: agent_message::Body) -> Result<AgentMessage, WireError> {
    AgentMessage::try_from(pb::AgentMessage {
        traceparent: None,
        body: Some(body),
    })
}

fn read_headend(body: headend_message::Body) -> Result<HeadendMessage, WireError> {
    HeadendMessage::try_from(pb::HeadendMessage {
        traceparent: None,
        body: Some(body),
    })
}

/// The field that a headend's message is refused for.
fn refused(body: headend_message::Body) -> &'static str {
    read_headend(body).unwrap_err().field
}

fn noon() -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp {
        seconds: 1_769_860_800,
        nanos: 0,
    })
}

fn pb_duration(seconds: i64, nanos: i32) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos }
}

fn report(entry: pb::report_entry::Entry) -> Result<ReportEntry, Refusal> {
    let batch = pb::Report {
        log_id: ID.to_owned(),
        first_seq: 1,
        entries: vec![pb::ReportEntry {
            at: noon(),
            asset_id: ID.to_owned(),
            entry: Some(entry),
        }],
    };
    match read_agent(agent_message::Body::Report(batch)).unwrap() {
        AgentMessage::Report(mut batch) => batch.entries.remove(0),
        other => panic!("read as {other:?}"),
    }
}

fn setpoint_report() -> pb::SetpointReport {
    pb::SetpointReport {
        dispatch_id: ID.to_owned(),
        revision: 1,
        phase: pb::SetpointPhase::Started.into(),
        ..pb::SetpointReport::default()
    }
}
