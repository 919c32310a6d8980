//! The ledger: what is remembered of each asset, and the reports that are not acknowledged.
//!
//! It is written twice, into `ledger-a` and `ledger-b`, one after the other, so a power loss tears
//! one of them at most and a file that is damaged later is made good from the other. Only when
//! neither can be trusted is the agent one without memory. Both are written anew at each start and
//! when they have grown.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use derms_proto::AssetId;
use derms_proto::link::ReportEntry;
use prost::Message as _;

use super::frame::{self, HeaderFault, Kind};
use super::record::{self, AssetState, Identity, MAX_ITEMS, Step};
use super::sync_dir;
use crate::state::{Commit, Record};

const COPIES: [&str; 2] = ["ledger-a", "ledger-b"];
/// A file that is larger than this and four times what it must hold is written anew.
const GROWN: u64 = 128 << 10;

/// All that the ledger knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Known {
    pub(super) identity: Identity,
    pub(super) assets: BTreeMap<AssetId, Record>,
    /// The number of the first of `reports`.
    pub(super) first_report: u64,
    pub(super) reports: VecDeque<ReportEntry>,
    pub(super) last_epoch: u64,
}

/// What was found at the start.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing: the directory is new.
    Nothing,
    /// With the number of the last step.
    Whole(Known, u64),
    /// What could be read of a damaged ledger: revisions that were surely reached, reports that
    /// were surely made.
    Rest(Known, u64),
    Newer(u16),
}

/// An open ledger.
#[derive(Debug)]
pub(super) struct Ledger {
    dir: PathBuf,
    known: Known,
    index: u64,
    /// `None` after a failure: written anew the next time.
    files: Option<[File; 2]>,
    bytes: u64,
    /// Right after it was written anew.
    least: u64,
}

#[derive(Debug, Default)]
struct Copy {
    steps: Vec<Step>,
    /// How many of them come before the first damage.
    leading: usize,
    clean: bool,
}

impl Copy {
    fn last(&self) -> u64 {
        let last = self.leading.checked_sub(1);
        last.and_then(|last| self.steps.get(last))
            .map_or(0, |step| step.index)
    }

    fn known(&self) -> Known {
        let mut known = Known::default();
        for step in self.steps.iter().take(self.leading) {
            known.take(step.clone());
        }
        known
    }
}

/// Reads both copies.
pub(super) fn read(dir: &Path) -> io::Result<Found> {
    let mut copies = Vec::new();
    for name in COPIES {
        match fs::read(dir.join(name)) {
            Ok(bytes) => match frame::check_header(&bytes, Kind::Ledger) {
                Err(HeaderFault::Newer(version)) => return Ok(Found::Newer(version)),
                header => copies.push(parse(&bytes, header.is_ok())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    // The first start may have ended between the two; a step that both lack was never confirmed.
    let Some(best) = copies.iter().max_by_key(|copy| (copy.last(), copy.clean)) else {
        return Ok(Found::Nothing);
    };
    if best.clean && best.leading > 0 {
        return Ok(Found::Whole(best.known(), best.last()));
    }
    let steps = copies.iter().flat_map(|copy| &copy.steps);
    let last = steps.map(|step| step.index).max().unwrap_or(0);
    Ok(Found::Rest(salvage(&copies), last))
}

fn parse(bytes: &[u8], header: bool) -> Copy {
    let scan = frame::scan(bytes.get(frame::HEADER..).unwrap_or_default());
    let mut copy = Copy {
        clean: header && scan.damaged == 0,
        ..Copy::default()
    };
    for (number, payload) in scan.frames.into_iter().enumerate() {
        let Some(step) = Step::read(payload) else {
            copy.clean = false;
            continue;
        };
        let follows = match copy.steps.last() {
            None => step.identity.is_some(),
            Some(before) => step.index == before.index + 1,
        };
        if header && number < scan.leading && copy.leading == copy.steps.len() && follows {
            copy.leading += 1;
        } else {
            copy.clean = false;
        }
        copy.steps.push(step);
    }
    copy
}

/// The most that any step says; good for lower bounds, and for nothing else.
fn salvage(copies: &[Copy]) -> Known {
    let mut rest = Known::default();
    let mut steps: Vec<&Step> = copies.iter().flat_map(|copy| &copy.steps).collect();
    steps.sort_by_key(|step| step.index);
    let mut reports = BTreeMap::new();
    let mut unacked = 0;
    for step in steps {
        if let Some(identity) = &step.identity {
            rest.identity = identity.clone();
        }
        rest.last_epoch = rest.last_epoch.max(step.last_epoch);
        unacked = unacked.max(step.unacked_report);
        for state in &step.assets {
            if let Some(record) = state.clone().record() {
                let revision = rest.assets.get(&record.asset_id).map_or(0, |r| r.revision);
                if record.revision >= revision {
                    rest.assets.insert(record.asset_id, record);
                }
            }
        }
        for batch in &step.reports {
            let first = batch.first_seq;
            reports.extend((first..).zip(record::reports_in(batch.clone())));
        }
    }
    reports.retain(|number, _| *number >= unacked);
    rest.first_report = 1;
    rest.reports = reports.into_values().collect();
    rest
}

impl Known {
    fn take(&mut self, step: Step) {
        if let Some(identity) = step.identity {
            *self = Self {
                identity,
                first_report: step.unacked_report.max(1),
                ..Self::default()
            };
        }
        self.last_epoch = step.last_epoch;
        for state in step.assets {
            if let Some(record) = state.record() {
                self.assets.insert(record.asset_id, record);
            }
        }
        self.drop_reports(step.unacked_report);
        for batch in step.reports {
            let first = batch.first_seq;
            self.add_reports(first, record::reports_in(batch));
        }
    }

    fn next_report(&self) -> u64 {
        self.first_report + self.reports.len() as u64
    }

    fn add_reports(&mut self, first: u64, entries: impl IntoIterator<Item = ReportEntry>) {
        for (number, entry) in (first..).zip(entries) {
            if self.reports.is_empty() {
                self.first_report = self.first_report.max(number);
            }
            // Written once more after a failure.
            if number == self.next_report() {
                self.reports.push_back(entry);
            }
        }
    }

    fn drop_reports(&mut self, unacked: u64) {
        let gone = unacked.saturating_sub(self.first_report);
        let held = self.reports.len();
        self.reports
            .drain(..usize::try_from(gone).map_or(held, |gone| gone.min(held)));
        self.first_report += gone;
    }

    fn apply(&mut self, commit: &Commit) {
        if let Some((log, by)) = commit.renamed.telemetry {
            self.identity.telemetry_log = log.uuid().as_bytes().to_vec();
            self.identity.telemetry_base += by;
        }
        if let Some(log) = commit.renamed.reports {
            self.identity.report_log = log.uuid().as_bytes().to_vec();
            self.reports.clear();
            self.first_report = 1;
        }
        self.last_epoch = commit.last_epoch;
        for record in &commit.records {
            self.assets.insert(record.asset_id, record.clone());
        }
        // Some may have been acknowledged before they were ever written.
        self.drop_reports(commit.unacked_report);
        // Written again: times that were mended.
        while self.next_report() > commit.first_report.max(self.first_report) {
            self.reports.pop_back();
        }
        self.add_reports(commit.first_report, commit.reports.iter().cloned());
    }

    fn whole(&self, index: u64) -> Step {
        Step {
            index,
            identity: Some(self.identity.clone()),
            assets: self.assets.values().map(AssetState::from).collect(),
            reports: batches(self.first_report, self.reports.iter().cloned().collect()),
            unacked_report: self.first_report,
            last_epoch: self.last_epoch,
        }
    }
}

fn batches(mut first: u64, entries: Vec<ReportEntry>) -> Vec<derms_proto::pb::Report> {
    let mut entries = entries.into_iter().peekable();
    let mut batches = Vec::new();
    while entries.peek().is_some() {
        let some: Vec<_> = entries.by_ref().take(MAX_ITEMS).collect();
        let count = some.len() as u64;
        batches.push(record::reports_out(first, some));
        first += count;
    }
    batches
}

impl Ledger {
    /// Writes both copies anew with what is known.
    pub(super) fn create(dir: &Path, known: Known, index: u64) -> io::Result<Self> {
        let mut ledger = Self {
            dir: dir.to_owned(),
            known,
            index,
            files: None,
            bytes: 0,
            least: 0,
        };
        ledger.write_anew()?;
        Ok(ledger)
    }

    /// Writes a step; when this returns Ok, no power loss takes it back. After an error none of
    /// it may be acted upon; what is in memory is written with the next step.
    pub(super) fn commit(&mut self, commit: &Commit) -> io::Result<()> {
        let renamed = commit.renamed != Default::default();
        let mended = commit.first_report < self.known.next_report() && !commit.reports.is_empty();
        let grown = self.bytes > GROWN && self.bytes > 4 * self.least;
        if self.files.is_none() || renamed || mended || grown {
            let mut known = self.known.clone();
            known.apply(commit);
            let before = std::mem::replace(&mut self.known, known);
            let written = self.write_anew();
            if written.is_err() && !renamed {
                self.known = before;
            }
            return written;
        }
        let step = Step {
            index: self.index + 1,
            identity: None,
            assets: commit.records.iter().map(AssetState::from).collect(),
            reports: batches(commit.first_report, commit.reports.clone()),
            unacked_report: commit.unacked_report,
            last_epoch: commit.last_epoch,
        };
        let mut bytes = Vec::new();
        frame::put(&mut bytes, &step.encode_to_vec());
        let end = self.bytes;
        let Some(files) = &mut self.files else {
            return Err(io::Error::other("the ledger is not open"));
        };
        let appended = files.iter_mut().try_for_each(|file| {
            file.write_all(&bytes)?;
            file.sync_data()
        });
        match appended {
            Ok(()) => {
                self.index += 1;
                self.bytes += bytes.len() as u64;
                self.known.apply(commit);
                Ok(())
            }
            Err(error) => {
                // What was not confirmed must not be found later: it was refused.
                for file in files.iter() {
                    let _ = file.set_len(end).and_then(|()| file.sync_data());
                }
                self.files = None;
                Err(error)
            }
        }
    }

    /// Each copy replaces the old one whole; the other is whole meanwhile.
    fn write_anew(&mut self) -> io::Result<()> {
        self.files = None;
        let mut bytes = frame::header(Kind::Ledger).to_vec();
        frame::put(
            &mut bytes,
            &self.known.whole(self.index + 1).encode_to_vec(),
        );
        let mut files = Vec::new();
        for name in COPIES {
            let path = self.dir.join(name);
            let fresh = path.with_extension("new");
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .open(&fresh)?;
            let written = file.write_all(&bytes).and_then(|()| file.sync_all());
            if let Err(error) = written {
                let _ = fs::remove_file(&fresh);
                return Err(error);
            }
            fs::rename(&fresh, &path)?;
            sync_dir(&self.dir)?;
            files.push(file);
        }
        self.index += 1;
        self.bytes = bytes.len() as u64;
        self.least = self.bytes;
        self.files = files.try_into().ok();
        Ok(())
    }
}
