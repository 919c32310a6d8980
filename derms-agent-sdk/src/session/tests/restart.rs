use SetpointPhase::{Completed, Failed, Received, Rejected, Started};
use derms_proto::ControlSource;
use derms_proto::link::GapReason;

use super::*;

const INTERRUPTED: Option<ReasonCode> = Some(ReasonCode::Interrupted);
const TELEMETRY: LogKind = LogKind::Telemetry;

fn active() -> Bench {
    let mut bench = Bench::on_disk(vec![asset(1)]);
    bench.feed(Input::Tick);
    bench.connect();
    bench
}

/// The headend has this log up to `next_seq - 1`.
fn keep(bench: &mut Bench, kind: LogKind, next_seq: u64) {
    let log_id = match kind {
        LogKind::Telemetry => bench.session.telemetry.log_id(),
        _ => bench.session.reports.log_id(),
    };
    bench.cursors.retain(|cursor| cursor.kind != kind);
    bench.cursors.push(LogCursor {
        kind,
        log_id,
        next_seq,
    });
}

fn report_numbers(bench: &Bench) -> Vec<u64> {
    let batches = bench.sent.iter().filter_map(|message| match message {
        AgentMessage::Report(batch) => Some(batch),
        _ => None,
    });
    batches
        .flat_map(|b| b.first_seq..b.first_seq + b.entries.len() as u64)
        .collect()
}

#[test]
fn an_agent_with_a_disk_says_so_and_goes_on_under_the_same_logs() {
    let mut bench = Bench::on_disk(vec![asset(1)]);
    bench.feed(Input::Tick);
    let first = bench.connect();
    assert!(first.durable);
    bench.restart();
    let second = bench.dial();
    assert_eq!(second.last_epoch, 1);
    for (first, second) in first.logs.iter().zip(&second.logs) {
        assert_eq!(first.log_id, second.log_id);
    }
}

#[test]
fn received_is_on_the_disk_before_it_is_sent() {
    let mut bench = active();
    bench.obliging = false;
    bench.sent.clear();
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    assert_eq!(
        (bench.steps(), bench.told()),
        (vec![], vec![None]),
        "nothing is written yet"
    );
    bench.store(true);
    assert_eq!(bench.steps(), [(1, Received, None)]);
    assert_eq!(
        bench.commands.len(),
        1,
        "the device is told, for the order is written"
    );
    assert_eq!(
        report_numbers(&bench),
        Vec::<u64>::new(),
        "the report itself is not"
    );
    bench.store(true);
    assert_eq!(report_numbers(&bench), [1]);
}

#[test]
fn all_that_waits_is_one_write() {
    let mut bench = Bench::on_disk((1..=50).map(asset).collect());
    bench.feed(Input::Tick);
    bench.connect();
    bench.obliging = false;
    for number in 1..=50 {
        let order = SetpointOrder {
            asset_id: asset_id(number),
            dispatch_id: dispatch(number as u64),
            ..bench.order(1, 5.0)
        };
        bench.setpoint(order);
    }
    let before = bench.disk().writes;
    for _ in 0..4 {
        bench.store(true);
    }
    let received = |step: &&Step| step.1 == Received;
    assert_eq!(bench.steps().iter().filter(received).count(), 50);
    let writes = bench.disk().writes - before;
    assert!(writes <= 4, "{writes} writes for 50 orders");
}

#[test]
fn a_lease_goes_on_for_what_is_left_of_it_and_does_not_start_twice() {
    let mut bench = active();
    let order = bench.leased(1, 5.0, 60);
    bench.setpoint(order.clone());
    bench.steps();
    bench.told();
    bench.pass(20.0);
    bench.obliging = false;
    bench.restart();
    assert!(!bench.has_event(|event| matches!(event, AgentEvent::Resumed { .. })));
    let Command::Apply(setpoint) = bench.answer(Ok(Applied::default())) else {
        panic!("the device goes to its default");
    };
    assert_eq!(setpoint.remaining, Some(Duration::from_secs(40)));
    assert!(bench.has_event(|event| matches!(event, AgentEvent::Resumed { .. })));
    bench.obliging = true;
    let register = bench.connect();
    let control = &register.assets[0].as_ref().unwrap().control;
    assert_eq!(
        (control.source, control.revision),
        (ControlSource::Setpoint, Some(1))
    );
    // The headend, which heard nothing, sends it again.
    bench.ack_reports();
    bench.setpoint(SetpointOrder {
        epoch: bench.epoch,
        ..order
    });
    assert_eq!(bench.told(), []);
    assert_eq!(
        bench.steps(),
        [(1, Started, None)],
        "the outcome so far, once more"
    );
    let left = 1_060.0 - bench.now.as_secs_f64();
    bench.pass(left - 0.1);
    assert_eq!(bench.told(), []);
    bench.pass(0.2);
    assert_eq!(bench.told(), [None]);
    assert_eq!(bench.steps(), [(1, Completed, None)]);
}

#[test]
fn the_power_of_a_lease_that_goes_on_is_claimed_when_the_device_has_confirmed_it() {
    let mut bench = active();
    let order = bench.leased(1, 5.0, 60);
    bench.setpoint(order);
    bench.told();
    bench.obliging = false;
    bench.restart();
    let power = |bench: &Bench| {
        bench.session.snapshot(at(bench.now)).assets[0]
            .control
            .power
    };
    assert_eq!(power(&bench), None);
    bench.answer(Ok(Applied::default()));
    assert_eq!(power(&bench), Some(Power::from_mw(5.0)));
}

#[test]
fn a_device_that_refuses_to_go_on_ends_the_order_and_goes_to_its_default() {
    let mut bench = active();
    let order = bench.leased(1, 5.0, 60);
    bench.setpoint(order);
    bench.steps();
    bench.told();
    bench.obliging = false;
    bench.restart();
    bench.answer(Err(fault(ReasonCode::DeviceUnavailable)));
    let unavailable = Some(ReasonCode::DeviceUnavailable);
    assert_eq!(bench.steps(), [(1, Failed, unavailable)]);
    assert_eq!(bench.told(), [None]);
}

#[test]
fn a_lease_that_ended_while_the_agent_was_dead_is_reverted_at_the_start_and_not_resumed() {
    let mut bench = active();
    let order = bench.leased(1, 5.0, 20);
    bench.setpoint(order.clone());
    bench.steps();
    bench.told();
    bench.now += Duration::from_secs(30);
    bench.obliging = false;
    bench.restart();
    assert_eq!(bench.steps(), [], "not before the device has obeyed");
    let default = Command::Default(Power::from_mw(1.0));
    assert_eq!(bench.answer(Ok(Applied::default())), default);
    assert_eq!(bench.steps(), [(1, Failed, INTERRUPTED)]);
    bench.obliging = true;
    bench.connect();
    bench.setpoint(SetpointOrder {
        epoch: bench.epoch,
        ..order
    });
    bench.pass_in_session(60.0);
    assert_eq!(bench.told(), []);
}

#[test]
fn after_a_reboot_no_lease_goes_on_for_its_clock_has_stopped() {
    let mut bench = active();
    let order = bench.leased(1, 5.0, 600);
    bench.setpoint(order);
    bench.steps();
    bench.told();
    bench.disk().boot += 1;
    bench.now = Duration::from_secs(3);
    bench.restart();
    assert_eq!(bench.told(), [None]);
    assert_eq!(bench.steps(), [(1, Failed, INTERRUPTED)]);
}

#[test]
fn an_order_without_a_lease_or_without_an_answer_ends_with_the_process() {
    for (answered, writes) in [(true, 0), (false, 1), (false, 3)] {
        let mut bench = active();
        bench.told();
        bench.obliging = answered;
        let order = bench.order(1, 5.0);
        bench.setpoint(order.clone());
        for _ in 0..writes {
            bench.store(true);
        }
        bench.steps();
        bench.told();
        bench.obliging = true;
        bench.restart();
        assert_eq!(bench.told(), [None]);
        assert_eq!(bench.steps(), [(1, Failed, INTERRUPTED)]);
        bench.connect();
        bench.setpoint(SetpointOrder {
            epoch: bench.epoch,
            ..order
        });
        assert_eq!(bench.told(), [], "never twice");
    }
}

#[test]
fn the_fate_of_an_order_that_waited_when_a_release_came_is_told_after_a_crash() {
    let mut bench = active();
    bench.obliging = false;
    let waits = bench.order(2, 7.0);
    bench.setpoint(waits);
    bench.store(true);
    bench.release(3, 1);
    // The release is on the disk, and the agent dies before it hears so.
    let (_, write) = bench.persists.pop_front().unwrap();
    bench.disk().perform(write);
    bench.obliging = true;
    bench.restart();
    bench.connect();
    let ends: Vec<u64> = bench.steps().iter().map(|(order, ..)| *order).collect();
    assert!(ends.contains(&2), "{ends:?}");
}

#[test]
fn what_was_refused_stays_refused_over_a_restart() {
    let mut bench = active();
    let order = bench.order(4, 50.0);
    bench.setpoint(order);
    let low = bench.order(3, 5.0);
    bench.restart();
    bench.told();
    bench.connect();
    bench.setpoint(SetpointOrder {
        epoch: bench.epoch,
        ..low
    });
    let fine = SetpointOrder {
        power: Power::ZERO,
        ..bench.order(4, 5.0)
    };
    bench.setpoint(fine);
    assert_eq!(bench.told(), []);
}

#[test]
fn numbers_that_may_have_been_sent_are_never_used_again() {
    let mut bench = active();
    bench.sent.clear();
    for mw in 1..=5 {
        bench.read(f64::from(mw));
        bench.pass(0.3);
    }
    assert_eq!(bench.seqs(), [1, 2, 3, 4, 5]);
    // Killed within two seconds: nothing of it is on the disk.
    bench.restart();
    keep(&mut bench, TELEMETRY, 4);
    let register = bench.connect();
    let next = register.logs[0].next_seq;
    assert!(next > 5, "{next}");
    bench.read(9.0);
    bench.pass(0.3);
    let batches = bench.telemetry();
    let gap = batches[0].gaps[0];
    assert_eq!(
        (gap.first_seq, gap.last_seq, gap.reason),
        (4, next - 1, GapReason::Corrupt)
    );
    let last = batches.last().unwrap();
    assert_eq!((last.first_seq, last.samples.len()), (next, 1));
}

#[test]
fn a_clean_stop_leaves_no_gap() {
    let mut bench = active();
    bench.sent.clear();
    for mw in 1..=5 {
        bench.read(f64::from(mw));
        bench.pass(0.3);
    }
    bench.stop();
    bench.restart();
    let register = bench.connect();
    assert_eq!(
        (register.logs[0].first_seq, register.logs[0].next_seq),
        (1, 6)
    );
    bench.pass(1.0);
    assert_eq!(bench.seqs(), [1, 2, 3, 4, 5]);
}

#[test]
fn a_sample_that_is_acknowledged_soon_is_never_written() {
    let mut bench = active();
    for _ in 0..10 {
        bench.read(1.0);
        bench.pass(0.2);
        let last = bench.session.telemetry.next_seq() - 1;
        bench.ack(TELEMETRY, last, false);
    }
    let before = bench.disk().writes;
    // Ten minutes at one sample in 4 s.
    for _ in 0..150 {
        bench.read(1.0);
        bench.pass(0.2);
        let last = bench.session.telemetry.next_seq() - 1;
        bench.ack(TELEMETRY, last, false);
        bench.pass(3.8);
    }
    let writes = bench.disk().writes - before;
    assert!(writes <= 8, "{writes} writes in ten minutes");
}

#[test]
fn an_outage_is_written_in_groups_and_comes_back_whole_from_the_disk() {
    let mut bench = Bench::on_disk(vec![asset(1)]);
    bench.feed(Input::Tick);
    let before = bench.disk().writes;
    for n in 0..3_000 {
        bench.read(f64::from(n));
        bench.pass(0.1);
    }
    let writes = bench.disk().writes - before;
    assert!(writes <= 301, "{writes} writes in 300 s");
    for restart in [false, true] {
        if restart {
            bench.stop();
            bench.restart();
        }
        bench.sent.clear();
        bench.connect();
        let mut all = Vec::new();
        for _ in 0..60 {
            bench.pass(1.0);
            let batches = bench.telemetry();
            let Some(last) = batches.last() else { break };
            let last = last.first_seq + last.samples.len() as u64 - 1;
            all.extend(batches);
            // Only the second time does the headend keep it.
            if restart || all.len() < 12 {
                bench.receive(HeadendMessage::Unknown);
            }
            bench.ack(TELEMETRY, if restart { last } else { 0 }, false);
        }
        let mut due = 1;
        for batch in &all {
            assert_eq!((batch.first_seq, batch.gaps.len()), (due, 0));
            for sample in &batch.samples {
                let mw = sample.as_ref().unwrap().measurements.mw.unwrap().mw();
                assert_eq!(mw, due as f64 - 1.0);
                due += 1;
            }
        }
        assert!(if restart { due == 3_001 } else { due > 2_000 }, "{due}");
        bench.cut();
    }
}

#[test]
fn a_full_disk_refuses_orders_and_nothing_else() {
    let mut bench = active();
    let order = bench.leased(1, 5.0, 20);
    bench.setpoint(order);
    bench.ack_reports();
    bench.steps();
    bench.told();
    bench.disk().full = true;
    bench.sent.clear();
    let order = bench.order(2, 6.0);
    bench.setpoint(order);
    assert_eq!(
        bench.steps(),
        [(2, Rejected, Some(ReasonCode::StorageFailed))]
    );
    assert_eq!(
        report_numbers(&bench).len(),
        1,
        "it is told although it can't be stored"
    );
    assert!(bench.has_event(|event| *event == AgentEvent::StorageFailed));
    assert_eq!(bench.told(), []);
    for _ in 0..200 {
        bench.read(1.0);
        bench.pass(0.3);
        if bench.now > Duration::from_secs(1_021) {
            bench.receive(HeadendMessage::Unknown);
        }
        let live = bench.session.live.as_ref().expect("the session goes on");
        let last = live.telemetry.next() - 1;
        bench.ack(TELEMETRY, last, false);
    }
    assert_eq!(bench.told(), [None], "the lease has ended all the same");
    assert_eq!(bench.steps(), [(1, Completed, None)]);
    assert!(bench.session.telemetry.depth() < 3, "telemetry goes on");
    bench.disk().full = false;
    bench.pass(6.0);
    assert!(bench.has_event(|event| *event == AgentEvent::StorageRecovered));
    let order = bench.order(3, 7.0);
    bench.setpoint(order);
    assert_eq!(bench.steps(), [(3, Received, None), (3, Started, None)]);
}

#[test]
fn what_a_full_disk_does_not_take_is_kept_in_memory_and_then_declared() {
    let mut bench = Bench::on_disk(vec![asset(1)]);
    bench.feed(Input::Tick);
    bench.disk().full = true;
    for _ in 0..1_000 {
        bench.read(1.0);
        bench.pass(0.1);
    }
    let held = bench.session.telemetry.depth();
    assert!((200..400).contains(&held), "{held} held in 64 KiB");
    bench.connect();
    let batch = bench.telemetry().remove(0);
    let gap = batch.gaps[0];
    assert_eq!((gap.first_seq, gap.last_seq), (1, 1_000 - held));
    assert_eq!(gap.reason, GapReason::OutboxFull);
}

#[test]
fn a_headend_that_knows_more_than_was_sent_makes_the_logs_go_on_under_other_ids() {
    let mut bench = active();
    for mw in 1..=6 {
        bench.read(f64::from(mw));
        bench.pass(0.6);
    }
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    bench.pass(3.0);
    bench.stop();
    // A copy goes on elsewhere and gets to number 500.
    bench.restart();
    bench.read(7.0);
    let (telemetry, reports) = (
        bench.session.telemetry.log_id(),
        bench.session.reports.log_id(),
    );
    keep(&mut bench, TELEMETRY, 500);
    keep(&mut bench, LogKind::Report, 50);
    bench.connect();
    assert_eq!(bench.closed_with(), Some(CloseReason::ProtocolError));
    assert!(bench.has_event(|event| *event == AgentEvent::StateForked));
    bench.cursors.clear();
    let register = bench.connect();
    assert_ne!(register.logs[0].log_id, telemetry);
    assert_ne!(register.logs[1].log_id, reports);
    bench.pass(1.0);
    let batch = bench.telemetry().remove(0);
    let sent: Vec<_> = batch
        .samples
        .iter()
        .map(|s| s.as_ref().unwrap().measurements.mw)
        .collect();
    assert_eq!(
        (batch.first_seq, sent),
        (1, vec![Some(Power::from_mw(7.0))])
    );
    // It stays so.
    bench.pass(3.0);
    bench.restart();
    assert_eq!(bench.dial().logs[0].log_id, register.logs[0].log_id);
}

#[test]
fn times_are_mended_on_the_disk_too() {
    let mut bench = Bench::on_disk(vec![asset(1)]);
    bench.feed(Input::Tick);
    let mut times = Vec::new();
    for _ in 0..2_000 {
        times.push(bench.server_now());
        bench.read(1.0);
        bench.pass(0.1);
    }
    bench.connect();
    let mut sent = Vec::new();
    let take = |bench: &mut Bench, sent: &mut Vec<Timestamp>| {
        let batches = bench.telemetry().into_iter();
        let samples = batches.flat_map(|batch| batch.samples);
        sent.extend(samples.map(|sample| sample.unwrap().measured_at));
    };
    bench.pass(0.2);
    take(&mut bench, &mut sent);
    let some = sent.len();
    assert!(some > 200 && some < 2_000, "{some}");
    bench.ack(TELEMETRY, some as u64, false);
    bench.pass(3.0);
    bench.stop();
    bench.restart();
    sent.truncate(some);
    keep(&mut bench, TELEMETRY, some as u64 + 1);
    bench.connect();
    for _ in 0..10 {
        bench.pass(1.0);
        take(&mut bench, &mut sent);
        let last = sent.len() as u64;
        bench.ack(TELEMETRY, last, false);
    }
    assert_eq!(sent, times);
}
