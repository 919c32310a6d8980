//! `/dispatch`.

use bytes::Bytes;
use derms_headend_sdk::proto::link::SetpointPhase;
use derms_headend_sdk::proto::{Power, ProblemCode as Code};
use derms_headend_sdk::{Headend, Principal};
use http::header;
use http_body_util::Full;
use serde_json::Value;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::support::{
    Answer, BESS_1, BESS_2, JERSEY, NEWARK, NOBODY, PV_1, get, headend, json_post, post, send,
};

fn order(asset: &str, mw: f64) -> String {
    format!(r#"{{"asset_id":"{asset}","mw":{mw}}}"#)
}

#[track_caller]
fn taken(answer: &Answer) -> Value {
    assert_eq!(answer.status.as_u16(), 202, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn an_order_for_an_asset_that_is_offline_waits_and_can_be_read_where_it_says() {
    let headend = headend().await;
    let body = format!(r#"{{"asset_id":"{BESS_1}","mw":-5.5,"duration_s":20,"ttl_s":60}}"#);
    let answer = post(&headend, "/dispatch", body).await;
    let dispatch = taken(&answer);
    assert_eq!(dispatch["status"], "pending");
    assert_eq!(dispatch["asset_id"], BESS_1);
    assert_eq!(dispatch["site_id"], JERSEY);
    assert_eq!(dispatch["mw"], -5.5);
    assert_eq!(dispatch["duration_s"], 20.0);
    assert_eq!(dispatch["ttl_s"], 60.0);
    assert_eq!(dispatch["revision"], 1);
    assert_eq!(dispatch["in_doubt"], false);
    assert_eq!(dispatch["created_at"], "2026-01-31T12:00:00Z");
    assert_eq!(dispatch["expires_at"], "2026-01-31T12:01:00Z");
    assert_eq!(dispatch["transitions"][0]["status"], "pending");
    assert!(dispatch["principal"].is_null() && dispatch["split"].is_null());
    let location = answer.header(header::LOCATION);
    assert_eq!(
        location,
        format!("/dispatch/{}", dispatch["id"].as_str().unwrap())
    );
    assert_eq!(get(&headend, location).await.ok(), dispatch);
}

#[tokio::test]
async fn an_order_outside_the_limits_is_told_them() {
    let headend = headend().await;
    for (asset, mw, low, high) in [
        (BESS_2, 20.1, -20.0, 20.0),
        (BESS_2, -21.0, -20.0, 20.0),
        (PV_1, -1.0, 0.0, 30.0),
    ] {
        let problem = post(&headend, "/dispatch", order(asset, mw))
            .await
            .problem(Code::OutOfRange);
        let limits = problem.limits.unwrap();
        assert_eq!(limits.asset_id.to_string(), asset);
        assert_eq!(
            (limits.min_mw, limits.max_mw),
            (Power::from_mw(low), Power::from_mw(high))
        );
    }
    taken(&post(&headend, "/dispatch", order(BESS_2, 20.0)).await);
    taken(&post(&headend, "/dispatch", order(BESS_2, -20.0)).await);
}

#[tokio::test]
async fn an_order_for_nobody_is_not_taken() {
    let headend = headend().await;
    let site = |id: &str| format!(r#"{{"site_id":"{id}","mw":1}}"#);
    let both = format!(r#"{{"asset_id":"{NOBODY}","site_id":"{JERSEY}","mw":1}}"#);
    post(&headend, "/dispatch", order(NOBODY, 1.0))
        .await
        .problem(Code::UnknownAsset);
    // An unknown asset must not fan out to the whole site.
    post(&headend, "/dispatch", both)
        .await
        .problem(Code::UnknownAsset);
    post(&headend, "/dispatch", site(NOBODY))
        .await
        .problem(Code::UnknownSite);
    post(&headend, "/dispatch", site(JERSEY))
        .await
        .problem(Code::SiteOffline);
    let history = get(&headend, "/dispatch/history").await.ok();
    assert_eq!(history["items"].as_array().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_wait_the_answer_is_sent_and_with_wait_it_is_active() {
    let headend = headend().await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let dispatch = taken(&post(&headend, "/dispatch", order(BESS_1, 5.0)).await);
    assert_eq!(dispatch["status"], "sent");
    agent.order().await;

    let asked = Instant::now();
    let (answer, ()) = tokio::join!(
        post(&headend, "/dispatch?wait_s=30", order(BESS_1, 6.0)),
        async {
            let order = agent.order().await;
            assert_eq!(order.power, Power::from_mw(6.0));
            agent.report(&order, SetpointPhase::Received).await;
            agent.report(&order, SetpointPhase::Started).await;
        }
    );
    let dispatch = taken(&answer);
    assert_eq!(dispatch["status"], "active");
    assert_eq!(dispatch["applied_mw"], 6.0);
    assert!(
        asked.elapsed().as_secs() < 5,
        "answered when the agent has said yes"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_after_its_time_with_what_is_true_then() {
    let headend = headend().await;
    let asked = Instant::now();
    let dispatch = taken(&post(&headend, "/dispatch?wait_s=2.5", order(BESS_1, 5.0)).await);
    assert_eq!(dispatch["status"], "pending");
    assert_eq!(asked.elapsed().as_millis(), 2_500);
    let _silent = Agent::connect(&headend, BESS_2, &[BESS_2]).await;
    let dispatch = taken(&post(&headend, "/dispatch?wait_s=2.5", order(BESS_2, 5.0)).await);
    assert_eq!(dispatch["status"], "sent");
}

#[tokio::test(start_paused = true)]
async fn a_wait_has_bounds() {
    let headend = headend().await;
    for wait in [
        "-1", "60.1", "61", "NaN", "inf", "1e999", "-0.1", "", "soon",
    ] {
        let path = format!("/dispatch?wait_s={wait}");
        post(&headend, &path, order(BESS_1, 5.0))
            .await
            .problem(Code::InvalidParameter);
    }
    for wait in ["0", "0.001", "60"] {
        let path = format!("/dispatch?wait_s={wait}");
        taken(&post(&headend, &path, order(BESS_1, 5.0)).await);
    }
    let history = get(&headend, "/dispatch/history").await.ok();
    assert_eq!(
        history["items"].as_array().unwrap().len(),
        3,
        "only those that were taken"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_does_not_hold_up_a_shutdown() {
    let headend = headend().await;
    let asked = Instant::now();
    let (answer, ()) = tokio::join!(
        post(&headend, "/dispatch?wait_s=60", order(BESS_1, 5.0)),
        async {
            while get(&headend, "/dispatch/history").await.ok()["items"][0].is_null() {
                tokio::task::yield_now().await;
            }
            headend.shutdown().await;
        }
    );
    assert_eq!(taken(&answer)["status"], "pending");
    assert!(asked.elapsed().as_secs() < 5);
}

#[tokio::test(start_paused = true)]
async fn a_site_order_is_split_over_those_online_and_says_how() {
    let headend = headend().await;
    let mut gateway = Agent::connect(&headend, JERSEY, &[BESS_1, BESS_2]).await;
    let answer = post(
        &headend,
        "/dispatch",
        format!(r#"{{"site_id":"{JERSEY}","mw":12}}"#),
    )
    .await;
    let parent = taken(&answer);
    assert!(parent["asset_id"].is_null());
    assert_eq!(
        parent["split"],
        serde_json::json!({"residual_mw": 0.0, "left_out": [], "policy": "capacity", "version": 1,
            "excluded": []})
    );
    let children = parent["children"].as_array().unwrap();
    let shares: Vec<f64> = children.iter().map(|c| c["mw"].as_f64().unwrap()).collect();
    assert_eq!(shares, [9.0, 3.0]);
    assert!(
        children
            .iter()
            .all(|c| c["parent_id"] == parent["id"] && c["status"] == "sent")
    );
    assert_eq!(gateway.order().await.power, Power::from_mw(9.0));
    assert_eq!(gateway.order().await.power, Power::from_mw(3.0));
    assert_eq!(
        get(&headend, answer.header(header::LOCATION)).await.ok()["children"],
        parent["children"]
    );

    // Beyond what the site can do: clamped, and what is left is told.
    let much = post(
        &headend,
        "/dispatch",
        format!(r#"{{"site_id":"{JERSEY}","mw":100}}"#),
    )
    .await;
    let parent = taken(&much);
    assert_eq!(parent["children"][0]["mw"], 60.0);
    assert_eq!(parent["children"][1]["mw"], 20.0);
    assert_eq!(parent["split"]["residual_mw"], 20.0);
}

#[tokio::test(start_paused = true)]
async fn a_site_order_is_split_by_the_policy_that_it_names_and_can_be_previewed() {
    let headend = headend().await;
    let mut agent = Agent::connect(&headend, BESS_2, &[BESS_2]).await;
    let body = format!(r#"{{"site_id":"{JERSEY}","mw":12,"split_policy":"equal"}}"#);
    let preview = post(&headend, "/dispatch/preview", body.clone()).await.ok();
    assert_eq!(
        get(&headend, "/dispatch/history").await.ok()["items"],
        serde_json::json!([])
    );
    let given = taken(&post(&headend, "/dispatch", body).await);
    assert_eq!(preview["split"], given["split"]);
    assert_eq!(given["split"]["policy"], "equal");
    let left_out = serde_json::json!([
        {"asset_id": BESS_1, "name": "BESS-1", "reason": "offline"}
    ]);
    assert_eq!(given["split"]["excluded"], left_out);
    let share = serde_json::json!([
        {"asset_id": BESS_2, "mw": 12.0, "online": true, "supersedes": []}
    ]);
    assert_eq!(preview["assets"], share);
    assert_eq!(agent.order().await.power, Power::from_mw(12.0));
    for (body, code) in [
        (order_by(BESS_1, "equal"), Code::InvalidRequest),
        (order_by(BESS_1, "moonlight"), Code::InvalidRequest),
        (order(BESS_2, 99.0), Code::OutOfRange),
        (order(NOBODY, 1.0), Code::UnknownAsset),
        ("[]".to_owned(), Code::InvalidBody),
    ] {
        post(&headend, "/dispatch/preview", body)
            .await
            .problem(code);
    }
}

fn order_by(asset: &str, policy: &str) -> String {
    format!(r#"{{"asset_id":"{asset}","mw":1,"split_policy":"{policy}"}}"#)
}

async fn keyed(headend: &Headend, keys: &[&[u8]], caller: Option<&str>, mw: f64) -> Answer {
    let mut request = json_post("/dispatch");
    for key in keys {
        request = request.header("Idempotency-Key", *key);
    }
    if let Some(caller) = caller {
        request = request.extension(Principal::new(caller));
    }
    let body = Full::new(Bytes::from(order(BESS_1, mw)));
    send(headend.service(), request.body(body).unwrap()).await
}

#[tokio::test]
async fn the_same_key_and_body_are_the_same_dispatch_and_another_body_is_a_conflict() {
    let headend = headend().await;
    let first = taken(&keyed(&headend, &[b"k1"], None, 1.0).await);
    let again = keyed(&headend, &[b"k1"], None, 1.0).await;
    assert_eq!(taken(&again)["id"], first["id"]);
    assert_eq!(
        again.header(header::LOCATION),
        format!("/dispatch/{}", first["id"].as_str().unwrap())
    );
    keyed(&headend, &[b"k1"], None, 2.0)
        .await
        .problem(Code::IdempotencyConflict);
    assert_ne!(
        taken(&keyed(&headend, &[b"k2"], None, 1.0).await)["id"],
        first["id"]
    );
    assert_ne!(
        taken(&keyed(&headend, &[], None, 1.0).await)["id"],
        first["id"]
    );
}

#[tokio::test]
async fn keys_of_different_callers_do_not_meet() {
    let headend = headend().await;
    let ann = taken(&keyed(&headend, &[b"k"], Some("ann"), 1.0).await);
    let bob = taken(&keyed(&headend, &[b"k"], Some("bob"), 2.0).await);
    assert_ne!(ann["id"], bob["id"]);
    assert_eq!(ann["principal"], "ann");
    assert_eq!(bob["principal"], "bob");
}

#[tokio::test]
async fn a_key_that_is_no_key_is_refused() {
    let headend = headend().await;
    let long = [b'k'; 256];
    let cases: [&[&[u8]]; 6] = [
        &[b""],
        &[b"a b"],
        &[b"a\tb"],
        &["schl\u{fc}ssel".as_bytes()],
        &[&long],
        &[b"a", b"b"],
    ];
    for keys in cases {
        keyed(&headend, keys, None, 1.0)
            .await
            .problem(Code::InvalidParameter);
    }
    taken(&keyed(&headend, &[&long[..255]], None, 1.0).await);
}

#[tokio::test]
async fn history_is_newest_first_filtered_and_in_pages() {
    let headend = headend().await;
    let mut ids = Vec::new();
    for (asset, mw) in [(BESS_1, 1.0), (PV_1, 2.0), (BESS_1, 3.0), (BESS_2, 4.0)] {
        let dispatch = taken(&post(&headend, "/dispatch", order(asset, mw)).await);
        ids.push(dispatch["id"].as_str().unwrap().to_owned());
    }
    let list = |query: String| {
        let headend = headend.clone();
        async move {
            let page = get(&headend, &format!("/dispatch/history?{query}"))
                .await
                .ok();
            let items = page["items"].as_array().unwrap();
            let ids: Vec<_> = items
                .iter()
                .map(|d| d["id"].as_str().unwrap().to_owned())
                .collect();
            (ids, page["next_cursor"].as_str().map(str::to_owned))
        }
    };
    let pick =
        |places: &[usize]| -> Vec<String> { places.iter().map(|i| ids[*i].clone()).collect() };
    assert_eq!(list(String::new()).await, (pick(&[3, 2, 1, 0]), None));
    assert_eq!(list(format!("asset_id={BESS_1}")).await.0, pick(&[2, 0]));
    assert_eq!(list(format!("site_id={NEWARK}")).await.0, pick(&[1]));
    assert_eq!(list("status=superseded".into()).await.0, pick(&[0]));
    assert_eq!(list("status=active".into()).await.0, pick(&[]));
    assert_eq!(
        list("to=2026-01-31T12:00:00Z".into()).await.0,
        pick(&[]),
        "to is not included"
    );
    assert_eq!(
        list("from=2026-01-31T12:00:00Z".into()).await.0.len(),
        4,
        "from is"
    );
    let (first, cursor) = list("limit=3".into()).await;
    assert_eq!(first, pick(&[3, 2, 1]));
    let (rest, end) = list(format!("limit=3&cursor={}", cursor.unwrap())).await;
    assert_eq!((rest, end), (pick(&[0]), None));
}

#[tokio::test]
async fn an_order_for_later_says_when_how_fast_and_what_follows() {
    let headend = headend().await;
    let start = r#""start_at":"2026-01-31T14:00:00+01:00""#;
    let body = format!(
        r#"{{"asset_id":"{BESS_1}","mw":5,"duration_s":60,"ttl_s":30,{start},
            "ramp_mw_per_min":2.5,"follow_up":{{"value":-1.5}}}}"#
    );
    let dispatch = taken(&post(&headend, "/dispatch", body).await);
    assert_eq!(dispatch["start_at"], "2026-01-31T13:00:00Z");
    assert_eq!(dispatch["expires_at"], "2026-01-31T13:00:30Z");
    assert_eq!(dispatch["ramp_mw_per_min"], 2.5);
    assert_eq!(dispatch["follow_up"], serde_json::json!({"value": -1.5}));
    let plain = taken(&post(&headend, "/dispatch", order(BESS_2, 1.0)).await);
    assert!(plain["start_at"].is_null() && plain["ramp_mw_per_min"].is_null());
    assert_eq!(plain["follow_up"], "default");
    for (field, code) in [
        (r#""start_at":"2026-01-31T11:59:54Z""#, Code::InvalidRequest),
        (r#""start_at":"2026-03-03T12:00:01Z""#, Code::InvalidRequest),
        (r#""start_at":"tomorrow""#, Code::InvalidBody),
        (r#""ramp_mw_per_min":0"#, Code::InvalidRequest),
        (r#""follow_up":"stay""#, Code::InvalidBody),
        (r#""follow_up":{"value":60.5}"#, Code::OutOfRange),
    ] {
        let body = format!(r#"{{"asset_id":"{BESS_1}","mw":5,{field}}}"#);
        post(&headend, "/dispatch", body).await.problem(code);
    }
}
