//! Orders and the start of a session.

use super::*;
use crate::link::*;

pub(super) fn setpoint() -> pb::Setpoint {
    pb::Setpoint {
        asset_id: ID.to_owned(),
        dispatch_id: ID.to_owned(),
        revision: 1,
        epoch: 1,
        mw: 5.0,
        start_deadline: noon(),
        ..pb::Setpoint::default()
    }
}

pub(super) fn registered() -> pb::Registered {
    pb::Registered {
        epoch: 1,
        server_time: noon(),
        telemetry_interval: Some(pb_duration(4, 0)),
        heartbeat_interval: Some(pb_duration(30, 0)),
        liveness_timeout: Some(pb_duration(45, 0)),
        ..pb::Registered::default()
    }
}

#[test]
fn an_order_that_can_not_be_read_in_full_is_none_and_says_what_it_is_if_it_can() {
    type Damage = fn(&mut pb::Setpoint);
    let cases: [(&str, Damage); 15] = [
        ("asset_id", |s| s.asset_id.clear()),
        ("dispatch_id", |s| s.dispatch_id = "1".to_owned()),
        ("revision", |s| s.revision = 0),
        ("mw", |s| s.mw = f64::NAN),
        ("mw", |s| s.mw = f64::INFINITY),
        ("duration", |s| s.duration = Some(pb_duration(0, 0))),
        ("duration", |s| s.duration = Some(pb_duration(-5, 0))),
        ("duration", |s| s.duration = Some(pb_duration(5, -1))),
        ("duration", |s| s.duration = Some(pb_duration(1 << 40, 0))),
        ("duration", |s| {
            s.duration = Some(pb_duration(5, 1_000_000_000));
        }),
        ("duration", |s| {
            s.duration = Some(pb_duration(366 * 86_400, 1));
        }),
        ("start_deadline", |s| s.start_deadline = None),
        ("ramp_mw_per_min", |s| s.ramp_mw_per_min = Some(0.0)),
        ("ramp_mw_per_min", |s| {
            s.ramp_mw_per_min = Some(f64::INFINITY);
        }),
        ("then.mw", |s| {
            let then = Some(pb::follow_up::Then::Mw(f64::NAN));
            s.then = Some(pb::FollowUp { then });
        }),
    ];
    assert!(read_headend(headend_message::Body::Setpoint(setpoint())).is_ok());
    for (field, damage) in cases {
        let mut bad = setpoint();
        damage(&mut bad);
        let body = headend_message::Body::Setpoint(bad);
        if ["asset_id", "dispatch_id", "revision"].contains(&field) {
            assert_eq!(refused(body), field);
            continue;
        }
        match read_headend(body) {
            Ok(HeadendMessage::UnreadableSetpoint(order)) => {
                assert_eq!(
                    (order.error.message, order.error.field),
                    ("Setpoint", field)
                );
                assert_eq!(order.revision, setpoint().revision);
                assert_eq!(order.asset_id.to_string(), setpoint().asset_id);
            }
            other => panic!("{other:?}"),
        }
    }
    let release = pb::Release {
        asset_id: ID.to_owned(),
        dispatch_id: ID.to_owned(),
        revision: 0,
        epoch: 1,
    };
    assert_eq!(refused(headend_message::Body::Release(release)), "revision");
}

#[test]
fn what_follows_a_lease_is_the_default_unless_told_otherwise_in_known_words() {
    use pb::follow_up::Then;
    for (then, meaning) in [
        (None, FollowUp::Default),
        (Some(pb::FollowUp { then: None }), FollowUp::Default),
        (
            Some(pb::FollowUp {
                then: Some(Then::Default(false)),
            }),
            FollowUp::Default,
        ),
        (
            Some(pb::FollowUp {
                then: Some(Then::Hold(false)),
            }),
            FollowUp::Default,
        ),
        (
            Some(pb::FollowUp {
                then: Some(Then::Hold(true)),
            }),
            FollowUp::Hold,
        ),
    ] {
        match read_headend(headend_message::Body::Setpoint(pb::Setpoint {
            then,
            ..setpoint()
        })) {
            Ok(HeadendMessage::Setpoint(order)) => assert_eq!(order.then, meaning),
            other => panic!("read as {other:?}"),
        }
    }
}

#[test]
fn a_session_without_timers_that_can_run_is_refused() {
    type Damage = fn(&mut pb::Registered);
    let cases: [(&str, Damage); 6] = [
        ("epoch", |r| r.epoch = 0),
        ("server_time", |r| r.server_time = None),
        ("telemetry_interval", |r| r.telemetry_interval = None),
        ("telemetry_interval", |r| {
            r.telemetry_interval = Some(pb_duration(0, 0));
        }),
        ("heartbeat_interval", |r| {
            r.heartbeat_interval = Some(pb_duration(-1, 0));
        }),
        ("liveness_timeout", |r| {
            r.liveness_timeout = Some(pb_duration(0, 0));
        }),
    ];
    for (field, damage) in cases {
        let mut bad = registered();
        damage(&mut bad);
        assert_eq!(refused(headend_message::Body::Registered(bad)), field);
    }
}

#[test]
fn limits_that_are_not_told_are_the_defaults() {
    match read_headend(headend_message::Body::Registered(registered())) {
        Ok(HeadendMessage::Registered(registered)) => {
            let backfill_batches_per_s = 0;
            assert_eq!(
                registered.limits,
                Limits {
                    backfill_batches_per_s,
                    ..Limits::default()
                }
            );
        }
        other => panic!("read as {other:?}"),
    }
}
