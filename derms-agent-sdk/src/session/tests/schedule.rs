use SetpointPhase::{Completed, Expired, Received, Rejected, Released, Started, Superseded};

use super::*;

const NEWER: Option<ReasonCode> = Some(ReasonCode::NewerOrder);

impl Bench {
    /// An order that begins so many seconds from now.
    fn later(&self, revision: u64, mw: f64, wait: u64, lease: u64) -> SetpointOrder {
        let start_at = self.server_now().saturating_add(Duration::from_secs(wait));
        SetpointOrder {
            start_at: Some(start_at),
            start_deadline: start_at.saturating_add(Duration::from_secs(30)),
            ..self.leased(revision, mw, lease)
        }
    }
}

fn active() -> Bench {
    let mut bench = Bench::active();
    bench.told();
    bench
}

#[test]
fn an_order_for_later_is_received_now_and_starts_on_time_without_a_link() {
    let mut bench = active();
    let order = bench.later(1, 5.0, 600, 100);
    bench.setpoint(order);
    assert_eq!(bench.steps(), [(1, Received, None)]);
    bench.cut();
    bench.pass(599.9);
    assert_eq!(bench.told(), []);
    bench.pass(0.2);
    assert_eq!(bench.told(), [Some(5.0)]);
    bench.pass(100.1);
    assert_eq!(bench.steps(), [(1, Started, None), (1, Completed, None)]);
    assert_eq!(bench.told(), [None]);
}

#[test]
fn several_orders_wait_and_each_has_its_turn() {
    let mut bench = active();
    for (revision, wait) in [(1, 100), (2, 200), (3, 300)] {
        let order = bench.later(revision, revision as f64 + 1.0, wait, 50);
        bench.setpoint(order);
    }
    bench.told();
    bench.pass_in_session(400.0);
    assert_eq!(
        bench.told(),
        [Some(2.0), None, Some(3.0), None, Some(4.0), None]
    );
}

#[test]
fn an_older_order_that_would_begin_within_a_newer_one_never_does() {
    let mut bench = active();
    let within = bench.later(1, 2.0, 150, 10);
    let before = bench.later(2, 3.0, 50, 100);
    let after = bench.later(3, 4.0, 300, 10);
    for order in [within, before, after] {
        bench.setpoint(order);
    }
    bench.steps();
    let newer = bench.later(4, 5.0, 100, 100);
    bench.setpoint(newer);
    assert_eq!(bench.steps(), [(1, Superseded, NEWER), (4, Received, None)]);
    bench.pass_in_session(400.0);
    assert_eq!(
        bench.steps(),
        [
            (2, Started, None),
            (2, Superseded, NEWER),
            (4, Started, None),
            (4, Completed, None),
            (3, Started, None),
            (3, Completed, None)
        ]
    );
}

#[test]
fn an_order_for_now_leaves_those_that_begin_after_its_end() {
    let mut bench = active();
    let later = bench.later(1, 2.0, 100, 10);
    bench.setpoint(later);
    let now = bench.leased(2, 5.0, 60);
    bench.setpoint(now);
    bench.steps();
    bench.pass_in_session(120.0);
    assert_eq!(
        bench.steps(),
        [
            (2, Completed, None),
            (1, Started, None),
            (1, Completed, None)
        ]
    );
    bench.cut();
    bench.connect();
    let later = bench.later(3, 2.0, 100, 10);
    bench.setpoint(later);
    let open = bench.order(4, 5.0);
    bench.setpoint(open);
    let steps = bench.steps();
    assert!(steps.contains(&(3, Superseded, NEWER)), "{steps:?}");
}

#[test]
fn a_lease_that_began_late_runs_out_before_an_older_order_takes_over() {
    let mut bench = active();
    let older = bench.later(1, 2.0, 100, 50);
    bench.setpoint(older);
    bench.obliging = false;
    let now = bench.leased(2, 5.0, 100);
    bench.setpoint(now);
    bench.store(true);
    bench.pass(3.0);
    bench.obliging = true;
    bench.answer(Ok(Applied::default()));
    bench.steps();
    bench.pass_in_session(99.0);
    assert_eq!(bench.steps(), [], "its lease has a second left");
    bench.pass_in_session(2.0);
    assert_eq!(bench.steps(), [(2, Completed, None), (1, Started, None)]);
}

#[test]
fn the_release_of_an_order_for_later_ends_nothing_else() {
    let mut bench = active();
    let now = bench.leased(1, 5.0, 600);
    bench.setpoint(now);
    let later = bench.later(2, 2.0, 700, 10);
    bench.setpoint(later);
    bench.steps();
    bench.told();
    bench.release(3, 2);
    assert_eq!(
        bench.steps(),
        [(2, Released, Some(ReasonCode::CancelledByOperator))]
    );
    bench.pass_in_session(590.0);
    assert_eq!(bench.told(), [], "the other goes on");
    bench.cut();
    bench.connect();
    bench.ack_reports();
    bench.release(3, 2);
    assert_eq!(bench.steps().len(), 1, "told again");
}

#[test]
fn an_order_whose_time_passed_while_the_agent_was_down_never_starts() {
    let mut bench = Bench::on_disk(vec![asset(1)]);
    bench.feed(Input::Tick);
    bench.connect();
    for (revision, wait) in [(1, 100), (2, 200)] {
        let order = bench.later(revision, 5.0, wait, 50);
        bench.setpoint(order);
    }
    bench.steps();
    bench.pass(1.0);
    bench.now += Duration::from_secs(150);
    bench.restart();
    bench.told();
    bench.connect();
    assert_eq!(
        bench.steps(),
        [(1, Expired, Some(ReasonCode::DeadlinePassed))]
    );
    assert_eq!(bench.told(), []);
    bench.pass_in_session(60.0);
    assert_eq!(bench.steps(), [(2, Started, None)], "the other is in time");
}

#[test]
fn a_restart_between_the_start_and_the_device_does_not_start_it_again() {
    let mut bench = Bench::on_disk(vec![asset(1)]);
    bench.feed(Input::Tick);
    bench.connect();
    let order = bench.later(1, 5.0, 10, 50);
    bench.setpoint(order);
    bench.pass(1.0);
    bench.told();
    bench.obliging = false;
    bench.pass(9.5);
    bench.store(true);
    assert_eq!(bench.commands.len(), 1, "the device is being told");
    bench.obliging = true;
    bench.steps();
    bench.restart();
    bench.connect();
    assert_eq!(
        bench.steps(),
        [(1, SetpointPhase::Failed, Some(ReasonCode::Interrupted))]
    );
}

#[test]
fn more_orders_than_are_kept_are_refused() {
    let mut bench = active();
    for revision in 1..=33 {
        let order = bench.later(revision, 5.0, 100 * revision, 50);
        bench.setpoint(order);
    }
    assert_eq!(
        bench.steps().last(),
        Some(&(33, Rejected, Some(ReasonCode::TooManyWaiting)))
    );
}

#[test]
fn an_order_for_later_that_comes_again_is_received_once() {
    let mut bench = active();
    let order = bench.later(1, 5.0, 100, 50);
    bench.setpoint(order.clone());
    bench.setpoint(order);
    bench.pass_in_session(200.0);
    assert_eq!(bench.told(), [Some(5.0), None]);
}

#[test]
fn a_release_that_a_newer_order_has_overtaken_takes_an_order_off_the_schedule_at_any_time() {
    for wait in [0.0, 100.0] {
        let mut bench = active();
        let older = bench.later(1, 5.0, 100, 50);
        bench.setpoint(older);
        let newer = bench.later(3, 6.0, 1_000, 50);
        bench.setpoint(newer);
        bench.obliging = false;
        bench.pass_in_session(wait);
        bench.steps();
        bench.release(2, 1);
        assert_eq!(
            bench.steps(),
            [(1, Released, Some(ReasonCode::CancelledByOperator))],
            "{wait}"
        );
        bench.obliging = true;
        bench.store(true);
        bench.pass_in_session(200.0);
        assert_eq!(bench.told(), [], "{wait}");
    }
}

#[test]
fn nothing_is_taken_up_while_the_agent_stops() {
    let mut bench = Bench::on_disk(vec![asset(1)]);
    bench.feed(Input::Tick);
    bench.connect();
    let order = bench.later(1, 5.0, 2, 50);
    bench.setpoint(order);
    let leased = bench.leased(2, 4.0, 1);
    bench.setpoint(leased);
    bench.told();
    bench.obliging = false;
    bench.feed(Input::Shutdown);
    bench.pass(3.0);
    let applied = bench
        .commands
        .iter()
        .filter(|(_, _, command)| matches!(command, Command::Apply(_)));
    assert_eq!(applied.count(), 0);
}

#[test]
fn a_copied_state_directory_keeps_no_order_for_later() {
    let mut bench = Bench::on_disk(vec![asset(1)]);
    bench.feed(Input::Tick);
    bench.connect();
    let order = bench.later(1, 5.0, 100, 50);
    bench.setpoint(order);
    bench.pass(1.0);
    bench.steps();
    let now = bench.clocks();
    let disk = bench.disk.as_mut().unwrap();
    let mut recovered = disk.open(now);
    recovered.trusted = false;
    let config = Config {
        recovered: Some(recovered),
        ..config(disk.assets.clone(), 64 << 10, 8_192)
    };
    bench.session = Session::new(config, now);
    bench.feed(Input::Tick);
    bench.told();
    assert_eq!(
        bench.steps(),
        [(1, SetpointPhase::Failed, Some(ReasonCode::Interrupted))]
    );
    bench.connect();
    bench.pass_in_session(200.0);
    assert_eq!(bench.told(), []);
}

#[test]
fn a_release_whose_order_was_overtaken_meanwhile_ends_nothing_else() {
    let mut bench = active();
    let now = bench.leased(1, 5.0, 600);
    bench.setpoint(now);
    let later = bench.later(2, 2.0, 700, 10);
    bench.setpoint(later);
    bench.steps();
    bench.told();
    bench.obliging = false;
    bench.release(3, 2);
    let newer = bench.later(4, 3.0, 690, 60);
    bench.setpoint(newer);
    bench.obliging = true;
    bench.store(true);
    bench.pass_in_session(100.0);
    assert_eq!(bench.told(), [], "the first goes on");
    let steps = bench.steps();
    assert!(steps.contains(&(2, Superseded, NEWER)), "{steps:?}");
    assert!(!steps.iter().any(|step| step.0 == 1), "{steps:?}");
}

#[test]
fn an_order_that_is_on_the_disk_stays_when_the_next_can_not_be_written() {
    let mut bench = active();
    bench.obliging = false;
    let first = bench.later(1, 5.0, 100, 50);
    bench.setpoint(first);
    let second = bench.later(2, 6.0, 200, 50);
    bench.setpoint(second);
    bench.store(true);
    bench.store(false);
    let steps = bench.steps();
    assert!(steps.contains(&(1, Received, None)), "{steps:?}");
    let refused = (2, Rejected, Some(ReasonCode::StorageFailed));
    assert!(steps.contains(&refused), "{steps:?}");
}
