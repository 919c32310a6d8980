//! `/audit`: what is recorded of whom.

use std::net::SocketAddr;

use bytes::Bytes;
use derms_headend_sdk::auth::Role;
use derms_headend_sdk::store::MemoryStore;
use derms_headend_sdk::{Headend, PeerAddr, Principal};
use http::{Request, header};
use http_body_util::Full;
use serde_json::Value;

use crate::agent::Agent;
use crate::sick_store::{SickStore, Sickness};
use crate::support::{
    Answer, BESS_1, JERSEY, NEWARK, NOBODY, Never, fleet, request, send, standing_clock,
};

async fn asking(store: impl derms_headend_sdk::store::Store) -> Headend {
    let (builder, _) = standing_clock(Headend::builder(fleet()).store(store));
    builder.require_principal().build().await.unwrap()
}

fn call(who: Option<&Principal>, method: &str, path: &str, body: &str) -> Request<Full<Bytes>> {
    let request = request(method, path).header(header::CONTENT_TYPE, "application/json");
    let mut request = request
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    let peer: SocketAddr = "192.0.2.7:5000".parse().unwrap();
    request.extensions_mut().insert(PeerAddr(peer));
    if let Some(who) = who {
        request.extensions_mut().insert(who.clone());
    }
    request
}

async fn trail(headend: &Headend, query: &str) -> Vec<Value> {
    let admin = Principal::new("ada");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let path = format!("/audit{query}");
    let page = send(headend.service(), call(Some(&admin), "GET", &path, "")).await;
    page.ok()["items"].as_array().unwrap().clone()
}

fn operator() -> Principal {
    Principal::new("oda").with_role(Role::Operator)
}

#[tokio::test]
async fn every_call_that_changes_something_is_recorded_with_its_result() {
    let headend = asking(MemoryStore::new()).await;
    let who = operator();
    let act = async |method: &str, path: &str, body: &str| -> Answer {
        send(headend.service(), call(Some(&who), method, path, body)).await
    };
    let order = act(
        "POST",
        "/dispatch",
        &format!(r#"{{"asset_id":"{BESS_1}","mw":5}}"#),
    )
    .await;
    let order = order.json()["id"].as_str().unwrap().to_owned();
    act("DELETE", &format!("/dispatch/{order}"), "").await;
    let limit = act(
        "POST",
        "/limits",
        &format!(r#"{{"asset_id":"{BESS_1}","max_mw":3}}"#),
    )
    .await;
    let limit = limit.json()["id"].as_str().unwrap().to_owned();
    act("DELETE", &format!("/limits/{limit}"), "").await;
    let all = r#"{"all":true,"confirm":"stop","reason":"smoke"}"#;
    let stop = act("POST", "/stop", all).await;
    let stop = stop.json()["id"].as_str().unwrap().to_owned();
    act("DELETE", &format!("/stop/{stop}"), "").await;
    // Refused for what it asks.
    act(
        "POST",
        "/dispatch",
        &format!(r#"{{"site_id":"{NOBODY}","mw":5}}"#),
    )
    .await;
    act("GET", "/assets", "").await;

    let mut trail = trail(&headend, "").await;
    trail.reverse();
    let told: Vec<_> = trail
        .iter()
        .map(|record| {
            assert_eq!(record["principal"], "oda");
            assert_eq!(record["peer"], "192.0.2.7:5000");
            let text = |name: &str| record[name].as_str().unwrap_or("-").to_owned();
            (
                text("action"),
                text("target"),
                record["status"].clone(),
                text("code"),
            )
        })
        .collect();
    let row = |action: &str, target: &str, status: u16, code: &str| {
        (
            action.to_owned(),
            target.to_owned(),
            status.into(),
            code.to_owned(),
        )
    };
    let asset = format!("asset {BESS_1}");
    assert_eq!(
        told,
        [
            row("submit_dispatch", &asset, 202, "-"),
            row("cancel_dispatch", &format!("dispatch {order}"), 200, "-"),
            row("set_limit", &asset, 201, "-"),
            row("remove_limit", &format!("limit {limit}"), 202, "-"),
            row("stop", "all", 202, "-"),
            row("resume", &format!("stop {stop}"), 202, "-"),
            row(
                "submit_dispatch",
                &format!("site {NOBODY}"),
                404,
                "unknown_site"
            ),
        ]
    );
    assert!(trail[0]["detail"].as_str().unwrap().contains(&order));
    assert!(trail[4]["detail"].as_str().unwrap().contains("smoke"));
    assert!(trail[6]["detail"].as_str().unwrap().contains("no site"));
}

#[tokio::test]
async fn a_refused_login_and_every_refusal_by_role_or_site_is_recorded() {
    let headend = asking(MemoryStore::new()).await;
    let viewer = Principal::new("vic").with_role(Role::Viewer);
    let newt = operator().limited_to([NEWARK.parse().unwrap()]);
    let stop = r#"{"all":true,"confirm":"stop"}"#;
    send(headend.service(), call(None, "GET", "/assets", "")).await;
    send(headend.service(), call(None, "GET", "/nowhere", "")).await;
    send(
        headend.service(),
        call(Some(&viewer), "POST", "/stop", stop),
    )
    .await;
    send(headend.service(), call(Some(&viewer), "GET", "/audit", "")).await;
    send(headend.service(), call(Some(&newt), "POST", "/stop", stop)).await;
    let path = format!("/assets/{BESS_1}");
    send(headend.service(), call(Some(&newt), "GET", &path, "")).await;
    let mut trail = trail(&headend, "").await;
    trail.reverse();
    let told: Vec<_> = trail
        .iter()
        .map(|it| {
            format!(
                "{} {} {} {}",
                it["principal"], it["action"], it["status"], it["code"]
            )
        })
        .collect();
    let expected = [
        r#"null "list_assets" 401 "unauthenticated""#,
        r#"null "no_such_path" 401 "unauthenticated""#,
        r#""vic" "stop" 403 "forbidden""#,
        r#""vic" "list_audit" 403 "forbidden""#,
        r#""oda" "stop" 403 "forbidden""#,
        r#""oda" "get_asset" 404 "unknown_asset""#,
    ];
    assert_eq!(told, expected);
    assert_eq!(trail[0]["target"], "/assets", "what was called");
}

#[tokio::test]
async fn the_trail_is_filtered_and_comes_as_csv() {
    let headend = asking(MemoryStore::new()).await;
    let stop = format!(r#"{{"site_id":"{JERSEY}","confirm":"stop","reason":"=cmd()"}}"#);
    for name in ["oda", "ole"] {
        let who = Principal::new(name).with_role(Role::Operator);
        send(headend.service(), call(Some(&who), "POST", "/stop", &stop)).await;
    }
    assert_eq!(trail(&headend, "?principal=ole").await.len(), 1);
    assert_eq!(trail(&headend, "?action=resume").await.len(), 0);
    assert_eq!(trail(&headend, "?action=stop&limit=1").await.len(), 1);
    let admin = Principal::new("ada");
    let mut request = call(Some(&admin), "GET", "/audit", "");
    let csv = header::HeaderValue::from_static("text/csv");
    request.headers_mut().insert(header::ACCEPT, csv);
    let answer = send(headend.service(), request).await;
    let lines: Vec<&str> = answer.text().lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("id,at,principal,peer,action,target,status"));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_holds_up_no_call_and_gets_its_records_later() {
    let store = SickStore::default();
    let headend = asking(store.clone()).await;
    store.set(Sickness::Unavailable);
    let stop = r#"{"all":true,"confirm":"stop"}"#;
    let answer = send(
        headend.service(),
        call(Some(&operator()), "POST", "/stop", stop),
    )
    .await;
    assert_eq!(answer.status.as_u16(), 202);
    store.set(Sickness::None);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(trail(&headend, "?action=stop").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_before_the_answer_is_recorded_all_the_same() {
    let headend = asking(MemoryStore::new()).await;
    let _agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let order = format!(r#"{{"asset_id":"{BESS_1}","mw":5}}"#);
    let who = operator();
    // The agent never says yes.
    let request = call(Some(&who), "POST", "/dispatch?wait_s=60", &order);
    let asking = send(headend.service(), request);
    let left = tokio::time::timeout(std::time::Duration::from_millis(200), asking).await;
    assert!(left.is_err(), "it was answered: {left:?}");
    let trail = trail(&headend, "").await;
    assert_eq!(trail.len(), 1);
    assert_eq!(trail[0]["status"], Value::Null);
    assert!(trail[0]["detail"].as_str().unwrap().contains("left"));
}

#[tokio::test]
async fn an_agent_that_may_serve_nothing_is_recorded_as_a_refused_claim() {
    let headend = asking(MemoryStore::new()).await;
    let mut stranger = tokio::task::JoinSet::new();
    let other = headend.clone();
    stranger.spawn(async move { Agent::connect(&other, NOBODY, &[BESS_1]).await });
    let came = stranger.join_next().await.unwrap();
    assert!(came.is_err(), "it was registered");
    let trail = trail(&headend, "").await;
    assert_eq!(trail[0]["action"], "refused_claim");
    assert_eq!(trail[0]["principal"], format!("agent {NOBODY}"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_before_the_answer_to_a_read_is_not_recorded() {
    let headend = asking(MemoryStore::new()).await;
    let request = call(Some(&operator()), "POST", "/dispatch/preview", "").map(|_| Never);
    let asking = send(headend.service(), request);
    let left = tokio::time::timeout(std::time::Duration::from_millis(200), asking).await;
    assert!(left.is_err(), "it was answered: {left:?}");
    assert_eq!(trail(&headend, "").await, [] as [Value; 0]);
}
