//! The devices: whether they can be read, and whether they go to their default.

use std::sync::Arc;
use std::time::Duration;

use derms_proto::{Asset, Availability, Check, Power};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{READ, WRITE_DEFAULT, chain};
use crate::{AdapterError, Applied, DerAdapter, Reading};

type Device = (Asset, Arc<dyn DerAdapter>);

/// Whether devices are told anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    NotAsked,
    /// Asked for, and an agent of the same id runs.
    InUse,
    Asked,
}

pub(super) async fn read(devices: &[Device], limit: Duration, checks: &mut Vec<Check>) {
    let calls = devices.iter().map(|(_, adapter)| {
        let adapter = Arc::clone(adapter);
        async move { adapter.read().await }
    });
    let readings = all(calls, limit).await;
    let both = devices.iter().zip(readings);
    checks.extend(both.map(|((asset, _), reading)| match reading {
        Ok(reading) => judged(asset, &reading),
        Err(text) => Check::fail(
            READ,
            format!("{}: {text}", asset.name),
            "look at the device, its wiring, and the settings of its adapter",
        ),
    }));
}

fn judged(asset: &Asset, reading: &Reading) -> Check {
    let text = format!("{}: {}", asset.name, shown(reading));
    if let Some(field) = reading.measurements.non_finite() {
        let text = format!("{text}; {field} is no finite number");
        return Check::fail(
            READ,
            text,
            "mend the adapter: it leaves out what it can't measure",
        );
    }
    if reading.availability != Availability::Available {
        let text = format!("{text}; it takes no orders");
        return Check::warn(
            READ,
            text,
            "bring the device out of local or maintenance mode",
        );
    }
    if reading.measurements.mw.is_none() {
        let text = format!("{text}; its power is not measured");
        return Check::warn(
            READ,
            text,
            "let the adapter read the power, or orders can't be followed",
        );
    }
    Check::ok(READ, text)
}

fn shown(reading: &Reading) -> String {
    let values = &reading.measurements;
    let fields = [
        (values.mw.map(Power::mw), "MW"),
        (values.soc_pct, "% charged"),
        (values.mvar, "MVAr"),
        (values.voltage_v, "V"),
        (values.current_a, "A"),
        (values.frequency_hz, "Hz"),
    ];
    let fields = fields.iter();
    let shown: Vec<String> = fields
        .filter_map(|(value, unit)| Some(format!("{:.3} {unit}", (*value)?)))
        .collect();
    if shown.is_empty() {
        "it answers, with no value".to_owned()
    } else {
        shown.join(", ")
    }
}

pub(super) async fn write_default(
    devices: &[Device],
    writing: Writing,
    limit: Duration,
    checks: &mut Vec<Check>,
) {
    match writing {
        Writing::NotAsked => checks.push(Check::skip(
            WRITE_DEFAULT,
            "not asked for: it would move the device",
        )),
        Writing::InUse => checks.push(Check::fail(
            WRITE_DEFAULT,
            "not done: an agent of this id runs, and two must not steer one device",
            "stop that agent first",
        )),
        Writing::Asked => {
            let calls = devices.iter().map(|(asset, adapter)| {
                let (adapter, default) = (Arc::clone(adapter), asset.default_mw);
                async move { adapter.go_to_default(default).await }
            });
            let answers = all(calls, limit).await;
            let both = devices.iter().zip(answers);
            checks.extend(both.map(|((asset, _), answer)| went(asset, answer)));
        }
    }
}

fn went(asset: &Asset, answer: Result<Applied, String>) -> Check {
    let (name, default) = (&asset.name, asset.default_mw.mw());
    match answer {
        Ok(Applied {
            power: Some(power), ..
        }) => {
            let text = format!("{name}: told {default} MW, keeps to {} MW", power.mw());
            Check::ok(WRITE_DEFAULT, text)
        }
        Ok(_) => Check::ok(WRITE_DEFAULT, format!("{name}: accepted {default} MW")),
        Err(text) => Check::fail(
            WRITE_DEFAULT,
            format!("{name}: {text}"),
            "look whether the device takes orders from outside, and at its adapter",
        ),
    }
}

/// Calls all at once, each within the limit; the answers are in the order of the calls.
async fn all<T: Send + 'static>(
    calls: impl Iterator<Item = impl Future<Output = Result<T, AdapterError>> + Send + 'static>,
    limit: Duration,
) -> Vec<Result<T, String>> {
    // On tasks of their own: an adapter that panics takes nothing with it.
    let mut tasks = JoinSet::new();
    for (number, call) in calls.enumerate() {
        tasks.spawn(async move {
            let answer = match timeout(limit, call).await {
                Ok(answer) => answer.map_err(|error| chain(&error)),
                Err(_) => Err(format!("no answer within {limit:?}")),
            };
            (number, answer)
        });
    }
    let count = tasks.len();
    let panicked = |_| Err("the adapter panicked".to_owned());
    let mut answers: Vec<Result<T, String>> = (0..count).map(panicked).collect();
    while let Some(ended) = tasks.join_next().await {
        if let Ok((number, answer)) = ended
            && let Some(place) = answers.get_mut(number)
        {
            *place = answer;
        }
    }
    answers
}
