//! Samples, their numbers and gaps.

use super::register::{read_register, register};
use super::*;
use crate::link::*;
use crate::wire::{MAX_DETAILS, MAX_NAME_BYTES, MAX_TEXT_BYTES};
use crate::*;

pub(super) fn sample() -> pb::Sample {
    pb::Sample {
        asset_id: ID.to_owned(),
        measured_at: noon(),
        mw: Some(1.0),
        ..pb::Sample::default()
    }
}

pub(super) fn telemetry(samples: Vec<pb::Sample>) -> pb::Telemetry {
    pb::Telemetry {
        log_id: ID.to_owned(),
        first_seq: 1,
        samples,
        gaps: vec![],
    }
}

pub(super) fn read_telemetry(pb: pb::Telemetry) -> Result<TelemetryBatch, WireError> {
    match read_agent(agent_message::Body::Telemetry(pb))? {
        AgentMessage::Telemetry(batch) => Ok(batch),
        other => panic!("read as {other:?}"),
    }
}

#[test]
fn a_quality_that_is_not_told_is_good_and_one_that_is_not_known_is_uncertain() {
    for (quality, meaning) in [(0, Quality::Good), (99, Quality::Uncertain)] {
        let batch = read_telemetry(telemetry(vec![pb::Sample {
            quality,
            ..sample()
        }]))
        .unwrap();
        assert_eq!(
            batch.samples[0].as_ref().unwrap().measurements.quality,
            meaning
        );
    }
}

#[test]
fn a_bad_sample_is_refused_alone_and_keeps_its_number() {
    type Damage = fn(&mut pb::Sample);
    let cases: [(&str, Damage); 9] = [
        ("mw", |s| s.mw = Some(f64::NAN)),
        ("voltage_v", |s| s.voltage_v = Some(f64::INFINITY)),
        ("setpoint_mw", |s| s.setpoint_mw = Some(f64::NEG_INFINITY)),
        ("asset_id", |s| s.asset_id = "BESS-1".to_owned()),
        ("asset_id", |s| s.asset_id.clear()),
        ("measured_at", |s| s.measured_at = None),
        ("measured_at", |s| {
            s.measured_at = Some(prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: 0,
            });
        }),
        ("measured_at", |s| {
            s.measured_at = Some(prost_types::Timestamp {
                seconds: 0,
                nanos: -1,
            });
        }),
        ("tilt", |s| {
            let value = Some(pb::detail::Value::Number(f64::NAN));
            s.details.insert("tilt".to_owned(), pb::Detail { value });
        }),
    ];
    for (field, damage) in cases {
        let mut bad = sample();
        damage(&mut bad);
        let batch = read_telemetry(telemetry(vec![sample(), bad, sample()])).unwrap();
        assert!(batch.samples[0].is_ok());
        assert_eq!(batch.samples[1].as_ref().unwrap_err().field, field);
        assert!(batch.samples[2].is_ok());

        // Handed on, it is refused again and moves no other's number.
        let again = pb::AgentMessage::from(AgentMessage::Telemetry(batch));
        match AgentMessage::try_from(again).unwrap() {
            AgentMessage::Telemetry(batch) => {
                let kept: Vec<bool> = batch.samples.iter().map(Result::is_ok).collect();
                assert_eq!(kept, [true, false, true]);
            }
            other => panic!("read as {other:?}"),
        }
    }
}

#[test]
fn details_are_bounded() {
    let detail = |text: &str| pb::Detail {
        value: Some(pb::detail::Value::Text(text.to_owned())),
    };
    let refusal = |details: Vec<(String, pb::Detail)>| {
        let pb = pb::Sample {
            details: details.into_iter().collect(),
            ..sample()
        };
        read_telemetry(telemetry(vec![pb]))
            .unwrap()
            .samples
            .remove(0)
            .map_err(|r| r.field)
    };
    let numbered = |n: usize| {
        (0..n)
            .map(|i| (format!("d{i}"), detail("")))
            .collect::<Vec<_>>()
    };
    assert!(refusal(numbered(MAX_DETAILS)).is_ok());
    assert_eq!(
        refusal(numbered(MAX_DETAILS + 1)),
        Err("details".to_owned())
    );
    assert!(refusal(vec![("n".repeat(MAX_NAME_BYTES), detail(""))]).is_ok());
    assert_eq!(
        refusal(vec![("n".repeat(MAX_NAME_BYTES + 1), detail(""))]),
        Err("details".to_owned())
    );

    // 1,023 bytes, then one character of two.
    let long = format!("{}é!", "x".repeat(MAX_TEXT_BYTES - 1));
    let kept = refusal(vec![("note".to_owned(), detail(&long))]).unwrap();
    assert_eq!(
        kept.measurements.details["note"],
        Detail::Text("x".repeat(MAX_TEXT_BYTES - 1))
    );

    // A value of a newer peer.
    let kept = refusal(vec![("new".to_owned(), pb::Detail { value: None })]).unwrap();
    assert!(kept.measurements.details.is_empty());
}

#[test]
fn numbers_of_a_log_begin_at_one_and_stay_within_their_bound() {
    let from = |first_seq| {
        read_telemetry(pb::Telemetry {
            first_seq,
            ..telemetry(vec![sample()])
        })
        .map_err(|e| e.field)
    };
    assert_eq!(from(0), Err("first_seq"));
    for too_high in [MAX_SEQ, MAX_SEQ + 1, u64::MAX] {
        assert_eq!(from(too_high), Err("first_seq"), "no room for the sample");
    }
    assert!(from(MAX_SEQ - 1).is_ok());

    let head = |first_seq, next_seq| pb::LogHead {
        kind: pb::LogKind::Report.into(),
        log_id: ID.to_owned(),
        first_seq,
        next_seq,
    };
    let logs = |head| {
        read_register(pb::Register {
            logs: vec![head],
            ..register()
        })
        .map_err(|e| e.field)
    };
    assert_eq!(logs(head(0, 1)), Err("logs.first_seq"));
    assert_eq!(logs(head(2, 1)), Err("logs.next_seq"));
    assert_eq!(logs(head(1, MAX_SEQ + 1)), Err("logs.next_seq"));
    assert!(logs(head(MAX_SEQ, MAX_SEQ)).is_ok());
    assert!(logs(head(1, 1)).is_ok());
    let newer = logs(pb::LogHead {
        kind: 99,
        ..head(1, 1)
    })
    .unwrap();
    assert_eq!(newer.logs, []);
}

#[test]
fn gaps_are_in_order_and_apart_from_the_samples() {
    let gaps = |ranges: &[(u64, u64)]| {
        let gaps = ranges
            .iter()
            .map(|(first_seq, last_seq)| pb::Gap {
                first_seq: *first_seq,
                last_seq: *last_seq,
                reason: 1,
            })
            .collect();
        let pb = pb::Telemetry {
            first_seq: 10,
            gaps,
            ..telemetry(vec![sample(), sample()])
        };
        read_telemetry(pb)
            .map(|batch| batch.gaps.len())
            .map_err(|e| e.field)
    };
    assert_eq!(gaps(&[(1, 1), (2, 9), (12, 20)]), Ok(3));
    for bad in [
        &[(0, 3)][..],
        &[(4, 3)],
        &[(1, 5), (5, 6)],
        &[(7, 8), (1, 2)],
        &[(9, 10)],
        &[(11, 11)],
        &[(1, u64::MAX)],
        &[(12, MAX_SEQ)],
    ] {
        assert_eq!(gaps(bad), Err("gaps"), "{bad:?}");
    }
}
