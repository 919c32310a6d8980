//! A headend on a PostgreSQL server that can be stopped, and agents whose readings are numbered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use derms_agent_sdk::{
    AdapterError, AgentRuntime, Applied, DerAdapter, DeviceInfo, Reading, Setpoint, async_trait,
};
use derms_client::{Client, TelemetryHistoryQuery};
use derms_proto::{
    Asset, AssetId, AssetKind, Detail, Fleet, Measurements, Power, SiteId, TelemetryHistoryItem,
};
use derms_tests::{FREE, Folder, HeadendProcess, PostgresServer, Program, until};
use tokio::task::JoinSet;
use uuid::Uuid;

/// How large it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Each has one asset.
    pub(crate) agents: usize,
    /// Between two readings.
    pub(crate) interval: Duration,
    /// What may wait for the store, bytes.
    pub(crate) backlog: usize,
}

pub(crate) struct Plant {
    size: Size,
    server: PostgresServer,
    url: String,
    headend: HeadendProcess,
    pub(crate) client: Client,
    devices: Vec<Arc<Counts>>,
    loud: Arc<AtomicBool>,
    _agents: JoinSet<()>,
    _folder: Folder,
}

/// A device that counts its readings.
struct Device(Arc<Counts>);

struct Counts {
    readings: AtomicU64,
    applied: AtomicU64,
    loud: Arc<AtomicBool>,
}

/// Details of a loud reading: about 14 kB, for an agent takes no more than 16 KiB.
const LINES: usize = 14;

#[async_trait]
impl DerAdapter for Device {
    fn describe(&self) -> DeviceInfo {
        DeviceInfo::new(AssetKind::Battery, "tests", "counter")
    }

    async fn read(&self) -> Result<Reading, AdapterError> {
        let count = self.0.readings.fetch_add(1, Ordering::SeqCst) + 1;
        let mut measurements = Measurements {
            mw: Some(Power::from_mw(1.0)),
            ..Measurements::default()
        };
        let details = &mut measurements.details;
        details.insert("count".to_owned(), Detail::Number(count as f64));
        if self.0.loud.load(Ordering::SeqCst) {
            let line = |n| (format!("line_{n}"), Detail::Text("x".repeat(1_000)));
            details.extend((0..LINES).map(line));
        }
        Ok(Reading::new(measurements))
    }

    async fn apply(&self, setpoint: &Setpoint) -> Result<Applied, AdapterError> {
        self.0.applied.fetch_add(1, Ordering::SeqCst);
        Ok(Applied::exactly(setpoint.power))
    }

    async fn go_to_default(&self, default: Power) -> Result<Applied, AdapterError> {
        Ok(Applied::exactly(default))
    }
}

impl Plant {
    pub(crate) async fn start(size: Size) -> Self {
        let (server, folder) = (PostgresServer::start(), Folder::new());
        let url = server.database();
        let text = fleet(size.agents);
        let assets = folder.file("assets.yaml");
        std::fs::write(&assets, &text).unwrap();
        let fleet = Fleet::from_yaml(&text, "assets.yaml").unwrap();
        let interval = format!("interval_ms={}", size.interval.as_millis());
        let backlog = format!("backlog={}", size.backlog);
        let words = [assets.to_str().unwrap(), &url, FREE, FREE];
        let settings = [interval.as_str(), "heartbeat_ms=10000", &backlog];
        let program = Program::new("crash_headend").args(words).args(settings);
        let headend = HeadendProcess::of(program).await;
        let base = format!("http://{}", headend.http).parse().unwrap();
        // What is answered is told as it is.
        let client = Client::builder(base).retries(0).build().unwrap();
        let loud = Arc::new(AtomicBool::new(false));
        let (mut devices, mut agents) = (Vec::new(), JoinSet::new());
        for asset in fleet.assets() {
            let device = Arc::new(Counts {
                readings: AtomicU64::new(0),
                applied: AtomicU64::new(0),
                loud: Arc::clone(&loud),
            });
            let agent = agent(&headend.grpc, asset.clone(), Device(Arc::clone(&device)));
            agents.spawn(async move { drop(agent.run().await) });
            devices.push(device);
        }
        Self {
            size,
            server,
            url,
            headend,
            client,
            devices,
            loud,
            _agents: agents,
            _folder: folder,
        }
    }

    pub(crate) fn database(&self) -> &PostgresServer {
        &self.server
    }

    pub(crate) fn asset(&self, number: usize) -> AssetId {
        asset_id(number)
    }

    /// Whether readings are large.
    pub(crate) fn speak_up(&mut self, loud: bool) {
        self.loud.store(loud, Ordering::SeqCst);
    }

    /// How often each device was read.
    pub(crate) fn readings(&self) -> Vec<u64> {
        let devices = self.devices.iter();
        devices
            .map(|device| device.readings.load(Ordering::SeqCst))
            .collect()
    }

    /// How often the devices were asked for a power.
    pub(crate) fn applied(&self) -> u64 {
        let devices = self.devices.iter();
        devices
            .map(|device| device.applied.load(Ordering::SeqCst))
            .sum()
    }

    /// What the headend's process holds in memory, bytes.
    pub(crate) fn memory(&self) -> usize {
        let status = format!("/proc/{}/status", self.headend.process.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<usize>().unwrap() << 10
    }

    /// Assets whose newest stored measurement is older than this.
    pub(crate) fn behind(&self, seconds: u32) -> usize {
        let sql = format!(
            "select count(*) from (select max(at) as newest from derms.telemetry group by asset) a \
             where newest < now() - interval '{seconds} s'"
        );
        self.server.sql(&self.url, &sql).parse().unwrap()
    }

    /// Waits until so many measurements of each asset are stored.
    pub(crate) async fn until_stored(&self, wanted: u64, patience: Duration) {
        self.until_all_stored(&vec![wanted; self.size.agents], patience)
            .await;
    }

    /// Waits until the newest stored measurement of each asset is this one or a later one.
    pub(crate) async fn until_all_stored(&self, wanted: &[u64], patience: Duration) {
        for (number, wanted) in wanted.iter().enumerate() {
            until(
                &format!("reading {wanted} of {number}"),
                patience,
                async || {
                    let query = TelemetryHistoryQuery::new().limit(1);
                    let page = self.client.telemetry_history(asset_id(number), query).await;
                    let newest = count(page.ok()?.items.first()?);
                    (newest >= *wanted).then_some(())
                },
            )
            .await;
        }
    }

    /// Every reading up to the newest one that is stored is there, once.
    pub(crate) async fn check(&self, number: usize) {
        let query = TelemetryHistoryQuery::new().limit(1_000);
        let mut items = self
            .client
            .telemetry_history(asset_id(number), query)
            .items();
        let mut counts = Vec::new();
        while let Some(item) = items.next().await {
            counts.push(count(&item.unwrap()));
        }
        counts.sort_unstable();
        let all: Vec<u64> = (1..=counts.len() as u64).collect();
        assert_eq!(counts, all, "readings of asset {number}");
    }
}

fn count(item: &TelemetryHistoryItem) -> u64 {
    let TelemetryHistoryItem::Measurement(telemetry) = item else {
        panic!("{item:?}");
    };
    match telemetry.measurements.details.get("count") {
        Some(Detail::Number(count)) => *count as u64,
        other => panic!("{other:?}"),
    }
}

fn agent(headend: &str, asset: Asset, device: Device) -> AgentRuntime {
    let uri = format!("http://{headend}").parse().unwrap();
    AgentRuntime::builder(uri)
        .adapter(asset, device)
        .build()
        .unwrap()
}

fn asset_id(number: usize) -> AssetId {
    AssetId::new(Uuid::from_u128(1_000 + number as u128))
}

fn fleet(agents: usize) -> String {
    let site = SiteId::new(Uuid::from_u128(1));
    let mut text = format!("sites:\n  - {{id: {site}, name: A, location: B}}\nassets:\n");
    for number in 0..agents {
        text.push_str(&format!(
            "  - {{id: {}, name: C{number}, site_id: {site}, capacity_mwhr: 10, max_mw: 10, \
             min_mw: -10, efficiency: 0.9, ramp_rate_mw_per_min: 1000}}\n",
            asset_id(number)
        ));
    }
    text
}
