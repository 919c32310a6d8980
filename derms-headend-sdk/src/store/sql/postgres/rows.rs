//! Measurements go in as one array a column.
//!
//! Not by `COPY`: that takes two writes with no answer between them, and on a socket with Nagle's
//! algorithm, which sqlx leaves on, the second one waits 40 ms for the first to be acknowledged.

use std::collections::BTreeMap;

use derms_proto::Detail;
use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Executor as _, Postgres, Type};
use tokio::task::yield_now;

use super::super::codes::Code as _;
use super::super::connection::TelemetryRow;
use super::super::fault::Fault;
use super::super::telemetry::{details_json, quality, values};
use super::super::value::without_nul;
use super::PostgresConnection;
use super::time::Time;

/// The columns of values, in the order of [`values`].
const VALUES: [&str; 12] = [
    "mw",
    "mvar",
    "voltage_v",
    "frequency_hz",
    "current_a",
    "soc_pct",
    "soh_pct",
    "energy_in_mwh",
    "energy_out_mwh",
    "available_charge_mw",
    "available_discharge_mw",
    "setpoint_mw",
];

/// The columns that hold something, and their arrays: what a fleet does not measure costs nothing.
#[derive(Default)]
struct Columns {
    names: Vec<&'static str>,
    arrays: PgArguments,
}

impl Columns {
    fn add<T>(&mut self, name: &'static str, array: Vec<T>) -> Result<(), Fault>
    where
        for<'q> Vec<T>: Encode<'q, Postgres> + Type<Postgres>,
    {
        self.names.push(name);
        let added = self.arrays.add(array).map_err(sqlx::Error::Encode);
        Ok(added?)
    }

    fn add_if_any<T>(&mut self, name: &'static str, array: Vec<Option<T>>) -> Result<(), Fault>
    where
        for<'q> Vec<Option<T>>: Encode<'q, Postgres> + Type<Postgres>,
    {
        if array.iter().all(Option::is_none) {
            return Ok(());
        }
        self.add(name, array)
    }

    fn sql(&self) -> String {
        let names = self.names.join(", ");
        let placeholders: Vec<String> = (1..=self.names.len()).map(|n| format!("${n}")).collect();
        let selected = names.replace("details", "details::jsonb");
        format!(
            "insert into telemetry ({names}) select {selected} from unnest({}) as new ({names})",
            placeholders.join(", ")
        )
    }
}

pub(super) async fn insert(
    connection: &mut PostgresConnection,
    rows: &[TelemetryRow<'_>],
) -> Result<(), Fault> {
    // By asset and time, as the index has them.
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| (row.asset, row.at, row.tie));
    yield_now().await;
    let columns = columns(&rows).await?;
    let query = sqlx::query_with(AssertSqlSafe(columns.sql()), columns.arrays);
    connection.connection.execute(query).await?;
    Ok(())
}

/// Between two columns what is received has its turn.
async fn columns(rows: &[TelemetryRow<'_>]) -> Result<Columns, Fault> {
    let mut columns = Columns::default();
    let measured = rows.iter().map(|row| {
        let measured = row.telemetry.measured_at;
        (measured != row.at).then_some(Time(measured))
    });
    let received = rows.iter().map(|row| Time(row.telemetry.received_at));
    columns.add("at", rows.iter().map(|row| Time(row.at)).collect())?;
    columns.add("received_at", received.collect())?;
    columns.add_if_any("measured_at", measured.collect())?;
    // The numbers come out of columns of these sizes, or are bounded by them.
    let assets = rows
        .iter()
        .map(|row| i32::try_from(row.asset).unwrap_or(-1));
    let ties = rows.iter().map(|row| short(i64::from(row.tie)));
    columns.add("asset", assets.collect())?;
    columns.add("tie", ties.collect())?;
    yield_now().await;
    let all = || rows.iter().map(|row| &row.telemetry.measurements);
    let status = all().map(|m| m.status.map(|status| short(status.code())));
    let details = all().map(|m| details_json(&m.details).map(|json| clean(json, &m.details)));
    let sites = rows.iter().map(|row| row.site.map(|site| site.uuid()));
    columns.add_if_any("status", status.collect())?;
    columns.add_if_any(
        "quality",
        all().map(|m| quality(m.quality).map(short)).collect(),
    )?;
    columns.add_if_any("site_id", sites.collect())?;
    columns.add_if_any("details", details.collect())?;
    yield_now().await;
    let mut arrays: [Vec<Option<f64>>; 12] =
        std::array::from_fn(|_| Vec::with_capacity(rows.len()));
    for measurements in all() {
        for (array, value) in arrays.iter_mut().zip(values(measurements)) {
            array.push(value);
        }
    }
    for (name, array) in VALUES.into_iter().zip(arrays) {
        yield_now().await;
        columns.add_if_any(name, array)?;
    }
    Ok(columns)
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
