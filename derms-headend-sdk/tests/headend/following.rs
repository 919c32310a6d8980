//! Whether an asset does what its order says, as `GET /dispatch/{id}` shows it.

use std::time::Duration;

use derms_headend_sdk::Headend;
use derms_headend_sdk::proto::link::SetpointPhase;
use derms_headend_sdk::store::MemoryStore;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::support::{BESS_1, BESS_2, JERSEY, WallClock, get, headend_with, post};

/// Measures at the telemetry interval until the order is marked so, and gives how long it took.
async fn until_marked(
    headend: &Headend,
    clock: &WallClock,
    agent: &mut Agent,
    (path, asset, mw): (&str, &str, f64),
    wanted: Value,
) -> Duration {
    let begun = clock.now();
    for _ in 0..20 {
        if get(headend, path).await.ok()["following"] == wanted {
            return clock.now().saturating_since(begun);
        }
        clock.advance(Duration::from_secs(4));
        agent.measured_mw(asset, clock.now(), mw).await;
    }
    panic!("not marked {wanted}: {}", get(headend, path).await.ok());
}

#[tokio::test]
async fn a_deaf_device_is_marked_while_it_is_deaf_and_not_when_the_order_is_over() {
    let (headend, clock) = headend_with(MemoryStore::new()).await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    agent.measured_mw(BESS_1, clock.now(), 0.0).await;
    let body = format!(r#"{{"asset_id":"{BESS_1}","mw":12.0}}"#);
    let dispatch = post(&headend, "/dispatch", body).await.json();
    let path = format!("/dispatch/{}", dispatch["id"].as_str().unwrap());
    let order = agent.order().await;
    agent.report(&order, SetpointPhase::Started).await;
    let marked = get(&headend, &path).await.ok();
    assert_eq!(
        (&marked["status"], &marked["following"]),
        (&json!("active"), &json!(null))
    );

    let deaf = (path.as_str(), BESS_1, 0.0);
    let took = until_marked(&headend, &clock, &mut agent, deaf, json!(false)).await;
    assert!(took >= Duration::from_secs(10), "{took:?}");
    let obeys = (path.as_str(), BESS_1, 12.0);
    until_marked(&headend, &clock, &mut agent, obeys, json!(true)).await;
    agent.report(&order, SetpointPhase::Completed).await;
    until_marked(&headend, &clock, &mut agent, obeys, json!(null)).await;
}

#[tokio::test]
async fn a_site_does_not_follow_when_one_of_its_assets_does_not() {
    let (headend, clock) = headend_with(MemoryStore::new()).await;
    let mut agent = Agent::connect(&headend, JERSEY, &[BESS_1, BESS_2]).await;
    let body = format!(r#"{{"site_id":"{JERSEY}","mw":16.0}}"#);
    let dispatch = post(&headend, "/dispatch", body).await.json();
    let path = format!("/dispatch/{}", dispatch["id"].as_str().unwrap());
    for order in [agent.order().await, agent.order().await] {
        agent.report(&order, SetpointPhase::Started).await;
    }
    // 12 and 4 MW.
    let first = (path.as_str(), BESS_1, 12.0);
    for _ in 0..3 {
        clock.advance(Duration::from_secs(4));
        agent.measured_mw(first.1, clock.now(), first.2).await;
    }
    assert!(get(&headend, &path).await.ok()["following"].is_null());
    let second = (path.as_str(), BESS_2, 4.0);
    until_marked(&headend, &clock, &mut agent, second, json!(true)).await;
    let strays = (path.as_str(), BESS_2, 0.0);
    until_marked(&headend, &clock, &mut agent, strays, json!(false)).await;
    let marked = get(&headend, &path).await.ok();
    let marks = marked["children"].as_array().unwrap().iter();
    let marks: Vec<_> = marks.map(|child| child["following"].clone()).collect();
    assert_eq!(marks, [json!(true), json!(false)]);
}
