//! A fleet of devices whose readings are numbered, so that a missing one shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use derms_agent_sdk::testing::{Call, ScriptedAdapter};
use derms_agent_sdk::{
    AdapterError, AgentRuntime, Applied, DerAdapter, DeviceInfo, Reading, Setpoint, async_trait,
};
use derms_proto::{
    Asset, AssetId, AssetKind, Detail, Measurements, Power, SiteId, TelemetryHistoryItem,
};
use uuid::Uuid;

/// A device that numbers its readings, from 1.
#[derive(Debug, Default)]
pub struct Numbered {
    readings: AtomicU64,
    commands: ScriptedAdapter,
    loud: Arc<AtomicBool>,
}

/// Details of a loud reading: about 14 kB, for an agent takes no more than 16 KiB.
const LINES: usize = 14;

impl Numbered {
    /// A device whose readings are large while `loud` is set.
    #[must_use]
    pub fn new(loud: Arc<AtomicBool>) -> Arc<Self> {
        Arc::new(Self {
            loud,
            ..Self::default()
        })
    }

    /// How often it was read.
    #[must_use]
    pub fn readings(&self) -> u64 {
        self.readings.load(Ordering::SeqCst)
    }

    /// How often it was asked for a power.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.commands.setpoints().len() as u64
    }

    /// Every command so far; it obeys each.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.commands.calls()
    }

    /// An agent around it, at `host:port`.
    ///
    /// # Panics
    /// It is none that an agent can serve.
    pub fn agent(self: &Arc<Self>, headend: &str, asset: Asset) -> AgentRuntime {
        let uri = format!("http://{headend}").parse().expect("an address");
        AgentRuntime::builder(uri)
            .adapter(asset, self.adapter())
            .build()
            .expect("an agent")
    }

    /// It as agents see it.
    #[must_use]
    pub fn adapter(self: &Arc<Self>) -> impl DerAdapter + use<> {
        Device(Arc::clone(self))
    }
}

struct Device(Arc<Numbered>);

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
        self.0.commands.apply(setpoint).await
    }

    async fn go_to_default(&self, default: Power) -> Result<Applied, AdapterError> {
        self.0.commands.go_to_default(default).await
    }
}

/// The number of a reading that was stored.
///
/// # Panics
/// It has none.
#[must_use]
pub fn number_of(item: &TelemetryHistoryItem) -> u64 {
    let TelemetryHistoryItem::Measurement(telemetry) = item else {
        panic!("{item:?}");
    };
    reading_number(&telemetry.measurements)
}

/// The number of a reading.
///
/// # Panics
/// It has none.
#[must_use]
pub fn reading_number(measurements: &Measurements) -> u64 {
    match measurements.details.get("count") {
        Some(Detail::Number(count)) => *count as u64,
        other => panic!("{other:?}"),
    }
}

/// The asset of this number in a [`numbered_fleet`].
#[must_use]
pub fn numbered_asset(number: usize) -> AssetId {
    AssetId::new(Uuid::from_u128(1_000 + number as u128))
}

/// A fleet file with so many batteries at one site.
#[must_use]
pub fn numbered_fleet(assets: usize) -> String {
    let site = SiteId::new(Uuid::from_u128(1));
    let mut text = format!("sites:\n  - {{id: {site}, name: A, location: B}}\nassets:\n");
    for number in 0..assets {
        text.push_str(&format!(
            "  - {{id: {}, name: C{number}, site_id: {site}, capacity_mwhr: 10, max_mw: 10, \
             min_mw: -10, efficiency: 0.9, ramp_rate_mw_per_min: 1000}}\n",
            numbered_asset(number)
        ));
    }
    text
}
