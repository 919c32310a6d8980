//! Identities and claims.

use super::*;
use crate::link::*;

pub(super) fn claim() -> pb::AssetState {
    pb::AssetState {
        asset_id: ID.to_owned(),
        rating: Some(pb::Rating {
            min_mw: -1.0,
            max_mw: 1.0,
            ..pb::Rating::default()
        }),
        ..pb::AssetState::default()
    }
}

pub(super) fn register() -> pb::Register {
    pb::Register {
        agent_id: ID.to_owned(),
        instance_id: ID.to_owned(),
        assets: vec![claim()],
        ..pb::Register::default()
    }
}

pub(super) fn read_register(pb: pb::Register) -> Result<Register, WireError> {
    match read_agent(agent_message::Body::Register(pb))? {
        AgentMessage::Register(register) => Ok(register),
        other => panic!("read as {other:?}"),
    }
}

#[test]
fn an_agent_without_an_identity_can_not_register() {
    let field = |pb| read_register(pb).unwrap_err().field;
    assert_eq!(
        field(pb::Register {
            agent_id: "agent-1".to_owned(),
            ..register()
        }),
        "agent_id"
    );
    assert_eq!(
        field(pb::Register {
            instance_id: String::new(),
            ..register()
        }),
        "instance_id"
    );
    let error = read_register(pb::Register {
        agent_id: "agent-1".to_owned(),
        ..register()
    })
    .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("Register.agent_id: `agent-1` is not a UUID"),
        "{error}"
    );
}

#[test]
fn a_claim_that_can_not_be_read_costs_no_other_claim() {
    type Damage = fn(&mut pb::AssetState);
    let cases: [(&str, Damage); 9] = [
        ("asset_id", |c| c.asset_id = "x".repeat(1000)),
        ("rating", |c| c.rating = None),
        ("rating.max_mw", |c| {
            c.rating.as_mut().unwrap().max_mw = f64::NAN;
        }),
        ("rating.min_mw", |c| c.rating.as_mut().unwrap().min_mw = 2.0),
        ("rating.capacity_mwh", |c| {
            c.rating.as_mut().unwrap().capacity_mwh = Some(-1.0);
        }),
        ("rating.ramp_mw_per_min", |c| {
            c.rating.as_mut().unwrap().ramp_mw_per_min = Some(0.0);
        }),
        ("control.dispatch_id", |c| {
            let dispatch_id = Some("7".to_owned());
            c.control = Some(pb::Control {
                dispatch_id,
                ..pb::Control::default()
            });
        }),
        ("control.mw", |c| {
            c.control = Some(pb::Control {
                mw: Some(f64::NAN),
                ..pb::Control::default()
            });
        }),
        ("control.remaining", |c| {
            let remaining = Some(pb_duration(-1, 0));
            c.control = Some(pb::Control {
                remaining,
                ..pb::Control::default()
            });
        }),
    ];
    for (field, damage) in cases {
        let mut bad = claim();
        damage(&mut bad);
        let register = read_register(pb::Register {
            assets: vec![bad, claim()],
            ..register()
        })
        .unwrap();
        let invalid = register.assets[0].as_ref().unwrap_err();
        assert_eq!(invalid.refusal.field, field);
        assert!(invalid.asset_id.len() <= 64);
        assert!(register.assets[1].is_ok());
    }
}

#[test]
fn a_wall_clock_that_can_not_be_read_keeps_no_agent_out() {
    let agent_time = Some(prost_types::Timestamp {
        seconds: i64::MIN,
        nanos: -5,
    });
    let register = read_register(pb::Register {
        agent_time,
        ..register()
    })
    .unwrap();
    assert_eq!(register.agent_time, None);
}
