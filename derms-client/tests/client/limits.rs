//! Limits and stops.

use std::time::Duration;

use derms_client::proto::{LimitStatus, NewLimit, NewStop, Power, ProblemCode};
use derms_client::{Error, HistoryQuery, LimitHistoryQuery};
use http::Method;
use serde_json::{Value, json};

use crate::fake::{ASSET, Answer, Fake, SITE, ok, problem, reply};

const ID: &str = "01990000-0000-7000-8000-000000000002";

fn limit() -> Value {
    json!({
        "id": ID, "asset_id": ASSET, "site_id": SITE, "min_mw": null, "max_mw": 5.0,
        "created_at": "2026-01-31T12:00:00Z", "expires_at": null, "principal": null,
        "status": "not_obeyed", "reason": "device_error", "text": "the relay sticks",
        "confirmed_at": null, "removed_at": null, "removed_by": null, "revision": 1,
    })
}

fn stop() -> Value {
    json!({
        "id": ID, "asset_id": null, "site_id": null, "all": true, "reason": null,
        "principal": null, "created_at": "2026-01-31T12:00:00Z", "revision": 1, "assets": 3,
        "reached": 2, "confirmed": 1, "not_obeyed": 0, "offline": 1, "unsupported": 0,
        "stored": true, "ended_at": null, "ended_by": null, "return_within_s": null,
    })
}

#[tokio::test]
async fn every_call_is_the_one_of_the_contract() {
    let page = || ok(&json!({"items": [], "next_cursor": null}));
    let none = || ok(&json!([]));
    let fake = Fake::new([
        reply(201, limit().to_string()),
        none(),
        none(),
        none(),
        ok(&limit()),
        reply(202, limit().to_string()),
        page(),
        reply(202, stop().to_string()),
        none(),
        ok(&stop()),
        reply(202, stop().to_string()),
        reply(202, stop().to_string()),
        page(),
    ]);
    let client = fake.client();
    let (asset, site) = (ASSET.parse().unwrap(), SITE.parse().unwrap());
    let wish = NewLimit::at_most(asset, Power::from_mw(5.0)).lasting(Duration::from_secs(60));
    let limit = client.set_limit(&wish).await.unwrap();
    assert_eq!(limit.status, LimitStatus::NotObeyed);
    client.limits().await.unwrap();
    client.limits_of(asset).await.unwrap();
    client.limits_of_site(site).await.unwrap();
    client.limit(limit.id).await.unwrap();
    client.remove_limit(limit.id).await.unwrap();
    client
        .limits_history(LimitHistoryQuery::new().asset(asset).limit(5))
        .await
        .unwrap();
    let stop = client
        .stop(&NewStop::site(site).because("smoke"))
        .await
        .unwrap();
    assert_eq!((stop.assets, stop.reached, stop.confirmed), (3, 2, 1));
    client.stops().await.unwrap();
    client.get_stop(stop.id).await.unwrap();
    client.resume(stop.id, None).await.unwrap();
    client
        .resume(stop.id, Some(Duration::from_millis(1_500)))
        .await
        .unwrap();
    client
        .stop_history(HistoryQuery::new().limit(5))
        .await
        .unwrap();

    let seen = fake.seen();
    let calls: Vec<String> = seen
        .iter()
        .map(|seen| format!("{} {}", seen.method, seen.uri))
        .collect();
    assert_eq!(
        calls,
        [
            "POST /limits".to_owned(),
            "GET /limits".to_owned(),
            format!("GET /limits?asset_id={ASSET}"),
            format!("GET /limits?site_id={SITE}"),
            format!("GET /limits/{ID}"),
            format!("DELETE /limits/{ID}"),
            format!("GET /limits/history?limit=5&asset_id={ASSET}"),
            "POST /stop".to_owned(),
            "GET /stop".to_owned(),
            format!("GET /stop/{ID}"),
            format!("DELETE /stop/{ID}"),
            format!("DELETE /stop/{ID}?return_within_s=1.5"),
            "GET /stop/history?limit=5".to_owned(),
        ]
    );
    let body = |n: usize| serde_json::from_slice::<Value>(&seen[n].body).unwrap();
    assert_eq!(
        body(0),
        json!({"asset_id": ASSET, "max_mw": 5.0, "duration_s": 60.0})
    );
    assert_eq!(
        body(7),
        json!({"site_id": SITE, "confirm": "stop", "reason": "smoke"})
    );
    assert_eq!(seen[7].header("content-type"), Some("application/json"));
}

#[tokio::test(start_paused = true)]
async fn a_removal_is_repeated_and_a_new_limit_or_stop_under_its_key() {
    let fake = Fake::new([Answer::Broken, reply(202, limit().to_string())]);
    fake.client()
        .remove_limit(ID.parse().unwrap())
        .await
        .unwrap();
    assert_eq!(fake.seen().len(), 2);
    let keys = |fake: &Fake| -> Vec<String> {
        let seen = fake.seen();
        let keys = seen.iter().map(|seen| seen.header("idempotency-key"));
        keys.map(|key| key.unwrap().to_owned()).collect()
    };
    let wish = NewLimit::at_most(ASSET.parse().unwrap(), Power::ZERO);
    let fake = Fake::new([Answer::Broken, reply(201, limit().to_string())]);
    fake.client().set_limit(&wish).await.unwrap();
    let made = keys(&fake);
    assert_eq!(made.len(), 2);
    assert!(
        made[0] == made[1] && made[0].parse::<uuid::Uuid>().is_ok(),
        "{made:?}"
    );
    let fake = Fake::new([
        reply(201, limit().to_string()),
        reply(202, stop().to_string()),
    ]);
    let client = fake.client();
    client.set_limit_with_key(&wish, "limit-1").await.unwrap();
    client
        .stop_with_key(&NewStop::all(), "stop-1")
        .await
        .unwrap();
    assert_eq!(keys(&fake), ["limit-1", "stop-1"]);
    let fake = Fake::new([problem(400, "confirmation_required")]);
    let unsure = NewStop {
        confirm: None,
        ..NewStop::all()
    };
    let error = fake.client().stop(&unsure).await.unwrap_err();
    assert_eq!(error.code(), Some(ProblemCode::ConfirmationRequired));
    assert_eq!(
        (fake.seen().len(), &fake.seen()[0].method),
        (1, &Method::POST)
    );
}

#[tokio::test]
async fn a_bound_that_json_can_not_hold_is_refused_before_it_becomes_none() {
    let fake = Fake::new([]);
    let wish = NewLimit::at_most(ASSET.parse().unwrap(), Power::from_mw(f64::NAN));
    let error = fake.client().set_limit(&wish).await.unwrap_err();
    assert!(matches!(error, Error::InvalidRequest { .. }));
    assert!(fake.seen().is_empty());
}
