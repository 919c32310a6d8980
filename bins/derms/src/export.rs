//! Histories to a file as CSV (RFC 4180), as the headend writes it.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use csv::{Reader, StringRecord, Terminator, Writer, WriterBuilder};
use derms_client::proto::{AssetId, Timestamp};
use derms_client::{
    AuditHistoryQuery, DispatchHistoryQuery, EventHistoryQuery, HistoryQuery, PageRequest,
    TelemetryHistoryQuery,
};
use derms_program::Failure;
use indicatif::{ProgressBar, ProgressStyle};
use serde::de::DeserializeOwned;

use crate::args::{ExportArgs, Exported, Window};
use crate::connection::Session;
use crate::lists::{PAGE, at, within};
use crate::names::{Directory, Place};
use crate::{Outcome, fault, out};

pub(crate) async fn run(session: &Session, args: &ExportArgs) -> Outcome {
    let placed = args.asset.is_some() || args.site.is_some();
    if placed && matches!(args.what, Exported::Sessions | Exported::Audit) {
        let text = "--asset and --site go with telemetry, dispatches and events; leave them out";
        return Err(Failure::configuration(text).into());
    }
    let placed = if placed || args.what == Exported::Telemetry {
        let directory = Directory::load(&session.client).await?;
        let place = directory.place(args.asset.as_deref(), args.site.as_deref())?;
        Some((directory, place))
    } else {
        None
    };
    let mut sheet = Sheet::create(&args.out)?;
    let result = fill(session, args, placed, &mut sheet).await;
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

async fn fill(
    session: &Session,
    args: &ExportArgs,
    placed: Option<(Directory, Option<Place>)>,
    sheet: &mut Sheet,
) -> Outcome {
    let client = &session.client;
    let window = Window {
        from: args.from,
        // Else an export of a busy fleet could go on for as long as it measures.
        to: Some(args.to.unwrap_or_else(Timestamp::now)),
        limit: PAGE,
    };
    let place = placed.as_ref().and_then(|(_, place)| *place);
    match args.what {
        Exported::Telemetry => {
            for asset in placed
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
            sheet.take(client.dispatch_history(at!(query, place))).await
        }
        Exported::Events => {
            let query = within!(EventHistoryQuery::new(), &window);
            sheet.take(client.events(at!(query, place))).await
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
    writer: Writer<BufWriter<File>>,
    /// The first line; `None` before the first page.
    columns: Option<StringRecord>,
    rows: ProgressBar,
}

impl Sheet {
    fn create(path: &Path) -> Outcome<Self> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(|error| {
            let shown = part.display();
            Failure::start(format!("can't make {shown}: {error}; check --out"))
        })?;
        // RFC 4180 ends lines so.
        let writer = WriterBuilder::new()
            .terminator(Terminator::CRLF)
            .from_writer(BufWriter::new(file));
        let style = ProgressStyle::with_template("{spinner} {pos} rows, {per_sec}, {elapsed}")
            .map_err(|error| Failure::start(format!("can't show progress: {error}")))?;
        // Draws on stderr, and nothing if that is no terminal.
        let rows = ProgressBar::new_spinner().with_style(style);
        rows.enable_steady_tick(Duration::from_millis(200));
        Ok(Self {
            path: path.to_owned(),
            part,
            writer,
            columns: None,
            rows,
        })
    }

    /// Writes all rows of a list, page after page, under one line of names.
    async fn take<T>(&mut self, list: PageRequest<T>) -> Outcome
    where
        T: DeserializeOwned + Send + 'static,
    {
        let mut pages = list.csv();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| fault::of(&error))?;
            let mut page = Reader::from_reader(page.as_bytes());
            let columns = page.headers().map_err(|error| unreadable(&error))?;
            match &self.columns {
                None => {
                    self.columns = Some(columns.clone());
                    let columns = columns.clone();
                    self.write(&columns)?;
                }
                Some(first) if first == columns => {}
                Some(_) => return Err(unreadable(&"its columns have changed in between").into()),
            }
            for row in page.into_records() {
                self.write(&row.map_err(|error| unreadable(&error))?)?;
                self.rows.inc(1);
            }
        }
        Ok(())
    }

    fn write(&mut self, row: &StringRecord) -> Outcome {
        let written = self.writer.write_record(row);
        Ok(written.map_err(|error| unwritable(&self.part, &error))?)
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

fn unreadable(error: &dyn std::fmt::Display) -> Failure {
    let text = format!("the headend's CSV can't be read: {error}; export again");
    Failure::new(fault::UNREACHABLE, text)
}

fn unwritable(path: &Path, error: &dyn std::error::Error) -> Failure {
    let shown = path.display();
    Failure::start(format!("can't write {shown}: {error}; check the disk"))
}
