//! Measurements go in with many rows a statement, and only the columns that hold something.

use derms_proto::Telemetry;
use sqlx::Arguments as _;
use sqlx::error::BoxDynError;
use sqlx::sqlite::SqliteArguments;
use tokio::task::consume_budget;
use uuid::Uuid;

use super::super::codes::Code as _;
use super::super::connection::TelemetryRow;
use super::super::fault::Fault;
use super::super::telemetry::{details_json, quality, values};
use super::connection::SqliteConnection;

/// Where rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// To their place.
    Telemetry,
    /// To a segment of those that wait.
    Recent(i64),
}

/// Rows in a statement, largest first; few, so that each is prepared once.
const PORTIONS: [usize; 3] = [256, 16, 1];

/// Columns that every row has.
const ALWAYS: [&str; 4] = ["asset", "at", "tie", "received_at"];

/// Columns that may be empty, in the order of [`Cells`].
const OPTIONAL: [&str; 17] = [
    "measured_at",
    "quality",
    "status",
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
    "site_id",
    "details",
];

/// A row as it is stored.
#[derive(Debug)]
struct Cells {
    always: [i64; 4],
    ints: [Option<i64>; 3],
    reals: [Option<f64>; 12],
    site: Option<Uuid>,
    details: Option<String>,
}

impl Cells {
    fn of(row: &TelemetryRow<'_>) -> Self {
        let Telemetry {
            measured_at,
            received_at,
            measurements,
            ..
        } = row.telemetry;
        let measured = Some(measured_at).filter(|measured| **measured != row.at);
        Self {
            always: [
                row.asset,
                row.at.unix_micros(),
                i64::from(row.tie),
                received_at.unix_micros(),
            ],
            ints: [
                measured.map(|at| at.unix_micros()),
                quality(measurements.quality),
                measurements.status.map(|status| status.code()),
            ],
            reals: values(measurements),
            site: row.site.map(|site| site.uuid()),
            details: details_json(&measurements.details),
        }
    }

    /// Which of the optional columns it needs.
    fn needed(&self) -> [bool; 17] {
        let mut needed = [false; 17];
        let ints = self.ints.iter().map(Option::is_some);
        let reals = self.reals.iter().map(Option::is_some);
        let rest = [self.site.is_some(), self.details.is_some()];
        for (slot, is) in needed.iter_mut().zip(ints.chain(reals).chain(rest)) {
            *slot = is;
        }
        needed
    }

    fn bind(
        self,
        args: &mut SqliteArguments,
        segment: Option<i64>,
        columns: &[bool; 17],
    ) -> Result<(), BoxDynError> {
        if let Some(segment) = segment {
            args.add(segment)?;
        }
        for value in self.always {
            args.add(value)?;
        }
        let mut wanted = columns.iter();
        let mut is_wanted = || wanted.next().is_some_and(|wanted| *wanted);
        for value in self.ints {
            if is_wanted() {
                args.add(value)?;
            }
        }
        for value in self.reals {
            if is_wanted() {
                args.add(value)?;
            }
        }
        if is_wanted() {
            args.add(self.site)?;
        }
        if is_wanted() {
            args.add(self.details)?;
        }
        Ok(())
    }
}

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    table: Table,
    rows: &[TelemetryRow<'_>],
) -> Result<(), Fault> {
    let mut columns = [false; 17];
    let mut cells = Vec::with_capacity(rows.len());
    for row in rows {
        consume_budget().await;
        let row = Cells::of(row);
        for (column, needed) in columns.iter_mut().zip(row.needed()) {
            *column |= needed;
        }
        cells.push(row);
    }
    let segment = match table {
        Table::Telemetry => None,
        Table::Recent(segment) => Some(segment),
    };
    let names = names(segment.is_some(), &columns);
    let mut cells = cells.into_iter();
    for size in PORTIONS {
        let mut sql = String::new();
        while cells.len() >= size {
            if sql.is_empty() {
                sql = text(table, &names, size);
            }
            let mut args = SqliteArguments::default();
            args.reserve(size * names.len(), 0);
            for row in cells.by_ref().take(size) {
                row.bind(&mut args, segment, &columns)
                    .map_err(sqlx::Error::Encode)?;
            }
            connection.insert(sql.clone(), args).await?;
        }
    }
    Ok(())
}

fn names(segment: bool, columns: &[bool; 17]) -> Vec<&'static str> {
    let optional = OPTIONAL.into_iter().zip(columns);
    let optional = optional.filter_map(|(name, wanted)| wanted.then_some(name));
    let segment = segment.then_some("segment");
    segment.into_iter().chain(ALWAYS).chain(optional).collect()
}

fn text(table: Table, names: &[&str], rows: usize) -> String {
    let table = match table {
        Table::Telemetry => "telemetry",
        Table::Recent(_) => "telemetry_recent",
    };
    let row = format!("({})", vec!["?"; names.len()].join(","));
    let rows = vec![row; rows].join(",");
    format!("insert into {table} ({}) values {rows}", names.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_names_the_columns_that_hold_something_and_no_others() {
        let mut columns = [false; 17];
        (columns[3], columns[16]) = (true, true);
        assert_eq!(
            text(Table::Telemetry, &names(false, &columns), 2),
            "insert into telemetry (asset,at,tie,received_at,mw,details) \
             values (?,?,?,?,?,?),(?,?,?,?,?,?)"
        );
        assert_eq!(
            text(Table::Recent(7), &names(true, &[false; 17]), 1),
            "insert into telemetry_recent (segment,asset,at,tie,received_at) values (?,?,?,?,?)"
        );
    }
}
