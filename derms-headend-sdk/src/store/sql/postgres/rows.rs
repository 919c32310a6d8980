//! Measurements go in as one array a column.
//!
//! Not by `COPY`: that takes two writes with no answer between them, and on a socket with Nagle's
//! algorithm, which sqlx leaves on, the second one waits 40 ms for the first to be acknowledged.

use std::collections::BTreeMap;

use derms_proto::Detail;
use sqlx::Executor as _;
use uuid::Uuid;

use super::super::codes::Code as _;
use super::super::connection::TelemetryRow;
use super::super::fault::Fault;
use super::super::telemetry::{details_json, quality, values};
use super::super::value::without_nul;
use super::PostgresConnection;
use super::time::Time;

const INSERT: &str = "insert into telemetry (at, received_at, measured_at, asset, tie, status, \
    quality, site_id, details, mw, mvar, voltage_v, frequency_hz, current_a, soc_pct, soh_pct, \
    energy_in_mwh, energy_out_mwh, available_charge_mw, available_discharge_mw, setpoint_mw) \
    select at, received_at, measured_at, asset, tie, status, quality, site_id, details::jsonb, \
    v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12 from unnest($1, $2, $3, $4, $5, $6, $7, $8, \
    $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21) as new (at, received_at, \
    measured_at, asset, tie, status, quality, site_id, details, v1, v2, v3, v4, v5, v6, v7, v8, \
    v9, v10, v11, v12)";

pub(super) async fn insert(
    connection: &mut PostgresConnection,
    rows: &[TelemetryRow<'_>],
) -> Result<(), Fault> {
    let measurements = || rows.iter().map(|row| &row.telemetry.measurements);
    let at: Vec<Time> = rows.iter().map(|row| Time(row.at)).collect();
    let received: Vec<Time> = rows
        .iter()
        .map(|row| Time(row.telemetry.received_at))
        .collect();
    let measured = rows.iter().map(|row| {
        let measured = row.telemetry.measured_at;
        (measured != row.at).then_some(Time(measured))
    });
    // The numbers come out of columns of these sizes, or are bounded by them.
    let assets = rows
        .iter()
        .map(|row| i32::try_from(row.asset).unwrap_or(-1));
    let ties = rows.iter().map(|row| short(i64::from(row.tie)));
    let status = measurements().map(|m| m.status.map(|status| short(status.code())));
    let qualities = measurements().map(|m| quality(m.quality).map(short));
    let sites = rows.iter().map(|row| row.site.map(|site| site.uuid()));
    let details =
        measurements().map(|m| details_json(&m.details).map(|json| clean(json, &m.details)));
    let mut columns: [Vec<Option<f64>>; 12] =
        std::array::from_fn(|_| Vec::with_capacity(rows.len()));
    for row in measurements() {
        for (column, value) in columns.iter_mut().zip(values(row)) {
            column.push(value);
        }
    }
    let mut query = sqlx::query(INSERT)
        .bind(at)
        .bind(received)
        .bind(measured.collect::<Vec<Option<Time>>>())
        .bind(assets.collect::<Vec<i32>>())
        .bind(ties.collect::<Vec<i16>>())
        .bind(status.collect::<Vec<Option<i16>>>())
        .bind(qualities.collect::<Vec<Option<i16>>>())
        .bind(sites.collect::<Vec<Option<Uuid>>>())
        .bind(details.collect::<Vec<Option<String>>>());
    for column in columns {
        query = query.bind(column);
    }
    connection.connection.execute(query).await?;
    Ok(())
}

fn short(value: i64) -> i16 {
    i16::try_from(value).unwrap_or(i16::MAX)
}

/// JSON in PostgreSQL has no NUL, not even a written one.
fn clean(json: String, details: &BTreeMap<String, Detail>) -> String {
    if !json.contains("\\u0000") {
        return json;
    }
    let details = details.iter().map(|(name, value)| {
        let value = match value {
            Detail::Text(text) => Detail::Text(without_nul(text)),
            other => other.clone(),
        };
        (without_nul(name), value)
    });
    details_json(&details.collect()).unwrap_or_else(|| "{}".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_nul_is_replaced_and_a_backslash_is_left() {
        let of = |text: &str| {
            let details = BTreeMap::from([(text.to_owned(), Detail::Text(text.to_owned()))]);
            clean(details_json(&details).unwrap(), &details)
        };
        assert_eq!(of("a\0"), "{\"a\u{fffd}\":\"a\u{fffd}\"}");
        assert_eq!(of("\\u0000"), r#"{"\\u0000":"\\u0000"}"#);
    }
}
