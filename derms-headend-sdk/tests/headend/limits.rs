//! `/limits`.

use bytes::Bytes;
use derms_headend_sdk::proto::link::LimitPhase;
use derms_headend_sdk::proto::{Power, ProblemCode as Code};
use derms_headend_sdk::store::MemoryStore;
use derms_headend_sdk::{Headend, Principal};
use http::header;
use http_body_util::Full;
use serde_json::Value;
use std::time::Duration;

use crate::agent::Agent;
use crate::sick_store::{SickStore, Sickness};
use crate::support::{
    Answer, BESS_1, BESS_2, JERSEY, NEWARK, NOBODY, PV_1, get, headend, headend_with, json_post,
    post, request, send,
};

fn at_most(asset: &str, mw: f64) -> String {
    format!(r#"{{"asset_id":"{asset}","max_mw":{mw}}}"#)
}

#[track_caller]
fn set(answer: &Answer) -> Value {
    assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
    answer.json()
}

async fn remove(headend: &Headend, id: &str) -> Answer {
    let request = request("DELETE", &format!("/limits/{id}"));
    send(
        headend.service(),
        request.body(Full::<Bytes>::default()).unwrap(),
    )
    .await
}

fn ids(list: &Value) -> Vec<String> {
    let items = list.as_array().unwrap().iter();
    items
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_limit_is_set_and_can_be_read_where_it_says() {
    let headend = headend().await;
    let body = format!(r#"{{"asset_id":"{BESS_1}","min_mw":-5,"max_mw":10.5,"duration_s":60}}"#);
    let mut call = json_post("/limits")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    call.extensions_mut().insert(Principal::new("ada"));
    let answer = send(headend.service(), call).await;
    let limit = set(&answer);
    assert_eq!(limit["asset_id"], BESS_1);
    assert_eq!(limit["site_id"], JERSEY);
    assert_eq!(
        (&limit["min_mw"], &limit["max_mw"]),
        (&(-5.0).into(), &10.5.into())
    );
    assert_eq!(limit["created_at"], "2026-01-31T12:00:00Z");
    assert_eq!(limit["expires_at"], "2026-01-31T12:01:00Z");
    assert_eq!(
        (&limit["principal"], &limit["status"]),
        (&"ada".into(), &"pending".into())
    );
    assert!(limit["removed_at"].is_null() && limit["confirmed_at"].is_null());
    let location = answer.header(header::LOCATION);
    assert_eq!(get(&headend, location).await.ok(), limit);
    let asset = get(&headend, &format!("/assets/{BESS_1}")).await.ok();
    assert_eq!(asset["limits"][0], limit);
    assert_eq!(
        (&asset["stopped"], &asset["control"]),
        (&false.into(), &Value::Null)
    );
}

#[tokio::test]
async fn a_limit_is_in_force_when_the_agent_says_so_and_shows_what_it_says_else() {
    let headend = headend().await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let limit = set(&post(&headend, "/limits", at_most(BESS_1, 5.0)).await);
    let path = format!("/limits/{}", limit["id"].as_str().unwrap());
    let told = agent.limits().await;
    assert_eq!(told.limits[0].max, Some(Power::from_mw(5.0)));
    agent
        .report_limits(&told, LimitPhase::NotObeyed, "the relay sticks")
        .await;
    let shown = get(&headend, &path).await.ok();
    assert_eq!(shown["status"], "not_obeyed");
    assert_eq!(shown["text"], "the relay sticks");
    agent.report_limits(&told, LimitPhase::InForce, "").await;
    let shown = get(&headend, &path).await.ok();
    assert_eq!(shown["status"], "in_force");
    assert_eq!(shown["confirmed_at"], "2026-01-31T12:00:00Z");
    let asset = get(&headend, &format!("/assets/{BESS_1}")).await.ok();
    assert_eq!(asset["control"]["source"], "default");
}

#[tokio::test]
async fn an_order_outside_of_a_limit_is_taken_and_says_so() {
    let headend = headend().await;
    set(&post(&headend, "/limits", at_most(BESS_1, 5.0)).await);
    let order = format!(r#"{{"asset_id":"{BESS_1}","mw":9}}"#);
    let dispatch = post(&headend, "/dispatch", order).await.json();
    assert_eq!(dispatch["mw"], 9.0);
    let range = serde_json::json!({"min_mw": -60.0, "max_mw": 5.0});
    assert_eq!(dispatch["limited_to"], range);
    let path = format!("/dispatch/{}", dispatch["id"].as_str().unwrap());
    assert_eq!(get(&headend, &path).await.ok()["limited_to"], range);
    let order = format!(r#"{{"asset_id":"{BESS_1}","mw":5}}"#);
    let dispatch = post(&headend, "/dispatch", order).await.json();
    assert!(dispatch.get("limited_to").is_none());
}

#[tokio::test]
async fn a_removed_limit_is_gone_from_the_list_and_stays_in_history() {
    let (headend, clock) = headend_with(MemoryStore::new()).await;
    let mut limits = Vec::new();
    for (asset, mw) in [(BESS_1, 5.0), (BESS_2, 6.0), (PV_1, 7.0)] {
        limits.push(set(&post(&headend, "/limits", at_most(asset, mw)).await));
        clock.advance(Duration::from_secs(1));
    }
    let [first, second, third] = ["0", "1", "2"].map(|n| {
        let n: usize = n.parse().unwrap();
        limits[n]["id"].as_str().unwrap().to_owned()
    });
    let answer = remove(&headend, &first).await;
    assert_eq!(answer.status.as_u16(), 202);
    let removed = answer.json();
    assert_eq!(removed["status"], "removed");
    assert_eq!(removed["removed_at"], "2026-01-31T12:00:03Z");
    clock.advance(Duration::from_secs(1));
    assert_eq!(remove(&headend, &first).await.json(), removed);
    let list = async |path: &str| ids(&get(&headend, path).await.ok());
    assert_eq!(list("/limits").await, [&second, &third].map(Clone::clone));
    let of_asset = format!("/limits?asset_id={BESS_2}");
    assert_eq!(list(&of_asset).await, [&*second]);
    assert_eq!(list(&format!("/limits?site_id={NEWARK}")).await, [&*third]);
    let page = get(&headend, "/limits/history?limit=2").await.ok();
    assert_eq!(ids(&page["items"]), [third, second]);
    let next = format!(
        "/limits/history?cursor={}",
        page["next_cursor"].as_str().unwrap()
    );
    assert_eq!(ids(&get(&headend, &next).await.ok()["items"]), [first]);
    remove(&headend, NOBODY).await.problem(Code::UnknownLimit);
    get(&headend, &format!("/limits/{NOBODY}"))
        .await
        .problem(Code::UnknownLimit);
}

#[tokio::test]
async fn a_limit_that_can_not_be_is_told_why() {
    let headend = headend().await;
    let refused = async |body: String, code| post(&headend, "/limits", body).await.problem(code);
    refused(at_most(NOBODY, 1.0), Code::UnknownAsset).await;
    refused(
        format!(r#"{{"asset_id":"{BESS_1}"}}"#),
        Code::InvalidRequest,
    )
    .await;
    refused(
        format!(r#"{{"asset_id":"{BESS_1}","max_mw":1,"cap":2}}"#),
        Code::InvalidBody,
    )
    .await;
    let problem = refused(at_most(PV_1, -1.0), Code::OutOfRange).await;
    let limits = problem.limits.unwrap();
    assert_eq!(
        (limits.min_mw, limits.max_mw),
        (Power::ZERO, Power::from_mw(30.0))
    );
    set(&post(&headend, "/limits", at_most(PV_1, 5.0)).await);
    let at_least = format!(r#"{{"asset_id":"{PV_1}","min_mw":5.5}}"#);
    let problem = refused(at_least, Code::LimitConflict).await;
    assert!(
        problem.detail.contains("0 MW to 5 MW"),
        "{}",
        problem.detail
    );
    for _ in 0..16 {
        set(&post(&headend, "/limits", at_most(BESS_1, 5.0)).await);
    }
    refused(at_most(BESS_1, 5.0), Code::TooManyLimits).await;
}

#[tokio::test]
async fn without_the_store_no_limit_is_set() {
    let store = SickStore::default();
    let (headend, _) = headend_with(store.clone()).await;
    store.set(Sickness::Unavailable);
    post(&headend, "/limits", at_most(BESS_1, 5.0))
        .await
        .problem(Code::StoreUnavailable);
    assert_eq!(get(&headend, "/limits").await.ok(), serde_json::json!([]));
}
