//! A headend whose database can fail, and agents of two sites.

use std::sync::Arc;

use derms_agent_sdk::testing::Call;
use derms_client::{Client, DispatchOptions};
use derms_proto::{
    AssetName, Dispatch, DispatchStatus, Fleet, NewDispatch, Power, ProblemCode, SiteId,
};
use derms_tests::{FREE, Folder, HeadendProcess, Numbered, Program, numbered_asset, until};
use http::StatusCode;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::PATIENCE;
use crate::plant::{client_of, until_stored};

/// Of the first site, by number.
pub(crate) const LEASED: usize = 0;
pub(crate) const CANCELLED: usize = 1;
pub(crate) const IDLE: usize = 2;
/// Of the second site: with an order, and without.
pub(crate) const STOPPED: [usize; 2] = [3, 4];

pub(crate) const DEFAULT: Power = Power::from_mw(0.5);

pub(crate) fn site(number: u128) -> SiteId {
    SiteId::new(Uuid::from_u128(number))
}

/// Without a ramp to be seen: each command is one call of the device.
fn fleet() -> String {
    let mut text = "sites:\n".to_owned();
    for number in [1, 2] {
        text.push_str(&format!(
            "  - {{id: {}, name: S{number}, location: L}}\n",
            site(number)
        ));
    }
    text.push_str("assets:\n");
    for number in LEASED..=STOPPED[1] {
        text.push_str(&format!(
            "  - {{id: {}, name: C{number}, site_id: {}, type: battery, capacity_mwhr: 100, \
             max_mw: 50, min_mw: -50, default_mw: {}, efficiency: 0.9, \
             ramp_rate_mw_per_min: 60000}}\n",
            numbered_asset(number),
            site(if STOPPED.contains(&number) { 2 } else { 1 }),
            DEFAULT.mw(),
        ));
    }
    text
}

pub(crate) struct Steered {
    headend: HeadendProcess,
    pub(crate) client: Client,
    store: Vec<String>,
    pub(crate) devices: Vec<Arc<Numbered>>,
    agents: JoinSet<()>,
    folder: Folder,
}

impl Steered {
    /// `store`: flags of the headend.
    pub(crate) async fn start(store: &[&str]) -> Self {
        let folder = Folder::new();
        let text = fleet();
        std::fs::write(folder.file("assets.yaml"), &text).unwrap();
        let store: Vec<String> = store.iter().map(|&word| word.to_owned()).collect();
        let headend = headend(&folder, &store).await;
        let (mut devices, mut agents) = (Vec::new(), JoinSet::new());
        for asset in Fleet::from_yaml(&text, "assets.yaml").unwrap().assets() {
            let device = Numbered::new(Arc::default());
            let agent = device.agent(&headend.grpc, asset.clone());
            agents.spawn(async move { drop(agent.run().await) });
            devices.push(device);
        }
        let this = Self {
            client: client_of(&headend),
            headend,
            store,
            devices,
            agents,
            folder,
        };
        this.until_all_stored(&[2; STOPPED[1] + 1]).await;
        this
    }

    pub(crate) async fn until_all_stored(&self, wanted: &[u64]) {
        for (number, wanted) in wanted.iter().enumerate() {
            until_stored(&self.client, number, *wanted, PATIENCE).await;
        }
    }

    pub(crate) fn calls(&self, number: usize) -> Vec<Call> {
        self.devices[number].calls()
    }

    pub(crate) async fn until_last(&self, number: usize, wanted: Call) {
        until(&format!("{wanted:?} at {number}"), PATIENCE, async || {
            (self.calls(number).last() == Some(&wanted)).then_some(())
        })
        .await;
    }

    /// The session of each asset's agent.
    pub(crate) async fn epochs(&self) -> Vec<Option<u64>> {
        let agents = self.client.agents().await.unwrap();
        let of = |number| {
            let mine = |asset: &AssetName| asset.id == numbered_asset(number);
            let agent = agents.iter().find(|agent| agent.assets.iter().any(mine))?;
            agent.epoch.filter(|_| agent.connected)
        };
        (0..self.devices.len()).map(of).collect()
    }

    /// An order that its device has said yes to.
    pub(crate) async fn active(&self, order: &NewDispatch) -> Dispatch {
        let wait = DispatchOptions::new().wait(PATIENCE);
        let dispatch = self.client.dispatch_with(order, wait).await.unwrap();
        assert_eq!(dispatch.status, DispatchStatus::Active, "{dispatch:?}");
        dispatch
    }

    /// Waits until `/readyz` is 503 with these words.
    pub(crate) async fn until_not_ready(&self, words: &str) {
        until(&format!("not ready: {words}"), PATIENCE, async || {
            let error = self.client.readyz().await.err()?;
            let problem = error.problem()?;
            assert_eq!(problem.code, ProblemCode::StoreUnavailable, "{problem:?}");
            assert_eq!(error.status(), Some(StatusCode::SERVICE_UNAVAILABLE));
            problem.detail.contains(words).then_some(())
        })
        .await;
    }

    /// Waits until the headend's log has these words of the database.
    pub(crate) async fn until_logged(&mut self, words: &str) {
        self.headend.process.says(words).await;
    }

    /// Another headend on the same database, without agents.
    pub(crate) async fn restarted(mut self) -> HeadendProcess {
        self.agents.shutdown().await;
        assert_eq!(self.headend.process.terminated().await, Some(0));
        headend(&self.folder, &self.store).await
    }

    /// All that were ever given.
    pub(crate) async fn orders(&self) -> Vec<Dispatch> {
        let mut orders = self.client.dispatch_history(Default::default()).items();
        let mut all = Vec::new();
        while let Some(order) = orders.next().await {
            all.push(order.unwrap());
        }
        all
    }
}

async fn headend(folder: &Folder, store: &[String]) -> HeadendProcess {
    let assets = folder.file("assets.yaml");
    let words = [
        "--assets",
        assets.to_str().unwrap(),
        "--http-addr",
        FREE,
        "--grpc-addr",
        FREE,
        "--telemetry-s",
        "1",
    ];
    let words = words.into_iter().chain(store.iter().map(String::as_str));
    HeadendProcess::of(Program::new("der_headend").args(words)).await
}
