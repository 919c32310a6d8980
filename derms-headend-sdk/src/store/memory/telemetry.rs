//! Measurements, gaps and heartbeats.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;

use derms_proto::link::Gap;
use derms_proto::{
    AgentId, Aggregate, AssetId, Heartbeat, LogId, Page, Telemetry, TelemetryBucket, Timestamp,
};

use super::super::page::{self, List, Place};
use super::super::{HistoryQuery, StoreError, TelemetryAppend, TelemetryQuery, time_of};
use super::logs::Logs;

const GAPS_PER_AGENT: usize = 256;
const HEARTBEATS_PER_ASSET: usize = 256;
const HEARTBEATS: usize = 256_000;

#[derive(Debug)]
pub(super) struct TelemetryTables {
    per_asset: usize,
    in_all: usize,
    by_asset: HashMap<AssetId, Rows>,
    pub(super) logs: Logs,
    gaps: HashMap<AgentId, VecDeque<(Timestamp, LogId, Gap)>>,
    /// Tells apart measurements of one time.
    serial: u64,
}

/// The measurements of one asset, oldest first. A ring: nearly all come in their order, and each
/// pushes out the oldest, where a tree would move its neighbours about.
#[derive(Debug, Default)]
struct Rows(VecDeque<(Place, Telemetry)>);

impl Rows {
    fn insert(&mut self, place: Place, telemetry: &Telemetry) {
        let row = (place, telemetry.clone());
        if self.0.back().is_none_or(|(last, _)| *last < place) {
            self.0.push_back(row);
        } else {
            self.0
                .insert(self.0.partition_point(|(at, _)| *at < place), row);
        }
    }

    fn range(&self, range: &Range<Place>) -> impl DoubleEndedIterator<Item = &(Place, Telemetry)> {
        let start = self.0.partition_point(|(at, _)| *at < range.start);
        let end = self.0.partition_point(|(at, _)| *at < range.end);
        self.0.range(start..end.max(start))
    }
}

impl TelemetryTables {
    pub(super) fn new(per_asset: usize, in_all: usize) -> Self {
        Self {
            per_asset,
            in_all,
            by_asset: HashMap::new(),
            logs: Logs::default(),
            gaps: HashMap::new(),
            serial: 0,
        }
    }

    pub(super) fn set_per_asset(&mut self, samples: usize) {
        self.per_asset = samples.max(1);
    }

    pub(super) fn append(&mut self, appends: &[TelemetryAppend]) {
        for append in appends {
            let settled = self.logs.move_to(append.agent, append.log, append.next_seq);
            for (seq, telemetry) in &append.samples {
                if *seq >= settled {
                    self.insert(telemetry);
                }
            }
            for gap in append.gaps.iter().filter(|gap| gap.last_seq >= settled) {
                let gaps = self.gaps.entry(append.agent).or_default();
                let rest = Gap {
                    first_seq: gap.first_seq.max(settled),
                    ..*gap
                };
                gaps.push_back((Timestamp::now(), append.log, rest));
                if gaps.len() > GAPS_PER_AGENT {
                    gaps.pop_front();
                }
            }
        }
    }

    fn insert(&mut self, telemetry: &Telemetry) {
        self.serial += 1;
        let place = Place {
            serial: self.serial,
            ..Place::at(time_of(telemetry))
        };
        let assets = self.by_asset.len();
        let rows = self.by_asset.entry(telemetry.asset_id).or_default();
        let assets = if rows.0.is_empty() {
            assets + 1
        } else {
            assets
        };
        rows.insert(place, telemetry);
        let keep = share(self.per_asset, self.in_all, assets);
        while rows.0.len() > keep {
            rows.0.pop_front();
        }
    }

    /// How many measurements and gaps are forgotten.
    pub(super) fn prune(&mut self, before: Timestamp) -> (u64, u64) {
        let (mut samples, mut gaps) = (0, 0);
        for rows in self.by_asset.values_mut() {
            let old = rows.0.partition_point(|(place, _)| place.at < before);
            samples += rows.0.drain(..old).len() as u64;
        }
        for declared in self.gaps.values_mut() {
            let all = declared.len();
            declared.retain(|(at, ..)| *at >= before);
            gaps += (all - declared.len()) as u64;
        }
        (samples, gaps)
    }

    pub(super) fn latest(&self) -> Vec<Telemetry> {
        let newest = self.by_asset.values().filter_map(|rows| rows.0.back());
        newest.map(|(_, row)| row.clone()).collect()
    }

    pub(super) fn history(&self, query: &TelemetryQuery) -> Result<Page<Telemetry>, StoreError> {
        let range = page::range(List::Telemetry, &query.page)?;
        let rows = self.by_asset.get(&query.asset).into_iter();
        let rows = rows.flat_map(|rows| rows.range(&range).rev());
        let rows = rows.map(|(place, row)| (*place, row.clone()));
        Ok(page::cut(List::Telemetry, query.page.limit, rows))
    }

    pub(super) fn buckets(
        &self,
        query: &TelemetryQuery,
        step_s: u64,
    ) -> Result<Page<TelemetryBucket>, StoreError> {
        let range = page::range(List::Buckets, &query.page)?;
        let step = i64::try_from(step_s.max(1).saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        let mut buckets: BTreeMap<i64, Vec<&Telemetry>> = BTreeMap::new();
        let rows = self.by_asset.get(&query.asset).into_iter();
        // A cursor is the start of a bucket, so the range ends where one does.
        for (place, row) in rows.flat_map(|rows| rows.range(&range)) {
            let number = place.at.unix_micros().div_euclid(step);
            buckets.entry(number).or_default().push(row);
        }
        let buckets = buckets.into_iter().rev().map(|(number, rows)| {
            let from = Timestamp::from_unix_micros(number.saturating_mul(step));
            let to = number.saturating_add(1).saturating_mul(step);
            let bucket = TelemetryBucket {
                asset_id: query.asset,
                from,
                to: Timestamp::from_unix_micros(to),
                count: rows.len() as u64,
                mw: aggregate(
                    rows.iter()
                        .filter_map(|r| r.measurements.mw.map(|p| p.mw())),
                ),
                soc_pct: aggregate(rows.iter().filter_map(|r| r.measurements.soc_pct)),
            };
            (Place::at(from), bucket)
        });
        Ok(page::cut(List::Buckets, query.page.limit, buckets))
    }

    pub(super) fn gaps(&self, agent: AgentId) -> Vec<(LogId, Gap)> {
        let gaps = self.gaps.get(&agent);
        gaps.map(|gaps| gaps.iter().map(|(_, log, gap)| (*log, *gap)).collect())
            .unwrap_or_default()
    }
}

#[derive(Debug, Default)]
pub(super) struct HeartbeatTable(HashMap<AssetId, BTreeMap<Place, Heartbeat>>);

impl HeartbeatTable {
    pub(super) fn prune(&mut self, before: Timestamp) -> u64 {
        let mut pruned = 0;
        for rows in self.0.values_mut() {
            let kept = rows.split_off(&Place::at(before));
            pruned += std::mem::replace(rows, kept).len() as u64;
        }
        pruned
    }

    pub(super) fn append(&mut self, heartbeats: &[Heartbeat]) {
        for heartbeat in heartbeats {
            let place = Place {
                at: heartbeat.received_at,
                id: heartbeat.agent_id.uuid().as_u128(),
                serial: heartbeat.epoch,
            };
            let rows = self.0.entry(heartbeat.asset_id).or_default();
            rows.entry(place).or_insert_with(|| heartbeat.clone());
            let keep = share(HEARTBEATS_PER_ASSET, HEARTBEATS, self.0.len());
            if let Some(rows) = self.0.get_mut(&heartbeat.asset_id) {
                while rows.len() > keep {
                    rows.pop_first();
                }
            }
        }
    }

    pub(super) fn history(
        &self,
        asset: AssetId,
        query: &HistoryQuery,
    ) -> Result<Page<Heartbeat>, StoreError> {
        let range = page::range(List::Heartbeats, query)?;
        let rows = self.0.get(&asset).into_iter();
        let rows = rows.flat_map(|rows| rows.range(range.clone()).rev());
        let rows = rows.map(|(place, row)| (*place, row.clone()));
        Ok(page::cut(List::Heartbeats, query.limit, rows))
    }
}

/// What one asset may keep when all share a bound.
fn share(per_asset: usize, in_all: usize, assets: usize) -> usize {
    per_asset.min(in_all / assets.max(1)).max(1)
}

fn aggregate(values: impl Iterator<Item = f64>) -> Option<Aggregate> {
    let (mut min, mut max, mut sum, mut count) = (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0_u32);
    for value in values {
        min = min.min(value);
        max = max.max(value);
        sum += value;
        count += 1;
    }
    (count > 0).then(|| Aggregate {
        min,
        mean: sum / f64::from(count),
        max,
    })
}

#[cfg(test)]
mod tests {
    use derms_proto::{Measurements, SiteId};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn place(at: i64, serial: u64) -> Place {
        Place {
            serial,
            ..Place::at(Timestamp::from_unix_micros(at))
        }
    }

    proptest! {
        #[test]
        fn rows_stand_by_their_place_in_whatever_order_they_come(
            times in prop::collection::vec(0_i64..20, 0..40),
            (from, to) in (0_i64..22, 0_i64..22),
        ) {
            let telemetry = Telemetry {
                asset_id: AssetId::new(Uuid::nil()),
                site_id: SiteId::new(Uuid::nil()),
                measured_at: Timestamp::UNIX_EPOCH,
                received_at: Timestamp::UNIX_EPOCH,
                measurements: Measurements::default(),
            };
            let mut rows = Rows::default();
            let mut places = Vec::new();
            for (serial, at) in (1..).zip(times) {
                rows.insert(place(at, serial), &telemetry);
                places.push(place(at, serial));
            }
            places.sort_unstable();
            let range = place(from, 0)..place(to, 0);
            places.retain(|place| range.contains(place));
            let found: Vec<Place> = rows.range(&range).map(|(place, _)| *place).collect();
            prop_assert_eq!(found, places);
        }
    }
}
