//! A headend on a PostgreSQL server that can be stopped, and agents whose readings are numbered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use derms_agent_sdk::AgentHandle;
use derms_client::{Client, TelemetryHistoryQuery};
use derms_proto::{AssetId, Fleet};
use derms_tests::{
    FREE, Folder, HeadendProcess, Numbered, PostgresServer, Program, number_of, numbered_asset,
    numbered_fleet, until,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

use crate::PATIENCE;

/// Agents that may be without a session at one time: each session is a commit of the database, and
/// an agent waits for it for 15 s.
const STARTING: usize = 256;

/// What else connects from this machine's address or holds a file.
const OTHERS: usize = 200;

/// How large it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Each has one asset.
    pub(crate) agents: usize,
    /// Between two readings.
    pub(crate) interval: Duration,
    /// Between two heartbeats.
    pub(crate) heartbeat: Duration,
    /// What may wait for the store, bytes.
    pub(crate) backlog: usize,
}

pub(crate) struct Plant {
    size: Size,
    server: PostgresServer,
    url: String,
    headend: HeadendProcess,
    pub(crate) client: Client,
    devices: Vec<Arc<Numbered>>,
    loud: Arc<AtomicBool>,
    _agents: JoinSet<()>,
    _folder: Folder,
}

impl Plant {
    pub(crate) async fn start(size: Size) -> Self {
        make_room(size.agents + OTHERS);
        let (server, folder) = (PostgresServer::start(), Folder::new());
        let url = server.database();
        let text = numbered_fleet(size.agents);
        let assets = folder.file("assets.yaml");
        std::fs::write(&assets, &text).unwrap();
        let fleet = Fleet::from_yaml(&text, "assets.yaml").unwrap();
        let settings = [
            format!("interval_ms={}", size.interval.as_millis()),
            format!("heartbeat_ms={}", size.heartbeat.as_millis()),
            format!("backlog={}", size.backlog),
            format!("connections={}", size.agents + OTHERS),
        ];
        let words = [assets.to_str().unwrap(), &url, FREE, FREE];
        let words = words.into_iter().chain(settings.iter().map(String::as_str));
        let program = Program::new("crash_headend").args(words);
        let headend = HeadendProcess::of(program).await;
        let client = client_of(&headend);
        let loud = Arc::new(AtomicBool::new(false));
        let (mut devices, mut agents) = (Vec::new(), JoinSet::new());
        let mut starting: VecDeque<AgentHandle> = VecDeque::new();
        for asset in fleet.assets() {
            if starting.len() == STARTING {
                let first = starting.pop_front().unwrap();
                until("a session", PATIENCE, async || first.status().epoch).await;
            }
            let device = Numbered::new(Arc::clone(&loud));
            let agent = device.agent(&headend.grpc, asset.clone());
            starting.push_back(agent.handle());
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
        numbered_asset(number)
    }

    /// Whether readings are large.
    pub(crate) fn speak_up(&mut self, loud: bool) {
        self.loud.store(loud, Ordering::SeqCst);
    }

    /// How often each device was read.
    pub(crate) fn readings(&self) -> Vec<u64> {
        let devices = self.devices.iter();
        devices.map(|device| device.readings()).collect()
    }

    /// How often the devices were asked for a power.
    pub(crate) fn applied(&self) -> u64 {
        let devices = self.devices.iter();
        devices.map(|device| device.applied()).sum()
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
            "select count(*) from derms.assets where not exists (select from derms.telemetry \
             where asset = key and at >= now() - interval '{seconds} s')"
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
            until_stored(&self.client, number, *wanted, patience).await;
        }
    }

    /// [`check`]s an asset.
    pub(crate) async fn check(&self, number: usize) {
        check(&self.client, number).await;
    }
}

/// A client that tells what is answered as it is.
pub(crate) fn client_of(headend: &HeadendProcess) -> Client {
    let base = format!("http://{}", headend.http).parse().unwrap();
    Client::builder(base).retries(0).build().unwrap()
}

/// Waits until the newest stored measurement of this asset is this one or a later one.
pub(crate) async fn until_stored(client: &Client, number: usize, wanted: u64, patience: Duration) {
    let what = format!("reading {wanted} of {number}");
    until(&what, patience, async || {
        let query = TelemetryHistoryQuery::new().limit(1);
        let page = client
            .telemetry_history(numbered_asset(number), query)
            .await;
        let newest = number_of(page.ok()?.items.first()?);
        (newest >= wanted).then_some(())
    })
    .await;
}

/// Every reading up to the newest one that is stored is there, once; gives their number.
pub(crate) async fn check(client: &Client, number: usize) -> u64 {
    let query = TelemetryHistoryQuery::new().limit(1_000);
    let mut items = client
        .telemetry_history(numbered_asset(number), query)
        .items();
    let mut counts = Vec::new();
    while let Some(item) = items.next().await {
        counts.push(number_of(&item.unwrap()));
    }
    counts.sort_unstable();
    let count = counts.len() as u64;
    let all: Vec<u64> = (1..=count).collect();
    assert_eq!(counts, all, "readings of asset {number}");
    count
}

/// Lets this process, and what it starts, have so many connections.
fn make_room(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = connections as u64;
    assert!(
        limit.maximum.is_none_or(|most| most >= wanted),
        "{wanted} file descriptors are needed: raise the hard limit, `ulimit -Hn`"
    );
    let raised = Rlimit {
        current: limit.current.map(|now| now.max(wanted)),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}
