//! Alarms and changes of state: what agents tell, and what the headend sees itself.
//!
//! What an agent tells is stored with its report log. What the headend raises waits in a [`Backlog`]
//! for the store: nobody waits for it. Every new event passes [`Events::record`] once.

mod clocks;
mod losses;
mod presence;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use derms_proto::link::{EventReport, ReportEntry};
use derms_proto::{AgentId, AssetId, Event, EventId, EventSource, Fleet, Severity, SiteId};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::backlog::{Backlog, Source};
use crate::config::Clock;
use crate::ingest::Writing;
use crate::live::Hub;
use crate::store::Store;

use clocks::Clocks;
use losses::Losses;

pub(crate) use crate::backlog::run;
pub(crate) use losses::tell_losses;
pub(crate) use presence::watch;

/// So many of the headend's own events wait for the store.
const MOST: usize = 10_000;
/// Those that are no alarm wait only if no more than this do.
const MOST_BELOW_ALARM: usize = MOST / 2;

#[derive(Debug)]
pub(crate) struct Events {
    fleet: Arc<Fleet>,
    clock: Clock,
    clocks: Mutex<Clocks>,
    losses: Mutex<Losses>,
    live: Arc<Hub>,
    backlog: Backlog<Event>,
    /// Cancelled when all telemetry is stored, and all that was lost is told.
    end: CancellationToken,
}

/// What an event of the headend is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct About {
    asset: Option<AssetId>,
    agent: Option<AgentId>,
    site: Option<SiteId>,
}

impl About {
    pub(crate) fn asset(asset: AssetId) -> Self {
        Self {
            asset: Some(asset),
            ..Self::default()
        }
    }

    pub(crate) fn by(mut self, agent: AgentId) -> Self {
        self.agent = Some(agent);
        self
    }

    /// An agent; of its asset if it has one, of their site if they have one.
    pub(crate) fn agent(agent: AgentId, assets: &[AssetId], fleet: &Fleet) -> Self {
        let site = |asset: &AssetId| fleet.asset(*asset).map(|asset| asset.site_id);
        let first = assets.first().and_then(site);
        let same = assets.iter().all(|asset| site(asset) == first);
        Self {
            asset: assets.first().copied().filter(|_| assets.len() == 1),
            agent: Some(agent),
            site: first.filter(|_| same),
        }
    }
}

impl Events {
    pub(crate) fn new(fleet: Arc<Fleet>, clock: Clock, live: Arc<Hub>) -> Self {
        Self {
            fleet,
            clock,
            clocks: Mutex::default(),
            losses: Mutex::default(),
            live,
            backlog: Backlog::default(),
            end: CancellationToken::new(),
        }
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// When their writer stops.
    pub(crate) fn end(&self) -> CancellationToken {
        self.end.clone()
    }

    /// What an agent tells of an asset, as it is stored.
    pub(crate) fn told(&self, agent: AgentId, entry: &ReportEntry, report: &EventReport) -> Event {
        let now = self.clock.now();
        Event {
            id: EventId::generate(),
            // A clock that is ahead at the edge must not hide what comes after it.
            at: entry.at.min(now),
            received_at: now,
            asset_id: Some(entry.asset_id),
            site_id: self.fleet.asset(entry.asset_id).map(|it| it.site_id),
            agent_id: Some(agent),
            severity: report.severity,
            code: report.code.clone(),
            text: report.text.clone(),
            source: EventSource::Agent,
            acknowledged: None,
        }
    }

    /// The headend has seen something.
    pub(crate) fn raise(
        &self,
        severity: Severity,
        code: &'static str,
        text: impl Into<String>,
        about: About,
    ) {
        self.put(self.own(severity, code, text.into(), about));
    }

    fn put(&self, event: Event) {
        let most = if event.severity < Severity::Alarm {
            MOST_BELOW_ALARM
        } else {
            MOST
        };
        self.put_below(most, event);
    }

    fn put_below(&self, most: usize, event: Event) {
        self.record(&event);
        self.backlog.put(event, most, Self::NAME);
    }

    fn own(&self, severity: Severity, code: &str, text: String, about: About) -> Event {
        let now = self.clock.now();
        let site = || Some(self.fleet.asset(about.asset?)?.site_id);
        Event {
            id: EventId::generate(),
            at: now,
            received_at: now,
            asset_id: about.asset,
            site_id: about.site.or_else(site),
            agent_id: about.agent,
            severity,
            code: code.to_owned(),
            text,
            source: EventSource::Headend,
            acknowledged: None,
        }
    }

    /// Each new event passes here once: what an agent told when the store has it, what the headend
    /// raises at once, which may be before the store has it.
    pub(crate) fn record(&self, event: &Event) {
        self.live.event(event);
        let Event {
            severity,
            code,
            text,
            source,
            ..
        } = event;
        let asset_id = event.asset_id.map(tracing::field::display);
        let agent_id = event.agent_id.map(tracing::field::display);
        match severity {
            Severity::Info => {
                tracing::info!(agent_id, asset_id, %severity, code, text, %source, "event");
            }
            Severity::Warning => {
                tracing::warn!(agent_id, asset_id, %severity, code, text, %source, "event");
            }
            _ => tracing::error!(agent_id, asset_id, %severity, code, text, %source, "event"),
        }
    }
}

impl Source for Events {
    type Item = Event;

    const NAME: &'static str = "events of the headend";

    fn backlog(&self) -> &Backlog<Event> {
        &self.backlog
    }

    fn write<'a>(store: &'a dyn Store, events: &'a [Event]) -> Writing<'a, ()> {
        store.append_events(events)
    }

    fn lost(&self, lost: u64) -> Event {
        let text = format!("{lost} events before this one are in the log of the headend alone");
        let event = self.own(Severity::Warning, "events_lost", text, About::default());
        self.record(&event);
        event
    }
}
