//! `/telemetry`.

use std::time::Duration;

use derms_headend_sdk::proto::{Detail, Measurements, Power, ProblemCode as Code};
use derms_headend_sdk::store::MemoryStore;

use crate::agent::Agent;
use bytes::Bytes;
use http_body_util::Full;

use crate::support::{BESS_1, BESS_2, JERSEY, get, headend, headend_with, request, send};

const PATH: &str = "/telemetry/7ba7b810-9dad-11d1-80b4-00c04fd430c8";

#[tokio::test]
async fn an_asset_that_never_reported_has_no_telemetry() {
    let headend = headend().await;
    get(&headend, PATH).await.problem(Code::NoTelemetry);
    assert_eq!(
        get(&headend, "/telemetry").await.ok(),
        serde_json::json!([])
    );
    let history = get(&headend, &format!("{PATH}/history")).await.ok();
    assert_eq!(
        history,
        serde_json::json!({"items": [], "next_cursor": null})
    );
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_has_what_was_measured_and_nothing_else() {
    let (headend, clock) = headend_with(MemoryStore::new()).await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let at = clock.now();
    clock.advance(Duration::from_millis(1_500));
    let values = Measurements {
        mw: Some(Power::from_mw(4.5)),
        soc_pct: Some(50.0),
        details: [("cells".to_owned(), Detail::Number(96.0))].into(),
        ..Measurements::default()
    };
    agent.measured(BESS_1, at, values).await;
    let snapshot = get(&headend, PATH).await.ok();
    assert_eq!(snapshot["asset_id"], BESS_1);
    assert_eq!(snapshot["site_id"], JERSEY);
    assert_eq!(snapshot["measured_at"], at.to_string());
    assert_eq!(snapshot["received_at"], clock.now().to_string());
    assert_eq!(snapshot["age_s"], 1.5);
    assert_eq!(snapshot["stale"], false);
    assert_eq!(snapshot["quality"], "good");
    assert_eq!(snapshot["mw"], 4.5);
    assert_eq!(snapshot["soc_pct"], 50.0);
    assert_eq!(snapshot["details"]["cells"], 96.0);
    for absent in [
        "mvar",
        "voltage_v",
        "setpoint_mw",
        "status",
        "energy_in_mwh",
    ] {
        assert!(
            snapshot[absent].is_null() && snapshot.get(absent).is_some(),
            "{absent}"
        );
    }
    assert_eq!(
        get(&headend, "/telemetry").await.ok(),
        serde_json::json!([snapshot])
    );
}

#[tokio::test(start_paused = true)]
async fn a_value_is_stale_when_it_is_old_or_its_asset_is_gone() {
    let (headend, clock) = headend_with(MemoryStore::new()).await;
    let mut agent = Agent::connect(&headend, JERSEY, &[BESS_1, BESS_2]).await;
    agent.measured_mw(BESS_1, clock.now(), 1.0).await;
    let stale = || async { get(&headend, PATH).await.ok()["stale"].as_bool().unwrap() };
    clock.advance(Duration::from_secs(12));
    agent.heartbeat().await;
    assert!(!stale().await, "three intervals old");
    clock.advance(Duration::from_secs(1));
    assert!(stale().await, "older, though its agent is there");
    agent.measured_mw(BESS_1, clock.now(), 1.0).await;
    assert!(!stale().await);
    // The same agent again without this asset.
    let _other = Agent::connect(&headend, JERSEY, &[BESS_2]).await;
    assert!(stale().await, "fresh, but nobody serves the asset");
}

#[tokio::test(start_paused = true)]
async fn a_value_from_a_clock_that_is_ahead_is_never_younger_than_its_receipt() {
    let (headend, clock) = headend_with(MemoryStore::new()).await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let ahead = clock.now().saturating_add(Duration::from_secs(3_600));
    agent.measured_mw(BESS_1, ahead, 1.0).await;
    assert_eq!(
        get(&headend, PATH).await.ok()["age_s"],
        0.0,
        "never negative"
    );
    clock.advance(Duration::from_secs(13));
    agent.heartbeat().await;
    let snapshot = get(&headend, PATH).await.ok();
    assert_eq!(snapshot["age_s"], 13.0);
    assert_eq!(snapshot["stale"], true);
}

#[tokio::test(start_paused = true)]
async fn history_is_newest_first_in_pages_and_in_buckets() {
    let (headend, clock) = headend_with(MemoryStore::new()).await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    for mw in 1..=5_i32 {
        agent.measured_mw(BESS_1, clock.now(), mw.into()).await;
        clock.advance(Duration::from_secs(20));
    }
    let mw = |page: &serde_json::Value| -> Vec<f64> {
        let items = page["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["mw"].as_f64().unwrap())
            .collect()
    };
    let path = format!("{PATH}/history");
    assert_eq!(
        mw(&get(&headend, &path).await.ok()),
        [5.0, 4.0, 3.0, 2.0, 1.0]
    );

    let mut seen = Vec::new();
    let mut next = format!("{path}?limit=2");
    loop {
        let page = get(&headend, &next).await.ok();
        assert!(page["items"].as_array().unwrap().len() <= 2);
        seen.extend(mw(&page));
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        next = format!("{path}?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, [5.0, 4.0, 3.0, 2.0, 1.0]);

    let range = "from=2026-01-31T12:00:20Z&to=2026-01-31T12:01:00Z";
    let page = get(&headend, &format!("{path}?{range}")).await.ok();
    assert_eq!(mw(&page), [3.0, 2.0], "from is in, to is not");
    let offset = "from=2026-01-31T14:00:20%2B02:00";
    assert_eq!(
        mw(&get(&headend, &format!("{path}?{offset}")).await.ok()).len(),
        4
    );

    let buckets = get(&headend, &format!("{path}?step=60")).await.ok();
    let newest = &buckets["items"][0];
    assert_eq!(newest["from"], "2026-01-31T12:01:00Z");
    assert_eq!(newest["to"], "2026-01-31T12:02:00Z");
    assert_eq!(newest["count"], 2);
    assert_eq!(
        newest["mw"],
        serde_json::json!({"min": 4.0, "mean": 4.5, "max": 5.0})
    );
    assert!(newest["soc_pct"].is_null());
    assert_eq!(buckets["items"].as_array().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn history_is_csv_for_whoever_asks_for_it() {
    let (headend, clock) = headend_with(MemoryStore::new()).await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    for mw in [1.0, -2.5, 3.0] {
        clock.advance(Duration::from_secs(4));
        agent.measured_mw(BESS_1, clock.now(), mw).await;
    }
    let csv = async |path: String| {
        let request = request("GET", &path).header("accept", "text/csv");
        send(
            headend.service(),
            request.body(Full::<Bytes>::default()).unwrap(),
        )
        .await
    };
    let first = csv(format!("{PATH}/history?limit=2")).await;
    assert_eq!(
        first.header("content-type"),
        "text/csv; charset=utf-8; header=present"
    );
    let lines: Vec<&str> = first.text().lines().collect();
    assert!(lines[0].starts_with("asset_id,site_id,measured_at,received_at,quality,mw,"));
    assert!(
        lines[1].contains(",good,3.0,") && lines[2].contains(",good,-2.5,"),
        "{lines:?}"
    );
    let next = first.header("link").strip_prefix('<').unwrap();
    let next = next.strip_suffix(">; rel=\"next\"").unwrap();
    let last = csv(next.to_owned()).await;
    assert_eq!(last.text().lines().count(), 2);
    assert!(last.text().contains(",good,1.0,"));
    assert_eq!(last.header("link"), "");

    let buckets = csv(format!("{PATH}/history?step=3600")).await;
    let lines: Vec<&str> = buckets.text().lines().collect();
    assert!(lines[0].starts_with("asset_id,from,to,count,mw_min,mw_mean,mw_max,"));
    assert!(lines[1].contains(",3,-2.5,0.5,3.0,"), "{lines:?}");

    for path in [
        "/agents/history",
        "/dispatch/history",
        &format!("/heartbeat/{BESS_1}/history"),
    ] {
        let answer = csv(path.to_owned()).await;
        assert!(
            answer.header("content-type").starts_with("text/csv"),
            "{path}"
        );
    }
    let refused = csv(format!("{PATH}/history?limit=0")).await;
    refused.problem(Code::InvalidParameter);
}
