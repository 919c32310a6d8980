//! Sizes, and what is left out or cut.

use std::time::Duration;

use super::register::{claim, read_register, register};
use super::telemetry::{read_telemetry, telemetry};
use super::*;
use crate::link::*;
use crate::wire::{MAX_ITEMS, MAX_NAME_BYTES, MAX_TEXT_BYTES};
use crate::*;

#[test]
fn a_lost_transport_is_never_said_to_the_peer() {
    let close = Close::new(CloseReason::TransportLost, "");
    let pb = pb::AgentMessage::from(AgentMessage::Close(close));
    assert_eq!(
        pb.body,
        Some(agent_message::Body::Close(pb::Close::default()))
    );
}

#[test]
fn entries_without_a_readable_asset_are_left_out_where_they_say_nothing() {
    let health = |asset_id: &str| pb::AssetHealth {
        asset_id: asset_id.to_owned(),
        ..pb::AssetHealth::default()
    };
    let heartbeat = pb::Heartbeat {
        assets: vec![health("?"), health(ID)],
        ..pb::Heartbeat::default()
    };
    match read_agent(agent_message::Body::Heartbeat(heartbeat)) {
        Ok(AgentMessage::Heartbeat(heartbeat)) => assert_eq!(heartbeat.assets.len(), 1),
        other => panic!("read as {other:?}"),
    }
    let removed = vec!["?".to_owned(), ID.to_owned()];
    let update = pb::AssetUpdate {
        removed,
        ..pb::AssetUpdate::default()
    };
    match read_agent(agent_message::Body::AssetUpdate(update)) {
        Ok(AgentMessage::AssetUpdate(update)) => assert_eq!(update.removed, [ID.parse().unwrap()]),
        other => panic!("read as {other:?}"),
    }
    let grant = |asset_id: &str| pb::Grant {
        asset_id: asset_id.to_owned(),
        ..pb::Grant::default()
    };
    let grants = pb::Grants {
        epoch: 1,
        grants: vec![grant("?"), grant(ID)],
    };
    match read_headend(headend_message::Body::Grants(grants)) {
        Ok(HeadendMessage::Grants { grants, .. }) => assert_eq!(grants.len(), 1),
        other => panic!("read as {other:?}"),
    }
}

#[test]
fn lists_and_texts_are_bounded() {
    let samples = vec![pb::Sample::default(); MAX_ITEMS + 1];
    assert_eq!(
        read_telemetry(telemetry(samples)).unwrap_err().field,
        "samples"
    );
    let assets = vec![claim(); MAX_ITEMS + 1];
    assert_eq!(
        read_register(pb::Register {
            assets,
            ..register()
        })
        .unwrap_err()
        .field,
        "assets"
    );

    let text = "ä".repeat(MAX_TEXT_BYTES);
    let event = pb::Event {
        severity: 99,
        code: text.clone(),
        text: text.clone(),
    };
    match report(pb::report_entry::Entry::Event(event))
        .unwrap()
        .report
    {
        Report::Event(event) => {
            assert_eq!(event.severity, Severity::Warning);
            assert_eq!(event.code.len(), MAX_NAME_BYTES);
            assert_eq!(event.text.len(), MAX_TEXT_BYTES);
        }
        other => panic!("read as {other:?}"),
    }
    let capabilities = vec![text, "ramp".to_owned()];
    let register = read_register(pb::Register {
        capabilities,
        ..register()
    })
    .unwrap();
    assert_eq!(register.capabilities, ["ramp"]);
}

#[test]
fn what_is_out_of_range_at_the_sender_is_sent_as_the_nearest_that_fits() {
    let close = Close {
        retry_after: Some(Duration::MAX),
        ..Close::new(CloseReason::Draining, "")
    };
    let back = AgentMessage::try_from(pb::AgentMessage::from(AgentMessage::Close(close)));
    assert!(
        matches!(back, Ok(AgentMessage::Close(close)) if close.retry_after > Some(Duration::from_secs(1 << 38)))
    );
    let pb = pb::HeadendMessage::from(HeadendMessage::HeartbeatAck {
        monotonic: Duration::MAX,
        server_time: Timestamp::MIN,
    });
    let ack = pb::HeartbeatAck {
        monotonic_ns: u64::MAX,
        server_time: Some(prost_types::Timestamp {
            seconds: -62_135_596_800,
            nanos: 0,
        }),
    };
    assert_eq!(pb.body, Some(headend_message::Body::HeartbeatAck(ack)));
}
