//! `/assets`, `/sites`.

use std::sync::Arc;
use std::time::Duration;

use derms_headend_sdk::Headend;
use derms_headend_sdk::proto::{
    Fleet, Measurements, NewDispatch, Power, ProblemCode as Code, Quality,
};
use derms_headend_sdk::store::{MemoryStore, Store};

use crate::agent::Agent;
use crate::support::{BESS_1, BESS_2, JERSEY, NEWARK, NOBODY, fleet, get, headend, headend_with};

#[tokio::test]
async fn assets_are_those_of_the_file_with_their_site_and_link() {
    let headend = headend().await;
    let assets = get(&headend, "/assets").await.ok();
    let assets = assets.as_array().unwrap();
    assert_eq!(assets.len(), 3);
    let bess = &assets[0];
    assert_eq!(bess["id"], BESS_1);
    assert_eq!(bess["name"], "BESS-1");
    assert_eq!(bess["site_id"], JERSEY);
    assert_eq!(bess["site_name"], "Jersey");
    assert_eq!(bess["location"], "Region-A");
    assert_eq!(bess["type"], "battery");
    assert_eq!(bess["capacity_mwhr"], 120.0);
    assert_eq!(
        (bess["min_mw"].as_f64(), bess["max_mw"].as_f64()),
        (Some(-60.0), Some(60.0))
    );
    assert_eq!(bess["efficiency"], 0.92);
    assert_eq!(bess["ramp_rate_mw_per_min"], 1000.0);
    assert_eq!(bess["failsafe"]["policy"], "default");
    assert_eq!(bess["connected"], false);
    assert!(bess["last_seen"].is_null());
    assert_eq!(
        &get(&headend, &format!("/assets/{BESS_1}")).await.ok(),
        bess
    );
}

#[tokio::test]
async fn an_unknown_asset_is_not_found() {
    let headend = headend().await;
    for path in ["assets", "telemetry", "heartbeat"] {
        get(&headend, &format!("/{path}/{NOBODY}"))
            .await
            .problem(Code::UnknownAsset);
    }
    for path in ["telemetry", "heartbeat"] {
        get(&headend, &format!("/{path}/{NOBODY}/history"))
            .await
            .problem(Code::UnknownAsset);
    }
    get(&headend, &format!("/dispatch/{NOBODY}"))
        .await
        .problem(Code::UnknownDispatch);
}

#[tokio::test(start_paused = true)]
async fn an_asset_is_connected_while_its_agent_is_heard() {
    let (headend, clock) = headend_with(MemoryStore::new()).await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    agent.heartbeat().await;
    let asset = |path: &'static str| async { get(&headend, path).await.ok() };
    let path = "/assets/7ba7b810-9dad-11d1-80b4-00c04fd430c8";
    assert_eq!(asset(path).await["connected"], true);
    assert_eq!(asset(path).await["last_seen"], clock.now().to_string());
    // A black hole: nothing is read any more, and nothing says so.
    tokio::time::advance(Duration::from_secs(45)).await;
    assert_eq!(asset(path).await["connected"], false);
}

#[tokio::test(start_paused = true)]
async fn a_site_sums_only_what_is_fresh_and_not_known_to_be_wrong() {
    let (headend, clock) = headend_with(MemoryStore::new()).await;
    let mw = |site: usize| {
        let headend = headend.clone();
        async move {
            let sites = get(&headend, "/sites").await.ok();
            (
                sites[site]["mw"].as_f64(),
                sites[site]["mw_assets"].as_u64().unwrap(),
            )
        }
    };
    let sites = get(&headend, "/sites").await.ok();
    assert_eq!(sites[0]["id"], JERSEY);
    assert_eq!(sites[0]["assets"].as_array().unwrap().len(), 2);
    assert_eq!(sites[1]["id"], NEWARK);
    assert_eq!(mw(0).await, (None, 0), "nothing measured is no zero");

    let mut gateway = Agent::connect(&headend, JERSEY, &[BESS_1, BESS_2]).await;
    gateway.measured_mw(BESS_1, clock.now(), 5.0).await;
    assert_eq!(mw(0).await, (Some(5.0), 1));
    clock.advance(Duration::from_secs(10));
    gateway.measured_mw(BESS_2, clock.now(), -2.0).await;
    assert_eq!(mw(0).await, (Some(3.0), 2));
    clock.advance(Duration::from_secs(3));
    assert_eq!(mw(0).await, (Some(-2.0), 1), "the older value is stale");

    let wrong = Measurements {
        mw: Some(Power::from_mw(900.0)),
        quality: Quality::Bad,
        ..Measurements::default()
    };
    gateway.measured(BESS_2, clock.now(), wrong).await;
    assert_eq!(mw(0).await, (None, 0));
}

#[tokio::test(start_paused = true)]
async fn a_headend_of_a_changed_fleet_goes_on_with_the_store_of_the_one_before() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let builder = Headend::builder(fleet()).shared_store(Arc::clone(&store));
    let before = builder.build().await.unwrap();
    let wish = NewDispatch::asset(BESS_1.parse().unwrap(), Power::from_mw(1.0));
    let order = before.dispatch(&wish, None).await.unwrap();
    before.shutdown().await;

    let sites = before.fleet().sites().to_vec();
    let smaller = Fleet::new(sites, before.fleet().assets()[..2].to_vec()).unwrap();
    let builder = Headend::builder(smaller).shared_store(store);
    let after = builder.build().await.unwrap();
    let assets = get(&after, "/assets").await.ok();
    assert_eq!(assets.as_array().unwrap().len(), 2);
    let path = format!("/dispatch/{}", order.id);
    assert_eq!(get(&after, &path).await.ok()["status"], "pending");
}
