use SetpointPhase::{Expired, Received, Rejected, Released, Started, Superseded};
use derms_proto::ControlSource;
use derms_proto::link::UnreadableSetpoint;

use super::*;

const NEWER: Option<ReasonCode> = Some(ReasonCode::NewerOrder);
const CANCELLED: Option<ReasonCode> = Some(ReasonCode::CancelledByOperator);

#[test]
fn the_device_is_at_its_default_before_the_first_order() {
    let mut bench = Bench::new(vec![asset(1)]);
    assert_eq!(bench.told(), [None]);
    bench.connect();
    assert_eq!(bench.told(), []);
}

#[test]
fn an_order_waits_for_the_first_default_and_not_for_its_success() {
    let mut bench = Bench::at_rest(vec![asset(1)], 8 << 20, 8_192);
    bench.obliging = false;
    bench.connect();
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    bench.store(true);
    assert_eq!(bench.commands.len(), 1);
    let default = Command::Default(Power::from_mw(1.0));
    assert_eq!(bench.answer(Err(fault(ReasonCode::DeviceTimeout))), default);
    assert_eq!(bench.told(), [Some(5.0)]);
}

#[test]
fn an_order_is_received_started_and_reported_in_this_order() {
    let mut bench = Bench::active();
    bench.told();
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    assert_eq!(bench.steps(), [(1, Received, None), (1, Started, None)]);
    assert_eq!(bench.told(), [Some(5.0)]);
    assert_eq!(bench.source(), ControlSource::Setpoint);
}

#[test]
fn an_order_is_not_received_before_it_is_written_and_not_started_before_that() {
    let mut bench = Bench::active();
    bench.told();
    bench.obliging = false;
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    assert_eq!((bench.steps(), bench.told()), (vec![], vec![]));
    bench.store(true);
    assert_eq!(
        (bench.steps(), bench.commands.len()),
        (vec![(1, Received, None)], 1)
    );
}

#[test]
fn started_is_what_the_device_answered_and_not_what_was_asked() {
    let mut bench = Bench::active();
    bench.told();
    bench.obliging = false;
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    bench.store(true);
    assert_eq!(
        bench.steps(),
        [(1, Received, None)],
        "the device has not answered"
    );
    assert_eq!(bench.source(), ControlSource::Default);
    bench.answer(Ok(Applied::exactly(Power::from_mw(4.5))));
    let applied = bench.events.iter().find_map(|event| match event {
        AgentEvent::Order { applied, .. } => *applied,
        _ => None,
    });
    assert_eq!(applied, Some(Power::from_mw(4.5)));
}

#[test]
fn each_check_refuses_with_its_reason_and_the_device_hears_nothing() {
    type Spoil = fn(&mut Bench, &mut SetpointOrder);
    let table: [(&str, Spoil, SetpointPhase, ReasonCode); 7] = [
        (
            "asset not granted",
            |bench, _| {
                bench.receive(HeadendMessage::Grants {
                    epoch: 1,
                    grants: vec![Grant {
                        asset_id: asset_id(1),
                        status: GrantStatus::Forbidden,
                        last_revision: 0,
                        text: None,
                    }],
                });
            },
            Rejected,
            ReasonCode::NotGranted,
        ),
        (
            "clock estimate too old",
            |bench, order| {
                bench.pass_in_session(91.0);
                order.start_deadline = Timestamp::MAX;
            },
            Rejected,
            ReasonCode::ClockUnsure,
        ),
        (
            "deadline passed",
            |bench, order| {
                order.start_deadline = bench.server_now().saturating_sub(Duration::from_micros(1));
            },
            Expired,
            ReasonCode::DeadlinePassed,
        ),
        (
            "power too high",
            |_, order| order.power = Power::from_mw(10.1),
            Rejected,
            ReasonCode::OutOfRange,
        ),
        (
            "power no number",
            |_, order| order.power = Power::from_mw(f64::NAN),
            Rejected,
            ReasonCode::OutOfRange,
        ),
        (
            "follow-up too low",
            |_, order| order.then = FollowUp::Value(Power::from_mw(-10.1)),
            Rejected,
            ReasonCode::OutOfRange,
        ),
        (
            "order for a stranger",
            |_, order| order.asset_id = asset_id(99),
            Rejected,
            ReasonCode::NotGranted,
        ),
    ];
    for (what, spoil, phase, reason) in table {
        let mut bench = Bench::active();
        bench.told();
        let mut order = bench.order(1, 5.0);
        spoil(&mut bench, &mut order);
        let stranger = order.asset_id != asset_id(1);
        bench.sent.clear();
        bench.setpoint(order.clone());
        let entry = bench.sent.iter().find_map(|message| match message {
            AgentMessage::Report(batch) => batch.entries[0].clone().ok(),
            _ => None,
        });
        let Some(derms_proto::link::ReportEntry {
            report: derms_proto::link::Report::Setpoint(report),
            ..
        }) = entry
        else {
            panic!("{what}: nothing was reported");
        };
        assert_eq!(
            (report.phase, report.reason),
            (phase, Some(reason)),
            "{what}"
        );
        assert_eq!(bench.told(), [], "{what}");
        if stranger {
            continue;
        }
        // The same revision stays refused, even if it would be fine by now.
        bench.steps();
        let mut again = bench.order(1, 5.0);
        again.dispatch_id = order.dispatch_id;
        bench.ack_reports();
        bench.setpoint(again);
        assert_eq!(bench.steps(), [(1, phase, Some(reason))], "{what}, again");
        assert_eq!(bench.told(), [], "{what}, again");
    }
}

#[test]
fn an_order_that_can_not_be_read_is_refused_and_all_else_goes_on() {
    let mut bench = Bench::active();
    bench.told();
    let order = bench.order(1, 5.0);
    bench.setpoint(order.clone());
    bench.steps();
    let unreadable = UnreadableSetpoint {
        asset_id: order.asset_id,
        dispatch_id: DispatchId::generate(),
        revision: 2,
        epoch: order.epoch,
        error: WireError {
            message: "Setpoint",
            field: "mw",
            problem: "is not finite".into(),
        },
    };
    let message = || HeadendMessage::UnreadableSetpoint(unreadable.clone());
    bench.receive(message());
    let malformed = Some(ReasonCode::Malformed);
    assert_eq!(bench.steps(), [(2, Rejected, malformed)]);
    assert_eq!(
        (bench.disconnects, bench.source()),
        (0, ControlSource::Setpoint)
    );
    // Its revision is spent: it is answered alike when it comes again, readable or not.
    bench.ack(LogKind::Report, 3, false);
    bench.receive(message());
    assert_eq!(bench.steps(), [(2, Rejected, malformed)]);
    bench.ack(LogKind::Report, 4, false);
    let again = SetpointOrder {
        dispatch_id: unreadable.dispatch_id,
        revision: 2,
        ..order.clone()
    };
    bench.setpoint(again);
    assert_eq!(bench.steps(), [(2, Rejected, malformed)]);
    assert_eq!(bench.told(), [Some(5.0)]);
    // One of another session is no less wrong than a readable one.
    let mut stale = unreadable.clone();
    stale.epoch += 1;
    bench.receive(HeadendMessage::UnreadableSetpoint(stale));
    assert_eq!(bench.closed_with(), Some(CloseReason::ProtocolError));
}

#[test]
fn a_full_report_log_refuses_new_orders_but_no_release_and_loses_nothing() {
    let mut bench = Bench::with(vec![asset(1)], 8 << 20, 4);
    bench.connect();
    bench.told();
    for revision in 1..=2 {
        let order = bench.order(revision, 5.0);
        bench.setpoint(order);
    }
    assert_eq!(
        bench.session.reports.depth(),
        5,
        "what the order in hand brings is let in"
    );
    bench.steps();
    let order = bench.order(3, 5.0);
    bench.setpoint(order);
    assert_eq!(
        bench.steps(),
        [(3, Rejected, Some(ReasonCode::ReportLogFull))]
    );
    bench.told();
    bench.release(4, 2);
    assert_eq!(bench.steps(), [(2, Released, CANCELLED)]);
    assert_eq!(bench.told(), [None]);
    bench.ack(LogKind::Report, 7, false);
    let order = bench.order(5, 5.0);
    bench.setpoint(order);
    assert_eq!(bench.steps(), [(5, Received, None), (5, Started, None)]);
}

#[test]
fn a_release_that_a_newer_order_has_overtaken_still_ends_what_is_in_force_and_nothing_else() {
    let mut bench = Bench::active();
    let (old, new) = (bench.order(1, 5.0), bench.order(3, 7.0));
    bench.setpoint(old);
    bench.ack_reports();
    bench.steps();
    bench.told();
    bench.obliging = false;
    bench.setpoint(new);
    bench.release(2, 1);
    let default = Command::Default(Power::from_mw(1.0));
    assert_eq!(bench.answer(Ok(Applied::default())), default);
    bench.store(true);
    bench.obliging = true;
    bench.pass(1.0);
    let steps = bench.steps();
    assert!(steps.contains(&(1, Released, CANCELLED)), "{steps:?}");
    assert!(steps.contains(&(3, Received, None)), "{steps:?}");
    assert!(
        !steps.iter().any(|(_, phase, _)| *phase == Superseded),
        "{steps:?}"
    );
    // Said once more, it is answered as before, and the newer order stays.
    bench.ack_reports();
    bench.release(2, 1);
    assert_eq!(bench.steps(), [(1, Released, CANCELLED)]);
}

#[test]
fn a_release_that_a_newer_order_has_overtaken_is_answered_with_how_its_order_ended() {
    let mut bench = Bench::active();
    let mut late = bench.order(1, 5.0);
    late.start_deadline = Timestamp::UNIX_EPOCH;
    let new = bench.order(3, 7.0);
    bench.setpoint(late);
    bench.setpoint(new);
    bench.ack_reports();
    bench.steps();
    bench.release(2, 1);
    assert_eq!(
        bench.steps(),
        [(1, SetpointPhase::Expired, Some(ReasonCode::DeadlinePassed))]
    );
}

#[test]
fn a_repeated_order_is_answered_with_its_outcome_and_not_applied_again() {
    let mut bench = Bench::active();
    let order = bench.order(1, 5.0);
    bench.setpoint(order.clone());
    bench.steps();
    bench.told();
    bench.setpoint(order.clone());
    assert_eq!(
        bench.steps(),
        [],
        "the same report already waits for its acknowledgement"
    );
    bench.ack(LogKind::Report, 2, false);
    for _ in 0..3 {
        bench.setpoint(order.clone());
    }
    assert_eq!(bench.steps(), [(1, Started, None)]);
    assert_eq!(bench.told(), []);
}

#[test]
fn an_older_order_is_superseded_and_what_is_in_force_stays() {
    let mut bench = Bench::active();
    let (old, new) = (bench.order(3, 3.0), bench.order(7, 7.0));
    bench.setpoint(new);
    bench.steps();
    bench.told();
    bench.setpoint(old);
    assert_eq!(
        bench.steps(),
        [(3, Superseded, Some(ReasonCode::StaleRevision))]
    );
    assert_eq!(bench.told(), []);
}

#[test]
fn the_last_sixteen_outcomes_are_remembered_and_older_ones_never_start_again() {
    let mut bench = Bench::active();
    let orders: Vec<_> = (1..=20)
        .map(|revision| bench.order(revision, 5.0))
        .collect();
    for order in &orders {
        bench.setpoint(order.clone());
    }
    bench.ack_reports();
    bench.steps();
    bench.told();
    bench.setpoint(orders[18].clone());
    bench.setpoint(orders[0].clone());
    let stale = Some(ReasonCode::StaleRevision);
    assert_eq!(
        bench.steps(),
        [(19, Superseded, NEWER), (1, Superseded, stale)]
    );
    assert_eq!(bench.told(), []);
}

#[test]
fn the_newest_order_wins_also_while_the_device_is_busy() {
    let mut bench = Bench::active();
    bench.told();
    bench.obliging = false;
    for revision in 1..=3 {
        let order = bench.order(revision, revision as f64);
        bench.setpoint(order);
        bench.store(true);
    }
    assert_eq!(bench.commands.len(), 1, "one command at a time");
    bench.steps();
    bench.answer(Ok(Applied::default()));
    assert_eq!(bench.steps(), [(1, Started, None), (1, Superseded, NEWER)]);
    bench.answer(Ok(Applied::default()));
    assert_eq!(bench.steps(), [(3, Started, None)], "2 never started");
}

#[test]
fn an_order_that_waited_past_its_deadline_never_starts_and_the_one_in_force_stays() {
    let mut bench = Bench::active();
    bench.told();
    bench.obliging = false;
    for revision in 1..=2 {
        let order = bench.order(revision, 5.0);
        bench.setpoint(order);
        bench.store(true);
    }
    bench.steps();
    bench.pass_in_session(31.0);
    bench.answer(Ok(Applied::default()));
    let late = Some(ReasonCode::DeadlinePassed);
    assert_eq!(bench.steps(), [(1, Started, None), (2, Expired, late)]);
    assert_eq!(bench.told(), []);
    assert_eq!(bench.source(), ControlSource::Setpoint);
}

#[test]
fn an_order_whose_asset_was_taken_away_before_the_start_never_starts() {
    let mut bench = Bench::active();
    bench.told();
    bench.obliging = false;
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    bench.receive(HeadendMessage::Grants {
        epoch: 1,
        grants: vec![Grant {
            asset_id: asset_id(1),
            status: GrantStatus::ServedElsewhere,
            last_revision: 0,
            text: None,
        }],
    });
    bench.store(true);
    assert_eq!(
        bench.steps()[1],
        (1, Rejected, Some(ReasonCode::NotGranted))
    );
    assert_eq!(bench.told(), []);
}

#[test]
fn an_order_of_another_epoch_ends_the_session_and_is_never_acted_upon() {
    for wrong in [0, 2, u64::MAX] {
        let mut bench = Bench::active();
        bench.told();
        let mut order = bench.order(1, 5.0);
        order.epoch = wrong;
        bench.setpoint(order);
        assert_eq!(bench.closed_with(), Some(CloseReason::ProtocolError));
        assert_eq!((bench.steps(), bench.told()), (vec![], vec![]));
        let mut bench = Bench::active();
        bench.told();
        bench.epoch = wrong;
        bench.release(1, 1);
        assert_eq!(bench.closed_with(), Some(CloseReason::ProtocolError));
        assert_eq!(bench.told(), []);
    }
}

#[test]
fn orders_of_one_asset_touch_no_other() {
    let mut bench = Bench::new(vec![asset(1), asset(2)]);
    bench.connect();
    bench.told();
    let one = bench.leased(1, 5.0, 20);
    let two = SetpointOrder {
        asset_id: asset_id(2),
        ..bench.leased(1, -5.0, 40)
    };
    bench.setpoint(one);
    bench.setpoint(two);
    bench.commands.clear();
    bench.pass(21.0);
    let told: Vec<_> = bench
        .commands
        .iter()
        .map(|(asset_id, ..)| *asset_id)
        .collect();
    assert_eq!(told, [asset_id(1)]);
    bench.commands.clear();
    bench.pass(20.0);
    let told: Vec<_> = bench
        .commands
        .iter()
        .map(|(asset_id, ..)| *asset_id)
        .collect();
    assert_eq!(told, [asset_id(2)]);
}

#[test]
fn what_the_device_says_it_applied_is_a_number_or_not_said() {
    let mut bench = Bench::active();
    bench.told();
    bench.obliging = false;
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    bench.store(true);
    bench.answer(Ok(Applied::exactly(Power::from_mw(f64::NAN))));
    assert_eq!(bench.steps(), [(1, Received, None), (1, Started, None)]);
    let (batch, _) = bench.session.reports.batch(2, 1, 1 << 20).unwrap();
    let derms_proto::link::Report::Setpoint(report) = batch.entries[0].clone().unwrap().report
    else {
        panic!("not of a setpoint");
    };
    assert_eq!((report.phase, report.applied), (Started, None));
}

#[test]
fn an_outcome_is_kept_when_another_order_comes_under_the_same_revision() {
    let mut bench = Bench::active();
    let first = bench.leased(1, 5.0, 20);
    bench.setpoint(first.clone());
    bench.pass(21.0);
    bench.ack(LogKind::Report, 3, false);
    // A headend that lost its counter.
    let other = SetpointOrder {
        dispatch_id: dispatch(77),
        ..bench.order(1, 6.0)
    };
    bench.setpoint(other);
    bench.steps();
    bench.setpoint(first);
    assert_eq!(bench.steps(), [(1, SetpointPhase::Completed, None)]);
}

#[test]
fn the_power_is_not_claimed_before_the_device_has_confirmed_it() {
    let mut bench = Bench::at_rest(vec![asset(1)], 8 << 20, 8_192);
    bench.obliging = false;
    let register = bench.connect();
    let power = |bench: &Bench| {
        bench.session.snapshot(at(bench.now)).assets[0]
            .control
            .power
    };
    assert_eq!(register.assets[0].as_ref().unwrap().control.power, None);
    bench.answer(Ok(Applied::default()));
    assert_eq!(power(&bench), Some(Power::from_mw(1.0)));
    let order = bench.leased(1, 5.0, 20);
    bench.setpoint(order);
    bench.store(true);
    assert_eq!(power(&bench), None, "somewhere between");
    bench.answer(Ok(Applied::default()));
    assert_eq!(power(&bench), Some(Power::from_mw(5.0)));
    bench.pass(21.0);
    assert_eq!(power(&bench), None, "the device has not yet obeyed");
    assert_eq!(bench.source(), ControlSource::Default);
}
