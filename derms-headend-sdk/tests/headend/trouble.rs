//! A headend whose store fails.

use std::time::Duration;

use derms_headend_sdk::proto::{Measurements, ProblemCode as Code};

use crate::agent::Agent;
use crate::sick_store::{SECRET, SickStore, Sickness};
use crate::support::{Answer, BESS_1, get, headend_with, post};

const NEEDS_STORE: [&str; 6] = [
    "/agents/history",
    "/telemetry/7ba7b810-9dad-11d1-80b4-00c04fd430c8/history",
    "/telemetry/7ba7b810-9dad-11d1-80b4-00c04fd430c8/history?step=60",
    "/heartbeat/7ba7b810-9dad-11d1-80b4-00c04fd430c8/history",
    "/dispatch/history",
    "/dispatch/00000000-0000-4000-8000-000000000000",
];

fn order() -> String {
    format!(r#"{{"asset_id":"{BESS_1}","mw":1}}"#)
}

#[track_caller]
fn keeps_its_secret(answer: &Answer, code: Code) {
    answer.problem(code);
    let headers = format!("{:?}", answer.headers);
    assert!(
        !answer.text().contains("hunter2") && !headers.contains("hunter2"),
        "{answer:?}"
    );
    assert!(!answer.text().contains(SECRET));
}

/// A probe hears what the store said within the last second.
async fn next_probe() {
    tokio::time::advance(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_store_is_told_without_its_inner_text() {
    let store = SickStore::default();
    let (headend, _) = headend_with(store.clone()).await;
    for (sickness, code) in [
        (Sickness::Unavailable, Code::StoreUnavailable),
        (Sickness::Corrupt, Code::Internal),
        (Sickness::Panic, Code::Internal),
    ] {
        store.set(sickness);
        next_probe().await;
        for path in NEEDS_STORE {
            keeps_its_secret(&get(&headend, path).await, code);
        }
        keeps_its_secret(&get(&headend, "/readyz").await, code);
        keeps_its_secret(&post(&headend, "/dispatch", order()).await, code);
        // What needs no store goes on.
        get(&headend, "/healthz").await.ok();
        get(&headend, "/assets").await.ok();
        get(&headend, "/telemetry").await.ok();
    }
}

#[tokio::test(start_paused = true)]
async fn a_headend_is_ready_again_when_its_store_is_back() {
    let store = SickStore::default();
    let (headend, _) = headend_with(store.clone()).await;
    assert_eq!(get(&headend, "/readyz").await.ok()["status"], "ready");
    store.set(Sickness::Unavailable);
    get(&headend, "/readyz").await.ok();
    next_probe().await;
    get(&headend, "/readyz")
        .await
        .problem(Code::StoreUnavailable);
    post(&headend, "/dispatch", order())
        .await
        .problem(Code::StoreUnavailable);
    store.set(Sickness::None);
    next_probe().await;
    get(&headend, "/readyz").await.ok();
    let history = get(&headend, "/dispatch/history").await.ok();
    assert_eq!(
        history["items"].as_array().unwrap().len(),
        0,
        "nothing was done"
    );
}

#[tokio::test(start_paused = true)]
async fn a_headend_that_is_not_ready_says_which_reason_it_has() {
    let store = SickStore::default();
    let (headend, clock) = headend_with(store.clone()).await;
    let reason = async |code, words: &str| {
        next_probe().await;
        let answer = get(&headend, "/readyz").await;
        answer.problem(code);
        assert!(answer.text().contains(words), "{answer:?}");
    };
    store.set(Sickness::Unavailable);
    reason(Code::StoreUnavailable, "the store can't be reached").await;
    store.set(Sickness::Full);
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    next_probe().await;
    get(&headend, "/readyz").await.ok();
    let measured = agent.measured(BESS_1, clock.now(), Measurements::default());
    let acknowledged = tokio::time::timeout(Duration::from_secs(3), measured).await;
    assert!(acknowledged.is_err(), "nothing is acknowledged");
    reason(Code::StoreUnavailable, "does not take telemetry").await;
    store.set(Sickness::None);
    tokio::time::sleep(Duration::from_secs(60)).await;
    get(&headend, "/readyz").await.ok();
    headend.shutdown().await;
    reason(Code::Draining, "the headend is shutting down").await;
}

#[tokio::test]
async fn a_headend_that_shuts_down_lives_but_takes_no_orders() {
    let (headend, _) = headend_with(SickStore::default()).await;
    headend.shutdown().await;
    get(&headend, "/healthz").await.ok();
    get(&headend, "/assets").await.ok();
    get(&headend, "/readyz").await.problem(Code::Draining);
    post(&headend, "/dispatch", order())
        .await
        .problem(Code::Draining);
}
