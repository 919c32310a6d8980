//! Measurements: stored in their asset's place, read in pages and in buckets.

use std::collections::{BTreeMap, HashMap};

use derms_proto::link::LogKind;
use derms_proto::{
    Aggregate, AssetId, Detail, Measurements, Page, Power, Quality, SiteId, Telemetry,
    TelemetryBucket, Timestamp,
};

use tokio::task::consume_budget;

use super::super::page::{self, List, Place};
use super::super::{TelemetryAppend, TelemetryQuery, time_of};
use super::assets::{Asset, Assets};
use super::codes::Code as _;
use super::connection::{Connection, Ranges, Row, TelemetryRow};
use super::fault::Fault;
use super::logs::{self, Logs, Move};
use super::statement::Statement;
use super::value::saturated;

/// What [`read`] reads, in its order.
pub(super) const COLUMNS: &str = "at, tie, received_at, measured_at, quality, status, mw, mvar, \
    voltage_v, frequency_hz, current_a, soc_pct, soh_pct, energy_in_mwh, energy_out_mwh, \
    available_charge_mw, available_discharge_mw, setpoint_mw, site_id, details";

/// Stores parts of logs in one transaction, with the asset of each of their samples. `first_tie` is
/// drawn anew for each attempt.
pub(super) async fn append<C: Connection>(
    connection: &mut C,
    appends: &[TelemetryAppend],
    assets: &[Asset],
    first_tie: u32,
) -> Result<(), Fault> {
    let parts = appends.iter().map(|append| {
        let samples = append.samples.iter().map(|(seq, _)| *seq);
        let gaps = append.gaps.iter().map(|gap| gap.first_seq);
        Move {
            agent: append.agent,
            log: append.log,
            first: samples.chain(gaps).min().unwrap_or(append.next_seq),
            next: append.next_seq,
        }
    });
    let mut logs = Logs::take(connection, LogKind::Telemetry, parts).await?;
    let (mut rows, mut gaps) = (Vec::new(), Vec::new());
    let mut assets = assets.iter();
    let mut tie = first_tie & C::LAST_TIE;
    for append in appends {
        let settled = logs.pass(append.agent, append.log, append.next_seq);
        for ((seq, telemetry), asset) in append.samples.iter().zip(assets.by_ref()) {
            consume_budget().await;
            if *seq < settled {
                continue;
            }
            tie = tie.wrapping_add(1) & C::LAST_TIE;
            rows.push(TelemetryRow {
                asset: asset.key,
                at: time_of(telemetry),
                tie,
                site: Some(telemetry.site_id).filter(|site| asset.site != Some(*site)),
                telemetry,
            });
        }
        for gap in append.gaps.iter().filter(|gap| gap.last_seq >= settled) {
            let mut rest = *gap;
            rest.first_seq = rest.first_seq.max(settled);
            gaps.push((append.agent, append.log, rest));
        }
    }
    if !rows.is_empty() {
        connection.insert_telemetry(&rows).await?;
    }
    if gaps.is_empty() {
        return Ok(());
    }
    logs::add_gaps(connection, &gaps).await
}

pub(super) async fn latest<C: Connection>(connection: &mut C) -> Result<Vec<Telemetry>, Fault> {
    let statement = Statement::new(C::DIALECT, "select key, id, site_id from assets");
    let mut assets = HashMap::new();
    for row in connection.rows(statement).await? {
        let asset = Asset {
            key: row.int(0)?,
            site: row.opt_uuid(2)?.map(SiteId::new),
        };
        assets.insert(asset.key, (AssetId::new(row.uuid(1)?), asset));
    }
    let keys: Vec<i64> = assets.keys().copied().collect();
    let rows = connection.latest_telemetry(&keys).await?;
    let latest = rows.iter().map(|row| {
        // The key stands behind the columns of the measurement.
        let (id, asset) = assets
            .get(&row.int(20)?)
            .ok_or_else(|| Fault::unreadable("a measurement is of no asset"))?;
        Ok(read(row, *id, *asset)?.1)
    });
    latest.collect()
}

pub(super) async fn history<C: Connection>(
    connection: &mut C,
    assets: &Assets,
    query: &TelemetryQuery,
) -> Result<Page<Telemetry>, Fault> {
    let range = page::range(List::Telemetry, &query.page)?;
    let Some(asset) = assets.find(connection, query.asset).await? else {
        return Ok(page::empty());
    };
    let (start, end) = (range.start, range.end);
    let statement = Statement::new(C::DIALECT, "select ")
        .push(COLUMNS)
        .push(" from ")
        .push(C::MEASUREMENTS)
        .push(" where asset = ")
        .bind(asset.key)
        .push(" and at >= ")
        .bind(start.at)
        // The first condition is the one for the index.
        .push(" and at <= ")
        .bind(end.at)
        .push(" and (at < ")
        .bind(end.at)
        .push(" or tie < ")
        .bind(saturated(end.serial))
        .push(") order by at desc, tie desc limit ")
        .bind(page::fetch(query.page.limit));
    let rows = connection.rows(statement).await?;
    let items = rows.iter().map(|row| read(row, query.asset, asset));
    let items: Vec<(Place, Telemetry)> = items.collect::<Result<_, Fault>>()?;
    Ok(page::cut(
        List::Telemetry,
        query.page.limit,
        items.into_iter(),
    ))
}

pub(super) async fn buckets<C: Connection>(
    connection: &mut C,
    assets: &Assets,
    query: &TelemetryQuery,
    step_s: u64,
) -> Result<Page<TelemetryBucket>, Fault> {
    let range = page::range(List::Buckets, &query.page)?;
    let Some(asset) = assets.find(connection, query.asset).await? else {
        return Ok(page::empty());
    };
    // Longer than the calendar, and short enough for the arithmetic of every database.
    let step_s = i64::try_from(step_s.clamp(1, 100_000_000_000)).unwrap_or(i64::MAX);
    let step = step_s.saturating_mul(1_000_000);
    let ranges = connection
        .ranges(range.start.at, range.end.at, step_s)
        .await?;
    let statement = Statement::new(C::DIALECT, "select bucket, cast(sum(count) as bigint)")
        .push(&joined("mw"))
        .push(&joined("soc_pct"))
        .push(" from (");
    let statement = parts::<C>(statement, asset.key, &ranges, step_s)
        .push(") parts group by bucket order by bucket desc limit ")
        .bind(page::fetch(query.page.limit));
    let rows = connection.rows(statement).await?;
    let items = rows.iter().map(|row| {
        let from = row.time(0)?;
        let bucket = TelemetryBucket {
            asset_id: query.asset,
            from,
            to: Timestamp::from_unix_micros(from.unix_micros().saturating_add(step)),
            count: row.counter(1)?,
            mw: aggregate(row, 2)?,
            soc_pct: aggregate(row, 6)?,
        };
        Ok((Place::at(from), bucket))
    });
    let items: Vec<(Place, TelemetryBucket)> = items.collect::<Result<_, Fault>>()?;
    Ok(page::cut(
        List::Buckets,
        query.page.limit,
        items.into_iter(),
    ))
}

/// What the buckets of a range are put together from, each part with its own sums.
fn parts<C: Connection>(
    mut statement: Statement,
    asset: i64,
    ranges: &Ranges,
    step_s: i64,
) -> Statement {
    let bucket = |statement: Statement, at| {
        let statement = statement.push("select ");
        C::bucket(statement, at, step_s, before_1970(step_s)).push(" as bucket, ")
    };
    let within = |statement: Statement, asset_column, at, (start, end): (Timestamp, Timestamp)| {
        statement
            .push(&format!(" where {asset_column} = "))
            .bind(asset)
            .push(&format!(" and {at} >= "))
            .bind(start)
            // A cursor is the start of a bucket, so the range ends where one does.
            .push(&format!(" and {at} < "))
            .bind(end)
    };
    for (index, range) in ranges.measured.iter().enumerate() {
        if index > 0 {
            statement = statement.push(" union all ");
        }
        statement = bucket(statement, "at")
            .push(&summary())
            .push(" from ")
            .push(C::MEASUREMENTS);
        statement = within(statement, "asset", "at", *range).push(" group by 1");
    }
    let Some(range) = ranges.summed_up else {
        return statement;
    };
    let columns = SUMMARY.join(", ");
    statement = bucket(statement.push(" union all "), "at")
        .push(&format!("{columns} from telemetry_rollup"));
    statement =
        within(statement, "asset", "at", range).push(" and not stale and count > 0 union all ");
    statement = bucket(statement, "r.at")
        .push(&summary())
        // With its offset it is asked for each row: with statistics of a time when many were stale,
        // all measurements of the asset would be read to join them.
        .push(" from telemetry_rollup r cross join lateral (select mw, soc_pct from telemetry ")
        .push("where asset = r.asset and at >= r.at and at < r.at + interval '15 minutes' ")
        .push("offset 0) t");
    within(statement, "r.asset", "r.at", range).push(" and r.stale group by 1")
}

/// The names of what [`summary`] gives.
pub(super) const SUMMARY: [&str; 9] = [
    "count",
    "mw_count",
    "mw_min",
    "mw_sum",
    "mw_max",
    "soc_pct_count",
    "soc_pct_min",
    "soc_pct_sum",
    "soc_pct_max",
];

/// Sums up measurements.
pub(super) fn summary() -> String {
    format!("count(*) as count{}{}", summed("mw"), summed("soc_pct"))
}

/// How many values a column has, the smallest, their sum, the largest. Values that no device
/// measures are cut for the sum: some databases fail where it is too large, or the mean too small.
fn summed(column: &str) -> String {
    format!(
        ", count({column}) as {column}_count, min({column}) as {column}_min, \
         sum(case when abs({column}) < 1e-300 then 0.0 when {column} > 1e300 then 1e300 \
         when {column} < -1e300 then -1e300 else {column} end) as {column}_sum, \
         max({column}) as {column}_max"
    )
}

/// The same of several sums, with the mean.
fn joined(column: &str) -> String {
    format!(
        ", cast(sum({column}_count) as bigint), min({column}_min), \
         sum({column}_sum) / sum({column}_count), max({column}_max)"
    )
}

/// How many seconds before 1970 the first of all buckets starts: a multiple of the step.
fn before_1970(step_s: i64) -> i64 {
    let first = Timestamp::MIN
        .unix_micros()
        .div_euclid(1_000_000)
        .div_euclid(step_s);
    first.saturating_mul(step_s).saturating_neg()
}

fn aggregate(row: &impl Row, first: usize) -> Result<Option<Aggregate>, Fault> {
    if row.int(first)? == 0 {
        return Ok(None);
    }
    Ok(Some(Aggregate {
        min: row.real(first + 1)?,
        mean: row.real(first + 2)?,
        max: row.real(first + 3)?,
    }))
}

fn read(row: &impl Row, id: AssetId, asset: Asset) -> Result<(Place, Telemetry), Fault> {
    let at = row.time(0)?;
    let place = Place {
        at,
        id: 0,
        serial: row.counter(1)?,
    };
    let site = row.opt_uuid(18)?.map(SiteId::new).or(asset.site);
    let power = |column| Ok::<_, Fault>(row.opt_real(column)?.map(Power::from_mw));
    let measurements = Measurements {
        quality: match row.opt_int(4)? {
            Some(code) => Quality::of(code)?,
            None => Quality::Good,
        },
        status: row.opt_int(5)?.map(super::codes::Code::of).transpose()?,
        mw: power(6)?,
        mvar: row.opt_real(7)?,
        voltage_v: row.opt_real(8)?,
        frequency_hz: row.opt_real(9)?,
        current_a: row.opt_real(10)?,
        soc_pct: row.opt_real(11)?,
        soh_pct: row.opt_real(12)?,
        energy_in_mwh: row.opt_real(13)?,
        energy_out_mwh: row.opt_real(14)?,
        available_charge_mw: power(15)?,
        available_discharge_mw: power(16)?,
        setpoint_mw: power(17)?,
        details: details(row.opt_json(19)?)?,
        control: None,
    };
    let telemetry = Telemetry {
        asset_id: id,
        site_id: site.ok_or_else(|| Fault::unreadable("a measurement is of no site"))?,
        measured_at: row.opt_time(3)?.unwrap_or(at),
        received_at: row.time(2)?,
        measurements,
    };
    Ok((place, telemetry))
}

fn details(json: Option<serde_json::Value>) -> Result<BTreeMap<String, Detail>, Fault> {
    match json {
        None => Ok(BTreeMap::new()),
        Some(json) => serde_json::from_value(json)
            .map_err(|error| Fault::unreadable(format!("details: {error}"))),
    }
}

/// The values of a measurement, in the order of [`COLUMNS`].
pub(super) fn values(measurements: &Measurements) -> [Option<f64>; 12] {
    let m = measurements;
    let power = |power: Option<Power>| power.map(Power::mw);
    [
        power(m.mw),
        m.mvar,
        m.voltage_v,
        m.frequency_hz,
        m.current_a,
        m.soc_pct,
        m.soh_pct,
        m.energy_in_mwh,
        m.energy_out_mwh,
        power(m.available_charge_mw),
        power(m.available_discharge_mw),
        power(m.setpoint_mw),
    ]
}

/// Details as JSON; `None` if there are none. A number that JSON does not know is left out.
pub(super) fn details_json(details: &BTreeMap<String, Detail>) -> Option<String> {
    let finite = |detail: &Detail| !matches!(detail, Detail::Number(n) if !n.is_finite());
    if details.values().all(finite) {
        return (!details.is_empty()).then(|| serde_json::to_string(details).ok())?;
    }
    let kept: BTreeMap<_, _> = details.iter().filter(|(_, value)| finite(value)).collect();
    (!kept.is_empty()).then(|| serde_json::to_string(&kept).ok())?
}

/// The number of a quality, unless it is good.
pub(super) fn quality(quality: Quality) -> Option<i64> {
    (quality != Quality::Good).then(|| quality.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_start_before_all_time_and_are_aligned_to_1970() {
        let all = -Timestamp::MIN.unix_micros() / 1_000_000;
        for step_s in [1, 60, 900, 86_400 * 365, 100_000_000_000] {
            let first = before_1970(step_s);
            assert!(
                first >= all && first % step_s == 0 && first - step_s < all,
                "{step_s}"
            );
        }
    }

    #[test]
    fn details_that_json_does_not_know_are_left_out() {
        let mut details = BTreeMap::new();
        assert_eq!(details_json(&details), None);
        details.insert("a".to_owned(), Detail::Number(f64::NAN));
        assert_eq!(details_json(&details), None);
        details.insert("b".to_owned(), Detail::Flag(true));
        assert_eq!(details_json(&details).as_deref(), Some(r#"{"b":true}"#));
    }
}
