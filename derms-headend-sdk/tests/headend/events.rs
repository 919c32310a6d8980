//! Alarms and changes of state, as agents tell them and operators read them.

use std::time::Duration;

use bytes::Bytes;
use derms_headend_sdk::proto::link::{Gap, GapReason};
use derms_headend_sdk::proto::{ProblemCode as Code, Timestamp};
use derms_headend_sdk::{Headend, Principal};
use http::{Request, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::sick_store::{SickStore, Sickness};
use crate::support::{
    Answer, BESS_1, BESS_2, JERSEY, NEWARK, NOBODY, WallClock, fleet, get, headend_with, post,
    send, standing_clock,
};

/// A headend, and an agent that has raised three events, a minute apart, newest last.
async fn told() -> (Headend, Agent, WallClock) {
    let (builder, clock) = standing_clock(Headend::builder(fleet()));
    let headend = builder.build().await.unwrap();
    let mut agent = Agent::connect(&headend, JERSEY, &[BESS_1, BESS_2]).await;
    let before = |minutes: u64| {
        clock
            .now()
            .saturating_sub(Duration::from_secs(60 * minutes))
    };
    agent.raises(BESS_1, before(3), "info", "door_open").await;
    agent.raises(BESS_2, before(2), "alarm", "too_hot").await;
    agent
        .raises(BESS_1, before(1), "critical", "arc_fault")
        .await;
    (headend, agent, clock)
}

async fn codes(headend: &Headend, query: &str) -> Vec<String> {
    let page = get(headend, &format!("/events{query}")).await.ok();
    let items = page["items"].as_array().unwrap();
    let code = |item: &Value| item["code"].as_str().unwrap().to_owned();
    items.iter().map(code).collect()
}

async fn ack(headend: &Headend, who: Option<&Principal>, id: &str, body: &str) -> Answer {
    let mut request = Request::post(format!("/events/{id}/ack"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    if let Some(who) = who {
        request.extensions_mut().insert(who.clone());
    }
    send(headend.service(), request).await
}

async fn newest(headend: &Headend) -> Value {
    let page = get(headend, "/events?limit=1").await.ok();
    page["items"][0].clone()
}

#[tokio::test]
async fn what_an_agent_raises_is_listed_newest_first_as_it_was_told() {
    let (headend, _agent, clock) = told().await;
    assert_eq!(
        codes(&headend, "").await,
        ["arc_fault", "too_hot", "door_open"]
    );
    let event = newest(&headend).await;
    let at = clock.now().saturating_sub(Duration::from_secs(60));
    assert_eq!(
        event,
        json!({
            "id": event["id"], "at": at.to_string(), "received_at": clock.now().to_string(),
            "asset_id": BESS_1, "site_id": JERSEY, "agent_id": JERSEY, "severity": "critical",
            "code": "arc_fault", "text": "by the device", "source": "agent", "acknowledged": null,
        })
    );
    let id = event["id"].as_str().unwrap();
    assert_eq!(get(&headend, &format!("/events/{id}")).await.ok(), event);
    get(&headend, &format!("/events/{NOBODY}"))
        .await
        .problem(Code::UnknownEvent);
}

#[tokio::test(start_paused = true)]
async fn measurements_that_an_agent_has_lost_are_told_with_its_asset_and_the_reason() {
    let (headend, clock) = headend_with(SickStore::default()).await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let mut gateway = Agent::connect(&headend, JERSEY, &[BESS_2]).await;
    let lost = |first_seq, last_seq, reason| Gap {
        first_seq,
        last_seq,
        reason,
    };
    agent.measured_mw(BESS_1, clock.now(), 1.0).await;
    gateway.measured_mw(BESS_2, clock.now(), 1.0).await;
    let gaps = vec![lost(2, 1_201, GapReason::OutboxFull)];
    // The same again is not lost twice.
    for _ in 0..2 {
        agent.part(1_202, vec![], gaps.clone()).await;
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    let page = get(&headend, "/events").await.ok();
    let items = page["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{page}");
    let (event, text) = (&items[0], items[0]["text"].as_str().unwrap());
    let now = clock.now().to_string();
    assert_eq!(
        event,
        &json!({
            "id": event["id"], "at": now, "received_at": now, "asset_id": BESS_1,
            "site_id": JERSEY, "agent_id": BESS_1, "severity": "warning",
            "code": "telemetry_lost", "text": text, "source": "headend", "acknowledged": null,
        })
    );
    assert!(
        text.starts_with(
            "1,200 measurements are lost: the agent's outbox was full (numbers 2 to 1201 of log "
        ),
        "{text}"
    );
    // What the last moments have brought is told at the end.
    let gaps = vec![
        lost(2, 2, GapReason::TooOld),
        lost(3, 4, GapReason::Corrupt),
    ];
    gateway.part(5, vec![], gaps).await;
    headend.shutdown().await;
    assert_eq!(
        codes(&headend, &format!("?asset_id={BESS_2}")).await,
        ["telemetry_lost"]
    );
}

#[tokio::test]
async fn events_are_found_by_asset_severity_source_time_and_acknowledgement() {
    let (headend, _agent, _) = told().await;
    for (query, expected) in [
        (format!("?asset_id={BESS_2}"), vec!["too_hot"]),
        (format!("?site_id={NEWARK}"), vec![]),
        ("?severity=alarm".to_owned(), vec!["arc_fault", "too_hot"]),
        ("?severity=critical".to_owned(), vec!["arc_fault"]),
        ("?source=headend".to_owned(), vec![]),
        ("?from=2026-01-31T11:58:30Z".to_owned(), vec!["arc_fault"]),
        ("?to=2026-01-31T11:57:30Z".to_owned(), vec!["door_open"]),
        ("?acknowledged=true".to_owned(), vec![]),
    ] {
        assert_eq!(codes(&headend, &query).await, expected, "{query}");
    }
    for query in [
        "?severity=loud",
        "?severity=unknown",
        "?source=unknown",
        "?acknowledged=2",
    ] {
        get(&headend, &format!("/events{query}"))
            .await
            .problem(Code::InvalidParameter);
    }
}

#[tokio::test]
async fn the_first_acknowledgement_stays_and_is_audited() {
    let (headend, _agent, clock) = told().await;
    let id = newest(&headend).await["id"].as_str().unwrap().to_owned();
    let (ann, bob) = (Principal::new("ann"), Principal::new("bob"));
    let first = ack(
        &headend,
        Some(&ann),
        &id,
        r#"{"note":"a crew is on its way"}"#,
    )
    .await;
    let expected =
        json!({"at": clock.now().to_string(), "by": "ann", "note": "a crew is on its way"});
    assert_eq!(first.ok()["acknowledged"], expected);
    clock.advance(Duration::from_secs(60));
    let second = ack(&headend, Some(&bob), &id, "{}").await;
    assert_eq!(second.ok()["acknowledged"], expected);
    assert_eq!(codes(&headend, "?acknowledged=true").await, ["arc_fault"]);
    assert_eq!(
        codes(&headend, "?acknowledged=false").await,
        ["too_hot", "door_open"]
    );
    // Records are written beside the call.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let trail = get(&headend, "/audit?action=acknowledge_event").await.ok();
    assert_eq!(trail["items"][1]["principal"], "ann");
    assert_eq!(trail["items"][1]["target"], format!("event {id}"));
}

#[tokio::test]
async fn an_acknowledgement_that_is_none_is_refused() {
    let (headend, _agent, _) = told().await;
    let id = newest(&headend).await["id"].as_str().unwrap().to_owned();
    let long = |letters| format!(r#"{{"note":"{}"}}"#, "é".repeat(letters));
    ack(&headend, None, &id, &long(1_025))
        .await
        .problem(Code::InvalidRequest);
    ack(&headend, None, &id, r#"{"notes":"x"}"#)
        .await
        .problem(Code::InvalidBody);
    ack(&headend, None, NOBODY, "{}")
        .await
        .problem(Code::UnknownEvent);
    assert_eq!(codes(&headend, "?acknowledged=true").await, [] as [&str; 0]);
    // The document counts characters, and so does the headend.
    ack(&headend, None, &id, &long(1_024)).await.ok();
}

#[tokio::test]
async fn an_event_of_another_site_is_one_that_is_not_there() {
    let (headend, _agent, _) = told().await;
    let event = newest(&headend).await;
    let id = event["id"].as_str().unwrap();
    let newt = Principal::new("newt").limited_to([NEWARK.parse().unwrap()]);
    let seen = async |path: &str| {
        let mut request = Request::get(path).body(Full::<Bytes>::default()).unwrap();
        request.extensions_mut().insert(newt.clone());
        send(headend.service(), request).await
    };
    assert_eq!(seen("/events").await.ok()["items"], json!([]));
    seen(&format!("/events/{id}"))
        .await
        .problem(Code::UnknownEvent);
    ack(&headend, Some(&newt), id, "{}")
        .await
        .problem(Code::UnknownEvent);
    assert_eq!(newest(&headend).await["acknowledged"], Value::Null);
}

#[tokio::test]
async fn events_come_as_csv() {
    let (headend, _agent, _) = told().await;
    let request = Request::get("/events?limit=1")
        .header(header::ACCEPT, "text/csv")
        .body(Full::<Bytes>::default())
        .unwrap();
    let answer = send(headend.service(), request).await;
    assert_eq!(answer.status, StatusCode::OK);
    let mut lines = answer.text().lines();
    assert!(
        lines
            .next()
            .unwrap()
            .ends_with("source,acknowledged_at,acknowledged_by,acknowledged_note")
    );
    assert!(
        lines
            .next()
            .unwrap()
            .contains(",critical,arc_fault,by the device,agent,")
    );
}

#[tokio::test]
async fn an_event_from_a_clock_that_is_ahead_is_placed_where_it_came() {
    let (headend, clock) = headend_with(SickStore::default()).await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let ahead: Timestamp = "2099-01-01T00:00:00Z".parse().unwrap();
    agent.raises(BESS_1, ahead, "info", "door_open").await;
    assert_eq!(newest(&headend).await["at"], clock.now().to_string());
}

#[tokio::test]
async fn a_store_that_is_away_is_said_to_be() {
    let store = SickStore::default();
    let (headend, clock) = headend_with(store.clone()).await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    agent.raises(BESS_1, clock.now(), "alarm", "too_hot").await;
    let id = newest(&headend).await["id"].as_str().unwrap().to_owned();
    store.set(Sickness::Unavailable);
    get(&headend, "/events")
        .await
        .problem(Code::StoreUnavailable);
    let answer = post(&headend, &format!("/events/{id}/ack"), "{}").await;
    answer.problem(Code::StoreUnavailable);
}
