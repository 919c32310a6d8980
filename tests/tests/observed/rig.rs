//! A headend and an agent in this thread, and what they log.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use derms_agent_sdk::{
    AdapterError, AgentRuntime, Applied, DerAdapter, DeviceInfo, Reading, Setpoint, async_trait,
};
use derms_client::Client;
use derms_headend_sdk::Headend;
use derms_proto::{Asset, AssetId, AssetKind, Fleet, Measurements, Power, Site, SiteId};
use derms_tests::{FREE, until};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;
use uuid::Uuid;

pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const ASSET: AssetId = AssetId::new(Uuid::from_u128(2));

/// Keeps the log of this thread.
pub(crate) struct Log {
    bytes: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

#[derive(Clone)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Kept {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    pub(crate) fn start() -> Self {
        let bytes = Arc::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_writer(Kept(Arc::clone(&bytes)))
            .json()
            .flatten_event(true)
            .finish();
        Self {
            bytes,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The lines with this message.
    pub(crate) fn said(&self, message: &str) -> Vec<Value> {
        let says = |line: &Value| line["message"] == message;
        self.lines().into_iter().filter(says).collect()
    }
}

struct Device;

#[async_trait]
impl DerAdapter for Device {
    fn describe(&self) -> DeviceInfo {
        DeviceInfo::new(AssetKind::Battery, "tests", "log")
    }

    async fn read(&self) -> Result<Reading, AdapterError> {
        Ok(Reading::new(Measurements {
            mw: Some(Power::from_mw(1.0)),
            ..Measurements::default()
        }))
    }

    async fn apply(&self, setpoint: &Setpoint) -> Result<Applied, AdapterError> {
        tracing::info!("the device is told");
        Ok(Applied::exactly(setpoint.power))
    }

    async fn go_to_default(&self, default: Power) -> Result<Applied, AdapterError> {
        tracing::info!("the device is let go");
        Ok(Applied::exactly(default))
    }
}

pub(crate) struct Rig {
    pub(crate) client: Client,
    /// Where REST is.
    pub(crate) http: String,
    stop: oneshot::Sender<()>,
    headend: JoinHandle<()>,
    agent: JoinHandle<()>,
}

impl Rig {
    /// Devices are read every 10 ms.
    pub(crate) async fn start() -> Self {
        let site = SiteId::new(Uuid::from_u128(1));
        let (low, high) = (Power::from_mw(-10.0), Power::from_mw(10.0));
        let asset = Asset::new(ASSET, "B1", site, AssetKind::Battery, low, high);
        let sites = vec![Site {
            id: site,
            name: "A".into(),
            location: String::new(),
        }];
        let fleet = Fleet::new(sites, vec![asset.clone()]).unwrap();
        let headend = Headend::builder(fleet)
            .telemetry_interval(Duration::from_millis(10))
            .build()
            .await
            .unwrap();
        let listener = TcpListener::bind(FREE).await.unwrap();
        let http = listener.local_addr().unwrap().to_string();
        let base: http::Uri = format!("http://{http}").parse().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = async move {
            let listeners = vec![(listener, headend.service())];
            headend
                .serve(listeners, async { drop(stopped.await) })
                .await;
        };
        let agent = AgentRuntime::builder(base.clone())
            .adapter(asset, Device)
            .build()
            .unwrap();
        let rig = Self {
            client: Client::new(base).unwrap(),
            http,
            stop,
            headend: tokio::spawn(served),
            agent: tokio::spawn(async move { drop(agent.run().await) }),
        };
        until("the agent", SOON, async || {
            let asset = rig.client.asset(ASSET).await.ok()?;
            asset.connected.then_some(())
        })
        .await;
        rig
    }

    pub(crate) async fn stop(self) {
        self.agent.abort();
        let _ = self.stop.send(());
        self.headend.await.unwrap();
    }
}
