//! The telemetry log as files: written at their end, deleted whole.
//!
//! Places are numbers that never start again: a log that goes on under another id keeps its places
//! and moves its base. Each frame carries all that is to be known of the log, so the newest whole
//! one is enough.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use derms_proto::link::{Gap, GapReason};
use prost::Message as _;

use super::frame::{self, HeaderFault, Kind};
use super::record::{self, Chunk, MendState};
use super::sync_dir;
use crate::clock::MonoTime;
use crate::state::{Fetched, Kept, Mend, RecoveredTelemetry, Shelved};

/// Samples that one look into the files gives.
const FETCH: usize = 1_024;
const SUFFIX: &str = "seg";

/// The bounds of the files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// All files together.
    pub(super) bytes: u64,
    pub(super) age: Duration,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    bytes: u64,
    /// The places of its samples; `last` below `first` if it has none.
    first: u64,
    last: u64,
    newest: MonoTime,
}

/// The telemetry files of a state directory.
#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    boot: String,
    base: u64,
    bounds: Bounds,
    /// Oldest first; the last one is written.
    segments: VecDeque<Segment>,
    /// `None` before the first write and after a failure: a new file is begun.
    active: Option<File>,
    next_name: u64,
    mark: u64,
}

/// What was found at the start, in places.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    floor: u64,
    mark: u64,
    gaps: Vec<Gap>,
    mends: Vec<Mend>,
    /// Runs of samples, in order.
    runs: Vec<(u64, u64)>,
    pub(super) samples: u64,
    /// Bytes that are no whole frame.
    pub(super) damaged: usize,
    pub(super) newer: Option<u16>,
}

impl Segments {
    /// Reads all files, one after the other.
    pub(super) fn open(
        dir: &Path,
        boot: &str,
        bounds: Bounds,
        now: MonoTime,
    ) -> io::Result<(Self, Scanned)> {
        fs::create_dir_all(dir)?;
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            let number = name.and_then(|name| u64::from_str_radix(name, 16).ok());
            if let (Some(number), Some(SUFFIX)) =
                (number, path.extension().and_then(|name| name.to_str()))
            {
                names.push((number, path));
            }
        }
        names.sort();
        let mut segments = Self {
            dir: dir.to_owned(),
            boot: boot.to_owned(),
            base: 0,
            bounds,
            segments: VecDeque::new(),
            active: None,
            next_name: names.last().map_or(1, |(number, _)| number + 1),
            mark: 0,
        };
        let mut scanned = Scanned::default();
        for (_, path) in names {
            let bytes = fs::read(&path)?;
            if let Err(HeaderFault::Newer(version)) = frame::check_header(&bytes, Kind::Telemetry) {
                scanned.newer = Some(version);
                continue;
            }
            let segment = segments.look_into(path, &bytes, now, &mut scanned);
            segments.segments.push_back(segment);
        }
        segments.mark = scanned.mark;
        Ok((segments, scanned))
    }

    fn look_into(
        &self,
        path: PathBuf,
        bytes: &[u8],
        now: MonoTime,
        found: &mut Scanned,
    ) -> Segment {
        // Frames tell themselves apart: a damaged header costs nothing.
        let headless = frame::check_header(bytes, Kind::Telemetry).is_err();
        let skip = if headless { 0 } else { frame::HEADER };
        let scan = frame::scan(bytes.get(skip..).unwrap_or_default());
        found.damaged += scan.damaged;
        let mut segment = Segment {
            path,
            bytes: bytes.len() as u64,
            first: u64::MAX,
            last: 0,
            newest: MonoTime::default(),
        };
        for chunk in scan.frames.into_iter().filter_map(Chunk::read) {
            found.floor = found.floor.max(chunk.floor);
            // The newest word: a clean stop takes back what was not used of it.
            found.mark = chunk.mark;
            found.gaps = chunk.gaps.iter().map(record::gap_in).collect();
            found.mends = chunk.mends.iter().map(|mend| mend.mend()).collect();
            // The clock of another boot tells no age: it counts from now on.
            let same = chunk.boot == self.boot && !self.boot.is_empty();
            let at = if same { record::mono(chunk.at) } else { now };
            segment.newest = segment.newest.max(at);
            if chunk.count > 0 {
                let last = chunk.first.saturating_add(chunk.count - 1);
                segment.first = segment.first.min(chunk.first);
                segment.last = segment.last.max(last);
                found.runs.push((chunk.first, last));
                found.samples += chunk.count;
            }
        }
        segment
    }

    /// The base of the log's numbers, from the ledger.
    pub(super) fn set_base(&mut self, base: u64) {
        self.base = base;
    }

    pub(super) fn rename(&mut self, by: u64) {
        self.base = self.base.saturating_add(by);
    }

    /// Writes samples and what is to be known; when this returns Ok, no power loss takes it back.
    pub(super) fn write(&mut self, shelved: Shelved) -> io::Result<Kept> {
        let base = self.base;
        let (floor, mark) = (shelved.floor + base, shelved.mark + base);
        let mut kept = Kept::default();
        if !shelved.samples.is_empty() || mark != self.mark || self.active.is_none() {
            let count = shelved.samples.len() as u64;
            let chunk = Chunk {
                floor,
                mark,
                at: record::nanos(shelved.now),
                gaps: shelved
                    .gaps
                    .iter()
                    .map(|gap| record::gap_out(gap, base))
                    .collect(),
                mends: shelved
                    .mends
                    .iter()
                    .map(|mend| MendState::new(mend, base))
                    .collect(),
                first: shelved.first + base,
                count,
                samples: record::samples_out(shelved.samples),
                boot: self.boot.clone(),
            };
            self.append(&chunk, shelved.now)?;
            self.mark = mark;
        }
        while self.segments.len() > 1 && self.front().is_some_and(|front| front.last < floor) {
            if !self.delete_front() {
                break;
            }
        }
        kept.dropped = self.drop_oldest(floor, shelved.now);
        // What could not be deleted waits for the next write.
        kept.oldest = self.oldest().filter(|oldest| oldest + base >= floor);
        Ok(kept)
    }

    /// The last number in the oldest file, if it may go when that is acknowledged.
    pub(super) fn oldest(&self) -> Option<u64> {
        let oldest = self.segments.front().filter(|_| self.segments.len() > 1);
        oldest.map(|segment| segment.last.saturating_sub(self.base))
    }

    fn append(&mut self, chunk: &Chunk, now: MonoTime) -> io::Result<()> {
        let mut bytes = Vec::new();
        let full = self
            .segments
            .back()
            .is_none_or(|segment| segment.bytes >= self.segment_bytes());
        let active = match self.active.take().filter(|_| !full) {
            Some(file) => file,
            None => {
                bytes.extend(frame::header(Kind::Telemetry));
                self.begin()?
            }
        };
        frame::put(&mut bytes, &chunk.encode_to_vec());
        let Some(segment) = self.segments.back_mut() else {
            return Err(io::Error::other("no file was begun"));
        };
        let fresh = segment.bytes == 0;
        let mut file = active;
        let written = file.write_all(&bytes).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // The next write begins a new file, whatever is left behind in this one.
            let _ = file.set_len(segment.bytes);
            if fresh {
                let _ = fs::remove_file(&segment.path);
                self.segments.pop_back();
            }
            return Err(error);
        }
        segment.bytes += bytes.len() as u64;
        segment.newest = now;
        if chunk.count > 0 {
            segment.first = segment.first.min(chunk.first);
            segment.last = segment.last.max(chunk.first + chunk.count - 1);
        }
        self.active = Some(file);
        if fresh {
            sync_dir(&self.dir)?;
        }
        Ok(())
    }

    fn begin(&mut self) -> io::Result<File> {
        let path = self.dir.join(format!("{:016x}.{SUFFIX}", self.next_name));
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(&path)?;
        self.next_name += 1;
        self.segments.push_back(Segment {
            path,
            bytes: 0,
            first: u64::MAX,
            last: 0,
            newest: MonoTime::default(),
        });
        Ok(file)
    }

    /// One file is what is dropped at a time when all are full.
    fn segment_bytes(&self) -> u64 {
        (self.bounds.bytes / 16).clamp(16 << 10, 512 << 10)
    }

    fn front(&self) -> Option<&Segment> {
        self.segments.front()
    }

    /// False if it stays; tried again with the next write.
    fn delete_front(&mut self) -> bool {
        let Some(front) = self.segments.front() else {
            return false;
        };
        if let Err(error) = fs::remove_file(&front.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %front.path.display(), %error, "can't delete a file of acknowledged or dropped samples");
            return false;
        }
        self.segments.pop_front();
        true
    }

    fn drop_oldest(&mut self, floor: u64, now: MonoTime) -> Option<Gap> {
        let mut dropped: Option<Gap> = None;
        loop {
            let total: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
            let Some(front) = self.front().filter(|_| self.segments.len() > 1) else {
                break;
            };
            let reason = if total > self.bounds.bytes {
                GapReason::OutboxFull
            } else if now.saturating_since(front.newest) > self.bounds.age {
                GapReason::TooOld
            } else {
                break;
            };
            let (first, last) = (front.first.max(floor), front.last);
            if !self.delete_front() {
                break;
            }
            if first <= last {
                let base = self.base;
                let gap = dropped.get_or_insert(Gap {
                    first_seq: first.saturating_sub(base),
                    last_seq: 0,
                    reason,
                });
                gap.last_seq = last.saturating_sub(base);
            }
        }
        dropped
    }

    /// Samples from number `from` on, up to below `to`.
    pub(super) fn fetch(&self, from: u64, to: u64) -> io::Result<Fetched> {
        let (mut at, to) = (from + self.base, to + self.base);
        let mut samples = VecDeque::new();
        for segment in &self.segments {
            if segment.last < at || segment.first >= to {
                continue;
            }
            let bytes = match fs::read(&segment.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                bytes => bytes?,
            };
            let headless = frame::check_header(&bytes, Kind::Telemetry).is_err();
            let skip = if headless { 0 } else { frame::HEADER };
            for frame in frame::scan(bytes.get(skip..).unwrap_or_default()).frames {
                let Some(chunk) = Chunk::read(frame) else {
                    continue;
                };
                if chunk.count == 0 || chunk.first + chunk.count <= at {
                    continue;
                }
                let Some(items) = record::samples_in(&chunk.samples) else {
                    continue;
                };
                for (place, item) in (chunk.first..).zip(items) {
                    if place >= at && place < to {
                        samples.push_back((place - self.base, item));
                        at = place + 1;
                    }
                }
                if samples.len() >= FETCH {
                    let until = at - self.base;
                    return Ok(Fetched { samples, until });
                }
            }
        }
        let until = to - self.base;
        Ok(Fetched { samples, until })
    }
}

impl Scanned {
    /// The floor, in places: what is below is acknowledged.
    pub(super) fn floor(&self) -> u64 {
        let held = self.runs.iter().map(|(first, _)| *first).min();
        self.floor
            .max(1)
            .max(held.filter(|_| self.floor == 0).unwrap_or(0))
    }

    /// In numbers of a log with this base. What is neither here nor declared is declared now.
    pub(super) fn recovered(&self, base: u64, oldest: Option<u64>) -> RecoveredTelemetry {
        let floor = self.floor().max(base + 1);
        let held = self.runs.iter().map(|(_, last)| *last).max().unwrap_or(0);
        let next = held.max(self.mark).max(floor - 1) + 1;
        let mut gaps: Vec<Gap> = Vec::new();
        let mut runs = self.runs.clone();
        runs.sort_unstable();
        runs.push((next, next));
        let mut at = floor;
        for (first, last) in runs {
            if first > at {
                self.declare(at, first - 1, &mut gaps);
            }
            at = at.max(last + 1);
        }
        let number = |place: u64| place.saturating_sub(base);
        for gap in &mut gaps {
            gap.first_seq = number(gap.first_seq);
            gap.last_seq = number(gap.last_seq);
        }
        let mends = self.mends.iter().filter(|mend| mend.last >= floor);
        let mends = mends.map(|mend| Mend {
            first: number(mend.first.max(floor)),
            last: number(mend.last),
            micros: mend.micros,
        });
        RecoveredTelemetry {
            floor: number(floor),
            next: number(next),
            mark: number(self.mark.max(floor - 1)),
            gaps,
            mends: mends.collect(),
            oldest,
        }
    }

    /// Places that are not here: for the reason that was given when they went, if there is one.
    fn declare(&self, first: u64, last: u64, gaps: &mut Vec<Gap>) {
        let mut at = first;
        for known in &self.gaps {
            if known.last_seq < at || known.first_seq > last {
                continue;
            }
            if known.first_seq > at {
                gaps.push(corrupt(at, known.first_seq - 1));
            }
            let gap = Gap {
                first_seq: known.first_seq.max(at),
                last_seq: known.last_seq.min(last),
                ..*known
            };
            at = gap.last_seq + 1;
            gaps.push(gap);
        }
        if at <= last {
            gaps.push(corrupt(at, last));
        }
    }
}

const fn corrupt(first_seq: u64, last_seq: u64) -> Gap {
    Gap {
        first_seq,
        last_seq,
        reason: GapReason::Corrupt,
    }
}
