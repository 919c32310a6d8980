//! Histories to a file as CSV (RFC 4180), with the columns of the headend's own.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use csv::{Terminator, Writer, WriterBuilder};
use derms_client::proto::{AssetId, Timestamp};
use derms_client::{
    AuditHistoryQuery, DispatchHistoryQuery, HistoryQuery, PageRequest, TelemetryHistoryQuery,
};
use derms_program::Failure;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::{ExportArgs, Exported, Window};
use crate::connection::Session;
use crate::lists::{PAGE, within};
use crate::names::{Directory, Place};
use crate::{Outcome, fault, out};

const TELEMETRY: &[&str] = &[
    "asset_id",
    "site_id",
    "measured_at",
    "received_at",
    "quality",
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
    "status",
    "details",
];
const DISPATCHES: &[&str] = &[
    "id",
    "asset_id",
    "site_id",
    "mw",
    "duration_s",
    "ttl_s",
    "revision",
    "status",
    "in_doubt",
    "reason",
    "text",
    "applied_mw",
    "created_at",
    "expires_at",
    "principal",
    "cancel_requested_at",
    "cancelled_by",
    "start_at",
    "ramp_mw_per_min",
    "follow_up",
];
const SESSIONS: &[&str] = &[
    "agent_id",
    "instance_id",
    "epoch",
    "peer",
    "agent_version",
    "assets",
    "connected_at",
    "disconnected_at",
    "cause",
    "text",
];
const AUDIT: &[&str] = &[
    "id",
    "at",
    "principal",
    "peer",
    "action",
    "target",
    "status",
    "code",
    "detail",
];

pub(crate) async fn run(session: &Session, args: &ExportArgs) -> Outcome {
    let placed = args.asset.is_some() || args.site.is_some();
    if placed && !matches!(args.what, Exported::Telemetry | Exported::Dispatches) {
        let text = "--asset and --site go with telemetry and dispatches; leave them out";
        return Err(Failure::configuration(text).into());
    }
    let place = if placed || args.what == Exported::Telemetry {
        let directory = Directory::load(&session.client).await?;
        let place = directory.place(args.asset.as_deref(), args.site.as_deref())?;
        Some((directory, place))
    } else {
        None
    };
    let mut sheet = Sheet::create(&args.out, columns(args.what))?;
    let result = fill(session, args, place, &mut sheet).await;
    let rows = match result {
        Ok(()) => sheet.finish()?,
        Err(stop) => {
            sheet.discard();
            return Err(stop);
        }
    };
    if session.json {
        return out::json(&serde_json::json!({ "file": args.out, "rows": rows }));
    }
    let unit = if rows == 1 { "row" } else { "rows" };
    out::print(&format!(
        "{rows} {unit} in {}\n",
        crate::words::clean(&args.out.to_string_lossy())
    ))
}

fn columns(what: Exported) -> &'static [&'static str] {
    match what {
        Exported::Telemetry => TELEMETRY,
        Exported::Dispatches => DISPATCHES,
        Exported::Sessions => SESSIONS,
        Exported::Audit => AUDIT,
    }
}

async fn fill(
    session: &Session,
    args: &ExportArgs,
    place: Option<(Directory, Option<Place>)>,
    sheet: &mut Sheet,
) -> Outcome {
    let client = &session.client;
    let window = Window {
        from: args.from,
        // Else an export of a busy fleet could go on for as long as it measures.
        to: Some(args.to.unwrap_or_else(Timestamp::now)),
        limit: PAGE,
    };
    match args.what {
        Exported::Telemetry => {
            for asset in place
                .map(|(fleet, place)| assets(&fleet, place))
                .unwrap_or_default()
            {
                let query = within!(TelemetryHistoryQuery::new(), &window);
                sheet.take(client.telemetry_history(asset, query)).await?;
            }
            Ok(())
        }
        Exported::Dispatches => {
            let query = within!(DispatchHistoryQuery::new(), &window);
            let query = match place.and_then(|(_, place)| place) {
                Some(Place::Asset(asset)) => query.asset(asset),
                Some(Place::Site(site)) => query.site(site),
                None => query,
            };
            sheet.take(client.dispatch_history(query)).await
        }
        Exported::Sessions => {
            let query = within!(HistoryQuery::new(), &window);
            sheet.take(client.agents_history(query)).await
        }
        Exported::Audit => {
            let query = within!(AuditHistoryQuery::new(), &window);
            sheet.take(client.audit(query)).await
        }
    }
}

fn assets(fleet: &Directory, place: Option<Place>) -> Vec<AssetId> {
    let wanted = fleet
        .assets()
        .map(|it| &it.asset)
        .filter(|asset| match place {
            None => true,
            Some(Place::Asset(id)) => asset.id == id,
            Some(Place::Site(id)) => asset.site_id == id,
        });
    wanted.map(|asset| asset.id).collect()
}

/// A file that has another name until it is whole.
struct Sheet {
    path: PathBuf,
    part: PathBuf,
    columns: &'static [&'static str],
    writer: Writer<BufWriter<File>>,
    rows: ProgressBar,
}

impl Sheet {
    fn create(path: &Path, columns: &'static [&'static str]) -> Outcome<Self> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(|error| {
            let shown = part.display();
            Failure::start(format!("can't make {shown}: {error}; check --out"))
        })?;
        // RFC 4180 ends lines so.
        let mut writer = WriterBuilder::new()
            .terminator(Terminator::CRLF)
            .from_writer(BufWriter::new(file));
        let header = writer.write_record(columns.iter().map(|column| column.replace('.', "_")));
        header.map_err(|error| unwritable(&part, &error))?;
        let style = ProgressStyle::with_template("{spinner} {pos} rows, {per_sec}, {elapsed}")
            .map_err(|error| Failure::start(format!("can't show progress: {error}")))?;
        // Draws on stderr, and nothing if that is no terminal.
        let rows = ProgressBar::new_spinner().with_style(style);
        rows.enable_steady_tick(Duration::from_millis(200));
        Ok(Self {
            path: path.to_owned(),
            part,
            columns,
            writer,
            rows,
        })
    }

    /// Writes all items of a list, page after page.
    async fn take<T>(&mut self, list: PageRequest<T>) -> Outcome
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let mut items = list.items();
        while let Some(item) = items.next().await {
            let item = item.map_err(|error| fault::of(&error))?;
            let record = record(&item, self.columns);
            let record = record.map_err(|error| unwritable(&self.part, &error))?;
            let written = self.writer.write_record(record);
            written.map_err(|error| unwritable(&self.part, &error))?;
            self.rows.inc(1);
        }
        Ok(())
    }

    /// Gives it its name, once all of it is on the disk; tells how many rows it has.
    fn finish(self) -> Outcome<u64> {
        self.rows.finish_and_clear();
        let file = self.writer.into_inner();
        let file = file.map_err(|error| unwritable(&self.part, &error))?;
        let file = file.into_inner();
        let synced = file
            .map_err(std::io::Error::from)
            .and_then(|file| file.sync_all());
        let named = synced.and_then(|()| std::fs::rename(&self.part, &self.path));
        named.map_err(|error| unwritable(&self.part, &error))?;
        Ok(self.rows.position())
    }

    /// Removes what there is of it.
    fn discard(self) {
        self.rows.finish_and_clear();
        // Its name says that it is a part, so one that can't be removed misleads nobody.
        let _ = std::fs::remove_file(&self.part);
    }
}

fn unwritable(path: &Path, error: &dyn std::error::Error) -> Failure {
    let shown = path.display();
    Failure::start(format!("can't write {shown}: {error}; check the disk"))
}

fn record(item: &impl Serialize, columns: &[&str]) -> Result<Vec<String>, serde_json::Error> {
    let item = serde_json::to_value(item)?;
    Ok(columns.iter().map(|column| cell(&item[*column])).collect())
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        // A spreadsheet would run a text of an agent or a client that begins like a formula.
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => {
            format!("'{text}")
        }
        Value::String(text) => text.clone(),
        Value::Object(map) if map.is_empty() => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_absent_is_empty_and_a_formula_is_text() {
        let item = json!({ "a": null, "b": "=1+1", "c": 0.5, "d": {}, "e": ["x"] });
        let record = record(&item, &["a", "b", "c", "d", "e", "f"]).unwrap();
        assert_eq!(record, ["", "'=1+1", "0.5", "", "[\"x\"]", ""]);
    }
}
