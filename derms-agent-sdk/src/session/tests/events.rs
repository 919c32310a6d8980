//! What devices raise.

use derms_proto::link::Report;
use derms_proto::{Availability, Power, Severity};

use super::*;
use crate::Alarm;

/// Code, severity and text of each event in the report log.
fn events(bench: &Bench) -> Vec<(String, Severity, String)> {
    let Some((batch, _)) = bench.session.reports.batch(1, 4_096, 1 << 20) else {
        return Vec::new();
    };
    let entries = batch.entries.into_iter().flatten();
    entries
        .filter_map(|entry| match entry.report {
            Report::Event(event) => Some((event.code, event.severity, event.text)),
            _ => None,
        })
        .collect()
}

fn codes(bench: &Bench) -> Vec<String> {
    events(bench).into_iter().map(|(code, ..)| code).collect()
}

fn reading() -> Reading {
    Reading::of_power(Power::ZERO)
}

fn raise(bench: &mut Bench, code: &str) {
    bench.feed(Input::Raised {
        asset_id: asset_id(1),
        alarm: Alarm::new(Severity::Alarm, code, "by the device"),
        left_out: 0,
    });
}

#[test]
fn an_alarm_of_a_reading_is_told_when_it_begins_and_when_it_is_over() {
    let mut bench = Bench::active();
    let hot = || reading().alarm(Severity::Warning, "too_hot", "62 C");
    for reading in [reading(), hot(), hot(), hot()] {
        bench.read_of(asset_id(1), reading);
    }
    assert_eq!(codes(&bench), ["too_hot"]);
    let worse = reading().alarm(Severity::Critical, "too_hot", "90 C");
    bench.read_of(asset_id(1), worse);
    bench.read_of(asset_id(1), reading());
    bench.read_of(asset_id(1), reading());
    let told = |code: &str, severity, text: &str| (code.to_owned(), severity, text.to_owned());
    assert_eq!(
        events(&bench),
        [
            told("too_hot", Severity::Warning, "62 C"),
            told("too_hot", Severity::Critical, "90 C"),
            told("too_hot_cleared", Severity::Info, "over: 90 C"),
        ]
    );
}

#[test]
fn a_device_that_raises_without_end_does_not_fill_the_log_and_what_was_left_out_is_counted() {
    let mut bench = Bench::active();
    for _ in 0..1_000 {
        raise(&mut bench, "door_open");
    }
    assert_eq!(codes(&bench).len(), 20);
    bench.pass_in_session(10.0);
    raise(&mut bench, "door_closed");
    let last = events(&bench).pop().unwrap();
    assert_eq!(last.0, "door_closed");
    assert!(last.2.contains("980 events"), "{}", last.2);
}

#[test]
fn an_alarm_that_could_not_be_told_is_told_later_if_it_is_still_there() {
    let mut bench = Bench::active();
    for _ in 0..20 {
        raise(&mut bench, "door_open");
    }
    let hot = || reading().alarm(Severity::Warning, "too_hot", "62 C");
    bench.read_of(asset_id(1), hot());
    assert!(!codes(&bench).contains(&"too_hot".to_owned()));
    bench.pass_in_session(10.0);
    bench.read_of(asset_id(1), hot());
    bench.read_of(asset_id(1), hot());
    assert_eq!(codes(&bench)[20..], ["too_hot"]);
}

#[test]
fn events_leave_half_of_the_report_log_to_orders() {
    let mut bench = Bench::with(vec![asset(1)], 1 << 20, 16);
    for _ in 0..20 {
        raise(&mut bench, "door_open");
    }
    assert_eq!(codes(&bench).len(), 8);
    assert!(bench.session.reports.has_room());
}

#[test]
fn what_is_raised_without_a_link_is_kept_with_the_time_at_which_it_happened() {
    let mut bench = Bench::active();
    bench.cut();
    raise(&mut bench, "door_open");
    let then = bench.server_now();
    bench.pass(600.0);
    let (batch, _) = bench.session.reports.batch(1, 256, 1 << 20).unwrap();
    let at: Vec<_> = batch
        .entries
        .into_iter()
        .flatten()
        .map(|it| it.at)
        .collect();
    assert_eq!(at[0].saturating_since(then), Duration::ZERO);
    assert!(then.saturating_since(at[0]) < Duration::from_secs(1));
}

#[test]
fn a_device_that_can_not_be_read_or_takes_no_orders_is_told_once() {
    let mut bench = Bench::active();
    bench.read_of(asset_id(1), reading());
    for _ in 0..3 {
        let now = bench.clocks();
        bench.feed(Input::Read {
            asset_id: asset_id(1),
            at: now,
            result: Err("no answer".to_owned()),
        });
    }
    bench.read_of(asset_id(1), reading());
    for availability in [Availability::ReadOnly, Availability::ReadOnly] {
        bench.read_of(asset_id(1), reading().available(availability));
    }
    bench.read_of(asset_id(1), reading());
    assert_eq!(
        codes(&bench),
        ["read_failed", "read_recovered", "read_only", "available"]
    );
}
