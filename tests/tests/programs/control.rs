//! What a device does when the headend is gone, and what comes back when everything is.

use std::time::Duration;

use derms_client::{Client, DispatchOptions, TelemetryHistoryQuery};
use derms_proto::{
    AssetId, Dispatch, DispatchStatus, NewDispatch, NewStop, Power, ReasonCode,
    TelemetryHistoryItem, Timestamp,
};
use derms_tests::{Folder, HeadendProcess, Process, Program, lasting_address, until};
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(30);
const LEASED: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";
const ORDERED: &str = "7ba7b811-9dad-11d1-80b4-00c04fd430c8";
const STOPPED: &str = "7ba7b812-9dad-11d1-80b4-00c04fd430c8";

const FLEET: &str = "
sites:
  - {id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8, name: Jersey, location: Region-A}
assets:
  - {id: 7ba7b810-9dad-11d1-80b4-00c04fd430c8, name: LEASED, site_id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8, type: battery,
     capacity_mwhr: 120, max_mw: 60, min_mw: -60, efficiency: 0.9, ramp_rate_mw_per_min: 1000, min_soc_pct: 5, max_soc_pct: 95}
  - {id: 7ba7b811-9dad-11d1-80b4-00c04fd430c8, name: ORDERED, site_id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8, type: battery,
     capacity_mwhr: 40, max_mw: 20, min_mw: -20, efficiency: 0.9, ramp_rate_mw_per_min: 1000, min_soc_pct: 5, max_soc_pct: 95,
     failsafe: {policy: {value: -2}, after_s: 9}}
  - {id: 7ba7b812-9dad-11d1-80b4-00c04fd430c8, name: STOPPED, site_id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8, type: battery,
     capacity_mwhr: 40, max_mw: 20, min_mw: -20, efficiency: 0.9, ramp_rate_mw_per_min: 60000, min_soc_pct: 5, max_soc_pct: 95,
     default_mw: 3}
";

struct World {
    folder: Folder,
    http: String,
    grpc: String,
}

impl World {
    fn new() -> Self {
        let folder = Folder::new();
        std::fs::write(folder.file("assets.yaml"), FLEET).unwrap();
        let (http, grpc) = (lasting_address().to_string(), lasting_address().to_string());
        Self { folder, http, grpc }
    }

    fn path(&self, name: &str) -> String {
        self.folder.file(name).display().to_string()
    }

    async fn headend(&self) -> HeadendProcess {
        let (assets, data) = (self.path("assets.yaml"), self.path("data"));
        HeadendProcess::of(Program::new("der_headend").args([
            "--assets",
            &assets,
            "--http-addr",
            &self.http,
            "--grpc-addr",
            &self.grpc,
            "--data-dir",
            &data,
            "--telemetry-s",
            "1",
        ]))
        .await
    }

    fn agent(&self, asset: &str) -> Process {
        let (assets, state) = (self.path("assets.yaml"), self.path(asset));
        let args = [
            "--assets",
            &assets,
            "--asset-id",
            asset,
            "--headend",
            &self.grpc,
            "--state-dir",
            &state,
        ];
        Process::start("edge_agent", &args)
    }
}

/// The time at the beginning of the next line of the log with these words.
async fn time_of(agent: &mut Process, words: &str) -> Timestamp {
    let line = agent.says(words).await;
    let time = line.split(' ').next().unwrap();
    serde_json::from_value(time.into()).unwrap()
}

async fn until_at(client: &Client, asset: AssetId, mw: f64, control: &str) {
    until(&format!("{mw} MW by {control}"), SOON, async || {
        let measured = client.telemetry(asset).await.ok()?.telemetry.measurements;
        let source = serde_json::to_value(measured.control?).ok()?;
        (measured.mw?.mw() == mw && source == control).then_some(())
    })
    .await;
}

async fn active(client: &Client, order: &NewDispatch) -> Dispatch {
    until("an agent", SOON, async || {
        let asset = client.asset(order.asset_id?).await.ok()?;
        asset.connected.then_some(())
    })
    .await;
    let wait = DispatchOptions::new().wait(SOON);
    let dispatch = client.dispatch_with(order, wait).await.unwrap();
    assert_eq!(dispatch.status, DispatchStatus::Active, "{dispatch:?}");
    dispatch
}

#[tokio::test]
async fn a_lease_and_a_failsafe_need_no_headend_and_what_has_ended_does_not_come_back() {
    let world = World::new();
    let (leased, ordered): (AssetId, AssetId) = (LEASED.parse().unwrap(), ORDERED.parse().unwrap());
    let headend = world.headend().await;
    let mut agents = [LEASED, ORDERED].map(|asset| world.agent(asset));
    let lease = Duration::from_secs(6);
    let order = NewDispatch::asset(leased, Power::from_mw(5.0)).lasting(lease);
    let with_lease = active(&headend.client, &order).await.id;
    let began = time_of(&mut agents[0], "phase=started").await;
    let order = NewDispatch::asset(ordered, Power::from_mw(7.0));
    let without = active(&headend.client, &order).await.id;
    headend.process.signal(Signal::KILL);
    headend.process.ended().await;
    let killed = Timestamp::now();

    let ended = time_of(&mut agents[0], "phase=completed").await;
    let lasted = ended.saturating_since(began).as_secs_f64();
    assert!((6.0..7.0).contains(&lasted), "the lease lasted {lasted} s");
    let tripped = time_of(&mut agents[1], "the link was lost for too long: failsafe").await;
    let after = tripped.saturating_since(killed).as_secs_f64();
    assert!(
        (8.0..11.0).contains(&after),
        "the failsafe came after {after} s"
    );

    // Everything dies, and comes back. The failsafe came well after the lease: its end is on the disk.
    for agent in agents {
        agent.signal(Signal::KILL);
        agent.ended().await;
    }
    let agents = [LEASED, ORDERED].map(|asset| world.agent(asset));
    let headend = world.headend().await;
    let client = &headend.client;
    until_at(client, leased, 0.0, "default").await;
    for (id, status, reason) in [
        (with_lease, DispatchStatus::Completed, None),
        (without, DispatchStatus::Failed, Some(ReasonCode::Failsafe)),
    ] {
        let told = until("the report", SOON, async || {
            let dispatch = client.get_dispatch(id).await.ok()?;
            dispatch.status.is_terminal().then_some(dispatch)
        })
        .await;
        assert_eq!((told.status, told.reason), (status, reason), "{told:?}");
    }
    until_at(client, ordered, 0.0, "default").await;
    for agent in agents {
        assert_eq!(agent.terminated().await, Some(0));
    }
    assert_eq!(headend.process.terminated().await, Some(0));
}

/// Its agent has told of a measurement since: the asset is stopped.
async fn until_stopped_since(client: &Client, asset: AssetId, since: Timestamp) {
    until("a measurement of the stopped asset", SOON, async || {
        let measured = client.telemetry(asset).await.ok()?.telemetry;
        let source = serde_json::to_value(measured.measurements.control?).ok()?;
        (measured.measured_at > since && source == "stop").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stopped_asset_stays_at_zero_whoever_dies_and_returns_when_an_operator_says_so() {
    let world = World::new();
    let asset: AssetId = STOPPED.parse().unwrap();
    let headend = world.headend().await;
    let agent = world.agent(STOPPED);
    let order = NewDispatch::asset(asset, Power::from_mw(5.0));
    active(&headend.client, &order).await;
    until_at(&headend.client, asset, 5.0, "setpoint").await;
    let stop = headend.client.stop(&NewStop::asset(asset)).await.unwrap();
    until_at(&headend.client, asset, 0.0, "stop").await;
    let stopped = Timestamp::now();

    agent.signal(Signal::KILL);
    agent.ended().await;
    let agent = world.agent(STOPPED);
    until_stopped_since(&headend.client, asset, stopped).await;

    headend.process.signal(Signal::KILL);
    headend.process.ended().await;
    let headend = world.headend().await;
    until_stopped_since(&headend.client, asset, Timestamp::now()).await;

    assert_eq!(agent.terminated().await, Some(0));
    let _agent = world.agent(STOPPED);
    until_stopped_since(&headend.client, asset, Timestamp::now()).await;
    let refused = headend.client.dispatch(&order).await.unwrap_err();
    assert!(refused.to_string().contains("stop"), "{refused}");

    let query = TelemetryHistoryQuery::new().from(stopped);
    let history = headend
        .client
        .telemetry_history(asset, query)
        .await
        .unwrap();
    let measured = history.items.iter().filter_map(|item| match item {
        TelemetryHistoryItem::Measurement(row) => row.measurements.mw,
        _ => None,
    });
    let measured: Vec<f64> = measured.map(Power::mw).collect();
    assert!(measured.len() >= 3, "{measured:?}");
    assert!(measured.iter().all(|mw| *mw == 0.0), "{measured:?}");

    let within = Some(Duration::ZERO);
    headend.client.resume(stop.id, within).await.unwrap();
    until_at(&headend.client, asset, 3.0, "default").await;
}
