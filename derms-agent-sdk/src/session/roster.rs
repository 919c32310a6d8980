//! Assets that come, change and go while the agent runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use derms_proto::link::{
    AgentMessage, AssetUpdate, Report, ReportEntry, SetpointPhase, SetpointReport,
};
use derms_proto::{Asset, AssetId, AssetKind, DispatchId, ReasonCode};

use super::asset::{AssetMachine, Life, OUTCOMES, interrupted};
use super::{Output, Session};
use crate::AgentEvent;
use crate::clock::{MonoTime, Now};
use crate::state::Record;

/// How long a device may take to its default before its asset goes all the same: longer than one
/// call of an adapter may take by default.
const LEAVE_WITHIN: Duration = Duration::from_secs(15);

/// Who comes and who goes.
#[derive(Debug, Default)]
pub(super) struct Roster {
    leaving: BTreeMap<AssetId, Leaving>,
    /// Assets that are not served and are remembered: a revision that was used once is used for
    /// good.
    gone: BTreeMap<AssetId, Gone>,
    /// Claims and farewells that the headend has not been told.
    claims: BTreeSet<AssetId>,
    farewells: BTreeSet<AssetId>,
}

#[derive(Debug)]
struct Leaving {
    until: MonoTime,
    /// What comes in its place: the asset has changed.
    next: Option<(Asset, AssetKind)>,
}

#[derive(Debug)]
struct Gone {
    record: Record,
    /// It is to be written down.
    changed: bool,
}

impl Roster {
    /// The next Register tells all.
    pub(super) fn told(&mut self) {
        self.claims.clear();
        self.farewells.clear();
    }

    /// Whether the headend has not been asked for this asset yet.
    pub(super) fn is_unclaimed(&self, asset_id: AssetId) -> bool {
        self.claims.contains(&asset_id)
    }

    pub(super) fn has_changed(&self) -> bool {
        self.gone.values().any(|gone| gone.changed)
    }

    /// What became of an order of an asset that is not served any more.
    pub(super) fn outcome(
        &self,
        asset_id: AssetId,
        dispatch_id: DispatchId,
    ) -> Option<SetpointReport> {
        let outcomes = &self.gone.get(&asset_id)?.record.outcomes;
        let mut outcomes = outcomes.iter().rev().map(|(_, report)| report);
        outcomes
            .find(|report| report.dispatch_id == dispatch_id)
            .cloned()
    }

    /// What is to be written down.
    pub(super) fn take_changes(&mut self) -> impl Iterator<Item = Record> {
        self.gone.values_mut().filter_map(|gone| {
            let changed = std::mem::take(&mut gone.changed);
            changed.then(|| gone.record.clone())
        })
    }

    /// It could not be written down.
    pub(super) fn write_again(&mut self, asset_id: AssetId) {
        if let Some(gone) = self.gone.get_mut(&asset_id) {
            gone.changed = true;
        }
    }

    /// When an asset goes at the latest.
    pub(super) fn deadline(&self) -> Option<MonoTime> {
        self.leaving.values().map(|leaving| leaving.until).min()
    }
}

impl Session {
    /// Keeps what an earlier life of the agent knew of an asset that it does not serve now, and tells
    /// what became of what was in hand there: nobody else will.
    pub(super) fn forsake(&mut self, mut record: Record, now: Now) {
        let asset_id = record.asset_id;
        let reports = interrupt(&mut record);
        let changed = !reports.is_empty();
        for report in reports {
            self.event(AgentEvent::Order {
                asset_id,
                dispatch_id: report.dispatch_id,
                revision: report.revision,
                phase: report.phase,
                reason: report.reason,
                text: report.text.clone(),
                applied: report.applied,
            });
            self.reports.append(ReportEntry {
                at: self.clock.label(now.mono),
                asset_id,
                report: Report::Setpoint(report),
            });
        }
        self.roster.gone.insert(asset_id, Gone { record, changed });
    }

    /// Serves one more asset. One that is served already has changed: it goes as with
    /// [`remove`](Self::remove), and comes back as it is now.
    pub(super) fn add(&mut self, asset: Asset, kind: AssetKind, now: Now) {
        if self.stopping.is_some() {
            return;
        }
        if self.assets.contains_key(&asset.id) {
            self.leave(asset.id, Some((asset, kind)), now);
        } else {
            self.arrive(asset, kind, now);
        }
    }

    /// Ends what is in force at an asset, sends its device to the default and serves it no more.
    pub(super) fn remove(&mut self, asset_id: AssetId, now: Now) {
        self.leave(asset_id, None, now);
    }

    fn arrive(&mut self, asset: Asset, kind: AssetKind, now: Now) {
        let asset_id = asset.id;
        let machine = AssetMachine::new(asset, kind, now.mono);
        self.assets.insert(asset_id, machine);
        if let Some(gone) = self.roster.gone.remove(&asset_id) {
            // Nobody has kept to an order meanwhile, whatever its lease says.
            let life = Life {
                leases_go_on: false,
                same_clock: true,
                trusted: true,
                jitter: self.rng.f64(),
            };
            self.on_asset(asset_id, now, |asset, ctx| {
                asset.restore(gone.record, life, ctx);
            });
        }
        self.roster.claims.insert(asset_id);
        self.roster.farewells.remove(&asset_id);
        self.out.push_back(Output::Arrived { asset_id });
        self.event(AgentEvent::AssetAdded { asset_id });
        self.on_asset(asset_id, now, AssetMachine::advance);
    }

    fn leave(&mut self, asset_id: AssetId, next: Option<(Asset, AssetKind)>, now: Now) {
        if let Some(leaving) = self.roster.leaving.get_mut(&asset_id) {
            leaving.next = next;
        } else if self.on_asset(asset_id, now, AssetMachine::leave) {
            let until = now.mono + LEAVE_WITHIN;
            self.roster
                .leaving
                .insert(asset_id, Leaving { until, next });
        }
    }

    /// Lets go of whom nothing holds any more.
    pub(super) fn advance_roster(&mut self, now: Now) {
        let leaving = self.roster.leaving.iter();
        let free = leaving.filter(|(asset_id, leaving)| {
            let machine = self.assets.get(asset_id);
            leaving.until <= now.mono || machine.is_none_or(AssetMachine::is_stopped)
        });
        let free: Vec<AssetId> = free.map(|(asset_id, _)| *asset_id).collect();
        for asset_id in free {
            self.depart(asset_id, now);
        }
    }

    fn depart(&mut self, asset_id: AssetId, now: Now) {
        let Some(leaving) = self.roster.leaving.remove(&asset_id) else {
            return;
        };
        self.on_asset(asset_id, now, AssetMachine::give_up);
        if let Some(mut machine) = self.assets.remove(&asset_id) {
            machine.touch();
            if let Some(record) = machine.take_change() {
                let changed = self.ledger.is_durable();
                self.roster.gone.insert(asset_id, Gone { record, changed });
            }
        }
        self.fresh.remove(&asset_id);
        self.roster.claims.remove(&asset_id);
        self.roster.farewells.insert(asset_id);
        self.out.push_back(Output::Gone { asset_id });
        self.event(AgentEvent::AssetRemoved { asset_id });
        if let Some((asset, kind)) = leaving.next.filter(|_| self.stopping.is_none()) {
            self.arrive(asset, kind, now);
        }
    }

    /// Tells the headend who has come and gone. While there is no session, the next Register does.
    pub(super) fn say_changes(&mut self, now: Now) {
        let Some(live) = &self.live else {
            return;
        };
        if self.roster.claims.is_empty() && self.roster.farewells.is_empty() {
            return;
        }
        let epoch = live.epoch;
        let upserted = self.claims(now, |asset| self.roster.is_unclaimed(asset.id()));
        let removed = self.roster.farewells.iter().copied().collect();
        self.roster.told();
        self.send(AgentMessage::AssetUpdate(AssetUpdate {
            epoch,
            upserted,
            removed,
        }));
    }
}

/// Ends what was in hand at an asset that is not served any more. Nobody tells its device anything, so
/// nothing more is said than that. Orders for later wait for the asset to come back.
fn interrupt(record: &mut Record) -> Vec<SetpointReport> {
    const TEXT: &str = "the agent was started again without this asset";
    let orders = record.in_force.take().map(|held| held.order);
    let orders = orders.into_iter().chain(record.next.take());
    let mut ended: Vec<_> = orders.map(|order| interrupted(&order, TEXT)).collect();
    let mut release = record
        .releasing
        .take()
        .map(|order| (order.dispatch_id, order.revision));
    if let Some((mut report, revision)) = record.ending.take() {
        release = release.or(revision.map(|revision| (report.dispatch_id, revision)));
        report.phase = SetpointPhase::Failed;
        report.reason = Some(ReasonCode::Interrupted);
        report.text = Some(TEXT.into());
        ended.push(report);
    }
    for report in &ended {
        record.outcomes.push((report.revision, report.clone()));
        if let Some((_, revision)) = release.filter(|(of, _)| *of == report.dispatch_id) {
            record.outcomes.push((revision, report.clone()));
        }
    }
    let surplus = record.outcomes.len().saturating_sub(OUTCOMES);
    record.outcomes.drain(..surplus);
    ended
}
