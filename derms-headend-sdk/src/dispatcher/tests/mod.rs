//! A dispatcher with a real registry and store, and sessions whose outbound queues the tests read;
//! time stands still unless told to pass.

mod away;
mod cancel;
mod delivery;
mod old_agents;
mod orders;
mod outcome;
mod preview;
mod rebalance;
mod resync;
mod schedule;
mod share;

use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::{
    AssetState, Control, HeadendMessage, LIMITS, Register, Report, ReportEntry, SCHEDULE,
    SetpointOrder, SetpointPhase, SetpointReport, Software,
};
use derms_proto::{
    AgentId, Asset, AssetId, AssetKind, Availability, ControlSource, Dispatch, DispatchId,
    DispatchStatus, Fleet, InstanceId, LogId, NewDispatch, Power, SessionRecord, Site, SiteId,
    Timestamp,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::*;
use crate::events::Events;
use crate::registry::{Capabilities, NewSession, Outbound, Session};
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::{ReportAppend, StoredReport};

/// Batteries of 120, 40 and 40 MWh, at ±60, ±20 and ±20 MW, on one site with a meter.
const BIG: AssetId = AssetId::new(Uuid::from_u128(11));
const LEFT: AssetId = AssetId::new(Uuid::from_u128(12));
const RIGHT: AssetId = AssetId::new(Uuid::from_u128(13));
const METER: AssetId = AssetId::new(Uuid::from_u128(14));
const SITE: SiteId = SiteId::new(Uuid::from_u128(1));
/// A site of its own.
const FAR: AssetId = AssetId::new(Uuid::from_u128(21));
const FAR_SITE: SiteId = SiteId::new(Uuid::from_u128(2));

const START: Timestamp = Timestamp::from_unix_micros(1_700_000_000_000_000);

struct Bench {
    store: FaultyStore,
    registry: Arc<Registry>,
    dispatcher: Arc<Dispatcher>,
    clock: Clock,
    config: Config,
    present: Present,
    tasks: TaskTracker,
    stop: CancellationToken,
}

fn fleet() -> Arc<Fleet> {
    let site = |id, name: &str| Site {
        id,
        name: name.to_owned(),
        location: String::new(),
    };
    let asset = |id, site, kind, mw: f64, capacity| {
        let (min, max) = (Power::from_mw(-mw), Power::from_mw(mw));
        let mut asset = Asset::new(id, id.to_string(), site, kind, min, max);
        asset.capacity_mwhr = capacity;
        asset
    };
    let assets = vec![
        asset(BIG, SITE, AssetKind::Battery, 60.0, 120.0),
        asset(LEFT, SITE, AssetKind::Battery, 20.0, 40.0),
        asset(RIGHT, SITE, AssetKind::Battery, 20.0, 40.0),
        asset(METER, SITE, AssetKind::Meter, 100.0, 0.0),
        Asset {
            default_mw: Power::from_mw(1.0),
            ..asset(FAR, FAR_SITE, AssetKind::Battery, 10.0, 10.0)
        },
    ];
    let sites = vec![site(SITE, "near"), site(FAR_SITE, "far")];
    Arc::new(Fleet::new(sites, assets).unwrap())
}

impl Bench {
    async fn new() -> Self {
        let base = Instant::now();
        let clock = Clock::new(move || START.saturating_add(Instant::now() - base));
        Self::on(FaultyStore::new(Fault::None), clock, Config::default()).await
    }

    /// A headend that starts on this store.
    async fn on(store: FaultyStore, clock: Clock, config: Config) -> Self {
        let present = Present {
            latest: Arc::new(crate::latest::Latest::new(&fleet())),
            heartbeats: Arc::default(),
        };
        let registry = Arc::new(Registry::new(fleet(), config.liveness_timeout, 256));
        let tasks = TaskTracker::new();
        let limits = Arc::new(Limits::new(
            fleet(),
            Arc::new(store.clone()),
            Arc::clone(&registry),
            clock.clone(),
            tasks.clone(),
        ));
        limits.recover().await.unwrap();
        let events = Arc::new(Events::new(fleet(), clock.clone()));
        let (dispatcher, queue) = Dispatcher::new(
            fleet(),
            Arc::new(store.clone()),
            Arc::clone(&registry),
            present.clone(),
            Arc::clone(&events),
            Arc::new(config.clone()),
            Arc::clone(&limits),
        );
        let stop = CancellationToken::new();
        tasks.spawn(queue.run(Arc::clone(&dispatcher), stop.clone()));
        dispatcher.recover().await.unwrap();
        Self {
            store,
            registry,
            dispatcher,
            clock,
            config,
            present,
            tasks,
            stop,
        }
    }

    /// The headend dies and another one starts on its store.
    async fn restarted(self) -> Self {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        Self::on(self.store, self.clock, self.config).await
    }

    async fn submit(&self, new: &NewDispatch) -> Result<Dispatch, DispatchError> {
        Ok(self
            .dispatcher
            .submit(new, None, None, None)
            .await?
            .dispatch)
    }

    async fn order(&self, asset: AssetId, mw: f64) -> Dispatch {
        self.submit(&NewDispatch::asset(asset, Power::from_mw(mw)))
            .await
            .unwrap()
    }

    async fn cancel(&self, id: DispatchId) -> Dispatch {
        let ann = Principal::new("ann");
        let cancelled = self.dispatcher.cancel(id, Some(&ann)).await;
        cancelled.unwrap().unwrap()
    }

    async fn stored(&self, id: DispatchId) -> Dispatch {
        self.store.inner.dispatch(id).await.unwrap().unwrap()
    }

    async fn status(&self, id: DispatchId) -> DispatchStatus {
        self.stored(id).await.status
    }

    /// The time is that much later, and everything that was due by then has happened.
    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// A session of the gateway of the first site, with a queue of 256.
    async fn gateway(&self) -> Agent {
        Agent::new(AgentId::from(SITE))
            .connect(self, &[BIG, LEFT, RIGHT, METER])
            .await
    }

    async fn agent_of(&self, asset: AssetId) -> Agent {
        Agent::new(asset.into()).connect(self, &[asset]).await
    }
}

/// An agent: what lives on in its process, and its session.
struct Agent {
    id: AgentId,
    instance: InstanceId,
    report_log: LogId,
    next_seq: u64,
    in_force: Vec<(AssetId, DispatchId)>,
    queue_size: usize,
    capabilities: Capabilities,
    link: Option<(Arc<Session>, mpsc::Receiver<Outbound>)>,
}

impl Agent {
    fn new(id: AgentId) -> Self {
        Self {
            id,
            instance: InstanceId::generate(),
            report_log: LogId::generate(),
            next_seq: 1,
            in_force: Vec::new(),
            queue_size: 256,
            capabilities: Capabilities::of(&[LIMITS.to_owned(), SCHEDULE.to_owned()]),
            link: None,
        }
    }

    /// Begins a session and has it seen; nothing waits for it yet.
    async fn claim(&mut self, bench: &Bench, assets: &[AssetId]) -> Arc<Session> {
        let now = bench.clock.now();
        let record = SessionRecord {
            agent_id: self.id,
            instance_id: self.instance,
            epoch: 0,
            peer: None,
            agent_version: None,
            assets: assets.to_vec(),
            connected_at: now,
            disconnected_at: None,
            cause: None,
            text: None,
        };
        let epoch = bench.store.open_session(&record, 0).await.unwrap();
        let (outbound, queue) = mpsc::channel(self.queue_size);
        let session = Arc::new(Session::new(NewSession {
            agent_id: self.id,
            instance_id: self.instance,
            epoch,
            peer: None,
            principal: None,
            credentials: None,
            software: Software::default(),
            capabilities: self.capabilities,
            durable: true,
            report_log: Some(self.report_log),
            connected_at: now,
            mailbox: Arc::default(),
            outbound,
        }));
        bench.registry.insert(&session, assets, |_| {}).unwrap();
        self.link = Some((Arc::clone(&session), queue));
        session
    }

    async fn connect(mut self, bench: &Bench, assets: &[AssetId]) -> Self {
        self.claim(bench, assets).await;
        let register = self.register(assets);
        self.replay(bench, Some(&register)).await.unwrap();
        self
    }

    async fn replay(&self, bench: &Bench, register: Option<&Register>) -> Result<(), StoreError> {
        let session = self.session();
        bench
            .dispatcher
            .replay(session, &session.assets(), register)
            .await
    }

    /// The stream is gone, and the headend has recorded it.
    async fn disconnect(mut self, bench: &Bench) -> Self {
        let (session, _) = self.link.take().unwrap();
        bench.registry.remove(&session);
        bench
            .dispatcher
            .session_ended(self.id, session.epoch)
            .await
            .unwrap();
        self
    }

    /// Another process, whose memory is gone.
    fn forgetful(mut self) -> Self {
        self.instance = InstanceId::generate();
        self.report_log = LogId::generate();
        self.next_seq = 1;
        self.in_force.clear();
        self
    }

    fn register(&self, assets: &[AssetId]) -> Register {
        let state = |asset: &AssetId| {
            let order = self
                .in_force
                .iter()
                .find(|(of, _)| of == asset)
                .map(|(_, id)| *id);
            AssetState {
                asset_id: *asset,
                kind: AssetKind::Battery,
                rating: derms_proto::link::Rating {
                    min: Power::ZERO,
                    max: Power::ZERO,
                    capacity_mwh: None,
                    ramp_mw_per_min: None,
                },
                last_revision: 0,
                control: Control {
                    source: order.map_or(ControlSource::Default, |_| ControlSource::Setpoint),
                    dispatch_id: order,
                    ..Control::default()
                },
                availability: Availability::Available,
                limit_revision: 0,
            }
        };
        Register {
            agent_id: self.id,
            instance_id: self.instance,
            protocol_minor: 0,
            capabilities: Vec::new(),
            software: Software::default(),
            last_epoch: 0,
            logs: Vec::new(),
            assets: assets.iter().map(|asset| Ok(state(asset))).collect(),
            durable: true,
            agent_time: None,
        }
    }

    fn session(&self) -> &Arc<Session> {
        &self.link.as_ref().unwrap().0
    }

    fn messages(&mut self) -> Vec<HeadendMessage> {
        let queue = &mut self.link.as_mut().unwrap().1;
        let messages = std::iter::from_fn(|| queue.try_recv().ok());
        messages
            .map(|message| HeadendMessage::try_from(*message).unwrap())
            .collect()
    }

    /// The orders on its queue.
    fn orders(&mut self) -> Vec<SetpointOrder> {
        let orders = self.messages().into_iter().map(|message| match message {
            HeadendMessage::Setpoint(order) => order,
            other => panic!("{other:?}"),
        });
        orders.collect()
    }

    /// What is on its queue, shortly.
    fn commands(&mut self) -> Vec<Command> {
        let commands = self.messages().into_iter().map(|message| match message {
            HeadendMessage::Setpoint(order) => Command::Set(order.dispatch_id, order.revision),
            HeadendMessage::Release(order) => Command::Release(order.dispatch_id, order.revision),
            other => panic!("{other:?}"),
        });
        commands.collect()
    }

    /// The only order on its queue.
    fn only_order(&mut self) -> SetpointOrder {
        let mut orders = self.orders();
        assert_eq!(orders.len(), 1, "{orders:?}");
        orders.remove(0)
    }

    async fn says(&mut self, bench: &Bench, order: &Dispatch, phase: SetpointPhase) {
        let report = SetpointReport {
            dispatch_id: order.id,
            revision: order.revision.unwrap(),
            phase,
            reason: None,
            text: None,
            applied: Some(order.mw),
        };
        self.reports(bench, order, report).await;
    }

    /// It has seen a newer command than this release.
    async fn refuses(&mut self, bench: &Bench, order: &Dispatch, revision: u64) {
        let report = SetpointReport {
            dispatch_id: order.id,
            revision,
            phase: SetpointPhase::Superseded,
            reason: Some(derms_proto::ReasonCode::StaleRevision),
            text: None,
            applied: None,
        };
        self.reports(bench, order, report).await;
    }

    async fn reports(&mut self, bench: &Bench, order: &Dispatch, report: SetpointReport) {
        let asset_id = order.asset_id.unwrap();
        self.in_force.retain(|(asset, _)| *asset != asset_id);
        if report.phase == SetpointPhase::Started {
            self.in_force.push((asset_id, order.id));
        }
        let entry = ReportEntry {
            at: bench.clock.now(),
            asset_id,
            report: Report::Setpoint(report),
        };
        let append = ReportAppend {
            agent: self.id,
            epoch: self.link.as_ref().map_or(0, |(session, _)| session.epoch),
            log: self.report_log,
            entries: vec![StoredReport {
                seq: self.next_seq,
                entry,
                event: None,
            }],
            next_seq: self.next_seq + 1,
            at: bench.clock.now(),
        };
        self.next_seq += 1;
        let fates = bench.store.append_reports(&[append]).await.unwrap();
        for fates in fates {
            bench.dispatcher.reported(self.id, fates);
        }
    }
}

/// With its revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Set(DispatchId, u64),
    Release(DispatchId, u64),
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
