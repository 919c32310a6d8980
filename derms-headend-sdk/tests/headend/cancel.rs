//! `DELETE /dispatch/{id}`.

use derms_headend_sdk::proto::ProblemCode as Code;
use derms_headend_sdk::proto::link::SetpointPhase;
use derms_headend_sdk::{Headend, Principal};
use http_body_util::Full;
use serde_json::Value;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::sick_store::{SickStore, Sickness};
use crate::support::{
    Answer, BESS_1, BESS_2, JERSEY, NOBODY, delete, get, headend, headend_with, post, request, send,
};

async fn ordered(headend: &Headend, body: String) -> Value {
    let answer = post(headend, "/dispatch", body).await;
    assert_eq!(answer.status.as_u16(), 202, "{}", answer.text());
    answer.json()
}

async fn order(headend: &Headend, asset: &str) -> Value {
    ordered(headend, format!(r#"{{"asset_id":"{asset}","mw":5}}"#)).await
}

fn path(dispatch: &Value) -> String {
    format!("/dispatch/{}", dispatch["id"].as_str().unwrap())
}

#[track_caller]
fn asked(answer: &Answer) -> Value {
    assert_eq!(answer.status.as_u16(), 202, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn what_was_never_sent_is_over_at_once_and_again() {
    let headend = headend().await;
    let dispatch = order(&headend, BESS_1).await;
    let request = request("DELETE", &path(&dispatch)).extension(Principal::new("ann"));
    let body = request.body(Full::<bytes::Bytes>::default()).unwrap();
    let cancelled = send(headend.service(), body).await.ok();
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(cancelled["reason"], "cancelled_by_operator");
    assert_eq!(cancelled["cancelled_by"], "ann");
    assert_eq!(cancelled["cancel_requested_at"], "2026-01-31T12:00:00Z");
    assert_eq!(delete(&headend, &path(&dispatch)).await.ok(), cancelled);
    assert_eq!(get(&headend, &path(&dispatch)).await.ok(), cancelled);
}

#[tokio::test]
async fn an_order_that_is_not_known_or_no_id_is_a_problem() {
    let headend = headend().await;
    let unknown = format!("/dispatch/{NOBODY}");
    delete(&headend, &unknown)
        .await
        .problem(Code::UnknownDispatch);
    for path in ["/dispatch/7", &format!("{unknown}?wait_s=61")] {
        delete(&headend, path).await.problem(Code::InvalidParameter);
    }
    headend.shutdown().await;
    delete(&headend, &unknown).await.problem(Code::Draining);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_asked_of_its_agent_and_over_when_that_says_so() {
    let headend = headend().await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let dispatch = order(&headend, BESS_1).await;
    let setpoint = agent.order().await;
    agent.report(&setpoint, SetpointPhase::Started).await;
    let cancelled = asked(&delete(&headend, &path(&dispatch)).await);
    assert_eq!(cancelled["status"], "active");
    assert!(cancelled["cancel_requested_at"].is_string());
    let release = agent.release().await;
    assert_eq!(release.dispatch_id, setpoint.dispatch_id);
    assert_eq!(release.revision, setpoint.revision + 1);

    let began = Instant::now();
    let waiting = format!("{}?wait_s=2", path(&dispatch));
    let still = asked(&delete(&headend, &waiting).await);
    assert_eq!(still["status"], "active");
    assert_eq!(began.elapsed().as_secs(), 2);
    let waiting = format!("{}?wait_s=30", path(&dispatch));
    let (answer, ()) = tokio::join!(delete(&headend, &waiting), async {
        agent.report(&setpoint, SetpointPhase::Released).await;
    });
    assert_eq!(answer.ok()["status"], "cancelled");
    assert!(began.elapsed().as_secs() < 5);
}

#[tokio::test(start_paused = true)]
async fn a_site_order_is_over_when_all_of_its_agents_have_said_so() {
    let headend = headend().await;
    let mut gateway = Agent::connect(&headend, JERSEY, &[BESS_1, BESS_2]).await;
    let parent = ordered(&headend, format!(r#"{{"site_id":"{JERSEY}","mw":12}}"#)).await;
    let shares = [gateway.order().await, gateway.order().await];
    let cancelled = asked(&delete(&headend, &path(&parent)).await);
    assert_eq!(cancelled["id"], parent["id"]);
    for share in cancelled["children"].as_array().unwrap() {
        assert!(share["cancel_requested_at"].is_string());
    }
    for share in &shares {
        assert_eq!(gateway.release().await.dispatch_id, share.dispatch_id);
    }
    for (share, status) in shares.iter().zip(["sent", "cancelled"]) {
        gateway.report(share, SetpointPhase::Released).await;
        let now = get(&headend, &path(&parent)).await.ok();
        assert_eq!(now["status"], status);
    }
    let over = delete(&headend, &path(&parent)).await.ok();
    assert_eq!(
        over["cancel_requested_at"],
        cancelled["cancel_requested_at"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_stops_no_release_and_the_answer_says_that_it_is_not_stored() {
    let store = SickStore::default();
    let (headend, _) = headend_with(store.clone()).await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let dispatch = order(&headend, BESS_1).await;
    agent.order().await;
    store.set(Sickness::Unavailable);
    let waiting = format!("{}?wait_s=5", path(&dispatch));
    let cancelled = asked(&delete(&headend, &waiting).await);
    assert!(cancelled["text"].as_str().unwrap().contains("not stored"));
    agent.release().await;
    // What was not sent is a failure still.
    delete(&headend, &format!("/dispatch/{NOBODY}"))
        .await
        .problem(Code::StoreUnavailable);
    store.set(Sickness::None);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let stored = get(&headend, &path(&dispatch)).await.ok();
    assert!(stored["cancel_requested_at"].is_string() && stored["text"].is_null());
}
