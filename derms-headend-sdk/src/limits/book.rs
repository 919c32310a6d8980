//! What holds for which asset, without I/O and without a clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use derms_proto::{
    AssetId, DEFAULT_RETURN_WITHIN, Fleet, LimitId, LimitStatus, Power, PowerLimit, PowerRange,
    Stop, StopId, StopScope, Timestamp,
};
use uuid::Uuid;

use super::holding::Holding;
use super::words::Word;
use crate::store::{Idempotency, Restraints};

/// All limits and stops that hold, and what the agents have said of them.
#[derive(Debug)]
pub(super) struct Book {
    fleet: Arc<Fleet>,
    pub(super) assets: HashMap<AssetId, Entry>,
    /// The asset of each limit that has not ended.
    limits: HashMap<LimitId, AssetId>,
    pub(super) stops: BTreeMap<StopId, Holding>,
    /// Limits as they must be stored yet.
    pub(super) unsaved_limits: BTreeMap<LimitId, PowerLimit>,
    /// Stops that must be stored yet.
    pub(super) unsaved_stops: BTreeSet<StopId>,
    /// Limits that may be stored though their callers were told that they are not, by their keys.
    unsure: HashMap<String, (String, PowerLimit)>,
    /// The keys of stops that were set in this life, until they end.
    stop_keys: HashMap<StopId, Idempotency>,
}

/// So many keys of limits that could not be stored are remembered; the caller of a further one that
/// asks again may get a second limit.
const MOST_UNSURE: usize = 1_024;

/// What holds for one asset.
#[derive(Debug)]
pub(super) struct Entry {
    /// The newest revision of what it is held to; 0 if it never was.
    pub(super) revision: u64,
    /// The newest one that an earlier life of the headend has left word of; 0 if none.
    remembered: u64,
    /// The first one that this life gave.
    first: Option<u64>,
    /// Those that have not ended, oldest first.
    pub(super) limits: Vec<PowerLimit>,
    pub(super) stops: Vec<StopId>,
    /// How it returns from its last stop.
    pub(super) return_within: Duration,
    pub(super) word: Option<Word>,
    /// The limit or the stop by which the revision came about, if it is known.
    pub(super) cause: Option<Uuid>,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            revision: 0,
            remembered: 0,
            first: None,
            limits: Vec::new(),
            stops: Vec::new(),
            return_within: DEFAULT_RETURN_WITHIN,
            word: None,
            cause: None,
        }
    }
}

impl Entry {
    /// The next revision, which this limit or stop has brought.
    pub(super) fn turned_by(&mut self, cause: Uuid, now: Timestamp) -> u64 {
        self.cause = Some(cause);
        self.turn(now)
    }

    /// It was turned by this, in an earlier life of the headend.
    fn was_turned(&mut self, cause: Uuid, revision: u64) {
        if revision >= self.revision {
            self.cause = Some(cause);
            self.revision = revision;
        }
    }

    /// The next revision. It is not below the time, in ms since 1970: a headend that has lost its
    /// memory must not give a number again, for its agent would take the new limits for the old.
    pub(super) fn turn(&mut self, now: Timestamp) -> u64 {
        let time = u64::try_from(now.unix_micros() / 1_000).unwrap_or(0);
        self.revision = self.revision.saturating_add(1).max(time);
        self.first.get_or_insert(self.revision);
        self.revision
    }

    /// Whether nothing is known here of what an agent was told with this revision: an earlier life
    /// gave it, of which no word is left.
    pub(super) fn is_forgotten(&self, revision: u64) -> bool {
        let given = self.first.is_some_and(|first| revision >= first);
        revision > self.remembered && (!given || revision > self.revision)
    }

    pub(super) fn holding(&self, now: Timestamp) -> impl Iterator<Item = &PowerLimit> {
        self.limits.iter().filter(move |limit| holds(limit, now))
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
            unsure: HashMap::new(),
            stop_keys: HashMap::new(),
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
            entry.was_turned(limit.id.uuid(), limit.revision);
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
                entry.was_turned(holding.stop.id.uuid(), holding.stop.revision);
                entry.stops.push(holding.stop.id);
                holding.add(asset, holding.stop.revision);
            }
            self.stops.insert(holding.stop.id, holding);
        }
        for entry in self.assets.values_mut() {
            entry.remembered = entry.revision;
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

    /// What has brought this revision of what holds for an asset.
    pub(super) fn cause(&self, asset: AssetId, revision: u64) -> Option<Uuid> {
        let entry = self.assets.get(&asset)?;
        entry.cause.filter(|_| entry.revision == revision)
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
        let revision = entry.turned_by(limit.id.uuid(), now);
        if revision != limit.revision {
            // A stop came meanwhile: a report of that must not speak for this.
            limit.revision = revision;
            self.unsaved_limits.insert(limit.id, limit.clone());
        }
        self.limits.insert(limit.id, limit.asset_id);
        entry.limits.push(limit.clone());
        limit
    }

    /// A limit with a key could not be stored for sure; `None`: now it is.
    pub(super) fn unsure(&mut self, key: &Idempotency, failed: Option<&PowerLimit>) {
        match failed {
            None => {
                self.unsure.remove(&key.key);
            }
            Some(limit) if self.unsure.len() < MOST_UNSURE => {
                let failed = (key.fingerprint.clone(), limit.clone());
                self.unsure.insert(key.key.clone(), failed);
            }
            Some(_) => {}
        }
    }

    /// Whether a limit with this key could not be stored; `Some(None)`: that was another one.
    pub(super) fn is_unsure(&self, key: &Idempotency) -> Option<Option<PowerLimit>> {
        let (fingerprint, limit) = self.unsure.get(&key.key)?;
        Some((*fingerprint == key.fingerprint).then(|| limit.clone()))
    }

    /// The stop of this life that has this key; `Some(None)`: that is another one.
    pub(super) fn stop_of_key(&self, key: &Idempotency) -> Option<Option<StopId>> {
        let mut keys = self.stop_keys.iter();
        let (id, held) = keys.find(|(_, held)| held.key == key.key)?;
        Some((held.fingerprint == key.fingerprint).then_some(*id))
    }

    pub(super) fn key_stop(&mut self, id: StopId, key: Idempotency) {
        self.stop_keys.insert(id, key);
    }

    pub(super) fn key_of_stop(&self, id: StopId) -> Option<&Idempotency> {
        self.stop_keys.get(&id)
    }

    /// A removal that is stored comes into force.
    pub(super) fn remove(&mut self, removed: &PowerLimit, now: Timestamp) {
        if let Some(entry) = self.assets.get_mut(&removed.asset_id) {
            entry.limits.retain(|limit| limit.id != removed.id);
            entry.turned_by(removed.id.uuid(), now);
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
            reach.push((asset, entry.turned_by(stop.id.uuid(), now)));
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
        self.stop_keys.remove(&ended.id);
        let Some(holding) = self.stops.remove(&ended.id) else {
            return;
        };
        for asset in holding.assets() {
            if let Some(entry) = self.assets.get_mut(&asset) {
                entry.stops.retain(|stop| *stop != ended.id);
                if entry.stops.is_empty() {
                    entry.return_within = within;
                    entry.turned_by(ended.id.uuid(), now);
                }
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
