use derms_proto::CloseReason;

use super::link::LinkMetrics;
use super::*;

#[test]
fn a_name_that_is_taken_is_an_error_and_no_panic() {
    let make = Make(Registry::new());
    LinkMetrics::new(&make).unwrap();
    assert!(LinkMetrics::new(&make).is_err());
}

#[test]
fn a_word_is_that_of_rest() {
    assert_eq!(word(CloseReason::TakenOver), "taken_over");
}
