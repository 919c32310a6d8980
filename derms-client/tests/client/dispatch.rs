//! Orders.

use std::time::Duration;

use derms_client::proto::{DispatchStatus, FollowUp, NewDispatch, Power, ProblemCode, SplitPolicy};
use derms_client::{DispatchOptions, Error};
use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::fake::{ASSET, Answer, DISPATCH, Fake, SITE, dispatch, ok, problem, reply};

fn order() -> NewDispatch {
    NewDispatch::asset(ASSET.parse().expect("an id"), Power::from_mw(5.0))
}

#[tokio::test]
async fn an_order_is_posted_as_json_with_a_time_ordered_key() {
    for status in [202, 201, 200] {
        let fake = Fake::new([reply(status, dispatch("sent").to_string())]);
        let order = order().lasting(Duration::from_secs(20));
        let dispatch = fake.client().dispatch(&order).await.unwrap();
        assert_eq!(dispatch.status, DispatchStatus::Sent);
        assert_eq!(dispatch.id.to_string(), DISPATCH);
        let seen = &fake.seen()[0];
        assert_eq!(
            (&seen.method, &*seen.uri.to_string()),
            (&Method::POST, "/dispatch")
        );
        assert_eq!(seen.header("content-type"), Some("application/json"));
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        assert_eq!(
            body,
            json!({"asset_id": ASSET, "mw": 5.0, "duration_s": 20.0})
        );
        let key: uuid::Uuid = seen.header("idempotency-key").unwrap().parse().unwrap();
        assert_eq!(key.get_version_num(), 7);
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_is_a_query_and_its_time_comes_on_top_of_the_limit() {
    let fake = Fake::new([Answer::Silence]);
    let client = fake.builder("/").retries(0).build().unwrap();
    let options = DispatchOptions::new()
        .wait(Duration::from_millis(7_500))
        .idempotency_key("order-17");
    let start = Instant::now();
    client.dispatch_with(&order(), options).await.unwrap_err();
    assert_eq!(start.elapsed().as_millis() / 100, 375);
    let seen = &fake.seen()[0];
    assert_eq!(seen.uri, "/dispatch?wait_s=7.5");
    assert_eq!(seen.header("idempotency-key"), Some("order-17"));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_is_a_delete_that_is_repeated_and_may_wait() {
    let fake = Fake::new([
        Answer::Broken,
        reply(202, dispatch("active").to_string()),
        ok(&dispatch("cancelled")),
        problem(404, "unknown_dispatch"),
    ]);
    let (client, id) = (fake.client(), DISPATCH.parse().unwrap());
    let asked = client.cancel(id).await.unwrap();
    assert_eq!(asked.status, DispatchStatus::Active);
    let over = client.cancel_within(id, Duration::from_millis(2_500)).await;
    assert_eq!(over.unwrap().status, DispatchStatus::Cancelled);
    let error = client.cancel(id).await.unwrap_err();
    assert_eq!(error.code(), Some(ProblemCode::UnknownDispatch));
    let seen = fake.seen();
    let calls: Vec<_> = seen
        .iter()
        .map(|seen| (seen.method.as_str(), seen.uri.to_string()))
        .collect();
    let plain = format!("/dispatch/{DISPATCH}");
    let waiting = format!("{plain}?wait_s=2.5");
    assert_eq!(
        calls,
        [&plain, &plain, &waiting, &plain].map(|uri| ("DELETE", uri.clone()))
    );
}

#[tokio::test]
async fn a_preview_is_a_post_without_a_key_and_tells_the_shares() {
    let preview = json!({
        "asset_id": null, "site_id": SITE, "mw": 5.0, "duration_s": null, "ttl_s": 300.0,
        "split": {"residual_mw": 1.0, "left_out": [], "policy": "soc", "version": 1,
            "excluded": [{"asset_id": ASSET, "name": "M", "reason": "meter"}]},
        "assets": [{"asset_id": ASSET, "mw": 4.0, "online": true,
            "supersedes": [{"id": DISPATCH, "mw": 1.0, "status": "active"}]}],
    });
    let fake = Fake::new([Answer::Broken, ok(&preview)]);
    let site = SITE.parse().unwrap();
    let order = NewDispatch::site(site, Power::from_mw(5.0)).split_by(SplitPolicy::Soc);
    let told = fake.client().preview(&order).await.unwrap();
    assert_eq!(serde_json::to_value(&told).unwrap(), preview);
    let seen = fake.seen();
    assert_eq!(
        (seen.len(), &*seen[1].uri.to_string()),
        (2, "/dispatch/preview")
    );
    assert_eq!(seen[1].header("idempotency-key"), None);
    let body: Value = serde_json::from_slice(&seen[1].body).unwrap();
    assert_eq!(
        body,
        json!({"site_id": SITE, "mw": 5.0, "split_policy": "soc"})
    );
    let order = NewDispatch::site(site, Power::from_mw(f64::NAN));
    let error = fake.client().preview(&order).await.unwrap_err();
    assert!(matches!(error, Error::InvalidRequest { .. }));
}

#[tokio::test]
async fn a_number_that_json_can_not_hold_is_refused_before_it_becomes_null() {
    let mut endless = order();
    endless.duration_s = Some(f64::NAN);
    let mut waiting = order();
    waiting.ttl_s = Some(f64::INFINITY);
    let mut no_power = order();
    no_power.mw = Power::from_mw(f64::NAN);
    let ramping = order().ramping(f64::NAN);
    let followed = order().followed_by(FollowUp::Value(Power::from_mw(f64::NAN)));
    for (order, name) in [
        (ramping, "ramp_mw_per_min"),
        (followed, "follow_up"),
        (endless, "duration_s"),
        (waiting, "ttl_s"),
        (no_power, "mw"),
    ] {
        let fake = Fake::new([ok(&dispatch("sent"))]);
        let error = fake.client().dispatch(&order).await.unwrap_err();
        assert!(matches!(error, Error::InvalidRequest { .. }));
        assert!(error.to_string().contains(name), "{error}");
        assert!(fake.seen().is_empty());
    }
}

#[tokio::test]
async fn a_key_that_no_header_can_hold_is_refused() {
    for key in ["", "a\nb"] {
        let fake = Fake::new([ok(&dispatch("sent"))]);
        let options = DispatchOptions::new().idempotency_key(key);
        let error = fake
            .client()
            .dispatch_with(&order(), options)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::InvalidRequest { .. }));
        assert!(fake.seen().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn wait_returns_at_the_end_of_an_order_and_asks_ever_more_slowly() {
    let answers = |last: &str| {
        let open = ["sent", "received"].into_iter().chain(["active"; 40]);
        let statuses: Vec<_> = open
            .chain([last])
            .map(|status| ok(&dispatch(status)))
            .collect();
        statuses
    };
    for status in DispatchStatus::ALL {
        let name = serde_json::to_value(status).unwrap();
        let fake = Fake::new(answers(name.as_str().unwrap()));
        let start = Instant::now();
        let result = fake.client().wait(DISPATCH.parse().unwrap()).await;
        if status.is_terminal() {
            assert_eq!(result.unwrap().status, status);
            assert_eq!(fake.seen().len(), 43);
            assert_eq!(fake.seen()[0].uri, format!("/dispatch/{DISPATCH}").as_str());
            // 8 steps from 50 ms to 1 s, then one a second.
            let elapsed = start.elapsed().as_secs_f64();
            assert!((35.0..39.0).contains(&elapsed), "{elapsed}");
        } else {
            assert!(result.is_err(), "{status:?} is no end");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn wait_until_active_also_ends_with_an_order_that_never_was() {
    for status in [
        "active",
        "completed",
        "rejected",
        "expired",
        "failed",
        "superseded",
    ] {
        let statuses = ["pending", "sent", "received", status, "completed"];
        let fake = Fake::new(statuses.map(|status| ok(&dispatch(status))));
        let client = fake.client();
        let dispatch = client
            .wait_until_active(DISPATCH.parse().unwrap())
            .await
            .unwrap();
        assert_eq!(serde_json::to_value(dispatch.status).unwrap(), status);
        assert_eq!(fake.seen().len(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn wait_bridges_a_short_outage_and_reports_an_unknown_order_at_once() {
    let fake = Fake::new([
        ok(&dispatch("active")),
        Answer::Refused,
        Answer::Broken,
        ok(&dispatch("completed")),
    ]);
    let dispatch = fake.client().wait(DISPATCH.parse().unwrap()).await.unwrap();
    assert_eq!(dispatch.status, DispatchStatus::Completed);

    let fake = Fake::new([problem(404, "unknown_dispatch")]);
    let error = fake
        .client()
        .wait(DISPATCH.parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(ProblemCode::UnknownDispatch));
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn wait_may_be_given_a_time_limit_from_outside() {
    let fake = Fake::new((0..99).map(|_| ok(&dispatch("active"))));
    let client = fake.client();
    let wait = client.wait(DISPATCH.parse().unwrap());
    assert!(timeout(Duration::from_secs(5), wait).await.is_err());
}

/// Never called: it is enough that it compiles.
#[allow(dead_code)]
fn every_call_can_be_spawned(client: derms_client::Client) {
    fn spawnable<T: Send + 'static>(_: T) {}
    spawnable(async move {
        let id = DISPATCH.parse().expect("an id");
        let _ = client.dispatch(&order()).await;
        let _ = client.wait(id).await;
        let _ = client.wait_until_active(id).await;
        let _ = client.readyz().await;
        let mut items = client.dispatch_history(Default::default()).items();
        while items.next().await.is_some() {}
    });
}
