//! Which session serves which asset now.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use derms_proto::link::{Close, Grant, GrantStatus, LIMITS, SCHEDULE, Software};
use derms_proto::{
    AgentId, AgentMode, AgentStatus, AssetId, AssetName, Availability, CloseReason, Fleet,
    Heartbeat, InstanceId, LogId, SessionRecord, Timestamp, pb,
};
use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::auth::Principal;
use crate::link_auth::Credentials;
use crate::mailbox::Mailbox;
use crate::policy::Policy;
use crate::store::Carrier;

/// Messages on their way to an agent; boxed, since an idle queue must cost little.
pub(crate) type Outbound = Box<pb::HeadendMessage>;

/// The must-understand features of an agent that the headend asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) limits: bool,
    pub(crate) schedule: bool,
}

impl Capabilities {
    pub(crate) fn of(declared: &[String]) -> Self {
        let has = |name: &str| declared.iter().any(|declared| declared == name);
        Self {
            limits: has(LIMITS),
            schedule: has(SCHEDULE),
        }
    }
}

/// A live session, as everyone but its own task sees it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) agent_id: AgentId,
    pub(crate) instance_id: InstanceId,
    pub(crate) epoch: u64,
    pub(crate) peer: Option<String>,
    pub(crate) principal: Option<Principal>,
    /// What it has proved who it is by; `None` if it did not have to.
    pub(crate) credentials: Option<Credentials>,
    pub(crate) software: Software,
    pub(crate) capabilities: Capabilities,
    pub(crate) durable: bool,
    pub(crate) report_log: Option<LogId>,
    pub(crate) connected_at: Timestamp,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) outbound: mpsc::Sender<Outbound>,
    /// On the wall clock, to be shown.
    last_seen: AtomicI64,
    /// When it began, and how much later it was heard last, microseconds: on the clock by which its
    /// stream is given up, so that a wall clock that jumps makes nobody seem offline.
    began: Instant,
    heard_after: AtomicU64,
    /// In order; most sessions have one.
    assets: RwLock<Vec<AssetId>>,
    /// What it served until it was over.
    left: OnceLock<Vec<AssetId>>,
}

/// What a session is made of.
#[derive(Debug)]
pub(crate) struct NewSession {
    pub(crate) agent_id: AgentId,
    pub(crate) instance_id: InstanceId,
    pub(crate) epoch: u64,
    pub(crate) peer: Option<String>,
    pub(crate) principal: Option<Principal>,
    /// What it has proved who it is by; `None` if it did not have to.
    pub(crate) credentials: Option<Credentials>,
    pub(crate) software: Software,
    pub(crate) capabilities: Capabilities,
    pub(crate) durable: bool,
    pub(crate) report_log: Option<LogId>,
    pub(crate) connected_at: Timestamp,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) outbound: mpsc::Sender<Outbound>,
}

impl Session {
    pub(crate) fn new(new: NewSession) -> Self {
        Self {
            last_seen: AtomicI64::new(new.connected_at.unix_micros()),
            began: Instant::now(),
            heard_after: AtomicU64::new(0),
            assets: RwLock::default(),
            left: OnceLock::new(),
            agent_id: new.agent_id,
            instance_id: new.instance_id,
            epoch: new.epoch,
            peer: new.peer,
            principal: new.principal,
            credentials: new.credentials,
            software: new.software,
            capabilities: new.capabilities,
            durable: new.durable,
            report_log: new.report_log,
            connected_at: new.connected_at,
            mailbox: new.mailbox,
            outbound: new.outbound,
        }
    }

    pub(crate) fn seen(&self, now: Timestamp) {
        self.last_seen.store(now.unix_micros(), Ordering::Relaxed);
        let after = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.heard_after.store(after, Ordering::Relaxed);
    }

    /// How long it has said nothing.
    fn silence(&self) -> Duration {
        let heard = Duration::from_micros(self.heard_after.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(heard)
    }

    pub(crate) fn last_seen(&self) -> Timestamp {
        Timestamp::from_unix_micros(self.last_seen.load(Ordering::Relaxed))
    }

    /// As it is told: with the assets that it serves now, or served last.
    pub(crate) fn record(&self) -> SessionRecord {
        SessionRecord {
            agent_id: self.agent_id,
            instance_id: self.instance_id,
            epoch: self.epoch,
            peer: self.peer.clone(),
            agent_version: self.version(),
            assets: self.left.get().cloned().unwrap_or_else(|| self.assets()),
            connected_at: self.connected_at,
            disconnected_at: None,
            cause: None,
            text: None,
        }
    }

    pub(crate) fn assets(&self) -> Vec<AssetId> {
        self.assets.read().clone()
    }

    pub(crate) fn serves(&self, asset: AssetId) -> bool {
        self.assets.read().binary_search(&asset).is_ok()
    }

    fn add(&self, asset: AssetId) {
        let mut assets = self.assets.write();
        if let Err(place) = assets.binary_search(&asset) {
            assets.insert(place, asset);
        }
    }

    /// Whether it was there.
    fn remove(&self, asset: AssetId) -> bool {
        let mut assets = self.assets.write();
        let place = assets.binary_search(&asset);
        place.is_ok_and(|place| assets.remove(place) == asset)
    }

    /// What the agent has said of an asset in this session; what an earlier one said is over.
    pub(crate) fn availability(
        &self,
        newest: &HashMap<AssetId, Heartbeat>,
        asset: AssetId,
    ) -> Option<Availability> {
        let said = newest.get(&asset)?;
        let own = (said.agent_id, said.epoch) == (self.agent_id, self.epoch);
        own.then_some(said.availability)
    }

    pub(crate) fn carrier(&self) -> Carrier {
        Carrier {
            agent: self.agent_id,
            instance: self.instance_id,
            report_log: self.report_log,
            epoch: self.epoch,
        }
    }

    fn version(&self) -> Option<String> {
        let text = format!("{} {}", self.software.name, self.software.version);
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

/// All live sessions. The newest epoch of an agent wins; what an older one does on its way out
/// changes nothing.
#[derive(Debug)]
pub(crate) struct Registry {
    fleet: Arc<Fleet>,
    liveness: Duration,
    max_assets: usize,
    policy: Policy,
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    agents: HashMap<AgentId, Arc<Session>>,
    /// The newest epoch that was ever live here: a slow claim must not bring back an older one.
    newest: HashMap<AgentId, u64>,
    assets: HashMap<AssetId, Arc<Session>>,
    /// When an asset was last heard, kept when its session has ended.
    last_seen: HashMap<AssetId, Timestamp>,
    /// When an asset was last given up, on a clock that nobody sets.
    given_up: HashMap<AssetId, Instant>,
    takeovers: HashMap<AgentId, VecDeque<Instant>>,
}

/// What a session serves since an update of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    /// New in it.
    pub(crate) granted: Vec<AssetId>,
    /// No longer in it.
    pub(crate) left: Vec<AssetId>,
}

/// Three takeovers between different processes within this time: two of them are alive.
const TAKEOVER_WINDOW: Duration = Duration::from_secs(60);
const TAKEOVERS_SUSPECT: usize = 3;

impl Registry {
    pub(crate) fn new(fleet: Arc<Fleet>, liveness: Duration, max_assets: usize) -> Self {
        Self {
            policy: Policy::of(&fleet),
            fleet,
            liveness,
            max_assets,
            tables: RwLock::default(),
        }
    }

    /// By another rule than that of the fleet.
    pub(crate) fn ruled_by(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Whether this agent may serve any asset of the fleet.
    pub(crate) fn knows(&self, agent: AgentId) -> bool {
        self.policy.knows(agent, &self.fleet)
    }

    /// The live session that a claim would take over, if it is the third such claim of another
    /// process within a minute: then the incumbent must be asked first.
    pub(crate) fn suspect(&self, agent: AgentId, instance: InstanceId) -> Option<Arc<Session>> {
        let tables = self.tables.read();
        let incumbent = tables.agents.get(&agent)?;
        let recent = tables.takeovers.get(&agent).map_or(0, |times| {
            let recent = |at: &&Instant| at.elapsed() < TAKEOVER_WINDOW;
            times.iter().filter(recent).count()
        });
        let suspect = incumbent.instance_id != instance && recent + 1 >= TAKEOVERS_SUSPECT;
        suspect.then(|| Arc::clone(incumbent))
    }

    /// Makes a session the one of its agent and gives it the assets it claims.
    ///
    /// `register` is called with the grants while nobody can see the session yet, so that what it
    /// queues goes out before any order. The loser of a takeover is told to close.
    ///
    /// # Errors
    /// A newer session of the agent is there already.
    pub(crate) fn insert(
        &self,
        session: &Arc<Session>,
        claims: &[AssetId],
        register: impl FnOnce(Vec<Grant>),
    ) -> Result<(), Close> {
        let mut tables = self.tables.write();
        let newest = tables.newest.entry(session.agent_id).or_default();
        if *newest > session.epoch {
            return Err(taken_over());
        }
        *newest = session.epoch;
        if let Some(incumbent) = tables.agents.get(&session.agent_id).cloned() {
            if incumbent.instance_id != session.instance_id {
                let times = tables.takeovers.entry(session.agent_id).or_default();
                times.push_back(Instant::now());
                if times.len() > TAKEOVERS_SUSPECT {
                    times.pop_front();
                }
            }
            tables.detach(&incumbent);
            incumbent.mailbox.close(taken_over());
        }
        tables.agents.insert(session.agent_id, Arc::clone(session));
        let grants = self.grant(&mut tables, session, claims);
        register(grants);
        Ok(())
    }

    /// Adds and removes assets of a session; `None` if it is not the newest any more. What was removed
    /// and is granted again by the same call has not left.
    pub(crate) fn update(
        &self,
        session: &Arc<Session>,
        claims: &[AssetId],
        removed: &[AssetId],
        answer: impl FnOnce(Vec<Grant>),
    ) -> Option<Changed> {
        let mut tables = self.tables.write();
        let before = session.assets();
        tables
            .agents
            .get(&session.agent_id)
            .filter(|s| s.epoch == session.epoch)?;
        for asset in removed {
            if session.remove(*asset) {
                tables.release(*asset, session);
            }
        }
        let kept = session.assets();
        let grants = self.grant(&mut tables, session, claims);
        let granted = grants
            .iter()
            .filter(|g| g.status == GrantStatus::Granted && !kept.contains(&g.asset_id))
            .map(|g| g.asset_id)
            .collect();
        answer(grants);
        let left = before.into_iter().filter(|asset| !session.serves(*asset));
        Some(Changed {
            granted,
            left: left.collect(),
        })
    }

    fn grant(&self, tables: &mut Tables, session: &Arc<Session>, claims: &[AssetId]) -> Vec<Grant> {
        let mut grants = Vec::with_capacity(claims.len());
        let mut seen = HashSet::with_capacity(claims.len());
        for asset_id in claims.iter().filter(|id| seen.insert(**id)) {
            let status = if session.serves(*asset_id) && self.may_serve(session, *asset_id) {
                GrantStatus::Granted
            } else {
                let held = session.assets.read().len();
                let elsewhere = tables.assets.contains_key(asset_id);
                self.verdict(session.agent_id, *asset_id, held, elsewhere)
            };
            if status == GrantStatus::Granted {
                tables.assets.insert(*asset_id, Arc::clone(session));
                session.add(*asset_id);
            }
            grants.push(answer(*asset_id, status));
        }
        grants
    }

    fn may_serve(&self, session: &Session, asset: AssetId) -> bool {
        let asset = self.fleet.asset(asset);
        asset.is_some_and(|asset| self.policy.may_serve(session.agent_id, asset))
    }

    /// What an agent that has so many assets is answered of one that it does not have.
    fn verdict(&self, agent: AgentId, asset: AssetId, held: usize, elsewhere: bool) -> GrantStatus {
        match self.fleet.asset(asset) {
            None => GrantStatus::UnknownAsset,
            Some(asset) if !self.policy.may_serve(agent, asset) => GrantStatus::Forbidden,
            Some(_) if held >= self.max_assets => GrantStatus::TooMany,
            Some(_) if elsewhere => GrantStatus::ServedElsewhere,
            Some(_) => GrantStatus::Granted,
        }
    }

    /// What a new session of this agent would be granted now, and whether one is live; nothing
    /// changes.
    pub(crate) fn probe(&self, agent: AgentId, claims: &[AssetId]) -> (Vec<Grant>, bool) {
        let tables = self.tables.read();
        let mut seen = HashSet::with_capacity(claims.len());
        let mut held = 0;
        let claims = claims.iter().filter(|id| seen.insert(**id));
        let grants = claims.map(|asset_id| {
            // A new session takes the place of the agent's own.
            let holder = tables.assets.get(asset_id);
            let elsewhere = holder.is_some_and(|session| session.agent_id != agent);
            let status = self.verdict(agent, *asset_id, held, elsewhere);
            held += usize::from(status == GrantStatus::Granted);
            answer(*asset_id, status)
        });
        (grants.collect(), tables.agents.contains_key(&agent))
    }

    /// Takes a session out, if it is still the one of its agent: a stale teardown touches nothing.
    pub(crate) fn remove(&self, session: &Session) -> bool {
        let mut tables = self.tables.write();
        let current = tables
            .agents
            .get(&session.agent_id)
            .is_some_and(|held| held.epoch == session.epoch);
        if current {
            tables.agents.remove(&session.agent_id);
            tables.detach(session);
        }
        current
    }

    /// The session of this agent, if it still has this epoch.
    pub(crate) fn session(&self, agent: AgentId, epoch: u64) -> Option<Arc<Session>> {
        let tables = self.tables.read();
        let session = tables.agents.get(&agent)?;
        (session.epoch == epoch).then(|| Arc::clone(session))
    }

    pub(crate) fn is_current(&self, session: &Session) -> bool {
        let tables = self.tables.read();
        tables
            .agents
            .get(&session.agent_id)
            .is_some_and(|held| held.epoch == session.epoch)
    }

    /// The session that serves an asset and has been heard within the liveness limit.
    pub(crate) fn serving(&self, asset: AssetId) -> Option<Arc<Session>> {
        let tables = self.tables.read();
        let session = tables.assets.get(&asset)?;
        let live = session.silence() < self.liveness;
        live.then(|| Arc::clone(session))
    }

    /// When an asset's agent was last heard.
    pub(crate) fn last_seen(&self, asset: AssetId) -> Option<Timestamp> {
        let tables = self.tables.read();
        match tables.assets.get(&asset) {
            Some(session) => Some(session.last_seen()),
            None => tables.last_seen.get(&asset).copied(),
        }
    }

    /// How long an asset has had no session, not even a silent one: each of them starts the failsafe
    /// clock of its agent anew. [`Duration::MAX`]: since the start of the headend.
    pub(crate) fn unserved(&self, asset: AssetId) -> Duration {
        let tables = self.tables.read();
        if tables.assets.contains_key(&asset) {
            return Duration::ZERO;
        }
        let given_up = tables.given_up.get(&asset);
        given_up.map_or(Duration::MAX, Instant::elapsed)
    }

    /// How many assets are served by a session that has been heard within the liveness limit.
    pub(crate) fn connected(&self) -> usize {
        let tables = self.tables.read();
        let sessions = tables.assets.values();
        sessions
            .filter(|session| session.silence() < self.liveness)
            .count()
    }

    pub(crate) fn len(&self) -> usize {
        self.tables.read().agents.len()
    }

    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        self.tables.read().agents.values().cloned().collect()
    }

    /// Live agents, by id.
    pub(crate) fn agents(&self) -> Vec<AgentStatus> {
        let mut sessions = self.sessions();
        sessions.retain(|session| session.silence() < self.liveness);
        sessions.sort_by_key(|session| session.agent_id);
        sessions
            .iter()
            .map(|session| self.status(session))
            .collect()
    }

    fn status(&self, session: &Session) -> AgentStatus {
        let assets: Vec<_> = session
            .assets()
            .into_iter()
            .filter_map(|id| self.fleet.asset(id))
            .collect();
        let site_id = assets.first().map(|asset| asset.site_id);
        let site_id = site_id.filter(|site| assets.iter().all(|a| a.site_id == *site));
        AgentStatus {
            agent_id: Some(session.agent_id),
            instance_id: Some(session.instance_id),
            mode: Some(if assets.len() > 1 {
                AgentMode::Gateway
            } else {
                AgentMode::Single
            }),
            connected: true,
            site_id,
            site_name: site_id
                .and_then(|id| self.fleet.site(id))
                .map(|site| site.name.clone()),
            assets: assets
                .iter()
                .map(|asset| AssetName {
                    id: asset.id,
                    name: asset.name.clone(),
                })
                .collect(),
            peer: session.peer.clone(),
            principal: session.principal.as_ref().map(|p| p.name().to_owned()),
            connected_at: Some(session.connected_at),
            last_seen: Some(session.last_seen()),
            epoch: Some(session.epoch),
            agent_version: session.version(),
            durable: Some(session.durable),
        }
    }
}

impl Tables {
    fn detach(&mut self, session: &Session) {
        let assets = std::mem::take(&mut *session.assets.write());
        for asset in &assets {
            self.release(*asset, session);
        }
        // Those of the first time: it may be detached again, with none.
        let _ = session.left.set(assets);
    }

    fn release(&mut self, asset: AssetId, session: &Session) {
        let held = self.assets.get(&asset);
        if held.is_some_and(|h| h.agent_id == session.agent_id && h.epoch == session.epoch) {
            self.assets.remove(&asset);
            self.last_seen.insert(asset, session.last_seen());
            self.given_up.insert(asset, Instant::now());
        }
    }
}

fn answer(asset_id: AssetId, status: GrantStatus) -> Grant {
    Grant {
        asset_id,
        status,
        last_revision: 0,
        text: None,
    }
}

fn taken_over() -> Close {
    Close::new(
        CloseReason::TakenOver,
        "a newer session of this agent is active",
    )
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
