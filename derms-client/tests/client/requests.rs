//! What goes out: paths, queries, headers.

use std::time::Duration;

use derms_client::proto::{AssetId, Cursor, DispatchId, DispatchStatus, SiteId, Timestamp};
use derms_client::{DispatchHistoryQuery, HistoryQuery, TelemetryHistoryQuery};
use http::{HeaderName, HeaderValue};
use serde_json::json;

use crate::fake::{ASSET, DISPATCH, Fake, SITE, dispatch, ok, reply};

fn asset() -> AssetId {
    ASSET.parse().expect("an id")
}

fn id() -> DispatchId {
    DISPATCH.parse().expect("an id")
}

#[tokio::test]
async fn every_call_has_the_path_and_query_of_the_contract() {
    let none = || ok(&json!([]));
    let page = || ok(&json!({"items": [], "next_cursor": null}));
    let snapshot = json!({
        "asset_id": ASSET, "site_id": SITE, "measured_at": "2026-01-31T12:00:00Z",
        "received_at": "2026-01-31T12:00:00Z", "quality": "good", "mw": 1.5, "age_s": 0.5,
        "stale": false,
    });
    let heartbeat = json!({
        "asset_id": ASSET, "agent_id": ASSET, "epoch": 1, "received_at": "2026-01-31T12:00:00Z",
        "agent_time": null, "uptime_s": 1.0, "outbox_depth": 0, "dropped_samples": 0,
        "availability": "available", "control": "default", "control_mw": null, "read_errors": 0,
    });
    let asset_status = json!({
        "id": ASSET, "name": "BESS-1", "site_id": SITE, "capacity_mwhr": 120.0, "max_mw": 60.0,
        "min_mw": -60.0, "efficiency": 0.92, "ramp_rate_mw_per_min": 1000.0, "min_soc_pct": 10.0,
        "max_soc_pct": 90.0, "type": "battery", "default_mw": 0.0,
        "failsafe": {"policy": "default", "after_s": 90}, "agent_id": null, "site_name": "Jersey",
        "location": "Region-A", "connected": true, "last_seen": null,
    });
    let fake = Fake::new([
        none(),
        ok(&asset_status),
        none(),
        none(),
        none(),
        page(),
        ok(&snapshot),
        none(),
        page(),
        ok(&dispatch("sent")),
        page(),
        ok(&heartbeat),
        page(),
        reply(200, ""),
        reply(200, "ready"),
        ok(&json!({"openapi": "3.1.0"})),
    ]);
    let client = fake.client();
    let at = Timestamp::from_unix_micros(0);

    client.assets().await.unwrap();
    assert_eq!(client.asset(asset()).await.unwrap().asset.name, "BESS-1");
    client.sites().await.unwrap();
    client.agents().await.unwrap();
    client.agents_all().await.unwrap();
    let query = HistoryQuery::new()
        .from(at)
        .to(at)
        .limit(5)
        .cursor(Cursor::new("c 1"));
    client.agents_history(query).await.unwrap();
    let mw = client
        .telemetry(asset())
        .await
        .unwrap()
        .telemetry
        .measurements
        .mw;
    assert_eq!(mw.map(|power| power.mw()), Some(1.5));
    client.telemetry_all().await.unwrap();
    let query = TelemetryHistoryQuery::new()
        .step(Duration::from_secs(60))
        .limit(9);
    client.telemetry_history(asset(), query).await.unwrap();
    client.get_dispatch(id()).await.unwrap();
    let query = DispatchHistoryQuery::new()
        .asset(asset())
        .site(SITE.parse::<SiteId>().unwrap())
        .status(DispatchStatus::Active)
        .limit(1);
    client.dispatch_history(query).await.unwrap();
    client.heartbeat(asset()).await.unwrap();
    client
        .heartbeat_history(asset(), HistoryQuery::new())
        .await
        .unwrap();
    client.healthz().await.unwrap();
    client.readyz().await.unwrap();
    assert_eq!(client.openapi().await.unwrap()["openapi"], "3.1.0");

    let epoch = "1970-01-01T00%3A00%3A00Z";
    let expected = [
        "GET /assets".to_owned(),
        format!("GET /assets/{ASSET}"),
        "GET /sites".to_owned(),
        "GET /agents".to_owned(),
        "GET /agents?all=true".to_owned(),
        format!("GET /agents/history?from={epoch}&to={epoch}&limit=5&cursor=c%201"),
        format!("GET /telemetry/{ASSET}"),
        "GET /telemetry".to_owned(),
        format!("GET /telemetry/{ASSET}/history?limit=9&step=60"),
        format!("GET /dispatch/{DISPATCH}"),
        format!("GET /dispatch/history?asset_id={ASSET}&site_id={SITE}&status=active&limit=1"),
        format!("GET /heartbeat/{ASSET}"),
        format!("GET /heartbeat/{ASSET}/history"),
        "GET /healthz".to_owned(),
        "GET /readyz".to_owned(),
        "GET /openapi.json".to_owned(),
    ];
    assert_eq!(fake.targets(), expected);
}

#[tokio::test]
async fn a_base_with_a_path_puts_every_call_under_it() {
    for base in [
        "https://gateway.example/derms",
        "https://gateway.example/derms/",
    ] {
        let fake = Fake::new([ok(&json!([])), ok(&json!([]))]);
        let client = fake.builder(base).build().unwrap();
        client.assets().await.unwrap();
        client.agents_all().await.unwrap();
        let expected = [
            "GET https://gateway.example/derms/assets",
            "GET https://gateway.example/derms/agents?all=true",
        ];
        assert_eq!(fake.targets(), expected);
    }
}

#[tokio::test]
async fn every_request_carries_the_token_the_headers_and_what_is_accepted() {
    let fake = Fake::new([ok(&json!([]))]);
    let name = HeaderName::from_static("x-tenant");
    let client = fake
        .builder("/")
        .bearer_token("abc")
        .header(name, HeaderValue::from_static("jersey"))
        .build()
        .unwrap();
    client.assets().await.unwrap();
    let seen = &fake.seen()[0];
    assert_eq!(seen.header("authorization"), Some("Bearer abc"));
    assert_eq!(seen.header("x-tenant"), Some("jersey"));
    assert_eq!(
        seen.header("accept"),
        Some("application/json, application/problem+json")
    );
    assert!(
        seen.header("user-agent")
            .unwrap()
            .starts_with("derms-client/")
    );
    assert_eq!(seen.header("content-type"), None);
    assert_eq!(seen.header("idempotency-key"), None);
}
