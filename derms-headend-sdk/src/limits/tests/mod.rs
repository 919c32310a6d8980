//! Limits and stops on a real registry and store, and sessions whose outbound queues the tests read;
//! time stands still unless told to pass.

mod limits;
mod size;
mod stops;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::{
    AssetLimits, AssetState, Control, HeadendMessage, LIMITS, LimitPhase, LimitReport, Rating,
    SetpointOrder, Software,
};
use derms_proto::{
    AgentId, Asset, AssetId, AssetKind, Availability, Dispatch, Fleet, InstanceId, LogId,
    NewDispatch, NewLimit, NewStop, Power, PowerLimit, Site, SiteId, Stop, Timestamp,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::*;
use crate::config::Config;
use crate::dispatcher::{DispatchError, Dispatcher};
use crate::registry::{Capabilities, NewSession, Outbound, Session};
use crate::store::faulty::{Fault, FaultyStore};

/// Three batteries of ±60, ±20 and ±20 MW on one site, one of ±10 MW on another.
const BIG: AssetId = AssetId::new(Uuid::from_u128(11));
const LEFT: AssetId = AssetId::new(Uuid::from_u128(12));
const RIGHT: AssetId = AssetId::new(Uuid::from_u128(13));
const SITE: SiteId = SiteId::new(Uuid::from_u128(1));
const FAR: AssetId = AssetId::new(Uuid::from_u128(21));
const FAR_SITE: SiteId = SiteId::new(Uuid::from_u128(2));

const START: Timestamp = Timestamp::from_unix_micros(1_700_000_000_000_000);

struct Bench {
    store: FaultyStore,
    registry: Arc<Registry>,
    limits: Arc<Limits>,
    dispatcher: Arc<Dispatcher>,
    clock: Clock,
    tasks: TaskTracker,
    stop: CancellationToken,
}

fn fleet() -> Arc<Fleet> {
    let site = |id, name: &str| Site {
        id,
        name: name.to_owned(),
        location: String::new(),
    };
    let asset = |id, site, mw: f64| {
        let (min, max) = (Power::from_mw(-mw), Power::from_mw(mw));
        let mut asset = Asset::new(id, id.to_string(), site, AssetKind::Battery, min, max);
        asset.capacity_mwhr = mw;
        asset
    };
    let assets = vec![
        asset(BIG, SITE, 60.0),
        asset(LEFT, SITE, 20.0),
        asset(RIGHT, SITE, 20.0),
        asset(FAR, FAR_SITE, 10.0),
    ];
    let sites = vec![site(SITE, "near"), site(FAR_SITE, "far")];
    Arc::new(Fleet::new(sites, assets).unwrap())
}

impl Bench {
    async fn new() -> Self {
        let base = Instant::now();
        let clock = Clock::new(move || START.saturating_add(Instant::now() - base));
        Self::on(FaultyStore::new(Fault::None), clock).await
    }

    /// A headend that starts on this store.
    async fn on(store: FaultyStore, clock: Clock) -> Self {
        let config = Config::default();
        let registry = Arc::new(Registry::new(fleet(), config.liveness_timeout, 256));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let limits = Arc::new(Limits::new(
            fleet(),
            Arc::new(store.clone()),
            Arc::clone(&registry),
            clock.clone(),
            tasks.clone(),
        ));
        limits.recover().await.unwrap();
        let (dispatcher, queue) = Dispatcher::new(
            fleet(),
            Arc::new(store.clone()),
            Arc::clone(&registry),
            crate::dispatcher::Present {
                latest: Arc::new(crate::latest::Latest::new(&fleet())),
                heartbeats: Arc::default(),
            },
            Arc::new(crate::events::Events::new(
                fleet(),
                clock.clone(),
                crate::live::quiet(),
            )),
            Arc::new(config),
            Arc::clone(&limits),
        );
        tasks.spawn(queue.run(Arc::clone(&dispatcher), stop.clone()));
        tasks.spawn(keep(
            Arc::clone(&limits),
            Arc::clone(&dispatcher),
            stop.clone(),
        ));
        dispatcher.recover().await.unwrap();
        Self {
            store,
            registry,
            limits,
            dispatcher,
            clock,
            tasks,
            stop,
        }
    }

    /// The headend ends and another one starts on its store.
    async fn restarted(self) -> Self {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        Self::on(self.store, self.clock).await
    }

    async fn limit(&self, new: NewLimit) -> PowerLimit {
        self.limits.set(&new, None, None, None).await.unwrap()
    }

    async fn halt(&self, new: NewStop) -> Stop {
        let stop = self.limits.stop(&new, None, None, None).await.unwrap();
        self.dispatcher.cancel_stopped().await.unwrap();
        stop
    }

    async fn order(&self, new: &NewDispatch) -> Result<Dispatch, DispatchError> {
        Ok(self
            .dispatcher
            .submit(new, None, None, None)
            .await?
            .dispatch)
    }

    async fn status(&self, limit: &PowerLimit) -> LimitStatus {
        self.limits.get(limit.id).await.unwrap().unwrap().status
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// An agent that keeps to what it is told, and its session.
struct Agent {
    id: AgentId,
    assets: Vec<AssetId>,
    /// The revision that it shows for each asset.
    shown: HashMap<AssetId, u64>,
    /// What its assets are doing.
    control: Control,
    capabilities: Capabilities,
    queue_size: usize,
    link: Option<(Arc<Session>, mpsc::Receiver<Outbound>)>,
}

impl Agent {
    fn new(id: AgentId, assets: &[AssetId]) -> Self {
        Self {
            id,
            assets: assets.to_vec(),
            shown: HashMap::new(),
            control: Control::default(),
            capabilities: Capabilities::of(&[LIMITS.to_owned()]),
            queue_size: 256,
            link: None,
        }
    }

    fn of(asset: AssetId) -> Self {
        Self::new(asset.into(), &[asset])
    }

    async fn connect(mut self, bench: &Bench) -> Self {
        self.begin(bench).await;
        self
    }

    async fn begin(&mut self, bench: &Bench) {
        let record = crate::store::conformance::kit::record(self.id, bench.clock.now());
        let epoch = bench.store.open_session(&record, 0).await.unwrap();
        let (outbound, queue) = mpsc::channel(self.queue_size);
        let session = Arc::new(Session::new(NewSession {
            agent_id: self.id,
            instance_id: InstanceId::generate(),
            epoch,
            peer: None,
            principal: None,
            credentials: None,
            software: Software::default(),
            capabilities: self.capabilities,
            durable: true,
            report_log: Some(LogId::generate()),
            connected_at: bench.clock.now(),
            mailbox: Arc::default(),
            outbound,
        }));
        let states: Vec<AssetState> = self.assets.iter().map(|asset| self.state(*asset)).collect();
        bench
            .registry
            .insert(&session, &self.assets, |grants| {
                bench.limits.greet(&session, states.iter(), &grants);
            })
            .unwrap();
        let assets = session.assets();
        bench
            .dispatcher
            .replay(&session, &assets, None)
            .await
            .unwrap();
        self.link = Some((session, queue));
    }

    fn state(&self, asset: AssetId) -> AssetState {
        AssetState {
            asset_id: asset,
            kind: AssetKind::Battery,
            rating: Rating {
                min: Power::ZERO,
                max: Power::ZERO,
                capacity_mwh: None,
                ramp_mw_per_min: None,
            },
            last_revision: 0,
            control: self.control,
            availability: Availability::Available,
            limit_revision: self.shown.get(&asset).copied().unwrap_or(0),
        }
    }

    fn session(&self) -> &Arc<Session> {
        &self.link.as_ref().unwrap().0
    }

    fn disconnect(&mut self, bench: &Bench) {
        let (session, _) = self.link.take().unwrap();
        bench.registry.remove(&session);
    }

    /// What is on its queue, in order.
    fn read(&mut self) -> (Vec<AssetLimits>, Vec<SetpointOrder>) {
        let (mut limits, mut orders) = (Vec::new(), Vec::new());
        while let Ok(message) = self.link.as_mut().unwrap().1.try_recv() {
            match HeadendMessage::try_from(*message).unwrap() {
                HeadendMessage::AssetLimits(told) => {
                    assert!(orders.is_empty(), "an order came before what holds");
                    self.shown.insert(told.asset_id, told.revision);
                    limits.push(told);
                }
                HeadendMessage::Setpoint(order) => orders.push(order),
                other => panic!("{other:?}"),
            }
        }
        (limits, orders)
    }

    /// The limits on its queue; there must be no order.
    fn told(&mut self) -> Vec<AssetLimits> {
        let (limits, orders) = self.read();
        assert!(orders.is_empty(), "{orders:?}");
        limits
    }

    fn only_told(&mut self) -> AssetLimits {
        let mut told = self.told();
        assert_eq!(told.len(), 1, "{told:?}");
        told.remove(0)
    }

    fn reports(&self, bench: &Bench, asset: AssetId, revision: u64, phase: LimitPhase) {
        let report = LimitReport {
            revision,
            phase,
            reason: None,
            text: (phase != LimitPhase::InForce).then(|| "the relay sticks".to_owned()),
        };
        bench.limits.reported(self.id, asset, &report);
    }

    fn beats(&self, bench: &Bench, asset: AssetId, control: Control) {
        let shown = self.shown.get(&asset).copied().unwrap_or(0);
        bench.limits.said(self.session(), asset, shown, &control);
    }
}

fn mw(mw: f64) -> Power {
    Power::from_mw(mw)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
