//! docs/store-guide.md: who implements a store finds each call in its table.

use std::collections::BTreeSet;

const GUIDE: &str = include_str!("../../../docs/store-guide.md");
const API: &str = include_str!("../../../docs/api/derms-headend-sdk.txt");

fn of_the_trait() -> BTreeSet<&'static str> {
    let calls = API
        .lines()
        .filter_map(|line| line.split_once("fn derms_headend_sdk::store::Store::"));
    calls
        .filter_map(|(_, call)| call.split(['<', '(']).next())
        .collect()
}

fn of_the_table() -> BTreeSet<&'static str> {
    let rows = GUIDE
        .lines()
        .skip_while(|line| !line.starts_with("| group "));
    let rows = rows.take_while(|line| line.starts_with('|'));
    // The second column; code is every other part between backticks.
    rows.filter_map(|row| row.split('|').nth(2))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn the_store_guide_names_each_call_of_the_trait_and_no_other() {
    let calls = of_the_trait();
    assert!(calls.contains("commit"), "the trait is in its listing");
    assert_eq!(of_the_table(), calls);
}
