//! What this version does not know.

use prost::Message as _;

use super::*;
use crate::link::*;
use crate::*;

#[test]
fn messages_and_enum_values_of_a_newer_peer_are_unknown_and_no_error() {
    let mut newer = Vec::new();
    prost::encoding::message::encode(99, &pb::Pong { nonce: 1 }, &mut newer);
    let agent = pb::AgentMessage::decode(&newer[..]).unwrap();
    assert_eq!(AgentMessage::try_from(agent), Ok(AgentMessage::Unknown));
    let headend = pb::HeadendMessage::decode(&newer[..]).unwrap();
    assert_eq!(
        HeadendMessage::try_from(headend),
        Ok(HeadendMessage::Unknown)
    );

    for phase in [0, 99, -1] {
        let pb = pb::SetpointReport {
            phase,
            ..setpoint_report()
        };
        let entry = report(pb::report_entry::Entry::Setpoint(pb)).unwrap();
        assert_eq!(entry.report, Report::Unknown);
    }
    for (reason, meaning) in [(0, None), (99, Some(ReasonCode::Unknown))] {
        let pb = pb::SetpointReport {
            reason,
            ..setpoint_report()
        };
        match report(pb::report_entry::Entry::Setpoint(pb))
            .unwrap()
            .report
        {
            Report::Setpoint(report) => assert_eq!(report.reason, meaning),
            other => panic!("read as {other:?}"),
        }
    }
    for reason in [0, 99] {
        let close = pb::Close {
            reason,
            ..pb::Close::default()
        };
        assert_eq!(
            read_headend(headend_message::Body::Close(close)),
            Ok(HeadendMessage::Close(Close::new(CloseReason::Unknown, "")))
        );
    }
    let mut ack = pb::LogAck {
        kind: 99,
        log_id: ID.to_owned(),
        ..pb::LogAck::default()
    };
    assert_eq!(
        read_headend(headend_message::Body::LogAck(ack.clone())),
        Ok(HeadendMessage::Unknown)
    );
    ack.kind = 0;
    assert_eq!(refused(headend_message::Body::LogAck(ack)), "kind");
}
