//! The protocol as it is, and each rule left out in turn.
//!
//! As it is: 3,690,926 states with a state directory (one tick), 2,837,317 without (two ticks), up to
//! 32 steps deep; half a minute on two cores.

use super::properties::Property;
use super::search::{Found, search};
use super::world::{Model, Weakness};

fn of(durable: bool, weakness: Option<Weakness>) -> Model {
    // Without a disk there are fewer states, and time for a tick more.
    let last_tick = if durable { 1 } else { 2 };
    Model {
        durable,
        last_tick,
        weakness,
    }
}

/// Searches a weakened protocol for one property, and gives the way to where it is broken.
fn breaks(durable: bool, weakness: Weakness, property: Property) {
    let found = search(of(durable, Some(weakness)), &[property]);
    let Some((_, way)) = found.broken else {
        panic!(
            "{weakness:?} went unnoticed: {property:?} holds in all of {} states",
            found.states
        );
    };
    assert!(
        !way.is_empty(),
        "{weakness:?} breaks {property:?} from the start"
    );
}

#[track_caller]
fn holds(found: &Found, least: usize) {
    if let Some((property, way)) = &found.broken {
        panic!("{property:?} is broken by {way:#?}");
    }
    // A model that has lost a rule may have lost its states with it.
    assert!(
        found.states >= least,
        "{} states, at most {} steps deep",
        found.states,
        found.depth
    );
}

#[test]
fn with_a_state_directory_every_invariant_holds_in_every_state() {
    holds(&search(of(true, None), &Property::ALL), 3_500_000);
}

#[test]
fn without_a_state_directory_every_invariant_holds_in_every_state() {
    holds(&search(of(false, None), &Property::ALL), 2_500_000);
}

#[test]
fn an_agent_that_accepts_before_the_disk_has_the_order_starts_it_twice() {
    breaks(
        true,
        Weakness::AcceptBeforeDurable,
        Property::AtMostOneStart,
    );
}

#[test]
fn an_agent_that_does_not_check_revisions_starts_an_order_twice() {
    breaks(true, Weakness::NoRevisionCheck, Property::AtMostOneStart);
}

#[test]
fn an_agent_that_does_not_check_revisions_starts_an_older_order_after_a_newer_one() {
    breaks(true, Weakness::NoRevisionCheck, Property::RevisionsIncrease);
}

#[test]
fn an_agent_that_checks_the_deadline_on_receipt_alone_starts_an_expired_order() {
    breaks(true, Weakness::DeadlineOnReceiptOnly, Property::NoLateStart);
}

#[test]
fn a_headend_that_expires_what_it_sent_says_so_of_an_order_that_starts() {
    breaks(true, Weakness::ExpireSent, Property::EndsAreTrue);
}

#[test]
fn a_release_without_a_revision_lets_a_cancelled_order_start() {
    breaks(
        true,
        Weakness::ReleaseWithoutRevision,
        Property::CancelledIsOver,
    );
}

#[test]
fn an_agent_that_does_not_check_the_epoch_obeys_a_session_that_is_over() {
    breaks(true, Weakness::EpochNotChecked, Property::NewestEpoch);
}

#[test]
fn a_headend_that_sends_again_what_a_lost_report_log_could_tell_has_it_start_twice() {
    breaks(
        false,
        Weakness::ResendAfterLogLost,
        Property::AtMostOneStart,
    );
}

#[test]
fn an_agent_that_starts_what_was_superseded_starts_an_older_order_after_a_newer_one() {
    breaks(
        true,
        Weakness::StartAfterSupersede,
        Property::RevisionsIncrease,
    );
}

#[test]
fn a_headend_that_acknowledges_before_it_commits_loses_an_order() {
    breaks(
        true,
        Weakness::AcknowledgeBeforeCommit,
        Property::NothingIsLost,
    );
}

#[test]
fn a_headend_that_believes_every_report_changes_what_has_ended() {
    breaks(
        true,
        Weakness::ReportsKnowNoLifeCycle,
        Property::LegalTransitions,
    );
}

#[test]
fn a_late_release_that_is_refused_leaves_in_force_what_is_said_to_be_over() {
    breaks(true, Weakness::LateReleaseRefused, Property::EndsAreTrue);
}

#[test]
fn an_order_that_waited_when_a_release_came_is_forgotten_with_a_crash() {
    breaks(
        true,
        Weakness::WaitingOrderForgotten,
        Property::NothingIsLost,
    );
}
