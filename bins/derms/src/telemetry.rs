//! What was measured.

use std::collections::HashMap;

use derms_client::TelemetryHistoryQuery;
use derms_client::proto::{
    Aggregate, AssetKind, Detail, Power, Telemetry, TelemetryBucket, TelemetryHistoryItem,
    TelemetrySnapshot,
};

use crate::args::TelemetryHistoryArgs;
use crate::connection::Session;
use crate::lists::{first, within};
use crate::names::Directory;
use crate::table::{Facts, Table, Tone};
use crate::words::{age, directed, fine_time, number, or_nothing, power, time, word};
use crate::{Outcome, fault, out};

pub(crate) async fn latest(session: &Session, asset: Option<&str>) -> Outcome {
    let client = &session.client;
    let directory = Directory::load(client).await?;
    if let Some(asset) = asset {
        let asset = &directory.asset(asset)?.asset;
        let snapshot = client.telemetry(asset.id).await;
        let snapshot = snapshot.map_err(|error| fault::of(&error))?;
        return if session.json {
            out::json(&snapshot)
        } else {
            facts(&snapshot, &asset.name, asset.kind).print()
        };
    }
    let all = client
        .telemetry_all()
        .await
        .map_err(|error| fault::of(&error))?;
    if session.json {
        return out::json(&all);
    }
    overview(&directory, &all).print()
}

/// A row for each asset, with a measurement or without.
pub(crate) fn overview(directory: &Directory, all: &[TelemetrySnapshot]) -> Table {
    let heading = [
        "ASSET", "SITE", "AGENT", "POWER", "SETPOINT", "SOC", "STATUS", "CONTROL", "AGE",
    ];
    let newest: HashMap<_, _> = all.iter().map(|it| (it.telemetry.asset_id, it)).collect();
    let mut table = Table::new(&heading, "no assets");
    for it in directory.assets() {
        let snapshot = newest.get(&it.asset.id).copied();
        let values = snapshot.map(|it| &it.telemetry.measurements);
        let tone = match snapshot {
            Some(snapshot) if !snapshot.stale => Tone::Plain,
            _ => Tone::Doubtful,
        };
        let kind = Some(it.asset.kind);
        table.row(
            tone,
            [
                it.asset.name.clone(),
                it.site_name.clone(),
                if it.connected { "online" } else { "offline" }.to_owned(),
                or_nothing(values.and_then(|it| it.mw), |mw| directed(mw, kind)),
                or_nothing(values.and_then(|it| it.setpoint_mw), power),
                or_nothing(values.and_then(|it| it.soc_pct), percent),
                or_nothing(values.and_then(|it| it.status), |it| word(&it)),
                or_nothing(values.and_then(|it| it.control), |it| word(&it)),
                or_nothing(snapshot, aged),
            ],
        );
    }
    table
}

fn aged(snapshot: &TelemetrySnapshot) -> String {
    let stale = if snapshot.stale { " stale" } else { "" };
    format!("{}{stale}", age(snapshot.age_s))
}

fn percent(value: f64) -> String {
    format!("{value:.1}%")
}

fn facts(snapshot: &TelemetrySnapshot, name: &str, kind: AssetKind) -> Facts {
    let telemetry = &snapshot.telemetry;
    let values = &telemetry.measurements;
    let unit =
        |value: Option<f64>, unit: &str| value.map(|value| format!("{} {unit}", number(value)));
    let mut facts = Facts::default();
    facts.add("asset", name);
    facts.add("measured at", fine_time(telemetry.measured_at));
    facts.add("age", aged(snapshot));
    facts.add("quality", word(&values.quality));
    facts.add_some("power", values.mw.map(|mw| directed(mw, Some(kind))));
    facts.add_some(
        "setpoint",
        values.setpoint_mw.map(|mw| directed(mw, Some(kind))),
    );
    facts.add_some("control", values.control.map(|it| word(&it)));
    facts.add_some("status", values.status.map(|it| word(&it)));
    facts.add_some("state of charge", values.soc_pct.map(percent));
    facts.add_some("state of health", values.soh_pct.map(percent));
    facts.add_some("can charge", values.available_charge_mw.map(power));
    facts.add_some("can discharge", values.available_discharge_mw.map(power));
    facts.add_some("reactive power", unit(values.mvar, "MVAr"));
    facts.add_some("voltage", unit(values.voltage_v, "V"));
    facts.add_some("frequency", unit(values.frequency_hz, "Hz"));
    facts.add_some("current", unit(values.current_a, "A"));
    facts.add_some("energy in", unit(values.energy_in_mwh, "MWh"));
    facts.add_some("energy out", unit(values.energy_out_mwh, "MWh"));
    for (name, value) in &values.details {
        let value = match value {
            Detail::Flag(flag) => flag.to_string(),
            Detail::Number(value) => number(*value),
            Detail::Text(text) => text.clone(),
            other => word(other),
        };
        facts.add("detail", format!("{name}: {value}"));
    }
    facts
}

pub(crate) async fn history(session: &Session, args: &TelemetryHistoryArgs) -> Outcome {
    let client = &session.client;
    let directory = Directory::load(client).await?;
    let asset = &directory.asset(&args.asset)?.asset;
    let mut query = within!(TelemetryHistoryQuery::new(), &args.window);
    if let Some(step) = args.step {
        query = query.step(step);
    }
    let items = first(client.telemetry_history(asset.id, query), args.window.limit).await?;
    if session.json {
        return out::json(&items);
    }
    const NONE: &str = "nothing was measured in this time";
    let mut table = if args.step.is_some() {
        let heading = [
            "FROM",
            "COUNT",
            "POWER MIN",
            "MEAN",
            "MAX",
            "SOC MIN",
            "MEAN",
            "MAX",
        ];
        Table::new(&heading, NONE)
    } else {
        let heading = [
            "MEASURED AT",
            "POWER",
            "SETPOINT",
            "SOC",
            "STATUS",
            "QUALITY",
        ];
        Table::new(&heading, NONE)
    };
    for item in &items {
        match item {
            TelemetryHistoryItem::Bucket(bucket) => table.row(Tone::Plain, bucket_cells(bucket)),
            TelemetryHistoryItem::Measurement(it) => {
                table.row(Tone::Plain, measurement_cells(it, asset.kind));
            }
            // No other is known, and the client reads no other.
            _ => {}
        }
    }
    table.print()
}

fn measurement_cells(it: &Telemetry, kind: AssetKind) -> Vec<String> {
    let values = &it.measurements;
    vec![
        fine_time(it.measured_at),
        or_nothing(values.mw, |mw| directed(mw, Some(kind))),
        or_nothing(values.setpoint_mw, power),
        or_nothing(values.soc_pct, percent),
        or_nothing(values.status, |it| word(&it)),
        word(&values.quality),
    ]
}

fn bucket_cells(it: &TelemetryBucket) -> Vec<String> {
    let mut cells = vec![time(it.from), it.count.to_string()];
    let mw = |value| power(Power::from_mw(value));
    cells.extend(three(it.mw.as_ref(), mw));
    cells.extend(three(it.soc_pct.as_ref(), percent));
    cells
}

fn three(value: Option<&Aggregate>, shown: impl Fn(f64) -> String) -> [String; 3] {
    [
        or_nothing(value, |it| shown(it.min)),
        or_nothing(value, |it| shown(it.mean)),
        or_nothing(value, |it| shown(it.max)),
    ]
}
