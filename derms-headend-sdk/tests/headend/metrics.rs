//! `/metrics`: what happened is in the numbers, and the numbers are in docs/metrics.md.

use std::collections::BTreeSet;
use std::time::Duration;

use derms_headend_sdk::Headend;
use derms_headend_sdk::proto::link::{Gap, GapReason, Sample, SetpointPhase};
use derms_headend_sdk::proto::{Measurements, NewLimit, NewStop, Power, ProblemCode, Timestamp};
use http::header;

use crate::agent::Agent;
use crate::sick_store::{SickStore, Sickness};
use crate::support::{
    BESS_1, BESS_2, JERSEY, NOBODY, PV_1, delete, get, headend, headend_with, post,
};

/// The page is the repository's, and not in the package.
fn guide() -> &'static str {
    static GUIDE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    GUIDE.get_or_init(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        std::fs::read_to_string(path).unwrap()
    })
}

/// Printed only by a headend with TLS; a test of `tls` has its value.
const WITH_TLS: [&str; 1] = ["derms_certificate_expiry_timestamp_seconds"];

async fn text(headend: &Headend) -> String {
    let answer = get(headend, "/metrics").await;
    assert_eq!(answer.status.as_u16(), 200);
    answer.text().to_owned()
}

/// The value of a series, written as it is printed.
#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let found = found.unwrap_or_else(|| panic!("no {series} in\n{text}"));
    found.parse().unwrap()
}

fn sample(asset: &str, measured_at: Timestamp) -> Sample {
    Sample {
        asset_id: asset.parse().unwrap(),
        measured_at,
        measurements: Measurements {
            mw: Some(Power::from_mw(1.0)),
            ..Measurements::default()
        },
    }
}

#[tokio::test]
async fn the_text_says_what_it_is_and_is_what_an_embedder_gets() {
    let headend = headend().await;
    let answer = get(&headend, "/metrics").await;
    assert_eq!(
        answer.header(header::CONTENT_TYPE),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("derms_build_info{{version=\"{version}\"}}");
    let embedded = headend.metrics().await;
    for text in [answer.text(), &embedded] {
        assert_eq!(value(text, &build), 1.0);
        assert_eq!(value(text, "derms_assets"), 3.0);
    }
}

#[tokio::test]
async fn two_headends_in_one_process_count_apart() {
    let (one, other) = (headend().await, headend().await);
    let _agent = Agent::connect(&one, BESS_1, &[BESS_1]).await;
    let connects = "derms_connects_total";
    assert_eq!(value(&text(&one).await, connects), 1.0);
    assert_eq!(value(&text(&other).await, connects), 0.0);
}

#[tokio::test]
async fn sessions_claims_and_ends_are_counted() {
    let headend = headend().await;
    let _rival = Agent::connect(&headend, JERSEY, &[BESS_2]).await;
    let agent = Agent::connect(&headend, BESS_1, &[BESS_1, PV_1, NOBODY]).await;
    let said = text(&headend).await;
    for (series, expected) in [
        ("derms_sessions", 2.0),
        ("derms_assets_connected", 2.0),
        ("derms_connects_total", 2.0),
        ("derms_claims_total{answer=\"granted\"}", 2.0),
        ("derms_claims_total{answer=\"forbidden\"}", 1.0),
        ("derms_claims_total{answer=\"unknown_asset\"}", 1.0),
        ("derms_link_refusals_total{what=\"claim\"}", 1.0),
        ("derms_disconnects_total{cause=\"taken_over\"}", 0.0),
    ] {
        assert_eq!(value(&said, series), expected, "{series}");
    }
    let _newer = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    drop(agent);
    // What has ended is counted by its own task: shut down, that is over.
    headend.shutdown().await;
    let said = headend.metrics().await;
    let taken_over = "derms_disconnects_total{cause=\"taken_over\"}";
    assert_eq!(value(&said, taken_over), 1.0);
    let drained = "derms_disconnects_total{cause=\"draining\"}";
    assert_eq!(value(&said, drained), 2.0);
    assert_eq!(value(&said, "derms_sessions"), 0.0);
}

#[tokio::test]
async fn telemetry_is_counted_with_its_lag_its_gaps_and_what_came_twice() {
    let (headend, clock) = headend_with(SickStore::default()).await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    let measured = clock.now();
    clock.advance(Duration::from_secs(3));
    agent
        .part(1, vec![sample(BESS_1, measured); 3], vec![])
        .await;
    // The same again with one more, a stranger's asset, and five that are lost.
    agent
        .part(1, vec![sample(BESS_1, clock.now()); 4], vec![])
        .await;
    let gap = Gap {
        first_seq: 5,
        last_seq: 9,
        reason: GapReason::OutboxFull,
    };
    agent
        .part(10, vec![sample(BESS_1, clock.now())], vec![gap])
        .await;
    let said = text(&headend).await;
    for (series, expected) in [
        ("derms_log_entries_received_total{log=\"telemetry\"}", 5.0),
        ("derms_log_entries_duplicate_total{log=\"telemetry\"}", 3.0),
        ("derms_log_entries_stored_total{log=\"telemetry\"}", 5.0),
        ("derms_log_acks_total{log=\"telemetry\"}", 3.0),
        ("derms_telemetry_gaps_total{reason=\"outbox_full\"}", 1.0),
        (
            "derms_telemetry_lost_samples_total{reason=\"outbox_full\"}",
            5.0,
        ),
        ("derms_telemetry_lag_seconds_bucket{le=\"2.5\"}", 2.0),
        ("derms_telemetry_lag_seconds_bucket{le=\"5\"}", 5.0),
        ("derms_telemetry_lag_seconds_sum", 9.0),
        ("derms_ingest_queue_batches{queue=\"telemetry\"}", 0.0),
        (
            "derms_ingest_queue_bytes_limit{queue=\"telemetry\"}",
            67_108_864.0,
        ),
    ] {
        assert_eq!(value(&said, series), expected, "{series}");
    }
}

#[tokio::test]
async fn orders_are_counted_by_status_with_the_time_to_the_answer() {
    let (headend, clock) = headend_with(SickStore::default()).await;
    let order = |asset: &str| format!(r#"{{"asset_id":"{asset}","mw":1}}"#);
    post(&headend, "/dispatch", order(PV_1)).await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    post(&headend, "/dispatch", order(BESS_1)).await;
    let first = agent.order().await;
    clock.advance(Duration::from_millis(300));
    agent.report(&first, SetpointPhase::Received).await;
    clock.advance(Duration::from_millis(300));
    agent.report(&first, SetpointPhase::Started).await;
    // What is told again is counted once.
    clock.advance(Duration::from_millis(300));
    agent.report(&first, SetpointPhase::Received).await;
    agent.report(&first, SetpointPhase::Started).await;
    let said = text(&headend).await;
    for (series, expected) in [
        ("derms_dispatches_open{status=\"pending\"}", 1.0),
        ("derms_dispatches_open{status=\"active\"}", 1.0),
        ("derms_dispatch_transitions_total{status=\"pending\"}", 2.0),
        ("derms_dispatch_transitions_total{status=\"sent\"}", 1.0),
        ("derms_dispatch_transitions_total{status=\"received\"}", 1.0),
        ("derms_dispatch_transitions_total{status=\"active\"}", 1.0),
        (
            "derms_dispatch_transitions_total{status=\"completed\"}",
            0.0,
        ),
        (
            "derms_dispatch_answer_seconds_sum{status=\"received\"}",
            0.3,
        ),
        ("derms_dispatch_answer_seconds_sum{status=\"active\"}", 0.6),
    ] {
        assert_eq!(value(&said, series), expected, "{series}");
    }
    // A newer order takes the place of the one that waits, and is then cancelled.
    post(&headend, "/dispatch", order(PV_1)).await;
    let newest = post(&headend, "/dispatch", order(PV_1)).await.json();
    let path = format!("/dispatch/{}", newest["id"].as_str().unwrap());
    delete(&headend, &path).await;
    let said = text(&headend).await;
    for (series, expected) in [
        (
            "derms_dispatch_transitions_total{status=\"superseded\"}",
            2.0,
        ),
        (
            "derms_dispatch_transitions_total{status=\"cancelled\"}",
            1.0,
        ),
        ("derms_dispatches_open{status=\"pending\"}", 0.0),
    ] {
        assert_eq!(value(&said, series), expected, "{series}");
    }
}

#[tokio::test]
async fn a_store_that_fails_is_seen_in_its_errors_and_in_readiness() {
    let store = SickStore::default();
    let (headend, _) = headend_with(store.clone()).await;
    let said = text(&headend).await;
    assert_eq!(value(&said, "derms_ready"), 1.0);
    assert_eq!(
        value(&said, "derms_store_errors_total{operation=\"ping\"}"),
        0.0
    );

    store.set(Sickness::Unavailable);
    let path = format!("/dispatch/{NOBODY}");
    get(&headend, &path)
        .await
        .problem(ProblemCode::StoreUnavailable);
    let said = text(&headend).await;
    let failed = "derms_store_errors_total{operation=\"dispatch\"}";
    assert_eq!(value(&said, failed), 1.0);
    let calls = "derms_store_call_duration_seconds_count{operation=\"dispatch\"}";
    assert_eq!(value(&said, calls), 1.0);

    headend.shutdown().await;
    let said = headend.metrics().await;
    for (series, expected) in [
        ("derms_ready", 0.0),
        ("derms_not_ready{reason=\"draining\"}", 1.0),
        ("derms_not_ready{reason=\"store_unavailable\"}", 0.0),
    ] {
        assert_eq!(value(&said, series), expected, "{series}");
    }
}

#[tokio::test]
async fn an_unreachable_store_is_the_reason_that_is_told() {
    let store = SickStore::default();
    let (headend, _) = headend_with(store.clone()).await;
    store.set(Sickness::Unavailable);
    let said = text(&headend).await;
    assert_eq!(value(&said, "derms_ready"), 0.0);
    let reason = "derms_not_ready{reason=\"store_unavailable\"}";
    assert_eq!(value(&said, reason), 1.0);
}

#[tokio::test]
async fn rest_is_counted_by_route_and_never_by_what_the_caller_wrote() {
    let headend = headend().await;
    for path in [
        format!("/assets/{BESS_1}"),
        format!("/assets/{BESS_2}"),
        format!("/assets/{NOBODY}"),
        "/nowhere/else".to_owned(),
    ] {
        get(&headend, &path).await;
    }
    let said = text(&headend).await;
    for (series, expected) in [
        (
            r#"derms_http_requests_total{code="200",method="GET",route="/assets/{id}"}"#,
            2.0,
        ),
        (
            r#"derms_http_requests_total{code="404",method="GET",route="/assets/{id}"}"#,
            1.0,
        ),
        (
            r#"derms_http_requests_total{code="404",method="GET",route="none"}"#,
            1.0,
        ),
        (
            r#"derms_http_request_duration_seconds_count{route="/assets/{id}"}"#,
            3.0,
        ),
    ] {
        assert_eq!(value(&said, series), expected, "{series}");
    }
    for written in [BESS_1, "nowhere"] {
        assert!(!said.contains(written), "{written}");
    }
}

#[tokio::test]
async fn limits_and_stops_that_hold_are_counted() {
    let headend = headend().await;
    let limit = NewLimit::at_most(BESS_1.parse().unwrap(), Power::from_mw(5.0));
    headend.set_limit(&limit, None).await.unwrap();
    let stop = NewStop::asset(BESS_2.parse().unwrap());
    let stop = headend.stop(&stop, None).await.unwrap();
    let said = text(&headend).await;
    assert_eq!(value(&said, "derms_limits_in_force"), 1.0);
    assert_eq!(value(&said, "derms_stops_in_force"), 1.0);
    headend.resume(stop.id, Duration::ZERO, None).await.unwrap();
    assert_eq!(value(&text(&headend).await, "derms_stops_in_force"), 0.0);
}

/// Name and type of each row of the guide, of headend and agents.
fn told() -> BTreeSet<(&'static str, &'static str)> {
    let rows = guide().lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let (kind, _) = rest.split_once(" |")?;
        name.starts_with("derms_").then_some((name, kind))
    });
    rows.collect()
}

#[tokio::test]
async fn the_guide_tells_each_metric_and_each_metric_is_told() {
    let headend = headend().await;
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    agent.heartbeat().await;
    get(&headend, "/assets").await;
    let said = text(&headend).await;
    let printed: BTreeSet<(&str, &str)> = said
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let told: BTreeSet<_> = told()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("derms_agent_") && !WITH_TLS.contains(name))
        .collect();
    assert_eq!(printed, told);
    assert!(WITH_TLS.iter().all(|name| guide().contains(name)));
}

#[tokio::test]
async fn every_metric_has_a_name_and_a_help_by_the_rules_of_prometheus() {
    let headend = headend().await;
    get(&headend, "/assets").await;
    let said = text(&headend).await;
    for line in said.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        assert!(said.contains(&format!("# HELP {name} ")), "{name}");
    }
}
