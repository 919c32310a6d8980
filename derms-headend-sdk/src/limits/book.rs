//! What holds for which asset, without I/O and without a clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::{AssetLimits, Control, Limit, LimitPhase, LimitReport};
use derms_proto::{
    AssetId, DEFAULT_RETURN_WITHIN, Fleet, LimitId, LimitStatus, Power, PowerLimit, PowerRange,
    Stop, StopId, StopScope, Timestamp,
};

use super::holding::Holding;
use crate::store::{MAX_COUNTER, Restraints};

/// A heartbeat that shows older limits than were told this long ago: they were lost on the way.
const TOLD_IN_VAIN: Duration = Duration::from_secs(5);

/// All limits and stops that hold, and what the agents have said of them.
#[derive(Debug)]
pub(super) struct Book {
    fleet: Arc<Fleet>,
    assets: HashMap<AssetId, Entry>,
    /// The asset of each limit that has not ended.
    limits: HashMap<LimitId, AssetId>,
    stops: BTreeMap<StopId, Holding>,
    /// Limits as they must be stored yet.
    pub(super) unsaved_limits: BTreeMap<LimitId, PowerLimit>,
    /// Stops that must be stored yet.
    pub(super) unsaved_stops: BTreeSet<StopId>,
}

/// What holds for one asset.
#[derive(Debug)]
struct Entry {
    /// The newest revision of what it is held to; 0 if it never was.
    revision: u64,
    /// Those that have not ended, oldest first.
    limits: Vec<PowerLimit>,
    stops: Vec<StopId>,
    /// How it returns from its last stop.
    return_within: Duration,
    word: Option<Word>,
}

/// What the agent that serves an asset said last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Word {
    pub(super) epoch: u64,
    /// The limits that it keeps to.
    revision: u64,
    pub(super) control: Control,
    pub(super) at: Timestamp,
    /// What it was told in this session, and when.
    told: Option<(u64, Timestamp)>,
}

/// What an agent says about one of its assets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    pub(super) epoch: u64,
    /// The revision of the limits that it keeps to.
    pub(super) revision: u64,
    pub(super) control: Control,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            revision: 0,
            limits: Vec::new(),
            stops: Vec::new(),
            return_within: DEFAULT_RETURN_WITHIN,
            word: None,
        }
    }
}

impl Entry {
    /// The next revision. It is not below the time, in ms since 1970: a headend that has lost its
    /// memory must not give a number again, for its agent would take the new limits for the old.
    fn turn(&mut self, now: Timestamp) -> u64 {
        let time = u64::try_from(now.unix_micros() / 1_000).unwrap_or(0);
        self.revision = self.revision.saturating_add(1).max(time);
        self.revision
    }

    fn holding(&self, now: Timestamp) -> impl Iterator<Item = &PowerLimit> {
        self.limits.iter().filter(move |limit| holds(limit, now))
    }

    /// Whether an agent that keeps to limits of this revision must be told.
    fn differs(&self, shown: u64) -> bool {
        let nothing = self.limits.is_empty() && self.stops.is_empty();
        shown != self.revision && !(nothing && shown == 0)
    }
}

fn holds(limit: &PowerLimit, now: Timestamp) -> bool {
    limit.expires_at.is_none_or(|end| now < end)
}

impl Book {
    pub(super) fn new(fleet: Arc<Fleet>) -> Self {
        Self {
            fleet,
            assets: HashMap::new(),
            limits: HashMap::new(),
            stops: BTreeMap::new(),
            unsaved_limits: BTreeMap::new(),
            unsaved_stops: BTreeSet::new(),
        }
    }

    /// Takes up what a store holds. Limits of assets that are not in the fleet any more wait for
    /// them to come back.
    pub(super) fn restore(&mut self, restraints: Restraints) {
        for (scope, revision) in restraints.revisions {
            for asset in self.assets_of(scope) {
                let entry = self.assets.entry(asset).or_default();
                entry.revision = entry.revision.max(revision);
            }
        }
        for limit in restraints.limits {
            let entry = self.assets.entry(limit.asset_id).or_default();
            entry.revision = entry.revision.max(limit.revision);
            self.limits.insert(limit.id, limit.asset_id);
            entry.limits.push(limit);
        }
        for entry in self.assets.values_mut() {
            entry
                .limits
                .sort_by_key(|limit| (limit.created_at, limit.id));
        }
        for stop in restraints.stops {
            let assets = self.assets_of(stop.scope());
            let mut holding = Holding::new(stop);
            for asset in assets {
                let entry = self.assets.entry(asset).or_default();
                entry.revision = entry.revision.max(holding.stop.revision);
                entry.stops.push(holding.stop.id);
                holding.add(asset, holding.stop.revision);
            }
            self.stops.insert(holding.stop.id, holding);
        }
    }

    /// The assets that a stop is for.
    pub(super) fn assets_of(&self, scope: StopScope) -> Vec<AssetId> {
        let ids = |assets: &mut dyn Iterator<Item = &derms_proto::Asset>| {
            assets.map(|asset| asset.id).collect()
        };
        match scope {
            StopScope::Asset(asset) => vec![asset],
            StopScope::Site(site) => ids(&mut self.fleet.assets_of(site)),
            _ => ids(&mut self.fleet.assets().iter()),
        }
    }

    /// What limits in force leave of an asset; `None` if none is in force.
    pub(super) fn range(&self, asset: AssetId, now: Timestamp) -> Option<PowerRange> {
        let entry = self.assets.get(&asset)?;
        let configured = self.fleet.asset(asset)?;
        entry.holding(now).next()?;
        let range = narrowed(
            PowerRange {
                min_mw: configured.min_mw,
                max_mw: configured.max_mw,
            },
            entry.holding(now).map(|limit| (limit.min_mw, limit.max_mw)),
        );
        Some(range)
    }

    pub(super) fn count(&self, asset: AssetId, now: Timestamp) -> usize {
        let entry = self.assets.get(&asset);
        entry.map_or(0, |entry| entry.holding(now).count())
    }

    /// Limits that hold, of these assets or of all; those of one asset oldest first.
    pub(super) fn limits(
        &self,
        wanted: impl Fn(&PowerLimit) -> bool,
        now: Timestamp,
    ) -> Vec<PowerLimit> {
        let limits = self.assets.values().flat_map(|entry| entry.holding(now));
        let mut limits: Vec<PowerLimit> = limits.filter(|limit| wanted(limit)).cloned().collect();
        limits.sort_by_key(|limit| (limit.created_at, limit.id));
        limits
    }

    pub(super) fn limits_of(&self, asset: AssetId, now: Timestamp) -> Vec<PowerLimit> {
        let entry = self.assets.get(&asset);
        entry.map_or_else(Vec::new, |entry| entry.holding(now).cloned().collect())
    }

    pub(super) fn limit(&self, id: LimitId) -> Option<&PowerLimit> {
        let entry = self.assets.get(self.limits.get(&id)?)?;
        entry.limits.iter().find(|limit| limit.id == id)
    }

    pub(super) fn word(&self, asset: AssetId) -> Option<Word> {
        self.assets.get(&asset)?.word
    }

    pub(super) fn is_stopped(&self, asset: AssetId) -> bool {
        self.assets
            .get(&asset)
            .is_some_and(|entry| !entry.stops.is_empty())
    }

    /// The assets that a stop holds for.
    pub(super) fn stopped(&self) -> Vec<AssetId> {
        let stopped = self
            .assets
            .iter()
            .filter(|(_, entry)| !entry.stops.is_empty());
        stopped.map(|(asset, _)| *asset).collect()
    }

    pub(super) fn stop(&self, id: StopId) -> Option<&Holding> {
        self.stops.get(&id)
    }

    /// Those that hold, newest first.
    pub(super) fn stops(&self) -> impl Iterator<Item = &Holding> {
        self.stops.values().rev()
    }

    /// The revision that the next change of an asset would have.
    pub(super) fn next_revision(&self, asset: AssetId, now: Timestamp) -> u64 {
        let mut next = Entry {
            revision: self.assets.get(&asset).map_or(0, |entry| entry.revision),
            ..Entry::default()
        };
        next.turn(now)
    }

    /// A limit that is stored comes into force.
    pub(super) fn add(&mut self, mut limit: PowerLimit, now: Timestamp) -> PowerLimit {
        let entry = self.assets.entry(limit.asset_id).or_default();
        let revision = entry.turn(now);
        if revision != limit.revision {
            // A stop came meanwhile: a report of that must not speak for this.
            limit.revision = revision;
            self.unsaved_limits.insert(limit.id, limit.clone());
        }
        self.limits.insert(limit.id, limit.asset_id);
        entry.limits.push(limit.clone());
        limit
    }

    /// A removal that is stored comes into force.
    pub(super) fn remove(&mut self, removed: &PowerLimit, now: Timestamp) {
        if let Some(entry) = self.assets.get_mut(&removed.asset_id) {
            entry.limits.retain(|limit| limit.id != removed.id);
            entry.turn(now);
        }
        self.limits.remove(&removed.id);
        self.unsaved_limits.remove(&removed.id);
    }

    /// Ends what has run out; its agents do so by themselves.
    pub(super) fn expire(&mut self, now: Timestamp) {
        for entry in self.assets.values_mut() {
            for mut limit in entry.limits.extract_if(.., |limit| !holds(limit, now)) {
                self.limits.remove(&limit.id);
                limit.status = LimitStatus::Expired;
                limit.reason = None;
                limit.text = None;
                self.unsaved_limits.insert(limit.id, limit);
            }
        }
    }

    /// From now on its assets are stopped. Its revision is set.
    pub(super) fn add_stop(&mut self, mut stop: Stop, now: Timestamp) -> Stop {
        let assets = self.assets_of(stop.scope());
        let mut reach = Vec::with_capacity(assets.len());
        for asset in assets {
            let entry = self.assets.entry(asset).or_default();
            entry.stops.push(stop.id);
            reach.push((asset, entry.turn(now)));
        }
        stop.revision = reach
            .iter()
            .map(|(_, revision)| *revision)
            .min()
            .unwrap_or(0);
        let mut holding = Holding::new(stop);
        for (asset, revision) in reach {
            holding.add(asset, revision);
        }
        let stop = holding.stop.clone();
        self.stops.insert(stop.id, holding);
        stop
    }

    /// A stop is in the store, or must be tried again.
    pub(super) fn stop_stored(&mut self, id: StopId, stored: bool) {
        if let Some(holding) = self.stops.get_mut(&id) {
            holding.stop.stored = stored;
            if !stored {
                self.unsaved_stops.insert(id);
            }
        }
    }

    /// A stop that was ended, and is stored so, holds no more.
    pub(super) fn end_stop(&mut self, ended: &Stop, within: Duration, now: Timestamp) {
        self.unsaved_stops.remove(&ended.id);
        let Some(holding) = self.stops.remove(&ended.id) else {
            return;
        };
        for asset in holding.assets() {
            if let Some(entry) = self.assets.get_mut(&asset) {
                entry.stops.retain(|stop| *stop != ended.id);
                if entry.stops.is_empty() {
                    entry.return_within = within;
                    entry.turn(now);
                }
            }
        }
    }

    /// All that holds for an asset, as its agent is told it in the session of this epoch.
    pub(super) fn message(&mut self, asset: AssetId, epoch: u64, now: Timestamp) -> AssetLimits {
        let entry = self.assets.entry(asset).or_default();
        let revision = entry.revision;
        if let Some(word) = entry.word.as_mut().filter(|word| word.epoch == epoch) {
            word.told = Some((revision, now));
        }
        for stop in &entry.stops {
            if let Some(holding) = self.stops.get_mut(stop)
                && holding.reached(asset)
            {
                self.unsaved_stops.insert(*stop);
            }
        }
        let limits = entry.holding(now).map(|limit| Limit {
            id: limit.id,
            min: limit.min_mw,
            max: limit.max_mw,
            expires_at: limit.expires_at,
        });
        AssetLimits {
            asset_id: asset,
            revision,
            epoch,
            limits: limits.collect(),
            stop: !entry.stops.is_empty(),
            return_within: entry.return_within,
        }
    }

    /// Whether the agent of this session must be told what holds for an asset: it was not since
    /// that changed.
    pub(super) fn is_untold(&self, asset: AssetId, epoch: u64) -> bool {
        let Some(entry) = self.assets.get(&asset) else {
            return false;
        };
        match entry.word.filter(|word| word.epoch == epoch) {
            Some(Word {
                told: Some((told, _)),
                ..
            }) => told != entry.revision,
            Some(word) => entry.differs(word.revision),
            None => entry.differs(0),
        }
    }

    /// Takes an agent's word. `true`: it must be told what holds.
    pub(super) fn said(&mut self, asset: AssetId, said: &Said, now: Timestamp) -> bool {
        let entry = self.assets.entry(asset).or_default();
        let before = entry.word.filter(|word| word.epoch == said.epoch);
        if entry.word.is_some_and(|word| word.epoch > said.epoch) {
            // Of a session that is over.
            return false;
        }
        let told = before.and_then(|word| word.told);
        entry.word = Some(Word {
            epoch: said.epoch,
            revision: said.revision,
            control: said.control,
            at: now,
            told,
        });
        let must = self.heard(asset, before.is_none(), said, now);
        let entry = self.assets.entry(asset).or_default();
        if let Some(word) = entry.word.as_mut().filter(|_| must) {
            // What it was told did not come to it.
            word.told = None;
        }
        must
    }

    fn heard(&mut self, asset: AssetId, first: bool, said: &Said, now: Timestamp) -> bool {
        let entry = self.assets.entry(asset).or_default();
        let shown = said.revision.min(MAX_COUNTER);
        if shown > entry.revision {
            tracing::warn!(%asset, known = entry.revision, shown,
                "the agent keeps to later limits than this headend remembers; telling it anew");
            entry.revision = shown;
            entry.turn(now);
            return true;
        }
        for stop in &entry.stops {
            if let Some(holding) = self.stops.get_mut(stop)
                && holding.said(asset, shown, &said.control)
            {
                self.unsaved_stops.insert(*stop);
            }
        }
        if first && shown == entry.revision {
            // It may have stopped between writing them down and saying so.
            let open = |limit: &PowerLimit| limit.status != LimitStatus::InForce;
            let unsaid = entry.holding(now).any(open);
            if unsaid {
                entry.turn(now);
            }
            return unsaid;
        }
        let told = entry.word.and_then(|word| word.told);
        let waited = told.is_none_or(|(_, at)| now.saturating_since(at) > TOLD_IN_VAIN);
        entry.differs(shown) && waited
    }

    /// Takes an agent's report on the limits of a revision: it speaks for all that were among them.
    pub(super) fn reported(&mut self, asset: AssetId, report: &LimitReport, now: Timestamp) {
        let Some(entry) = self.assets.get_mut(&asset) else {
            return;
        };
        if report.revision > entry.revision {
            return;
        }
        for limit in &mut entry.limits {
            if limit.revision > report.revision {
                continue;
            }
            let before = limit.clone();
            match report.phase {
                LimitPhase::InForce => {
                    limit.status = LimitStatus::InForce;
                    limit.confirmed_at.get_or_insert(now);
                }
                // What was in force before still is.
                _ if limit.status == LimitStatus::InForce => continue,
                LimitPhase::NotObeyed => limit.status = LimitStatus::NotObeyed,
                LimitPhase::Refused => limit.status = LimitStatus::Refused,
                _ => continue,
            }
            limit.reason = report.reason;
            limit.text.clone_from(&report.text);
            if before != *limit {
                tracing::info!(limit = %limit.id, %asset, status = ?limit.status, text = limit.text, "limit moved on");
                self.unsaved_limits.insert(limit.id, limit.clone());
            }
        }
        for stop in &entry.stops {
            if let Some(holding) = self.stops.get_mut(stop)
                && holding.reported(asset, report)
            {
                self.unsaved_stops.insert(*stop);
            }
        }
    }
}

/// What bounds leave of a range; where they leave nothing, `min_mw` is above `max_mw`.
pub(super) fn narrowed(
    range: PowerRange,
    bounds: impl Iterator<Item = (Option<Power>, Option<Power>)>,
) -> PowerRange {
    bounds.fold(range, |range, (min, max)| PowerRange {
        min_mw: min
            .filter(|min| *min > range.min_mw)
            .unwrap_or(range.min_mw),
        max_mw: max
            .filter(|max| *max < range.max_mw)
            .unwrap_or(range.max_mw),
    })
}
