//! Stops, and the return from them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use derms_proto::{
    AssetId, CONFIRM_STOP, NewStop, Page, Stop, StopId, StopScope, Timestamp, Traceparent,
};
use tokio::time::timeout;
use tracing::Instrument as _;

use super::{Limits, StopError};
use crate::auth::Principal;
use crate::idempotency::idempotency;
use crate::store::{HistoryQuery, Idempotency, Keyed, Restraint, StoreError};
use crate::trace::id_of;

/// A stop waits no longer for the store before it is sent.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// The longest reason, characters.
const MAX_REASON: usize = 1_000;

/// So many assets that can't be held are named.
const MOST_NAMED: usize = 256;

/// The longest return from a stop.
pub(crate) const MAX_RETURN: Duration = Duration::from_secs(24 * 3600);

impl Limits {
    /// Stops assets. From the first moment on they take no order; the stop is stored in one call
    /// and then told to all agents, after at most a second without the store, too.
    ///
    /// With a key that came before: the stop that was made then, as it stands. That is looked up for a
    /// second at most: a stop that may be one too many is carried out.
    ///
    /// To be called in a task of its own: it is carried out even if its caller goes away.
    pub(crate) async fn stop(
        &self,
        new: &NewStop,
        principal: Option<&Principal>,
        key: Option<&str>,
        trace: Option<Traceparent>,
    ) -> Result<Stop, StopError> {
        let scope = self.scope(new)?;
        let key = key.map(|key| idempotency("stop ", new, principal, key));
        let mut reachable = true;
        if let Some(key) = &key {
            match timeout(STORE_PATIENCE, self.stopped_before(key)).await {
                Ok(Ok(Some(stop))) => return Ok(stop),
                Ok(Ok(None)) => {}
                Ok(Err(StopError::Store(error))) => {
                    tracing::error!(error = %error.in_full(), "can't look up the key of a stop; stopping all the same");
                    reachable = false;
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => reachable = false,
            }
        }
        let now = self.clock.now();
        let stop = {
            let mut book = self.book.lock();
            // The same call may have come at the same time.
            match key.as_ref().and_then(|key| book.stop_of_key(key)) {
                Some(Some(id)) => {
                    drop(book);
                    return self.held(id).ok_or(StopError::Unknown(id));
                }
                Some(None) => return Err(StopError::IdempotencyConflict),
                None => {}
            }
            let stop = book.add_stop(record(new, scope, principal, now), now);
            if let Some(key) = key {
                book.key_stop(stop.id, key);
            }
            stop
        };
        if let Some(trace) = trace {
            self.traces.lock().remember(stop.id.uuid(), trace);
        }
        let span = self.stop_span(&stop);
        let carried_out = self.carry_out(stop, scope, reachable);
        Ok(carried_out.instrument(span).await)
    }

    /// Stores a stop that holds, and tells it.
    async fn carry_out(&self, stop: Stop, scope: StopScope, reachable: bool) -> Stop {
        let (id, assets) = (stop.id, stop.assets);
        tracing::warn!(stop_id = %id, asset_id = stop.asset_id.map(tracing::field::display),
            site_id = stop.site_id.map(tracing::field::display), all = stop.all, assets, principal = stop.principal,
            reason = stop.reason, trace_id = id_of(self.trace(id.uuid())), "stopping");
        // It has been waited for once.
        let patience = STORE_PATIENCE * u32::from(reachable);
        let stored = match timeout(patience, self.put_stop(&stop)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(stop_id = %id, error = %error.in_full(), "can't store a stop; sending it all the same");
                false
            }
            Err(_) => {
                tracing::error!(stop_id = %id, "the store takes too long for a stop; sending it all the same");
                false
            }
        };
        let assets = {
            let mut book = self.book.lock();
            book.stop_stored(id, stored);
            book.assets_of(scope)
        };
        self.tell(&assets);
        self.end_orders();
        let told = self.held(id).unwrap_or(stop);
        tracing::warn!(stop_id = %id, reached = told.reached, of = told.assets, "stop told");
        told
    }

    /// The stop that was made under this key.
    async fn stopped_before(&self, key: &Idempotency) -> Result<Option<Stop>, StopError> {
        let of_this_life = self.book.lock().stop_of_key(key);
        match of_this_life {
            Some(Some(id)) => return Ok(self.get_stop(id).await?),
            Some(None) => return Err(StopError::IdempotencyConflict),
            None => {}
        }
        match self.store.keyed(key).await? {
            None => Ok(None),
            Some(Keyed::Same(Restraint::Stop(stored))) => {
                Ok(Some(self.held(stored.id).unwrap_or(stored)))
            }
            Some(_) => Err(StopError::IdempotencyConflict),
        }
    }

    /// Stores a stop, with its key if it has one.
    pub(super) async fn put_stop(&self, stop: &Stop) -> Result<(), StoreError> {
        let key = self.book.lock().key_of_stop(stop.id).cloned();
        let Some(key) = key else {
            return self.store.put_stops(std::slice::from_ref(stop)).await;
        };
        let stop = Restraint::Stop(stop.clone());
        match (self.store.put_keyed(&stop, &key).await?, stop) {
            // An earlier life had the key, and could not be asked: the stop holds without.
            (Some(_), Restraint::Stop(stop)) => self.store.put_stops(&[stop]).await,
            _ => Ok(()),
        }
    }

    fn scope(&self, new: &NewStop) -> Result<StopScope, StopError> {
        let invalid = |text: &str| Err(StopError::Invalid(text.to_owned()));
        let scope = match (new.asset_id, new.site_id, new.all) {
            (Some(asset), None, false) => StopScope::Asset(asset),
            (None, Some(site), false) => StopScope::Site(site),
            (None, None, true) => StopScope::All,
            _ => return invalid("give one of asset_id, site_id and \"all\": true"),
        };
        if new
            .reason
            .as_ref()
            .is_some_and(|text| text.chars().count() > MAX_REASON)
        {
            return invalid("reason is longer than 1000 characters");
        }
        match scope {
            StopScope::Asset(asset) if self.fleet.asset(asset).is_none() => {
                return Err(StopError::UnknownAsset(asset));
            }
            StopScope::Site(site) if self.fleet.site(site).is_none() => {
                return Err(StopError::UnknownSite(site));
            }
            _ => {}
        }
        match new.confirm.as_deref() {
            Some(CONFIRM_STOP) => Ok(scope),
            _ => Err(StopError::NotConfirmed),
        }
    }

    /// Ends a stop; each of its assets that no other stop holds returns after a random part of
    /// `within`. One that was ended before is left as it is.
    ///
    /// To be called in a task of its own.
    pub(crate) async fn resume(
        &self,
        id: StopId,
        within: Duration,
        principal: Option<&Principal>,
    ) -> Result<Stop, StopError> {
        if within > MAX_RETURN {
            let text = "return_within_s must be at most one day";
            return Err(StopError::Invalid(text.to_owned()));
        }
        let _writing = self.writing_stops.lock().await;
        let now = self.clock.now();
        let held = self
            .book
            .lock()
            .stop(id)
            .map(|holding| holding.stop.clone());
        let Some(held) = held else {
            let ended = self.store.stop(id).await?;
            return ended.ok_or(StopError::Unknown(id));
        };
        let ended = Stop {
            stored: true,
            ended_at: Some(now),
            ended_by: principal.map(|p| p.name().to_owned()),
            return_within_s: Some(within.as_secs_f64()),
            revision: held
                .revision
                .max(u64::try_from(now.unix_micros() / 1_000).unwrap_or(0)),
            ..held
        };
        if let Err(error) = self.put_stop(&ended).await {
            // It goes on holding, whatever of this was stored.
            self.book.lock().unsaved_stops.insert(id);
            self.due.notify_one();
            return Err(error.into());
        }
        let assets = {
            let mut book = self.book.lock();
            book.end_stop(&ended, within, now);
            book.assets_of(ended.scope())
        };
        tracing::warn!(stop_id = %id, within_s = within.as_secs_f64(), principal = ended.ended_by,
            trace_id = id_of(self.trace(id.uuid())), "stop ended");
        self.tell(&assets);
        Ok(ended)
    }

    /// Orders may wait that a stop ends: a number for [`orders_ended`](Self::orders_ended) if so.
    pub(crate) fn orders_to_end(&self) -> Option<u64> {
        let wanted = self.stopping.0.load(Ordering::SeqCst);
        (wanted != self.stopping.1.load(Ordering::SeqCst)).then_some(wanted)
    }

    /// No order waits any more that should not since then.
    pub(crate) fn orders_ended(&self, wanted: u64) {
        self.stopping.1.fetch_max(wanted, Ordering::SeqCst);
    }

    /// An order was taken while its asset was being stopped.
    pub(crate) fn end_orders(&self) {
        self.stopping.0.fetch_add(1, Ordering::SeqCst);
        self.due.notify_one();
    }

    /// Whether a stop holds for an asset.
    pub(crate) fn is_stopped(&self, asset: AssetId) -> bool {
        self.book.lock().is_stopped(asset)
    }

    /// The assets that a stop holds for.
    pub(crate) fn stopped(&self) -> Vec<AssetId> {
        self.book.lock().stopped()
    }

    /// Stops that hold, newest first.
    pub(crate) fn stops(&self) -> Vec<Stop> {
        let ids: Vec<StopId> = self
            .book
            .lock()
            .stops()
            .map(|holding| holding.stop.id)
            .collect();
        ids.into_iter().filter_map(|id| self.held(id)).collect()
    }

    /// One stop as it stands.
    pub(crate) async fn get_stop(&self, id: StopId) -> Result<Option<Stop>, StoreError> {
        match self.held(id) {
            Some(stop) => Ok(Some(stop)),
            None => self.store.stop(id).await,
        }
    }

    /// All stops, newest first.
    pub(crate) async fn stop_history(
        &self,
        query: &HistoryQuery,
    ) -> Result<Page<Stop>, StoreError> {
        let page = self.store.stops(query).await?;
        Ok(page.map(|stored| self.held(stored.id).unwrap_or(stored)))
    }

    /// A stop that holds, with who was not told and why.
    fn held(&self, id: StopId) -> Option<Stop> {
        let (mut stop, unreached) = {
            let book = self.book.lock();
            let holding = book.stop(id)?;
            (holding.stop.clone(), holding.unreached())
        };
        (stop.offline, stop.unsupported) = (0, 0);
        for asset in unreached {
            match self.registry.serving(asset) {
                None => stop.offline += 1,
                Some(session) if !session.capabilities.limits => {
                    stop.unsupported += 1;
                    if stop.cannot_be_held.len() < MOST_NAMED {
                        stop.cannot_be_held.push(asset);
                    }
                }
                Some(_) => {}
            }
        }
        stop.cannot_be_held.sort();
        Some(stop)
    }
}

/// A stop that an asset is found in.
pub(super) fn found(asset: AssetId, now: Timestamp) -> Stop {
    let new = NewStop::asset(asset)
        .because("its agent keeps it stopped, and this headend has no memory of why");
    Stop {
        stored: false,
        ..record(&new, StopScope::Asset(asset), None, now)
    }
}

fn record(new: &NewStop, scope: StopScope, principal: Option<&Principal>, now: Timestamp) -> Stop {
    let (asset_id, site_id) = match scope {
        StopScope::Asset(asset) => (Some(asset), None),
        StopScope::Site(site) => (None, Some(site)),
        _ => (None, None),
    };
    Stop {
        id: StopId::generate(),
        asset_id,
        site_id,
        all: scope == StopScope::All,
        reason: new.reason.clone(),
        principal: principal.map(|p| p.name().to_owned()),
        created_at: now,
        revision: 0,
        assets: 0,
        reached: 0,
        confirmed: 0,
        not_obeyed: 0,
        offline: 0,
        unsupported: 0,
        cannot_be_held: Vec::new(),
        stored: true,
        ended_at: None,
        ended_by: None,
        return_within_s: None,
    }
}
