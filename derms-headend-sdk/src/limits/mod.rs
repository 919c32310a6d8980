//! Limits and stops: kept, stored, told to agents, and told of truthfully.
//!
//! They are a state, not commands: an agent is always told all that holds for an asset, with a
//! revision of its own count, and again until it shows that it keeps to that.

mod book;
mod error;
mod holding;
mod keeper;
mod stops;
mod tell;
mod trace;
mod words;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use derms_proto::link::MAX_LIMITS;
use derms_proto::{
    AssetId, ControlStatus, Dispatch, Fleet, LimitId, LimitStatus, MAX_DURATION, NewLimit, Page,
    Power, PowerLimit, PowerRange, ProblemLimits, SiteId, Timestamp, Traceparent,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

pub use error::{LimitError, StopError};
pub(crate) use keeper::keep;
pub(crate) use stops::MAX_RETURN;

use crate::auth::Principal;
use crate::config::Clock;
use crate::idempotency::idempotency;
use crate::registry::Registry;
use crate::store::{Idempotency, Keyed, LimitQuery, Restraint, Store, StoreError};
use crate::trace::{Traces, id_of};
use book::{Book, narrowed};

#[derive(Debug)]
pub(crate) struct Limits {
    fleet: Arc<Fleet>,
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    clock: Clock,
    /// Never held while the registry is asked: that is asked to hold this.
    book: Arc<Mutex<Book>>,
    traces: Arc<Mutex<Traces>>,
    /// Of two versions of a limit the newer is stored last.
    writing: tokio::sync::Mutex<()>,
    /// The same for stops, apart: a stop waits for no limit.
    writing_stops: tokio::sync::Mutex<()>,
    /// Something is to be stored or to be ended.
    due: Notify,
    /// How often orders had to be looked for that a stop ends, and how often all were found.
    stopping: (AtomicU64, AtomicU64),
    /// Sendings that wait for room.
    tasks: TaskTracker,
}

impl Limits {
    pub(crate) fn new(
        fleet: Arc<Fleet>,
        store: Arc<dyn Store>,
        registry: Arc<Registry>,
        clock: Clock,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            book: Arc::new(Mutex::new(Book::new(Arc::clone(&fleet)))),
            traces: Arc::default(),
            fleet,
            store,
            registry,
            clock,
            writing: tokio::sync::Mutex::default(),
            writing_stops: tokio::sync::Mutex::default(),
            due: Notify::new(),
            stopping: (AtomicU64::new(0), AtomicU64::new(0)),
            tasks,
        }
    }

    /// Takes up what an earlier life left.
    pub(crate) async fn recover(&self) -> Result<(), StoreError> {
        let restraints = self.store.restraints().await?;
        self.book.lock().restore(restraints);
        Ok(())
    }

    /// Sets a limit: stored first, then told to the agent.
    ///
    /// With a key that came before: the limit that was set then.
    ///
    /// To be called in a task of its own: once it is stored it must come into force.
    pub(crate) async fn set(
        &self,
        new: &NewLimit,
        principal: Option<&Principal>,
        key: Option<&str>,
        trace: Option<Traceparent>,
    ) -> Result<PowerLimit, LimitError> {
        let _writing = self.writing.lock().await;
        let now = self.clock.now();
        let key = key.map(|key| idempotency("limit ", new, principal, key));
        let unsure = match &key {
            Some(key) => match self.set_before(key).await? {
                Before::Set(limit) => return Ok(self.shown(*limit)),
                Before::Unsure(limit) => Some(limit),
                Before::New => None,
            },
            None => None,
        };
        let mut limit = self.check(new, principal, now)?;
        if let Some(unsure) = unsure {
            // What may be stored is what comes into force now.
            limit.id = unsure.id;
            (limit.created_at, limit.expires_at) = (unsure.created_at, unsure.expires_at);
        }
        if let Some(trace) = trace {
            self.traces.lock().remember(limit.id.uuid(), trace);
        }
        let span = self.limit_span(&limit);
        self.bring_into_force(limit, key, now)
            .instrument(span)
            .await
    }

    /// Stores a limit that was checked, and tells it.
    async fn bring_into_force(
        &self,
        mut limit: PowerLimit,
        key: Option<Idempotency>,
        now: Timestamp,
    ) -> Result<PowerLimit, LimitError> {
        let stored = match &key {
            Some(key) => {
                let limit = Restraint::Limit(limit.clone());
                self.store.put_keyed(&limit, key).await.map(drop)
            }
            None => self.store.put_limits(std::slice::from_ref(&limit)).await,
        };
        if let Some(key) = &key {
            let failed = stored.is_err().then_some(&limit);
            self.book.lock().unsure(key, failed);
        }
        if let Err(error) = stored {
            // Its caller is told that it is not in force; if it was stored all the same, it must
            // not come into force with the next start.
            limit.status = LimitStatus::Removed;
            limit.removed_at = Some(now);
            limit.text = Some("the store failed while it was set, as its caller was told".into());
            self.book.lock().unsaved_limits.insert(limit.id, limit);
            self.due.notify_one();
            return Err(error.into());
        }
        let limit = {
            let mut book = self.book.lock();
            book.unsaved_limits.remove(&limit.id);
            book.add(limit, now)
        };
        tracing::warn!(limit_id = %limit.id, asset_id = %limit.asset_id,
            min_mw = limit.min_mw.map(Power::mw), max_mw = limit.max_mw.map(Power::mw),
            expires_at = limit.expires_at.map(tracing::field::display),
            principal = limit.principal, trace_id = id_of(self.trace(limit.id.uuid())), "limit set");
        self.tell(&[limit.asset_id]);
        Ok(self.shown(limit))
    }

    /// The limit that was set with this key before.
    pub(crate) async fn repeated(
        &self,
        new: &NewLimit,
        principal: Option<&Principal>,
        key: &str,
    ) -> Result<Option<PowerLimit>, LimitError> {
        let key = idempotency("limit ", new, principal, key);
        Ok(match self.set_before(&key).await? {
            Before::Set(limit) => Some(self.shown(*limit)),
            Before::Unsure(_) | Before::New => None,
        })
    }

    /// What was set under this key before.
    async fn set_before(&self, key: &Idempotency) -> Result<Before, LimitError> {
        let unsure = self.book.lock().is_unsure(key);
        match unsure {
            Some(Some(limit)) => return Ok(Before::Unsure(Box::new(limit))),
            Some(None) => return Err(LimitError::IdempotencyConflict),
            None => {}
        }
        match self.store.keyed(key).await? {
            None => Ok(Before::New),
            Some(Keyed::Same(Restraint::Limit(stored))) => {
                let held = self.book.lock().limit(stored.id).cloned();
                Ok(Before::Set(Box::new(held.unwrap_or(stored))))
            }
            Some(_) => Err(LimitError::IdempotencyConflict),
        }
    }

    fn check(
        &self,
        new: &NewLimit,
        principal: Option<&Principal>,
        now: Timestamp,
    ) -> Result<PowerLimit, LimitError> {
        let invalid = |text: &str| LimitError::Invalid(text.to_owned());
        if new.min_mw.is_none() && new.max_mw.is_none() {
            return Err(invalid("give min_mw, max_mw or both"));
        }
        if [new.min_mw, new.max_mw]
            .into_iter()
            .flatten()
            .any(|mw| !mw.is_finite())
        {
            return Err(invalid("min_mw and max_mw must be finite numbers"));
        }
        if let (Some(min), Some(max)) = (new.min_mw, new.max_mw)
            && min > max
        {
            return Err(invalid("min_mw is above max_mw; swap them"));
        }
        let lasts = new.duration_s.map(lasting).transpose()?;
        let asset = self
            .fleet
            .asset(new.asset_id)
            .ok_or(LimitError::UnknownAsset(new.asset_id))?;
        let whole = PowerRange {
            min_mw: asset.min_mw,
            max_mw: asset.max_mw,
        };
        let bounds = || std::iter::once((new.min_mw, new.max_mw));
        let left = narrowed(whole, bounds());
        if left.min_mw > left.max_mw {
            let limits = ProblemLimits {
                asset_id: asset.id,
                min_mw: asset.min_mw,
                max_mw: asset.max_mw,
            };
            return Err(LimitError::OutOfRange { limits });
        }
        let book = self.book.lock();
        if let Some(range) = book.range(asset.id, now) {
            let left = narrowed(range, bounds());
            if left.min_mw > left.max_mw {
                return Err(LimitError::Conflict { range });
            }
        }
        if book.count(asset.id, now) >= MAX_LIMITS {
            return Err(LimitError::TooMany {
                asset: asset.id,
                most: MAX_LIMITS,
            });
        }
        Ok(PowerLimit {
            id: LimitId::generate(),
            asset_id: asset.id,
            site_id: asset.site_id,
            min_mw: new.min_mw,
            max_mw: new.max_mw,
            created_at: now,
            expires_at: lasts.map(|lasts| now.saturating_add(lasts)),
            principal: principal.map(|p| p.name().to_owned()),
            status: LimitStatus::Pending,
            reason: None,
            text: None,
            confirmed_at: None,
            removed_at: None,
            removed_by: None,
            revision: book.next_revision(asset.id, now),
        })
    }

    /// Removes a limit; one that has ended is left as it is.
    ///
    /// To be called in a task of its own, as [`set`](Self::set).
    pub(crate) async fn remove(
        &self,
        id: LimitId,
        principal: Option<&Principal>,
    ) -> Result<PowerLimit, LimitError> {
        let _writing = self.writing.lock().await;
        let now = self.clock.now();
        let removed = {
            let mut book = self.book.lock();
            book.expire(now);
            book.limit(id).map(|limit| PowerLimit {
                status: LimitStatus::Removed,
                reason: None,
                text: None,
                removed_at: Some(now),
                removed_by: principal.map(|p| p.name().to_owned()),
                revision: book.next_revision(limit.asset_id, now),
                ..limit.clone()
            })
        };
        let Some(removed) = removed else {
            let known = self.known(id).await?;
            return known.ok_or(LimitError::Unknown(id));
        };
        if let Err(error) = self.store.put_limits(std::slice::from_ref(&removed)).await {
            // It goes on holding, whatever of this was stored.
            let mut book = self.book.lock();
            if let Some(limit) = book.limit(id).cloned() {
                book.unsaved_limits.insert(id, limit);
            }
            self.due.notify_one();
            return Err(error.into());
        }
        self.book.lock().remove(&removed, now);
        tracing::warn!(limit_id = %id, asset_id = %removed.asset_id, principal = removed.removed_by,
            trace_id = id_of(self.trace(id.uuid())), "limit removed");
        self.tell(&[removed.asset_id]);
        Ok(removed)
    }

    /// One limit as it stands.
    pub(crate) async fn get(&self, id: LimitId) -> Result<Option<PowerLimit>, StoreError> {
        let held = self.book.lock().limit(id).cloned();
        match held {
            Some(limit) => Ok(Some(self.shown(limit))),
            None => self.known(id).await,
        }
    }

    /// A limit that has ended, perhaps just now.
    async fn known(&self, id: LimitId) -> Result<Option<PowerLimit>, StoreError> {
        let unsaved = self.book.lock().unsaved_limits.get(&id).cloned();
        match unsaved {
            Some(limit) => Ok(Some(limit)),
            None => self.store.limit(id).await,
        }
    }

    /// Limits that hold, oldest first.
    pub(crate) fn in_force(&self, asset: Option<AssetId>, site: Option<SiteId>) -> Vec<PowerLimit> {
        let now = self.clock.now();
        let wanted = |limit: &PowerLimit| {
            asset.is_none_or(|asset| asset == limit.asset_id)
                && site.is_none_or(|site| site == limit.site_id)
        };
        let limits = self.book.lock().limits(wanted, now);
        limits.into_iter().map(|limit| self.shown(limit)).collect()
    }

    /// How many limits and stops hold.
    pub(crate) fn holding(&self) -> (usize, usize) {
        let now = self.clock.now();
        let book = self.book.lock();
        let limits = book.assets.values().map(|entry| entry.holding(now).count());
        (limits.sum(), book.stops.len())
    }

    /// All limits, newest first.
    pub(crate) async fn history(&self, query: &LimitQuery) -> Result<Page<PowerLimit>, StoreError> {
        let page = self.store.limits(query).await?;
        // What is not stored yet is newer.
        Ok(page.map(|stored| {
            let book = self.book.lock();
            let newer = book
                .limit(stored.id)
                .or(book.unsaved_limits.get(&stored.id));
            let limit = newer.cloned().unwrap_or(stored);
            drop(book);
            self.shown(limit)
        }))
    }

    /// Says what a limit that is pending waits for.
    fn shown(&self, mut limit: PowerLimit) -> PowerLimit {
        if limit.status == LimitStatus::Pending && limit.text.is_none() {
            let text = match self.registry.serving(limit.asset_id) {
                None => "its agent is not connected; it is told as soon as it is",
                Some(session) if !session.capabilities.limits => "its agent can't keep limits",
                Some(_) => "its agent has not answered yet",
            };
            limit.text = Some(text.to_owned());
        }
        limit
    }

    /// Limits that hold for an asset, and whether a stop does.
    pub(crate) fn of(&self, asset: AssetId) -> (Vec<PowerLimit>, bool) {
        let now = self.clock.now();
        let book = self.book.lock();
        let (limits, stopped) = (book.limits_of(asset, now), book.is_stopped(asset));
        drop(book);
        let limits = limits.into_iter().map(|limit| self.shown(limit));
        (limits.collect(), stopped)
    }

    /// What limits leave of the range of an asset; `None` while there are none.
    pub(crate) fn range(&self, asset: AssetId) -> Option<(Power, Power)> {
        let range = self.book.lock().range(asset, self.clock.now())?;
        Some((range.min_mw, range.max_mw))
    }

    /// What an asset is doing, as the session that serves it said last.
    pub(crate) fn control(&self, asset: AssetId) -> Option<ControlStatus> {
        let now = self.clock.now();
        let session = self.registry.serving(asset)?;
        let word = self.book.lock().word(asset)?;
        (word.by == tell::speaker(&session)).then(|| ControlStatus {
            source: word.control.source,
            dispatch_id: word.control.dispatch_id,
            mw: word.control.power,
            limited: word.control.limited,
            remaining_s: word.control.remaining.map(|left| {
                let left = left.saturating_sub(now.saturating_since(word.at));
                left.as_secs_f64()
            }),
            at: word.at,
        })
    }

    /// Says of an order, and of its shares, what limits leave of it while it has not ended.
    pub(crate) fn annotate(&self, dispatch: &mut Dispatch) {
        let now = self.clock.now();
        let book = self.book.lock();
        for leaf in std::iter::once(&mut *dispatch).filter(|d| d.asset_id.is_some()) {
            annotate(&book, leaf, now);
        }
        for leaf in &mut dispatch.children {
            annotate(&book, leaf, now);
        }
    }
}

/// What a key was used for.
enum Before {
    New,
    Set(Box<PowerLimit>),
    /// Its caller was told that it could not be stored.
    Unsure(Box<PowerLimit>),
}

fn annotate(book: &Book, leaf: &mut Dispatch, now: Timestamp) {
    let open = !leaf.status.is_terminal();
    let range = leaf
        .asset_id
        .filter(|_| open)
        .and_then(|asset| book.range(asset, now));
    leaf.limited_to = range.filter(|range| leaf.mw < range.min_mw || leaf.mw > range.max_mw);
}

fn lasting(seconds: f64) -> Result<Duration, LimitError> {
    // A time is told to the microsecond: what is shorter would be 0.
    let lasts = Duration::try_from_secs_f64(seconds).ok();
    lasts
        .filter(|lasts| (Duration::from_micros(1)..=MAX_DURATION).contains(lasts))
        .ok_or_else(|| {
            let most = MAX_DURATION.as_secs();
            LimitError::Invalid(format!(
                "duration_s must be 0.000001 to {most} s; leave it out for a limit without an end"
            ))
        })
}
