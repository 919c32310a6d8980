//! The kit on adapters that are wrong: each breaks one rule, and that one alone is named.

use derms_proto::AssetKind;

use super::bench::{Bench, Fault};
use crate::testing::asset;
use crate::testing::conformance::{Kit, Outcome, Rule};

async fn breaks(fault: Fault, rule: Rule) {
    let mut asset = asset(1);
    if matches!(
        fault,
        Fault::TakesOrdersAsMeter | Fault::RefusesOrdersAsDevice
    ) {
        asset.kind = AssetKind::Meter;
    }
    let kit = Kit::new(&asset).failing("unplugged", move || async move { Bench::unplugged(fault) });
    let report = kit.check(async || Bench::with(fault)).await;
    let failed: Vec<Rule> = report.failed().collect();
    assert_eq!(failed, [rule], "{fault:?}\n{report}");
    assert!(matches!(report.outcome(rule), Outcome::Failed { found, .. } if !found.is_empty()));
    let text = report.to_string();
    assert!(
        text.contains(rule.name()) && text.contains(rule.remedy()),
        "{text}"
    );
}

macro_rules! broken {
    ($($test:ident: $fault:ident => $rule:ident,)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $test() {
                breaks(Fault::$fault, Rule::$rule).await;
            }
        )*

        #[test]
        fn every_rule_has_an_adapter_that_breaks_it() {
            let broken = [$(Rule::$rule),*];
            assert!(Rule::ALL.iter().all(|rule| broken.contains(rule)));
        }
    };
}

broken! {
    a_device_of_another_kind_is_found: WrongKind => NamesTheKind,
    a_value_that_is_no_number_is_found: ReadsNan => ReadsFiniteValues,
    a_percentage_above_100_is_found: ReadsOverfull => ReadsFiniteValues,
    a_zero_for_what_was_not_measured_is_found: ZeroForUnmeasured => AbsentIsNotZero,
    a_cached_value_with_age_0_is_found: CachesWithoutAge => AgeIsTold,
    a_power_with_the_wrong_sign_is_found: ReadsWithWrongSign => SignAndUnit,
    kilowatts_given_as_megawatts_are_found: ReadsKilowatts => SignAndUnit,
    a_sign_that_is_wrong_both_ways_is_found_by_the_state_of_charge:
        TakesChargingForDischarge => EnergyAgreesWithSign,
    a_refused_part_of_the_range_is_found: RefusesCharging => TakesTheWholeRange,
    a_device_in_local_mode_is_found: IsInLocalMode => TakesTheWholeRange,
    a_meter_that_takes_orders_is_found: TakesOrdersAsMeter => ReadOnlyRefuses,
    a_meter_that_refuses_with_the_wrong_kind_is_found: RefusesOrdersAsDevice => ReadOnlyRefuses,
    an_answer_that_echoes_what_was_asked_is_found: AnswersWhatWasAsked => AnswerIsTrue,
    an_ok_before_the_device_acted_is_found: AnswersBeforeTheDevice => AnswerIsTrue,
    a_repeat_that_toggles_is_found: TogglesOnRepeat => RepeatChangesNothing,
    a_repeat_that_adds_up_is_found: AddsUp => RepeatChangesNothing,
    another_answer_to_a_repeat_is_found: AnswersAnewOnRepeat => RepeatChangesNothing,
    an_ignored_ramp_is_found: IgnoresRamp => RampIsKept,
    a_default_that_is_never_written_is_found: ForgetsWithoutWriting => DefaultIsReached,
    a_setpoint_that_outlives_its_lease_is_found: KeepsShowingTheSetpoint => DefaultIsReached,
    a_refused_second_default_is_found: RefusesSecondDefault => DefaultRepeats,
    an_adapter_that_a_dropped_call_wedges_is_found:
        StaysBusyWhenDropped => DroppedCallDisturbsNothing,
    an_adapter_that_is_wedged_at_a_later_await_is_found:
        StaysBusyWhenDroppedLate => DroppedCallDisturbsNothing,
    a_write_that_lands_after_its_call_was_dropped_is_found:
        WritesAfterItWasDropped => DroppedCallDisturbsNothing,
    locks_taken_in_two_orders_are_found: LocksInTwoOrders => ReadsBesideCommands,
    a_value_of_a_dead_device_is_found: InventsValues => FailureIsTold,
    a_dead_device_called_unsupported_is_found: SaysUnsupportedWhenDead => FailureIsTold,
    an_error_without_a_text_is_found: ErrsWithoutText => ErrorsSayWhat,
    a_call_that_hangs_is_found: HangsAtMinimum => AnswersInTime,
    a_call_that_blocks_the_thread_is_found: BlocksTheThread => NothingBlocks,
    a_panic_is_found: PanicsAtMinimum => NothingPanics,
    an_event_without_a_code_is_found: RaisesWithoutCode => EventsSayWhat,
    an_event_without_a_text_is_found: RaisesWithoutText => EventsSayWhat,
    two_alarms_of_one_code_are_found: TwoAlarmsOfOneCode => EventsSayWhat,
    an_event_with_each_reading_is_found: RaisesWithEachRead => EventsAreFew,
    an_alarm_that_is_named_anew_with_each_reading_is_found:
        NamesAnAlarmAnewWithEachRead => EventsAreFew,
    a_panic_when_events_are_handed_over_is_found: PanicsWithEvents => NothingPanics,
    a_block_when_events_are_handed_over_is_found: BlocksWithEvents => NothingBlocks,
}
