//! A headend and two agents, and orders for them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use derms_client::{Client, DispatchOptions};
use derms_proto::{AssetId, Dispatch, DispatchId, DispatchStatus, NewDispatch, Power};
use derms_tests::{HeadendProcess, Process, Program, lasting_address, until};
use fastrand::Rng;
use rustix::process::Signal;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::counted::Counted;
use crate::history;

const SITE: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
const ASSETS: [&str; 2] = [
    "7ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "7ba7b811-9dad-11d1-80b4-00c04fd430c8",
];
/// Until everything has come to rest.
const REST: Duration = Duration::from_secs(90);

pub(crate) struct World {
    pub(crate) seed: u64,
    folder: PathBuf,
    store: String,
    bug: Option<&'static str>,
    http: SocketAddr,
    grpc: SocketAddr,
    headend: Option<Process>,
    agents: Vec<Option<Process>>,
    client: Client,
    /// Orders on their way, with the power that tells them apart.
    orders: JoinSet<(f64, DispatchId)>,
    ordered: u32,
}

impl World {
    /// `bug` is planted in the headend's store.
    pub(crate) async fn start(seed: u64, store: Option<String>, bug: Option<&'static str>) -> Self {
        let kind = match (&store, bug) {
            (_, Some(bug)) => bug,
            (Some(_), None) => "postgres",
            (None, None) => "sqlite",
        };
        let name = format!("crash-{}-{kind}-{seed}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("assets.yaml"), fleet()).unwrap();
        let file = folder.join("derms.sqlite").display().to_string();
        let store = store.unwrap_or(file);
        let (http, grpc) = (lasting_address(), lasting_address());
        let headend = headend(&folder, &store, http, grpc, bug).await;
        let base = format!("http://{http}").parse().unwrap();
        // Repeats with one key, over every kill.
        let client = Client::builder(base)
            .retries(200)
            .timeout(Duration::from_secs(5));
        let mut world = Self {
            seed,
            store,
            bug,
            http,
            grpc,
            headend: Some(headend),
            agents: Vec::new(),
            client: client.build().unwrap(),
            orders: JoinSet::new(),
            ordered: 0,
            folder,
        };
        world.agents = (0..ASSETS.len())
            .map(|number| Some(world.agent(number)))
            .collect();
        world
    }

    fn agent(&self, number: usize) -> Process {
        let file = |name: String| self.folder.join(name).display().to_string();
        let grpc = format!("http://{}", self.grpc);
        let assets = file("assets.yaml".to_owned());
        let (state, journal) = (file(format!("state-{number}")), self.journal(number));
        let journal = journal.display().to_string();
        Process::start(
            "crash_agent",
            &[&grpc, &assets, ASSETS[number], &state, &journal],
        )
    }

    fn journal(&self, number: usize) -> PathBuf {
        self.folder.join(format!("journal-{number}"))
    }

    /// Gives an order that no other order looks like.
    pub(crate) fn order(&mut self, random: &mut Rng) {
        self.ordered += 1;
        let mw = f64::from(self.ordered) / 8.0;
        let asset: AssetId = ASSETS[random.usize(..ASSETS.len())].parse().unwrap();
        let lease = Duration::from_millis(random.u64(100..1_500));
        let order = NewDispatch::asset(asset, Power::from_mw(mw))
            .lasting(lease)
            .waiting_at_most(Duration::from_secs(random.u64(1..6)));
        let client = self.client.clone();
        self.orders.spawn(async move {
            let key = Uuid::new_v4().to_string();
            let end = tokio::time::Instant::now() + REST;
            loop {
                let options = DispatchOptions::new().idempotency_key(key.clone());
                match client.dispatch_with(&order, options).await {
                    Ok(dispatch) => return (mw, dispatch.id),
                    Err(error) => {
                        assert!(tokio::time::Instant::now() < end, "{error:?}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
    }

    pub(crate) async fn kill_headend(&mut self, random: &mut Rng) {
        kill(self.headend.take()).await;
        tokio::time::sleep(Duration::from_millis(random.u64(0..300))).await;
        let headend = headend(&self.folder, &self.store, self.http, self.grpc, self.bug).await;
        self.headend = Some(headend);
    }

    pub(crate) async fn kill_agent(&mut self, random: &mut Rng) {
        let number = random.usize(..self.agents.len());
        kill(self.agents[number].take()).await;
        tokio::time::sleep(Duration::from_millis(random.u64(0..300))).await;
        self.agents[number] = Some(self.agent(number));
    }

    /// Waits until all that was begun has ended.
    pub(crate) async fn settle(&mut self) {
        let seed = self.seed;
        until(&format!("seed {seed}: agents are back"), REST, async || {
            let agents = self.client.agents().await.ok()?;
            (agents.len() == ASSETS.len()).then_some(())
        })
        .await;
        until(
            &format!("seed {seed}: orders come to an end"),
            REST,
            async || {
                let dispatches = self.dispatches().await?;
                let over = |dispatch: &Dispatch| dispatch.status.is_terminal();
                dispatches.iter().all(over).then_some(())
            },
        )
        .await;
        // What was read until now is stored when all that is read after it is.
        for asset in ASSETS {
            let asset: AssetId = asset.parse().unwrap();
            let newest = async || {
                let history = history::samples(&self.client, asset).await?;
                history.iter().copied().max()
            };
            let wanted = until("a sample", REST, newest).await;
            until(&format!("seed {seed}: history goes on"), REST, async || {
                let (boot, count) = newest().await?;
                // The newest may have been of the start before.
                let since = if boot == wanted.0 { wanted.1 } else { 0 };
                (count > since + 5).then_some(())
            })
            .await;
        }
    }

    async fn dispatches(&self) -> Option<Vec<Dispatch>> {
        history::all(self.client.dispatch_history(Default::default())).await
    }

    /// What is wrong with what is told afterwards, if anything.
    pub(crate) async fn check(mut self) -> Result<(), String> {
        let mut acknowledged = Vec::new();
        while let Some(order) = self.orders.join_next().await {
            acknowledged.push(order.unwrap());
        }
        let dispatches = self.dispatches().await.unwrap();
        for (mw, id) in &acknowledged {
            let same: Vec<DispatchId> = dispatches
                .iter()
                .filter(|dispatch| dispatch.mw.mw() == *mw)
                .map(|dispatch| dispatch.id)
                .collect();
            if same != [*id] {
                return Err(format!("an order is lost or there twice: {id}, {same:?}"));
            }
        }
        for (number, asset) in ASSETS.iter().enumerate() {
            let asset: AssetId = asset.parse().unwrap();
            let samples = history::samples(&self.client, asset).await.unwrap();
            if let Some(fault) = history::fault(samples) {
                return Err(format!("telemetry of asset {number}: {fault}"));
            }
            let journal = std::fs::read_to_string(self.journal(number)).unwrap();
            let ours: Vec<&Dispatch> = dispatches
                .iter()
                .filter(|dispatch| dispatch.asset_id == Some(asset))
                .collect();
            if let Some(fault) = history::order_fault(&journal, &ours) {
                return Err(format!("orders of asset {number}: {fault}\n{journal}"));
            }
        }
        // An agent remembers.
        let doubted = |dispatch: &&Dispatch| dispatch.status == DispatchStatus::Indeterminate;
        if let Some(doubted) = dispatches.iter().find(doubted) {
            return Err(format!("nobody knows what became of {doubted:?}"));
        }
        for agent in &mut self.agents {
            kill(agent.take()).await;
        }
        kill(self.headend.take()).await;
        for asset in ASSETS {
            let agent = asset.parse().unwrap();
            let counted = Counted::of(&self.store, agent).await;
            if let Some(fault) = counted.fault() {
                return Err(format!("telemetry of {asset}: {fault}"));
            }
        }
        // A run that failed leaves its folder to look at.
        let _ = std::fs::remove_dir_all(&self.folder);
        Ok(())
    }

    /// Where a run that fails leaves its files.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.clone()
    }
}

/// Until it is gone it holds its files.
async fn kill(process: Option<Process>) {
    if let Some(process) = process {
        process.signal(Signal::KILL);
        process.ended().await;
    }
}

async fn headend(
    folder: &Path,
    store: &str,
    http: SocketAddr,
    grpc: SocketAddr,
    bug: Option<&str>,
) -> Process {
    let assets = folder.join("assets.yaml").display().to_string();
    let (http, grpc) = (http.to_string(), grpc.to_string());
    let bug = bug.map(|bug| format!("bug={bug}"));
    let words = [assets.as_str(), store, &http, &grpc].into_iter();
    HeadendProcess::of(Program::new("crash_headend").args(words.chain(bug.as_deref())))
        .await
        .process
}

fn fleet() -> String {
    let mut text = format!("sites:\n  - {{id: {SITE}, name: A, location: B}}\nassets:\n");
    for (number, asset) in ASSETS.iter().enumerate() {
        text.push_str(&format!(
            "  - {{id: {asset}, name: C{number}, site_id: {SITE}, capacity_mwhr: 10, max_mw: 10, \
             min_mw: -10, efficiency: 0.9, ramp_rate_mw_per_min: 1000}}\n"
        ));
    }
    text
}
