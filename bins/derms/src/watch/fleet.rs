//! What is known of a fleet that is watched: lists, kept current by what happens.

use std::collections::{HashMap, VecDeque};

use derms_client::proto::{
    AgentId, AssetId, Dispatch, Event, EventId, LiveItem, SessionRecord, Telemetry,
    TelemetrySnapshot,
};
use tokio::time::Instant;

use super::feed::Lists;
use crate::names::Directory;
use crate::table::Table;
use crate::telemetry::overview;
use crate::words::{clean, directed, few, fine_time, or_nothing, power, word};
use crate::{dispatch, events};

/// So many of the newest events are known again: more than the lists bring a second time.
const KNOWN_EVENTS: usize = 1_000;

/// Begins empty; [`read`](Self::read) fills it.
#[derive(Debug)]
pub(super) struct Fleet {
    directory: Directory,
    measured: HashMap<AssetId, Measured>,
    /// Of assets whose agent has come since the lists were read, its session.
    sessions: HashMap<AssetId, (AgentId, u64)>,
    /// Those that were told last.
    told: VecDeque<EventId>,
}

#[derive(Debug)]
struct Measured {
    /// As it was at `at`.
    snapshot: TelemetrySnapshot,
    at: Instant,
}

impl Fleet {
    pub(super) fn new() -> Self {
        Self {
            directory: Directory { sites: Vec::new() },
            measured: HashMap::new(),
            sessions: HashMap::new(),
            told: VecDeque::new(),
        }
    }

    /// Takes the lists as they are now; gives what of them was not told yet, events oldest first.
    pub(super) fn read(&mut self, lists: Lists, now: Instant) -> Vec<LiveItem> {
        self.directory = lists.directory;
        self.sessions.clear();
        let before = std::mem::take(&mut self.measured);
        let mut news = Vec::new();
        for snapshot in lists.snapshots {
            let id = snapshot.telemetry.asset_id;
            let old = before.get(&id).map(|it| it.snapshot.telemetry.measured_at);
            if old != Some(snapshot.telemetry.measured_at) {
                news.push(LiveItem::Telemetry(Box::new(snapshot.telemetry.clone())));
            }
            self.measured.insert(id, Measured { snapshot, at: now });
        }
        for event in lists.events.into_iter().rev() {
            if self.is_new(&event) {
                news.push(LiveItem::Event(Box::new(event)));
            }
        }
        news
    }

    /// Takes what has happened; whether it was not told yet.
    pub(super) fn take(&mut self, item: &LiveItem, now: Instant) -> bool {
        match item {
            LiveItem::Telemetry(telemetry) => self.measure(telemetry, now),
            LiveItem::Session(session) => {
                self.connect(session);
                true
            }
            LiveItem::Event(event) => self.is_new(event),
            _ => true,
        }
    }

    fn measure(&mut self, telemetry: &Telemetry, now: Instant) -> bool {
        let known = self.measured.get(&telemetry.asset_id);
        // What the lists had may come once more.
        if known.is_some_and(|it| it.snapshot.telemetry.measured_at >= telemetry.measured_at) {
            return false;
        }
        let age = telemetry
            .received_at
            .saturating_since(telemetry.measured_at);
        let snapshot = TelemetrySnapshot {
            telemetry: telemetry.clone(),
            age_s: age.as_secs_f64(),
            stale: false,
        };
        let id = telemetry.asset_id;
        self.measured.insert(id, Measured { snapshot, at: now });
        true
    }

    fn connect(&mut self, session: &SessionRecord) {
        let this = (session.agent_id, session.epoch);
        let begun = session.disconnected_at.is_none();
        for site in &mut self.directory.sites {
            for asset in &mut site.assets {
                let id = asset.asset.id;
                if !session.assets.contains(&id) {
                    continue;
                }
                if begun {
                    self.sessions.insert(id, this);
                } else if self.sessions.get(&id).is_some_and(|other| *other != this) {
                    // Another session has taken over.
                    continue;
                }
                asset.connected = begun;
            }
        }
    }

    fn is_new(&mut self, event: &Event) -> bool {
        if self.told.contains(&event.id) {
            return false;
        }
        self.told.push_back(event.id);
        if self.told.len() > KNOWN_EVENTS {
            self.told.pop_front();
        }
        true
    }

    /// A row for each asset, as it is now.
    pub(super) fn table(&self, now: Instant) -> Table {
        let aged = self.measured.values().map(|it| {
            let mut snapshot = it.snapshot.clone();
            snapshot.age_s += now.saturating_duration_since(it.at).as_secs_f64();
            snapshot.stale |= !self.is_connected(snapshot.telemetry.asset_id);
            snapshot
        });
        let snapshots: Vec<TelemetrySnapshot> = aged.collect();
        overview(&self.directory, &snapshots)
    }

    fn is_connected(&self, id: AssetId) -> bool {
        let mut assets = self.directory.assets();
        assets.any(|it| it.asset.id == id && it.connected)
    }

    /// What has happened, for people; `None` for what this program does not know.
    pub(super) fn line(&self, item: &LiveItem) -> Option<String> {
        let text = match item {
            LiveItem::Telemetry(telemetry) => self.measurement(telemetry),
            LiveItem::Dispatch(order) => self.order(order),
            LiveItem::Session(session) => self.session(session),
            LiveItem::Event(event) => format!(
                "{} {} {} {}: {}",
                fine_time(event.at),
                events::about(&self.directory, event),
                word(&event.severity),
                event.code,
                event.text
            ),
            _ => return None,
        };
        Some(clean(&text))
    }

    fn measurement(&self, telemetry: &Telemetry) -> String {
        let values = &telemetry.measurements;
        let id = telemetry.asset_id;
        let kind = self.directory.configured(id).map(|it| it.kind);
        let stale = self.measured.get(&id).is_some_and(|it| it.snapshot.stale);
        format!(
            "{} {} {} setpoint {} soc {} {} {}{}",
            fine_time(telemetry.measured_at),
            self.directory.asset_name(id),
            or_nothing(values.mw, |mw| directed(mw, kind)),
            or_nothing(values.setpoint_mw, power),
            or_nothing(values.soc_pct, |soc| format!("{soc:.1}%")),
            or_nothing(values.status, |it| word(&it)),
            or_nothing(values.control, |it| word(&it)),
            if stale { " stale" } else { "" },
        )
    }

    fn order(&self, order: &Dispatch) -> String {
        let last = order.transitions.last();
        let at = last.map_or(order.created_at, |it| it.reported_at.unwrap_or(it.at));
        let why = dispatch::why(order).map_or_else(String::new, |why| format!(" ({why})"));
        format!(
            "{} {} order {} {}{why} {}",
            fine_time(at),
            dispatch::place(&self.directory, order),
            dispatch::shown_power(&self.directory, order),
            dispatch::status(order),
            order.id
        )
    }

    fn session(&self, session: &SessionRecord) -> String {
        let names = session
            .assets
            .iter()
            .map(|id| self.directory.asset_name(*id));
        let names = few(names);
        match session.disconnected_at {
            None => format!("{} {names} connected", fine_time(session.connected_at)),
            Some(at) => format!(
                "{} {names} disconnected: {}",
                fine_time(at),
                or_nothing(session.cause, |cause| word(&cause))
            ),
        }
    }
}
