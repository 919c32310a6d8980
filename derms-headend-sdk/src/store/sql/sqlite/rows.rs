//! Measurements go in with many rows a statement.

use sqlx::Arguments as _;
use sqlx::sqlite::SqliteArguments;

use super::super::codes::Code as _;
use super::super::connection::TelemetryRow;
use super::super::fault::Fault;
use super::super::telemetry::{details_json, quality, values};
use super::connection::SqliteConnection;

/// Rows in a statement, largest first; few, so that each is prepared once.
const PORTIONS: [usize; 3] = [256, 16, 1];

const INSERT: &str = "insert into telemetry (asset, at, tie, received_at, measured_at, quality, \
    status, mw, mvar, voltage_v, frequency_hz, current_a, soc_pct, soh_pct, energy_in_mwh, \
    energy_out_mwh, available_charge_mw, available_discharge_mw, setpoint_mw, site_id, details) \
    values ";
const ROW: &str = "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    mut rows: &[TelemetryRow<'_>],
) -> Result<(), Fault> {
    for size in PORTIONS {
        let mut sql = String::new();
        while let Some((portion, rest)) = rows.split_at_checked(size) {
            if sql.is_empty() {
                sql = format!("{INSERT}{}", vec![ROW; size].join(","));
            }
            let mut args = SqliteArguments::default();
            args.reserve(size * 21, 0);
            for row in portion {
                add(&mut args, row).map_err(sqlx::Error::Encode)?;
            }
            connection.insert(sql.clone(), args).await?;
            rows = rest;
        }
    }
    Ok(())
}

fn add(args: &mut SqliteArguments, row: &TelemetryRow<'_>) -> Result<(), sqlx::error::BoxDynError> {
    let telemetry = row.telemetry;
    let measured = Some(telemetry.measured_at).filter(|measured| *measured != row.at);
    args.add(row.asset)?;
    args.add(row.at.unix_micros())?;
    args.add(i64::from(row.tie))?;
    args.add(telemetry.received_at.unix_micros())?;
    args.add(measured.map(|at| at.unix_micros()))?;
    args.add(quality(telemetry.measurements.quality))?;
    args.add(telemetry.measurements.status.map(|status| status.code()))?;
    for value in values(&telemetry.measurements) {
        args.add(value)?;
    }
    args.add(row.site.map(|site| site.uuid()))?;
    args.add(details_json(&telemetry.measurements.details))
}
