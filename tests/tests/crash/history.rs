//! What must be true of what is told afterwards.

use std::collections::{BTreeMap, HashMap};

use derms_client::{Client, PageRequest, TelemetryHistoryQuery};
use derms_proto::{AssetId, Detail, Dispatch, DispatchStatus, TelemetryHistoryItem};
use serde::de::DeserializeOwned;

/// Start of the agent and number of the reading in it.
pub(crate) type Sample = (u32, u64);

/// A whole list, or nothing while the headend is away.
pub(crate) async fn all<T>(request: PageRequest<T>) -> Option<Vec<T>>
where
    T: DeserializeOwned + Send + 'static,
{
    let mut items = request.items();
    let mut all = Vec::new();
    while let Some(item) = items.next().await {
        all.push(item.ok()?);
    }
    Some(all)
}

pub(crate) async fn samples(client: &Client, asset: AssetId) -> Option<Vec<Sample>> {
    let query = TelemetryHistoryQuery::new().limit(1_000);
    let items = all(client.telemetry_history(asset, query)).await?;
    let number = |item: &TelemetryHistoryItem, name: &str| match item {
        TelemetryHistoryItem::Measurement(row) => match row.measurements.details.get(name) {
            Some(Detail::Number(number)) => *number as u64,
            other => panic!("{name}: {other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let sample = |item| (number(item, "boot") as u32, number(item, "count"));
    Some(items.iter().map(sample).collect())
}

/// Each start of the agent has sent its readings from the first on, each once. Those that it had
/// not stored itself when it was killed may be missing at its end, and nowhere else: what comes
/// before a reading that is there was acknowledged before it, or stored by the agent before it.
pub(crate) fn fault(mut samples: Vec<Sample>) -> Option<String> {
    samples.sort_unstable();
    let mut boots: BTreeMap<u32, u64> = BTreeMap::new();
    for (boot, count) in samples {
        let last = boots.entry(boot).or_default();
        if count == *last {
            return Some(format!("reading {count} of start {boot} is there twice"));
        }
        if count != *last + 1 {
            return Some(format!(
                "after reading {last} of start {boot} comes {count}: what is between is lost"
            ));
        }
        *last = count;
    }
    None
}

/// What the device was asked, beside what is told of the orders.
pub(crate) fn order_fault(journal: &str, dispatches: &[&Dispatch]) -> Option<String> {
    // Where each order was applied first and last, and how often something else came in between.
    let mut applied: HashMap<&str, usize> = HashMap::new();
    let mut last = None;
    for line in journal.lines() {
        let mut words = line.split(' ');
        let (what, _boot, dispatch) = (words.next()?, words.next(), words.next());
        match (what, dispatch) {
            ("apply", Some(dispatch)) if !dispatch.is_empty() => {
                // The write of an order in force may be repeated, also by the next start.
                if last != Some(dispatch) {
                    *applied.entry(dispatch).or_default() += 1;
                }
                last = Some(dispatch);
            }
            ("default" | "apply", _) => last = None,
            _ => {}
        }
    }
    for dispatch in dispatches {
        let id = dispatch.id.to_string();
        let starts = applied.remove(id.as_str()).unwrap_or(0);
        let active = dispatch
            .transitions
            .iter()
            .filter(|step| step.status == DispatchStatus::Active)
            .count();
        let fits = match dispatch.status {
            DispatchStatus::Completed => starts == 1 && active == 1,
            DispatchStatus::Expired | DispatchStatus::Rejected => starts == 0 && active == 0,
            _ => starts <= 1 && active <= starts,
        };
        if !fits {
            return Some(format!(
                "{id} was started {starts} times and is told as {:?}, active {active} times",
                dispatch.status
            ));
        }
    }
    let stranger = applied.into_keys().next();
    stranger.map(|id| format!("{id} was applied and nobody ordered it"))
}

#[test]
fn what_is_lost_or_there_twice_is_found() {
    assert_eq!(fault(vec![(1, 1), (1, 2), (2, 1)]), None);
    assert!(fault(vec![(1, 1), (1, 3)]).is_some());
    assert!(fault(vec![(1, 1), (1, 1)]).is_some());
    assert!(fault(vec![(1, 2)]).is_some());
}

#[test]
fn a_second_start_of_an_order_is_found() {
    assert!(
        order_fault("apply 1 a\ndefault 1\n", &[]).is_some(),
        "a stranger"
    );
}
