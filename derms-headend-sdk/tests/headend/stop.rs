//! `/stop`.

use bytes::Bytes;
use derms_headend_sdk::proto::ProblemCode as Code;
use derms_headend_sdk::proto::link::{HeadendMessage, LimitPhase, SetpointPhase};
use derms_headend_sdk::{Headend, Principal};
use http::header;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::sick_store::{SickStore, Sickness};
use crate::support::{
    Answer, BESS_1, BESS_2, JERSEY, NOBODY, get, headend, headend_with, json_post, post, request,
    send,
};

const ALL: &str = r#"{"all":true,"confirm":"stop"}"#;

#[track_caller]
fn taken(answer: &Answer) -> Value {
    assert_eq!(answer.status.as_u16(), 202, "{}", answer.text());
    answer.json()
}

async fn resume(headend: &Headend, path: &str) -> Answer {
    let request = request("DELETE", path).body(Full::<Bytes>::default());
    send(headend.service(), request.unwrap()).await
}

#[tokio::test]
async fn a_stop_ends_orders_and_takes_no_more_until_it_is_ended() {
    let headend = headend().await;
    let mut agent = Agent::connect(&headend, JERSEY, &[BESS_1, BESS_2]).await;
    let order = |asset| format!(r#"{{"asset_id":"{asset}","mw":5}}"#);
    let dispatch = taken(&post(&headend, "/dispatch", order(BESS_1)).await);
    let setpoint = agent.order().await;
    agent.report(&setpoint, SetpointPhase::Started).await;

    let body = format!(r#"{{"site_id":"{JERSEY}","confirm":"stop","reason":"smoke"}}"#);
    let mut call = json_post("/stop")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    call.extensions_mut().insert(Principal::new("ada"));
    let answer = send(headend.service(), call).await;
    let stop = taken(&answer);
    assert_eq!(
        (&stop["principal"], &stop["reason"]),
        (&"ada".into(), &"smoke".into())
    );
    assert_eq!(
        (&stop["site_id"], &stop["all"]),
        (&JERSEY.into(), &false.into())
    );
    assert_eq!(
        (&stop["assets"], &stop["reached"], &stop["offline"]),
        (&2.into(), &2.into(), &0.into())
    );
    assert_eq!(stop["stored"], true);
    let told = [agent.limits().await, agent.limits().await];
    assert!(told.iter().all(|limits| limits.stop));
    agent.report(&setpoint, SetpointPhase::Released).await;
    agent.report_limits(&told[0], LimitPhase::InForce, "").await;
    let path = answer.header(header::LOCATION).to_owned();
    assert_eq!(get(&headend, &path).await.ok()["confirmed"], 1);
    assert_eq!(get(&headend, "/stop").await.ok()[0]["id"], stop["id"]);
    let shown = format!("/dispatch/{}", dispatch["id"].as_str().unwrap());
    assert_eq!(get(&headend, &shown).await.ok()["status"], "cancelled");
    assert_eq!(
        get(&headend, &format!("/assets/{BESS_1}")).await.ok()["stopped"],
        true
    );
    post(&headend, "/dispatch", order(BESS_1))
        .await
        .problem(Code::Stopped);
    let site = format!(r#"{{"site_id":"{JERSEY}","mw":5}}"#);
    post(&headend, "/dispatch", site)
        .await
        .problem(Code::Stopped);

    let ended = taken(&resume(&headend, &format!("{path}?return_within_s=5")).await);
    assert_eq!(ended["return_within_s"], 5.0);
    assert_eq!(ended["ended_at"], "2026-01-31T12:00:00Z");
    let told = agent.limits().await;
    assert!(!told.stop && told.return_within.as_secs() == 5);
    assert_eq!(
        taken(&resume(&headend, &path).await),
        ended,
        "it was ended before"
    );
    assert_eq!(get(&headend, "/stop").await.ok(), json!([]));
    assert_eq!(get(&headend, "/stop/history").await.ok()["items"][0], ended);
    taken(&post(&headend, "/dispatch", order(BESS_1)).await);
}

#[tokio::test]
async fn a_stop_for_an_agent_that_is_away_is_the_first_thing_that_it_is_told() {
    let headend = headend().await;
    taken(&post(&headend, "/stop", ALL).await);
    let mut agent = Agent::connect(&headend, JERSEY, &[BESS_1]).await;
    let first = agent.next().await.unwrap();
    assert!(
        matches!(&first, HeadendMessage::AssetLimits(limits) if limits.stop),
        "{first:?}"
    );
    // The same for an asset that it is given later.
    agent.adds(BESS_2).await;
    let answer = agent.next().await.unwrap();
    assert!(
        matches!(answer, HeadendMessage::Grants { .. }),
        "{answer:?}"
    );
    let first = agent.next().await.unwrap();
    assert!(
        matches!(&first, HeadendMessage::AssetLimits(limits) if limits.stop),
        "{first:?}"
    );
    let stop = get(&headend, "/stop").await.ok();
    assert_eq!(
        (&stop[0]["reached"], &stop[0]["offline"]),
        (&2.into(), &1.into())
    );
}

#[tokio::test]
async fn a_stop_must_say_that_it_is_meant_and_for_whom() {
    let headend = headend().await;
    let refused =
        async |body: &str, code| post(&headend, "/stop", body.to_owned()).await.problem(code);
    refused(r#"{"all":true}"#, Code::ConfirmationRequired).await;
    refused(
        r#"{"all":true,"confirm":"yes"}"#,
        Code::ConfirmationRequired,
    )
    .await;
    refused(r#"{"confirm":"stop"}"#, Code::InvalidRequest).await;
    let both = format!(r#"{{"all":true,"site_id":"{JERSEY}","confirm":"stop"}}"#);
    refused(&both, Code::InvalidRequest).await;
    let nobody = format!(r#"{{"asset_id":"{NOBODY}","confirm":"stop"}}"#);
    refused(&nobody, Code::UnknownAsset).await;
    let nowhere = format!(r#"{{"site_id":"{NOBODY}","confirm":"stop"}}"#);
    refused(&nowhere, Code::UnknownSite).await;
    assert_eq!(get(&headend, "/stop").await.ok(), json!([]));
    resume(&headend, &format!("/stop/{NOBODY}"))
        .await
        .problem(Code::UnknownStop);
    let stop = taken(&post(&headend, "/stop", ALL).await);
    let path = format!("/stop/{}", stop["id"].as_str().unwrap());
    // The last is a day when it is rounded.
    for wrong in ["-1", "NaN", "1e30", "86401", "86400.00000000001"] {
        let path = format!("{path}?return_within_s={wrong}");
        resume(&headend, &path)
            .await
            .problem(Code::InvalidParameter);
    }
    let day = format!("{path}?return_within_s=86400");
    assert_eq!(
        taken(&resume(&headend, &day).await)["return_within_s"],
        86_400.0
    );
}

#[tokio::test]
async fn without_the_store_a_stop_is_sent_and_says_that_it_is_not_stored() {
    let store = SickStore::default();
    let (headend, _) = headend_with(store.clone()).await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    store.set(Sickness::Unavailable);
    let stop = taken(&post(&headend, "/stop", ALL).await);
    assert_eq!(
        (&stop["stored"], &stop["reached"], &stop["offline"]),
        (&false.into(), &1.into(), &2.into())
    );
    assert!(agent.limits().await.stop);
    let path = format!("/stop/{}", stop["id"].as_str().unwrap());
    assert_eq!(get(&headend, &path).await.ok()["stored"], false);
    resume(&headend, &path)
        .await
        .problem(Code::StoreUnavailable);
    assert_eq!(
        get(&headend, "/stop").await.ok().as_array().unwrap().len(),
        1
    );
}

/// A request with a key, by nobody or by somebody.
async fn keyed(headend: &Headend, path: &str, body: &str, key: &str, by: Option<&str>) -> Answer {
    let request = json_post(path).header("idempotency-key", key);
    let mut request = request.body(Full::<Bytes>::from(body.to_owned())).unwrap();
    if let Some(name) = by {
        request.extensions_mut().insert(Principal::new(name));
    }
    send(headend.service(), request).await
}

#[tokio::test]
async fn the_same_key_and_body_give_the_same_limit_or_stop_and_another_body_a_conflict() {
    let headend = headend().await;
    let limit = |mw: f64| format!(r#"{{"asset_id":"{BESS_1}","max_mw":{mw}}}"#);
    let stop = format!(r#"{{"asset_id":"{BESS_2}","confirm":"stop"}}"#);
    let cases = [
        ("/limits", limit(5.0), limit(6.0), 201),
        ("/stop", stop, ALL.to_owned(), 202),
    ];
    for (path, body, other, code) in cases {
        let ask = async |body: &str, by| keyed(&headend, path, body, "k-1", by).await;
        let first = ask(&body, None).await;
        assert_eq!(first.status.as_u16(), code, "{}", first.text());
        let again = ask(&body, None).await;
        assert_eq!(
            (again.status, &again.json()["id"]),
            (first.status, &first.json()["id"])
        );
        ask(&other, None).await.problem(Code::IdempotencyConflict);
        // Keys of others, and of other calls, do not meet.
        let anns = ask(&body, Some("ann")).await;
        assert_ne!(anns.json()["id"], first.json()["id"]);
        let held = get(&headend, path).await.ok();
        assert_eq!(held.as_array().unwrap().len(), 2);
        keyed(&headend, path, &body, "", None)
            .await
            .problem(Code::InvalidParameter);
    }
}
