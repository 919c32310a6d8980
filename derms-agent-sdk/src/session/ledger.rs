//! What is written down before it is acted upon or said: one write at a time, for all that waits.

use std::time::Duration;

use derms_proto::AssetId;

use super::asset::AssetMachine;
use super::{Output, Session};
use crate::AgentEvent;
use crate::clock::{MonoTime, Now};
use crate::state::{Commit, Renamed};

/// A disk that failed is tried again; an order tries at once.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// The writes of the ledger.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Without a disk only what waits for its answer is told, and remembered by nobody.
    durable: bool,
    /// The number of the last write.
    number: u64,
    in_flight: Option<InFlight>,
    /// Somebody waits for the next write.
    awaited: bool,
    retry_at: Option<MonoTime>,
    renamed: Renamed,
    /// What the last successful write said.
    epoch: u64,
}

#[derive(Debug)]
struct InFlight {
    number: u64,
    assets: Vec<AssetId>,
    next_report: u64,
    epoch: u64,
    renamed: Renamed,
}

impl Ledger {
    pub(super) fn new(durable: bool, epoch: u64) -> Self {
        Self {
            durable,
            number: 0,
            in_flight: None,
            awaited: false,
            retry_at: None,
            renamed: Renamed::default(),
            epoch,
        }
    }

    pub(super) const fn is_durable(&self) -> bool {
        self.durable
    }

    /// The number of the write that will have what is changed now.
    pub(super) const fn await_next(&mut self) -> u64 {
        self.awaited = true;
        self.number + 1
    }

    /// Logs go on under other ids from the next write on.
    pub(super) fn rename(&mut self, renamed: Renamed) {
        if let Some((log, by)) = renamed.telemetry {
            let before = self.renamed.telemetry.map_or(0, |(_, before)| before);
            self.renamed.telemetry = Some((log, before + by));
        }
        self.renamed.reports = renamed.reports.or(self.renamed.reports);
    }
}

impl Session {
    /// Begins a write, if there is something to be written.
    pub(super) fn write_ledger(&mut self, now: Now) {
        if self.ledger.in_flight.is_some() {
            return;
        }
        let held_off = self.ledger.retry_at.is_some_and(|at| at > now.mono);
        let changed = !held_off && self.has_changed();
        if self.ledger.awaited || changed {
            let commit = self.commit();
            let number = self.ledger.number;
            self.out.push_back(Output::Persist { number, commit });
        }
    }

    fn has_changed(&self) -> bool {
        self.ledger.durable
            && (self.reports.has_unsaved()
                || self.ledger.renamed != Renamed::default()
                || self.ledger.epoch != self.last_epoch
                || self.roster.has_changed()
                || self.assets.values().any(AssetMachine::has_changed))
    }

    /// The next write.
    pub(super) fn commit(&mut self) -> Commit {
        let mut commit = Commit::default();
        for asset in self.assets.values_mut() {
            commit.records.extend(asset.take_change());
        }
        commit.records.extend(self.roster.take_changes());
        (commit.first_report, commit.reports) = self.reports.unsaved();
        commit.unacked_report = self.reports.first_unacked();
        commit.last_epoch = self.last_epoch;
        commit.renamed = self.ledger.renamed;
        self.ledger.number += 1;
        self.ledger.awaited = false;
        self.ledger.in_flight = Some(InFlight {
            number: self.ledger.number,
            assets: commit
                .records
                .iter()
                .map(|record| record.asset_id)
                .collect(),
            next_report: self.reports.next_seq(),
            epoch: self.last_epoch,
            renamed: std::mem::take(&mut self.ledger.renamed),
        });
        commit
    }

    /// The answer to [`Output::Persist`].
    pub(super) fn persisted(&mut self, number: u64, stored: bool, now: Now) {
        let of_this = |write: &mut InFlight| write.number == number;
        let Some(write) = self.ledger.in_flight.take_if(of_this) else {
            return;
        };
        // Another log since: its entries are all to be written.
        if self.ledger.renamed.reports.is_none() {
            self.reports.saved(write.next_report, stored);
        }
        let failed_before = self.ledger.retry_at.is_some();
        if stored {
            self.ledger.epoch = write.epoch;
            self.ledger.retry_at = None;
        } else {
            self.ledger.retry_at = Some(now.mono + TRY_AGAIN);
            // The store has taken the names; only that it said so is not on the disk.
            for id in &write.assets {
                match self.assets.get_mut(id) {
                    Some(asset) => asset.touch(),
                    None => self.roster.write_again(*id),
                }
            }
            if write.renamed.reports.is_some() {
                self.reports.write_again();
            }
        }
        if self.ledger.durable && failed_before == stored {
            self.event(if stored {
                AgentEvent::StorageRecovered
            } else {
                AgentEvent::StorageFailed
            });
        }
        self.each_asset(now, |asset, ctx| asset.persisted(number, stored, ctx));
    }

    pub(super) fn ledger_deadline(&self) -> Option<MonoTime> {
        let retry_at = self.ledger.retry_at;
        retry_at.filter(|_| self.ledger.in_flight.is_none() && self.has_changed())
    }
}
