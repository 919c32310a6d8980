//! Limits and stops.

use std::collections::{BTreeMap, HashMap};

use derms_proto::{LimitId, Page, PowerLimit, Stop, StopId, StopScope, Timestamp};

use super::super::page::{self, List, Place};
use super::super::{
    HistoryQuery, Idempotency, Keyed, LimitQuery, Restraint, Restraints, StoreError,
};

#[derive(Debug, Default)]
pub(super) struct LimitTables {
    limits: BTreeMap<Place, PowerLimit>,
    stops: BTreeMap<Place, Stop>,
    limit_places: HashMap<LimitId, Place>,
    stop_places: HashMap<StopId, Place>,
    revisions: HashMap<StopScope, u64>,
    keys: HashMap<String, (String, Of)>,
}

/// What was set under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Limit(LimitId),
    Stop(StopId),
}

/// Of each of both kinds, so many that have ended are kept.
const KEEP_ENDED: usize = 10_000;

impl LimitTables {
    pub(super) fn put_limits(&mut self, limits: &[PowerLimit]) {
        for limit in limits {
            let place = Place {
                at: limit.created_at,
                id: limit.id.uuid().as_u128(),
                serial: 0,
            };
            self.given(StopScope::Asset(limit.asset_id), limit.revision);
            self.limit_places.insert(limit.id, place);
            self.limits.insert(place, limit.clone());
        }
        self.forget_limits(KEEP_ENDED, Timestamp::MAX);
    }

    pub(super) fn put_stops(&mut self, stops: &[Stop]) {
        for stop in stops {
            let place = Place {
                at: stop.created_at,
                id: stop.id.uuid().as_u128(),
                serial: 0,
            };
            self.given(stop.scope(), stop.revision);
            self.stop_places.insert(stop.id, place);
            let stored = Stop {
                offline: 0,
                unsupported: 0,
                cannot_be_held: Vec::new(),
                stored: true,
                ..stop.clone()
            };
            self.stops.insert(place, stored);
        }
        self.forget_stops(KEEP_ENDED, Timestamp::MAX);
    }

    pub(super) fn put_keyed(&mut self, restraint: &Restraint, key: &Idempotency) -> Option<Keyed> {
        let of = match restraint {
            Restraint::Limit(limit) => Of::Limit(limit.id),
            Restraint::Stop(stop) => Of::Stop(stop.id),
        };
        let own = self.keys.get(&key.key).is_some_and(|(_, held)| *held == of);
        if let Some(found) = self.keyed(key).filter(|_| !own) {
            return Some(found);
        }
        self.keys
            .insert(key.key.clone(), (key.fingerprint.clone(), of));
        match restraint {
            Restraint::Limit(limit) => self.put_limits(std::slice::from_ref(limit)),
            Restraint::Stop(stop) => self.put_stops(std::slice::from_ref(stop)),
        }
        None
    }

    pub(super) fn keyed(&self, key: &Idempotency) -> Option<Keyed> {
        let (fingerprint, of) = self.keys.get(&key.key)?;
        if *fingerprint != key.fingerprint {
            return Some(Keyed::Conflict);
        }
        let restraint = match of {
            Of::Limit(id) => Restraint::Limit(self.limit(*id)?),
            Of::Stop(id) => Restraint::Stop(self.stop(*id)?),
        };
        Some(Keyed::Same(restraint))
    }

    /// Keys go with what was set under them.
    fn forget_keys(&mut self, gone: u64) -> u64 {
        if gone > 0 {
            let (limits, stops) = (&self.limit_places, &self.stop_places);
            self.keys.retain(|_, (_, of)| match of {
                Of::Limit(id) => limits.contains_key(id),
                Of::Stop(id) => stops.contains_key(id),
            });
        }
        gone
    }

    fn given(&mut self, scope: StopScope, revision: u64) {
        let highest = self.revisions.entry(scope).or_default();
        *highest = (*highest).max(revision);
    }

    pub(super) fn restraints(&self) -> Restraints {
        let limits = self.limits.values().filter(|l| !l.status.has_ended());
        let stops = self.stops.values().filter(|stop| stop.ended_at.is_none());
        Restraints {
            limits: limits.cloned().collect(),
            stops: stops.cloned().collect(),
            revisions: self.revisions.iter().map(|(s, r)| (*s, *r)).collect(),
        }
    }

    pub(super) fn limit(&self, id: LimitId) -> Option<PowerLimit> {
        self.limits.get(self.limit_places.get(&id)?).cloned()
    }

    pub(super) fn stop(&self, id: StopId) -> Option<Stop> {
        self.stops.get(self.stop_places.get(&id)?).cloned()
    }

    pub(super) fn limit_history(&self, query: &LimitQuery) -> Result<Page<PowerLimit>, StoreError> {
        let range = page::range(List::Limits, &query.page)?;
        let wanted = |limit: &PowerLimit| {
            query.asset.is_none_or(|asset| asset == limit.asset_id)
                && query.site.is_none_or(|site| site == limit.site_id)
        };
        let found = self.limits.range(range).rev();
        let found = found.filter(|(_, limit)| wanted(limit));
        let found = found.map(|(place, limit)| (*place, limit.clone()));
        Ok(page::cut(List::Limits, query.page.limit, found))
    }

    pub(super) fn stop_history(&self, query: &HistoryQuery) -> Result<Page<Stop>, StoreError> {
        let range = page::range(List::Stops, query)?;
        let found = self.stops.range(range).rev();
        let found = found.map(|(place, stop)| (*place, stop.clone()));
        Ok(page::cut(List::Stops, query.limit, found))
    }

    /// Forgets what ended before this; gives how many.
    pub(super) fn prune(&mut self, before: Timestamp) -> u64 {
        self.forget_limits(0, before) + self.forget_stops(0, before)
    }

    fn forget_limits(&mut self, keep: usize, before: Timestamp) -> u64 {
        let ended = |limit: &PowerLimit| limit.ended_at().is_some_and(|at| at < before);
        let places = &mut self.limit_places;
        let gone = forget(&mut self.limits, keep, ended, |limit| {
            places.remove(&limit.id);
        });
        self.forget_keys(gone)
    }

    fn forget_stops(&mut self, keep: usize, before: Timestamp) -> u64 {
        let ended = |stop: &Stop| stop.ended_at.is_some_and(|at| at < before);
        let places = &mut self.stop_places;
        let gone = forget(&mut self.stops, keep, ended, |stop| {
            places.remove(&stop.id);
        });
        self.forget_keys(gone)
    }
}

/// Of those that have ended, forgets all but the newest.
fn forget<T>(
    table: &mut BTreeMap<Place, T>,
    keep: usize,
    ended: impl Fn(&T) -> bool,
    mut gone: impl FnMut(&T),
) -> u64 {
    if table.len() <= keep {
        return 0;
    }
    let places = table.iter().filter(|(_, item)| ended(item));
    let places: Vec<Place> = places.map(|(place, _)| *place).collect();
    let surplus = places.len().saturating_sub(keep);
    for place in &places[..surplus] {
        if let Some(item) = table.remove(place) {
            gone(&item);
        }
    }
    surplus as u64
}
