use super::*;
use crate::AgentCounters;

fn counted(bench: &Bench) -> AgentCounters {
    bench.session.counters(bench.clocks())
}

#[test]
fn samples_are_counted_on_their_way_from_the_device_to_the_acknowledgement() {
    let mut bench = Bench::active();
    for _ in 0..3 {
        bench.read(1.0);
        bench.pass(1.0);
    }
    let before = counted(&bench);
    assert_eq!((before.reads, before.samples_taken), (3, 3));
    assert_eq!((before.samples_sent, before.samples_acked), (3, 0));
    assert_eq!(before.outbox_depth, 3);
    assert!(before.outbox_bytes > 0);
    bench.ack(LogKind::Telemetry, 2, false);
    bench.ack(LogKind::Telemetry, 2, false);
    let after = counted(&bench);
    assert_eq!((after.samples_acked, after.outbox_depth), (2, 1));
    assert!(after.outbox_bytes < before.outbox_bytes);
    // Sent again, it counts again.
    bench.cut();
    bench.connect();
    bench.pass(1.0);
    assert_eq!(counted(&bench).samples_sent, 4);
}

#[test]
fn samples_that_had_to_go_are_counted() {
    let mut bench = Bench::with(vec![asset(1)], 200, 8_192);
    for _ in 0..50 {
        bench.read(1.0);
    }
    let counted = counted(&bench);
    assert!(counted.outbox_bytes <= 200, "{}", counted.outbox_bytes);
    assert_eq!(counted.samples_dropped + counted.outbox_depth, 50);
    assert!(counted.samples_dropped > 0);
}

#[test]
fn failed_reads_are_counted_and_those_that_took_too_long_apart() {
    let mut bench = Bench::active();
    bench.read(f64::NAN);
    bench.feed(Input::Read {
        asset_id: asset_id(1),
        at: at(bench.now),
        result: Err(no_answer()),
    });
    let counted = counted(&bench);
    assert_eq!((counted.read_errors, counted.read_timeouts), (2, 1));
    assert_eq!((counted.reads, counted.samples_taken), (0, 0));
}

#[test]
fn orders_are_counted_by_their_steps_and_commands_by_their_answers() {
    let mut bench = Bench::active();
    let before = counted(&bench);
    bench.setpoint(bench.leased(1, 2.0, 10));
    bench.pass_in_session(11.0);
    bench.obliging = false;
    bench.commands.clear();
    bench.setpoint(bench.order(2, 3.0));
    bench.store(true);
    bench.answer(Err(no_answer()));
    let after = counted(&bench);
    let orders = after.orders;
    assert_eq!(
        (orders.received, orders.started, orders.completed),
        (2, 1, 1)
    );
    assert_eq!(
        (orders.failed, orders.rejected, orders.superseded),
        (1, 0, 0)
    );
    // The setpoint, and what follows it.
    assert_eq!(after.commands - before.commands, 2);
    assert_eq!((after.command_errors, after.command_timeouts), (1, 1));
}

#[test]
fn sessions_are_counted_with_the_cause_of_their_end() {
    let mut bench = Bench::active();
    assert!(counted(&bench).connected);
    bench.cut();
    assert!(!counted(&bench).connected);
    bench.connect();
    bench.receive(HeadendMessage::Close(Close::new(CloseReason::Draining, "")));
    bench.connect();
    bench.cut();
    bench.pass(2.0);
    let text = "no route".to_owned();
    bench.feed(Input::Ended(End::Unreachable { text }));
    let counted = counted(&bench);
    assert_eq!((counted.connects, counted.connect_failures), (3, 1));
    let lost = (CloseReason::TransportLost, 2);
    assert_eq!(counted.disconnects, [lost, (CloseReason::Draining, 1)]);
    assert_eq!(counted.halts, 0);
}

#[test]
fn a_refusal_for_good_and_a_failsafe_are_counted() {
    let mut bench = Bench::active();
    bench.setpoint(bench.order(1, 2.0));
    let close = Close::new(CloseReason::Revoked, "");
    bench.receive(HeadendMessage::Close(close));
    bench.pass(100.0);
    let counted = counted(&bench);
    assert_eq!((counted.halts, counted.failsafe_entries), (1, 1));
    assert_eq!(counted.orders.failed, 1);
}

#[test]
fn the_clock_of_the_headend_is_told_against_that_of_the_machine() {
    let bench = Bench::new(vec![asset(1)]);
    assert_eq!(counted(&bench).clock_offset_s, None);
    let mut bench = Bench::active();
    let ahead = SERVER_EPOCH as f64 / 1e6;
    let offset = counted(&bench).clock_offset_s.unwrap();
    assert!((offset - ahead).abs() < 0.001, "{offset}");
    // Somebody sets the machine's clock.
    bench.wall_is_ahead = Duration::from_secs(3_600);
    let offset = counted(&bench).clock_offset_s.unwrap();
    assert!((offset - ahead + 3_600.0).abs() < 0.001, "{offset}");
}
