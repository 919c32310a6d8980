//! Assets that their agent serves no more while it is connected, or with its next session.

use std::time::Duration;

use derms_headend_sdk::proto::link::{Control, SetpointOrder, SetpointPhase};
use derms_headend_sdk::proto::{ControlSource, NewDispatch, NewLimit, Power};
use derms_headend_sdk::{Headend, Principal};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::live::Stream;
use crate::sick_store::{SickStore, Sickness};
use crate::support::{BESS_1, BESS_2, JERSEY, NEWARK, WallClock, delete, fleet, get, request};
use crate::support::{headend_with, post, standing_clock};

/// A headend with a gateway of both batteries of a site, and what it tells of one kind from now on.
async fn gateway(kind: &str) -> (Headend, WallClock, Agent, Stream) {
    let (builder, clock) = standing_clock(Headend::builder(fleet()));
    let headend = builder.build().await.unwrap();
    let agent = Agent::connect(&headend, JERSEY, &[BESS_1, BESS_2]).await;
    let stream = watch(&headend, &format!("/stream?kind={kind}"), None).await;
    (headend, clock, agent, stream)
}

async fn watch(headend: &Headend, path: &str, who: Option<&Principal>) -> Stream {
    let mut request = request("GET", path).body(Full::default()).unwrap();
    if let Some(who) = who {
        request.extensions_mut().insert(who.clone());
    }
    let opened = Stream::sent(headend, request).await;
    let mut stream = opened.unwrap_or_else(|answer| panic!("{}", answer.text()));
    assert_eq!(stream.item().await["kind"], "reset");
    stream
}

async fn order(headend: &Headend, asset: &str) -> String {
    let order = NewDispatch::asset(asset.parse().unwrap(), Power::from_mw(5.0));
    headend.dispatch(&order, None).await.unwrap().id.to_string()
}

async fn dispatch(headend: &Headend, id: &str) -> Value {
    get(headend, &format!("/dispatch/{id}")).await.ok()
}

async fn is_connected(headend: &Headend, asset: &str) -> bool {
    let asset = get(headend, &format!("/assets/{asset}")).await.ok();
    assert!(asset["last_seen"].is_string(), "{asset}");
    asset["connected"].as_bool().unwrap()
}

#[tokio::test]
async fn an_asset_that_a_gateway_drops_is_offline_and_its_orders_wait_for_it() {
    let (headend, _, mut agent, mut sessions) = gateway("session").await;
    agent.removes(BESS_1).await;
    let now = sessions.item().await;
    assert_eq!(
        (&now["assets"], &now["disconnected_at"]),
        (&json!([BESS_2]), &Value::Null)
    );
    assert!(!is_connected(&headend, BESS_1).await);
    assert!(is_connected(&headend, BESS_2).await);
    let agents = get(&headend, "/agents").await.ok();
    assert_eq!(agents[0]["assets"].as_array().unwrap().len(), 1, "{agents}");

    let waiting = order(&headend, BESS_1).await;
    assert_eq!(dispatch(&headend, &waiting).await["status"], "pending");
    let site = json!({ "site_id": JERSEY, "mw": 10 }).to_string();
    let preview = post(&headend, "/dispatch/preview", site).await.ok();
    let assets = preview["assets"].as_array().unwrap().iter();
    let shared: Vec<&Value> = assets.map(|share| &share["asset_id"]).collect();
    assert_eq!(shared, [BESS_2], "{preview}");

    agent.adds(BESS_1).await;
    assert_eq!(sessions.item().await["assets"], json!([BESS_1, BESS_2]));
    let sent = agent.order().await;
    assert_eq!(sent.dispatch_id.to_string(), waiting);
    assert!(is_connected(&headend, BESS_1).await);
}

#[tokio::test]
async fn who_sees_a_site_alone_is_told_when_its_only_asset_is_dropped() {
    let (headend, _, agent, _sessions) = gateway("session").await;
    let jess = Principal::new("jess").limited_to([JERSEY.parse().unwrap()]);
    let newt = Principal::new("newt").limited_to([NEWARK.parse().unwrap()]);
    let mut theirs = watch(&headend, "/stream?kind=session", Some(&jess)).await;
    let mut others = watch(&headend, "/stream?kind=session", Some(&newt)).await;
    let mut of_asset = watch(&headend, &format!("/stream?asset_id={BESS_1}"), None).await;
    for asset in [BESS_2, BESS_1] {
        agent.removes(asset).await;
    }
    assert_eq!(theirs.item().await["assets"], json!([BESS_1]));
    assert_eq!(theirs.item().await["assets"], json!([]));
    assert_eq!(of_asset.item().await["assets"], json!([BESS_1]));
    assert_eq!(of_asset.item().await["assets"], json!([]));
    headend.shutdown().await;
    assert_eq!(others.item().await["kind"], "end");
}

#[tokio::test]
async fn a_limit_of_a_dropped_asset_is_told_when_it_comes_back_before_any_order() {
    let (headend, _, mut agent, mut sessions) = gateway("session").await;
    agent.removes(BESS_1).await;
    sessions.item().await;
    let limit = NewLimit::at_most(BESS_1.parse().unwrap(), Power::from_mw(3.0));
    let limit = headend.set_limit(&limit, None).await.unwrap();
    let shown = get(&headend, &format!("/limits/{}", limit.id)).await.ok();
    assert_eq!(shown["status"], "pending");
    let text = shown["text"].as_str().unwrap();
    assert!(text.contains("its agent is not connected"), "{text}");
    let stop = json!({ "asset_id": BESS_1, "confirm": "stop" }).to_string();
    let stopped = post(&headend, "/stop", stop).await.json();
    assert_eq!(
        (&stopped["reached"], &stopped["offline"]),
        (&json!(0), &json!(1))
    );
    agent.adds(BESS_1).await;
    let told = agent.limits().await;
    assert_eq!(told.asset_id.to_string(), BESS_1);
    assert_eq!((told.limits.len(), told.stop), (1, true));
}

#[tokio::test]
async fn an_order_in_force_that_is_not_ended_before_its_asset_is_dropped_is_a_mismatch() {
    let (headend, clock, mut agent, mut events) = gateway("event").await;
    let (ended, left) = (order(&headend, BESS_1).await, order(&headend, BESS_2).await);
    let both = [agent.order().await, agent.order().await];
    for sent in both {
        agent.report(&sent, SetpointPhase::Started).await;
        if sent.dispatch_id.to_string() == ended {
            agent.report(&sent, SetpointPhase::Failed).await;
        }
    }
    clock.advance(Duration::from_secs(10));
    for asset in [BESS_1, BESS_2] {
        agent.removes(asset).await;
    }
    // Of the one that was removed first nothing was said.
    let told = events.item().await;
    assert_eq!(
        (&told["code"], &told["asset_id"]),
        (&json!("mismatch"), &json!(BESS_2))
    );
    assert!(told["text"].as_str().unwrap().contains(&left), "{told}");
    assert_eq!(dispatch(&headend, &ended).await["status"], "failed");
    // Nothing is guessed.
    assert_eq!(dispatch(&headend, &left).await["status"], "active");
}

/// A gateway drops an asset with an order that it has only taken, and says nothing of it.
async fn dropped_in_silence() -> (Headend, Agent, Stream, String, SetpointOrder) {
    let (headend, _, mut agent, mut orders) = gateway("dispatch").await;
    let id = order(&headend, BESS_1).await;
    let sent = agent.order().await;
    agent.report(&sent, SetpointPhase::Received).await;
    while orders.item().await["status"] != "received" {}
    agent.removes(BESS_1).await;
    let doubted = orders.item().await;
    assert_eq!(
        (&doubted["id"], &doubted["status"], &doubted["in_doubt"]),
        (&json!(id), &json!("received"), &json!(true))
    );
    (headend, agent, orders, id, sent)
}

#[tokio::test]
async fn what_an_agent_drops_without_a_word_is_in_doubt_until_it_speaks() {
    let (headend, mut agent, mut orders, id, sent) = dropped_in_silence().await;
    assert!(is_connected(&headend, BESS_2).await);
    agent.report(&sent, SetpointPhase::Failed).await;
    let ended = orders.item().await;
    assert_eq!(
        (&ended["status"], &ended["in_doubt"]),
        (&json!("failed"), &json!(false))
    );
    assert_eq!(dispatch(&headend, &id).await["in_doubt"], false);
}

#[tokio::test]
async fn an_asset_that_comes_back_with_its_order_in_force_takes_the_doubt_off_it() {
    let (headend, mut agent, mut orders, id, sent) = dropped_in_silence().await;
    let control = Control {
        source: ControlSource::Setpoint,
        dispatch_id: Some(sent.dispatch_id),
        revision: Some(sent.revision),
        ..Control::default()
    };
    agent.adds_doing(BESS_1, control).await;
    assert_eq!(orders.item().await["in_doubt"], false);
    assert_eq!(dispatch(&headend, &id).await["in_doubt"], false);
}

#[tokio::test]
async fn an_end_that_was_told_before_the_asset_was_dropped_and_is_not_stored_yet_is_no_doubt() {
    let store = SickStore::default();
    let (headend, _) = headend_with(store.clone()).await;
    let mut agent = Agent::connect(&headend, JERSEY, &[BESS_1, BESS_2]).await;
    let id = order(&headend, BESS_1).await;
    let sent = agent.order().await;
    agent.report(&sent, SetpointPhase::Started).await;
    let mut orders = watch(&headend, "/stream?kind=dispatch", None).await;
    let mut sessions = watch(&headend, "/stream?kind=session", None).await;
    store.set(Sickness::Full);
    agent.says(&sent, SetpointPhase::Failed).await;
    agent.removes(BESS_1).await;
    assert_eq!(sessions.item().await["assets"], json!([BESS_2]));
    store.set(Sickness::None);
    let next = orders.item().await;
    assert_eq!(
        (&next["id"], &next["status"], &next["in_doubt"]),
        (&json!(id), &json!("failed"), &json!(false))
    );
}

#[tokio::test]
async fn without_the_store_a_dropped_asset_is_offline_and_its_order_in_doubt_when_it_is_back() {
    let store = SickStore::default();
    let (headend, _) = headend_with(store.clone()).await;
    let mut agent = Agent::connect(&headend, JERSEY, &[BESS_1, BESS_2]).await;
    let id = order(&headend, BESS_1).await;
    let sent = agent.order().await;
    let mut orders = watch(&headend, "/stream?kind=dispatch", None).await;
    agent.report(&sent, SetpointPhase::Started).await;
    while orders.item().await["status"] != "active" {}
    let mut sessions = watch(&headend, "/stream?kind=session", None).await;
    store.set(Sickness::Unavailable);
    agent.removes(BESS_1).await;
    assert_eq!(sessions.item().await["assets"], json!([BESS_2]));
    store.set(Sickness::None);
    let doubted = orders.item().await;
    assert_eq!(
        (&doubted["id"], &doubted["in_doubt"]),
        (&json!(id), &json!(true))
    );
}

#[tokio::test]
async fn an_agent_that_comes_back_with_fewer_assets_leaves_the_order_of_the_other_in_doubt() {
    let (headend, _, mut agent, mut orders) = gateway("dispatch").await;
    let id = order(&headend, BESS_1).await;
    let sent = agent.order().await;
    agent.report(&sent, SetpointPhase::Started).await;
    while orders.item().await["status"] != "active" {}
    // The newest registration wins; the old stream is over by that.
    let mut again = Agent::connect(&headend, JERSEY, &[BESS_2]).await;
    let doubted = orders.item().await;
    assert_eq!(
        (&doubted["id"], &doubted["status"], &doubted["in_doubt"]),
        (&json!(id), &json!("active"), &json!(true))
    );
    assert!(!is_connected(&headend, BESS_1).await);
    assert!(is_connected(&headend, BESS_2).await);
    // A cancel waits: there is nobody who could carry it out.
    let cancelled = delete(&headend, &format!("/dispatch/{id}")).await.json();
    assert_eq!(cancelled["status"], "active", "{cancelled}");
    // What the agent has to say of it counts, though it does not serve it any more.
    again.report(&sent, SetpointPhase::Failed).await;
    let ended = dispatch(&headend, &id).await;
    assert_eq!(
        (&ended["status"], &ended["in_doubt"]),
        (&json!("failed"), &json!(false))
    );
}
