use derms_proto::link::{Gap, GapReason, RefusalCode, RefusedEntry};

use super::*;

const TELEMETRY: LogKind = LogKind::Telemetry;

/// The headend has the telemetry log up to `next_seq - 1`.
fn keep(bench: &mut Bench, next_seq: u64) {
    let log_id = bench.session.telemetry.log_id();
    bench.cursors = vec![LogCursor {
        kind: TELEMETRY,
        log_id,
        next_seq,
    }];
}

#[test]
fn a_sample_is_as_old_as_it_is_on_the_clock_of_the_headend() {
    let mut bench = Bench::active();
    bench.sent.clear();
    let fresh = bench.server_now();
    bench.read(1.0);
    let cached = Reading::of_power(Power::ZERO).aged(Duration::from_secs(600));
    bench.read_of(asset_id(1), cached.clone());
    bench.pass(1.0);
    bench.read_of(
        asset_id(1),
        Reading {
            age: Duration::from_secs(601),
            ..cached
        },
    );
    bench.pass(1.0);
    let samples: Vec<_> = bench
        .telemetry()
        .into_iter()
        .flat_map(|batch| batch.samples)
        .map(|sample| sample.unwrap().measured_at)
        .collect();
    let old = fresh.saturating_sub(Duration::from_secs(600));
    assert_eq!(
        samples,
        [fresh, old, old],
        "a cached value keeps its time however often it is read"
    );
}

#[test]
fn before_any_exchange_the_wall_clock_is_the_label() {
    let mut bench = Bench::new(vec![asset(1)]);
    let wall = at(bench.now).wall;
    bench.read(1.0);
    let (batch, _) = bench.session.telemetry.batch(1, 1, 1 << 20).unwrap();
    assert_eq!(batch.samples[0].as_ref().unwrap().measured_at, wall);
}

#[test]
fn what_was_not_measured_stays_absent_and_what_is_no_number_is_no_sample() {
    let mut bench = Bench::active();
    bench.sent.clear();
    bench.read(f64::NAN);
    let error = Input::Read {
        asset_id: asset_id(1),
        at: at(bench.now),
        result: Err(no_answer()),
    };
    bench.feed(error);
    assert!(bench.seqs().is_empty());
    let snapshot = bench.session.snapshot(at(bench.now));
    assert_eq!(snapshot.assets[0].read_errors, 2);
    assert_eq!(
        snapshot.assets[0].availability,
        derms_proto::Availability::Unavailable
    );
    let failures = |e: &&AgentEvent| matches!(e, AgentEvent::ReadFailed { .. });
    assert_eq!(bench.events.iter().filter(failures).count(), 1, "told once");
    bench.read(1.0);
    assert!(bench.has_event(|event| matches!(event, AgentEvent::ReadRecovered { .. })));
    assert_eq!(bench.seqs(), [1]);
}

#[test]
fn at_most_twelve_batches_are_unacknowledged_and_an_ack_opens_the_window() {
    let mut bench = Bench::active();
    bench.sent.clear();
    for _ in 0..40 {
        bench.read(1.0);
        bench.pass(0.3);
    }
    assert_eq!(bench.telemetry().len(), 12);
    bench.ack(TELEMETRY, 12, false);
    assert_eq!(
        bench.seqs(),
        (13..=40).collect::<Vec<_>>(),
        "the rest in one batch"
    );
}

#[test]
fn acknowledged_telemetry_is_never_sent_again_and_unacknowledged_always() {
    let mut bench = Bench::active();
    bench.sent.clear();
    for _ in 0..6 {
        bench.read(1.0);
        bench.pass(0.3);
    }
    bench.ack(TELEMETRY, 3, false);
    bench.seqs();
    keep(&mut bench, 4);
    bench.cut();
    bench.connect();
    assert_eq!(bench.seqs(), [4, 5, 6]);
    keep(&mut bench, 6);
    bench.cut();
    bench.connect();
    assert_eq!(
        bench.seqs(),
        [6],
        "the headend had kept 4 and 5, only the ack was lost"
    );
    bench.cut();
    bench.cursors.clear();
    bench.connect();
    assert_eq!(
        bench.seqs(),
        [6],
        "a headend that forgot does not get back what is gone"
    );
}

#[test]
fn a_rewind_sends_again_what_was_not_kept() {
    let mut bench = Bench::active();
    bench.sent.clear();
    for _ in 0..5 {
        bench.read(1.0);
        bench.pass(0.3);
    }
    bench.seqs();
    bench.ack(TELEMETRY, 2, true);
    assert_eq!(bench.seqs(), [3, 4, 5]);
    bench.ack(TELEMETRY, 1, false);
    bench.ack(TELEMETRY, 5, false);
    bench.read(1.0);
    bench.pass(0.3);
    assert_eq!(bench.seqs(), [6], "an old ack takes nothing back");
}

#[test]
fn after_a_rewind_one_small_batch_asks_and_the_newest_values_go_beside_it() {
    let mut bench = Bench::active();
    for _ in 0..12 {
        bench.read(1.0);
        bench.pass(1.0);
    }
    bench.sent.clear();
    bench.ack(TELEMETRY, 0, true);
    for _ in 0..3 {
        bench.read(1.0);
        bench.pass(1.0);
    }
    let live = |message: &&AgentMessage| matches!(message, AgentMessage::LiveTelemetry(_));
    assert_eq!(bench.sent.iter().filter(live).count(), 3);
    assert_eq!(bench.seqs(), [1, 2, 3, 4, 5, 6, 7, 8]);
    // There is room again.
    bench.ack(TELEMETRY, 8, false);
    for last in [15, 16, 17] {
        assert_eq!(bench.seqs().last(), Some(&last));
        bench.read(1.0);
        bench.pass(1.0);
        assert!(bench.seqs().is_empty(), "one batch at a time");
        bench.ack(TELEMETRY, last, false);
    }
    assert_eq!(bench.seqs(), [18]);
    bench.read(1.0);
    bench.pass(1.0);
    assert_eq!(bench.seqs(), [19], "a second batch beside it");
}

#[test]
fn an_ack_of_what_was_never_sent_ends_the_session_and_loses_nothing() {
    for cursor_or_ack in [true, false] {
        let mut bench = Bench::active();
        bench.read(1.0);
        if cursor_or_ack {
            keep(&mut bench, 3);
            bench.cut();
            bench.connect();
        } else {
            bench.ack(TELEMETRY, 2, false);
        }
        assert_eq!(bench.closed_with(), Some(CloseReason::ProtocolError));
        assert_eq!(bench.session.telemetry.depth(), 1);
    }
}

#[test]
fn an_ack_of_another_log_life_is_ignored() {
    let mut bench = Bench::active();
    bench.read(1.0);
    bench.receive(HeadendMessage::LogAck(LogAck {
        kind: TELEMETRY,
        log_id: LogId::new(uuid_of(5)),
        up_to_seq: 1,
        refused: Vec::new(),
        rewind: false,
    }));
    assert_eq!((bench.session.telemetry.depth(), bench.disconnects), (1, 0));
}

#[test]
fn a_refused_sample_does_not_block_the_log() {
    let mut bench = Bench::active();
    bench.sent.clear();
    bench.read(1.0);
    bench.pass(0.3);
    bench.read(2.0);
    bench.pass(0.3);
    let log_id = bench.session.telemetry.log_id();
    bench.receive(HeadendMessage::LogAck(LogAck {
        kind: TELEMETRY,
        log_id,
        up_to_seq: 2,
        refused: vec![RefusedEntry {
            seq: 1,
            code: RefusalCode::Invalid,
            text: None,
        }],
        rewind: false,
    }));
    assert!(bench.has_event(|event| matches!(event, AgentEvent::EntryRefused { seq: 1, .. })));
    bench.seqs();
    bench.cut();
    keep(&mut bench, 3);
    bench.connect();
    assert!(bench.seqs().is_empty());
}

#[test]
fn samples_of_a_refused_asset_are_not_kept_and_block_nobody() {
    let mut bench = Bench::new(vec![asset(1), asset(2)]);
    bench.revoked.push(asset_id(2));
    bench.connect();
    bench.sent.clear();
    bench.read_of(asset_id(2), Reading::of_power(Power::ZERO));
    bench.read(1.0);
    let batch = bench.telemetry().remove(0);
    assert_eq!((batch.first_seq, batch.samples.len()), (1, 1));
    assert_eq!(batch.samples[0].as_ref().unwrap().asset_id, asset_id(1));
}

#[test]
fn what_is_dropped_is_declared_before_what_follows() {
    let mut bench = Bench::with(vec![asset(1)], 1_000, 8_192);
    for _ in 0..50 {
        bench.read(1.0);
    }
    bench.connect();
    let batch = bench.telemetry().remove(0);
    let held = bench.session.telemetry.depth();
    assert_eq!(batch.gaps.len(), 1);
    let gap = batch.gaps[0];
    assert_eq!(
        (gap.first_seq, gap.last_seq, gap.reason),
        (1, 50 - held, GapReason::OutboxFull)
    );
    assert_eq!(batch.first_seq, gap.last_seq + 1);
    assert_eq!(bench.session.telemetry.dropped(), 50 - held);
}

/// 1,000 samples that could not be sent.
fn far_behind(limits: Limits) -> Bench {
    let mut bench = Bench::new(vec![asset(1)]);
    bench.limits = limits;
    for _ in 0..1_000 {
        bench.read(1.0);
    }
    bench.connect();
    bench
}

#[test]
fn backfill_starts_within_its_spread_and_fresh_values_do_not_wait_for_it() {
    let mut bench = far_behind(Limits::default());
    let live = |bench: &mut Bench| {
        let message = bench.sent.drain(..).find_map(|message| match message {
            AgentMessage::LiveTelemetry(samples) => Some(samples),
            AgentMessage::Telemetry(_) => panic!("backfill at once"),
            _ => None,
        });
        message.map(|samples| samples[0].clone().unwrap().measurements.mw)
    };
    assert_eq!(
        live(&mut bench),
        Some(Some(Power::from_mw(1.0))),
        "the newest, at once"
    );
    bench.pass(0.5);
    bench.read(7.0);
    bench.pass(0.6);
    assert_eq!(live(&mut bench), Some(Some(Power::from_mw(7.0))));
    bench.pass(30.0);
    assert!(!bench.telemetry().is_empty());
}

#[test]
fn while_nothing_is_acknowledged_the_newest_values_go_out_beside_the_log() {
    let mut bench = Bench::active();
    bench.sent.clear();
    for n in 0..30 {
        bench.read(f64::from(n));
        bench.pass(1.0);
    }
    let (mut batches, mut live) = (0, Vec::new());
    for message in bench.sent.drain(..) {
        match message {
            AgentMessage::Telemetry(_) => batches += 1,
            AgentMessage::LiveTelemetry(samples) => {
                live.push(samples[0].clone().unwrap().measurements.mw);
            }
            _ => {}
        }
    }
    assert_eq!(batches, 12, "the window");
    let wanted: Vec<_> = (12..30)
        .map(|n| Some(Power::from_mw(f64::from(n))))
        .collect();
    assert_eq!(live, wanted);
}

#[test]
fn backfill_keeps_to_its_rate_and_can_be_throttled() {
    let limits = Limits {
        backfill_spread: Duration::ZERO,
        backfill_batches_per_s: 2,
        max_batch_samples: 100,
        ..Limits::default()
    };
    let mut bench = far_behind(limits);
    assert_eq!(bench.telemetry().len(), 1);
    bench.pass(0.49);
    assert_eq!(bench.telemetry().len(), 0);
    bench.pass(0.02);
    assert_eq!(bench.telemetry().len(), 1);
    bench.receive(HeadendMessage::Throttle {
        backfill_batches_per_s: 0,
        hold: Duration::from_secs(10),
    });
    bench.pass(9.9);
    assert_eq!(bench.telemetry().len(), 0, "paused");
    bench.pass(0.2);
    assert_eq!(bench.telemetry().len(), 1);
    bench.pass(10.0);
    let rest = bench.telemetry();
    assert_eq!(
        rest.iter().map(|batch| batch.samples.len()).sum::<usize>(),
        700
    );
}

#[test]
fn batches_keep_to_the_limits_of_the_headend() {
    let limits = Limits {
        backfill_spread: Duration::ZERO,
        max_batch_samples: 30,
        ..Limits::default()
    };
    let mut bench = far_behind(limits);
    bench.pass(1.0);
    let batches = bench.telemetry();
    assert!(!batches.is_empty() && batches.iter().all(|batch| batch.samples.len() <= 30));
    let limits = Limits {
        max_message_bytes: 32 << 10,
        ..limits
    };
    let mut bench = far_behind(Limits {
        max_batch_samples: 256,
        ..limits
    });
    bench.pass(1.0);
    assert!(
        bench
            .telemetry()
            .iter()
            .all(|batch| batch.samples.len() < 200)
    );
}

#[test]
fn samples_that_come_together_while_a_batch_is_on_its_way_go_together() {
    let mut bench = Bench::new((1..=50).map(asset).collect());
    bench.connect();
    bench.sent.clear();
    for number in 1..=50 {
        bench.read_of(asset_id(number), Reading::of_power(Power::ZERO));
    }
    bench.pass(0.3);
    let sizes: Vec<_> = bench
        .telemetry()
        .iter()
        .map(|batch| batch.samples.len())
        .collect();
    assert_eq!(sizes, [1, 49]);
}

#[test]
fn reports_are_sent_again_until_they_are_acknowledged() {
    let mut bench = Bench::active();
    bench.sent.clear();
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    let reports = |bench: &mut Bench| -> Vec<u64> {
        let messages = bench.sent.drain(..);
        let batches = messages.filter_map(|message| match message {
            AgentMessage::Report(batch) => Some(batch),
            _ => None,
        });
        batches
            .flat_map(|b| b.first_seq..b.first_seq + b.entries.len() as u64)
            .collect()
    };
    assert_eq!(reports(&mut bench), [1, 2]);
    bench.ack(LogKind::Report, 1, false);
    bench.cut();
    let log_id = bench.session.reports.log_id();
    bench.cursors = vec![LogCursor {
        kind: LogKind::Report,
        log_id,
        next_seq: 2,
    }];
    bench.connect();
    assert_eq!(reports(&mut bench), [2]);
}

#[test]
fn an_hour_without_a_headend_costs_nothing_but_room() {
    let mut bench = Bench::new(vec![asset(1)]);
    for _ in 0..900 {
        bench.feed(Input::Ended(End::Unreachable {
            text: "refused".into(),
        }));
        bench.read(1.0);
        bench.pass(4.0);
    }
    assert!(bench.connects > 500);
    assert!(bench.sent.is_empty());
    bench.connect();
    bench.pass(5.0);
    assert_eq!(bench.seqs(), (1..=900).collect::<Vec<_>>());
}

#[test]
fn what_was_dropped_before_the_headend_knew_the_log_is_inside_what_register_announces() {
    let mut bench = Bench::with(vec![asset(1)], 1_000, 8_192);
    for _ in 0..50 {
        bench.read(1.0);
    }
    // Without a cursor of its own a headend takes the log from there on.
    let register = bench.connect();
    let gap = bench.telemetry().remove(0).gaps[0];
    assert_eq!(register.logs[0].first_seq, gap.first_seq);
}

#[test]
fn an_ack_of_what_was_written_but_never_sent_ends_the_session_and_loses_nothing() {
    for cursor_or_ack in [true, false] {
        let mut bench = Bench::active();
        bench.read(1.0);
        if cursor_or_ack {
            bench.cut();
            bench.read(2.0);
            keep(&mut bench, 3);
            bench.connect();
        } else {
            // Waits for others while the first is on its way.
            bench.read(2.0);
            bench.ack(TELEMETRY, 2, false);
        }
        assert_eq!(bench.closed_with(), Some(CloseReason::ProtocolError));
        assert_eq!(bench.session.telemetry.depth(), 2);
    }
    let mut bench = Bench::active();
    let order = bench.leased(1, 5.0, 1);
    bench.setpoint(order);
    bench.cut();
    bench.pass(1.5);
    let log_id = bench.session.reports.log_id();
    bench.cursors = vec![LogCursor {
        kind: LogKind::Report,
        log_id,
        next_seq: 4,
    }];
    let depth = bench.session.reports.depth();
    assert_eq!(depth, 3, "completed was never sent");
    bench.connect();
    assert_eq!(bench.closed_with(), Some(CloseReason::ProtocolError));
    assert_eq!(bench.session.reports.depth(), depth);
}

#[test]
fn a_headend_that_lost_what_it_had_acknowledged_is_told_of_the_gap_and_goes_on() {
    let mut bench = Bench::active();
    bench.sent.clear();
    for _ in 0..6 {
        bench.read(1.0);
        bench.pass(0.3);
    }
    bench.ack(TELEMETRY, 4, false);
    bench.seqs();
    // Its store was restored from an older copy.
    keep(&mut bench, 3);
    bench.cut();
    bench.connect();
    let batch = bench.telemetry().remove(0);
    let gap = Gap {
        first_seq: 3,
        last_seq: 4,
        reason: GapReason::Unknown,
    };
    assert_eq!((batch.gaps, batch.first_seq), (vec![gap], 5));
    bench.ack(TELEMETRY, 6, false);
    assert_eq!(bench.closed_with(), None);
    assert_eq!(bench.session.telemetry.depth(), 0);
}

#[test]
fn what_was_read_before_the_first_session_gets_the_time_of_the_headend_when_it_is_known() {
    let mut bench = Bench::new(vec![asset(1)]);
    let measured = bench.server_now();
    bench.read(1.0);
    bench.pass(100.0);
    // Somebody has set the wall clock meanwhile.
    bench.wall_is_ahead = Duration::from_secs(7_000);
    bench.read_of(
        asset_id(1),
        Reading::of_power(Power::ZERO).aged(Duration::from_secs(60)),
    );
    let second = bench.server_now().saturating_sub(Duration::from_secs(60));
    bench.connect();
    let samples = bench.telemetry().remove(0).samples;
    let times: Vec<_> = samples
        .into_iter()
        .map(|sample| sample.unwrap().measured_at)
        .collect();
    assert_eq!(times, [measured, second]);
}

#[test]
fn a_report_never_outgrows_a_message_whatever_the_device_says() {
    let mut bench = Bench::active();
    bench.told();
    bench.obliging = false;
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    bench.store(true);
    bench.answer(Err(DeviceFault {
        reason: ReasonCode::DeviceError,
        text: "<html>".repeat(100_000),
    }));
    let (batch, _) = bench.session.reports.batch(1, 256, 1 << 20).unwrap();
    let longest = batch.entries.into_iter().flatten().map(|entry| {
        let derms_proto::link::Report::Setpoint(report) = entry.report else {
            return 0;
        };
        report.text.map_or(0, |text| text.len())
    });
    let longest = longest.max().unwrap();
    assert!((1_000..=1_024).contains(&longest), "{longest} bytes");
}

#[test]
fn a_pause_of_the_backfill_holds_for_a_log_that_falls_behind_later() {
    let mut bench = Bench::active();
    bench.receive(HeadendMessage::Throttle {
        backfill_batches_per_s: 0,
        hold: Duration::from_secs(40),
    });
    for _ in 0..12 {
        bench.read(1.0);
        bench.pass(0.3);
    }
    bench.sent.clear();
    for _ in 0..600 {
        bench.read(1.0);
    }
    bench.ack(TELEMETRY, 12, false);
    assert_eq!(bench.telemetry().len(), 0, "paused");
}
