//! What holds, on its way to the agents, and their word on it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::{AssetState, Control, Grant, GrantStatus, LimitReport};
use derms_proto::{AgentId, AssetId};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::Limits;
use super::book::Book;
use super::trace::traced;
use super::words::{Said, Speaker};
use crate::config::Clock;
use crate::registry::{Registry, Session};
use crate::trace::{Traces, id_of};

/// A queue that has had no room for so long: its session gets what it needs when it has.
const PATIENCE: Duration = Duration::from_secs(10);

impl Limits {
    /// Tells the agents that serve these assets what holds for them, as far as they were not told.
    pub(super) fn tell(&self, assets: &[AssetId]) {
        // A handful is looked up; for a fleet each session is asked what it serves.
        if let [asset] = assets {
            if let Some(session) = self.registry.serving(*asset) {
                self.tell_session(&session, &[*asset]);
            }
            return;
        }
        let wanted: HashSet<AssetId> = assets.iter().copied().collect();
        for session in self.registry.sessions() {
            let mut served = session.assets();
            served.retain(|asset| wanted.contains(asset));
            self.tell_session(&session, &served);
        }
    }

    /// Tells a session that was short of room, or may be, what it was not told.
    pub(crate) fn replay(&self, session: &Arc<Session>) {
        self.tell_session(session, &session.assets());
    }

    fn tell_session(&self, session: &Arc<Session>, assets: &[AssetId]) {
        if !session.capabilities.limits {
            return;
        }
        let mut assets = assets.iter().copied();
        while let Some(asset) = assets.next() {
            if self.try_tell(session, asset) {
                continue;
            }
            // A gateway may have more assets than places in its queue, and a stop must not wait.
            let rest: Vec<AssetId> = std::iter::once(asset).chain(assets).collect();
            let slowly = Slowly {
                session: Arc::clone(session),
                registry: Arc::clone(&self.registry),
                book: Arc::clone(&self.book),
                traces: Arc::clone(&self.traces),
                clock: self.clock.clone(),
            };
            self.tasks.spawn(slowly.tell(rest));
            return;
        }
    }

    /// `false`: there is no room for it.
    fn try_tell(&self, session: &Session, asset: AssetId) -> bool {
        let now = self.clock.now();
        let mut book = self.book.lock();
        if !book.is_untold(asset, speaker(session)) {
            return true;
        }
        let Ok(place) = session.outbound.try_reserve() else {
            return false;
        };
        let limits = book.message(asset, speaker(session), now);
        let message = traced(limits, &book, &self.traces);
        drop(book);
        place.send(Box::new(message));
        true
    }

    /// An agent has said in a session that nobody can see yet, or about assets that it was given
    /// just now, what it is doing; it is told what holds before it can get any order.
    pub(crate) fn greet<'a>(
        &self,
        session: &Arc<Session>,
        states: impl Iterator<Item = &'a AssetState>,
        grants: &[Grant],
    ) {
        let granted: HashSet<AssetId> = grants
            .iter()
            .filter(|grant| grant.status == GrantStatus::Granted)
            .map(|grant| grant.asset_id)
            .collect();
        let mut assets = Vec::new();
        for state in states.filter(|state| granted.contains(&state.asset_id)) {
            self.hear(
                session,
                state.asset_id,
                state.limit_revision,
                &state.control,
            );
            assets.push(state.asset_id);
        }
        self.tell_session(session, &assets);
    }

    /// The agent of a live session has said what one of its assets is doing.
    pub(crate) fn said(
        &self,
        session: &Arc<Session>,
        asset: AssetId,
        limit_revision: u64,
        control: &Control,
    ) {
        if self.hear(session, asset, limit_revision, control) && session.capabilities.limits {
            self.tell_session(session, &[asset]);
        }
    }

    fn hear(&self, session: &Session, asset: AssetId, revision: u64, control: &Control) -> bool {
        let said = Said {
            by: speaker(session),
            revision,
            control: *control,
        };
        let now = self.clock.now();
        let must = self.book.lock().said(asset, &said, now);
        if must {
            self.due.notify_one();
        }
        must
    }

    /// An agent's report on limits is stored.
    pub(crate) fn reported(&self, agent: AgentId, asset: AssetId, report: &LimitReport) {
        let now = self.clock.now();
        let (cause, moved) = {
            let mut book = self.book.lock();
            let cause = book.cause(asset, report.revision);
            (cause, book.reported(asset, report, now))
        };
        let trace_id = cause.and_then(|cause| id_of(self.trace(cause)));
        tracing::info!(agent_id = %agent, asset_id = %asset, revision = report.revision, phase = %report.phase,
            reason = report.reason.map(tracing::field::display), text = report.text, trace_id, "limits reported");
        for limit in moved {
            let trace_id = id_of(self.trace(limit.id.uuid()));
            tracing::info!(limit_id = %limit.id, asset_id = %asset, status = %limit.status, text = limit.text,
                trace_id, "limit moved on");
        }
        self.due.notify_one();
    }
}

pub(super) const fn speaker(session: &Session) -> Speaker {
    (session.agent_id, session.epoch)
}

/// Tells a session whose queue is full.
struct Slowly {
    session: Arc<Session>,
    registry: Arc<Registry>,
    book: Arc<Mutex<Book>>,
    traces: Arc<Mutex<Traces>>,
    clock: Clock,
}

impl Slowly {
    /// Waits for room, for one message after the other.
    async fn tell(self, assets: Vec<AssetId>) {
        let session = &*self.session;
        for asset in assets {
            let place = timeout(PATIENCE, session.outbound.reserve()).await;
            // Else its heartbeats will show that it was not told, or its session has ended.
            let Ok(Ok(place)) = place else { return };
            if !self.registry.is_current(session) {
                return;
            }
            let now = self.clock.now();
            let mut book = self.book.lock();
            if book.is_untold(asset, speaker(session)) {
                let limits = book.message(asset, speaker(session), now);
                let message = traced(limits, &book, &self.traces);
                drop(book);
                place.send(Box::new(message));
            }
        }
    }
}
