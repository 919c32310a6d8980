//! Paths and query strings that can't be read.

use derms_headend_sdk::proto::ProblemCode as Code;

use crate::support::{BESS_1, get, headend};

#[tokio::test]
async fn an_id_that_is_no_uuid_is_refused_with_an_example() {
    let headend = headend().await;
    let long = "x".repeat(5_000);
    for id in [
        "BESS-1",
        "7ba7b810",
        "%ff%fe",
        "%00",
        "7ba7b810-9dad-11d1-80b4-00c04fd430cg",
        &long,
    ] {
        for path in [
            format!("/assets/{id}"),
            format!("/telemetry/{id}"),
            format!("/telemetry/{id}/history"),
            format!("/heartbeat/{id}"),
            format!("/heartbeat/{id}/history"),
            format!("/dispatch/{id}"),
        ] {
            let problem = get(&headend, &path).await.problem(Code::InvalidParameter);
            assert!(problem.detail.len() < 500, "{path}");
        }
    }
    let problem = get(&headend, "/assets/BESS-1")
        .await
        .problem(Code::InvalidParameter);
    assert!(
        problem.detail.contains("`BESS-1` is not a UUID"),
        "{problem:?}"
    );
}

#[tokio::test]
async fn an_id_in_capitals_is_the_same_id() {
    let path = format!("/assets/{}", BESS_1.to_uppercase());
    assert_eq!(get(&headend().await, &path).await.ok()["id"], BESS_1);
}

#[tokio::test]
async fn an_unknown_or_repeated_parameter_is_named() {
    let headend = headend().await;
    for path in [
        "/assets",
        "/sites",
        "/agents",
        "/agents/history",
        "/telemetry",
        "/dispatch/history",
        &format!("/assets/{BESS_1}"),
        &format!("/telemetry/{BESS_1}"),
        &format!("/telemetry/{BESS_1}/history"),
        &format!("/heartbeat/{BESS_1}"),
        &format!("/heartbeat/{BESS_1}/history"),
        &format!("/dispatch/{BESS_1}"),
    ] {
        let problem = get(&headend, &format!("{path}?colour=red"))
            .await
            .problem(Code::InvalidParameter);
        assert!(problem.detail.contains("colour"), "{path}: {problem:?}");
    }
    let twice = get(&headend, "/agents/history?limit=1&limit=2").await;
    assert!(
        twice
            .problem(Code::InvalidParameter)
            .detail
            .contains("limit")
    );
    // What probes add to be unique changes nothing.
    get(&headend, "/healthz?t=1").await.ok();
    get(&headend, "/readyz?t=1").await.ok();
}

#[tokio::test]
async fn a_parameter_out_of_its_range_is_refused() {
    let headend = headend().await;
    let histories = [
        "/agents/history".to_owned(),
        "/dispatch/history".to_owned(),
        format!("/telemetry/{BESS_1}/history"),
        format!("/heartbeat/{BESS_1}/history"),
    ];
    for path in &histories {
        for limit in ["1", "1000"] {
            get(&headend, &format!("{path}?limit={limit}")).await.ok();
        }
        for query in [
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=1.5",
            "limit=many",
            "limit=",
            "limit=99999999999999999999999",
            "from=yesterday",
            "from=2026-01-31",
            "to=2026-13-01T00:00:00Z",
            "from=2026-01-31T12:00:01Z&to=2026-01-31T12:00:00Z",
            "cursor=",
            "cursor=no-such-place",
            "cursor=%ff",
        ] {
            let answer = get(&headend, &format!("{path}?{query}")).await;
            assert_eq!(
                answer.status.as_u16(),
                400,
                "{path}?{query}: {}",
                answer.text()
            );
            answer.problem(Code::InvalidParameter);
        }
    }
    for query in [
        "step=0",
        "step=-1",
        "step=0.5",
        "step=31622401",
        "step=99999999999999999999",
    ] {
        let path = format!("/telemetry/{BESS_1}/history?{query}");
        get(&headend, &path).await.problem(Code::InvalidParameter);
    }
    for query in ["status=gone", "asset_id=BESS-1", "site_id=7", "asset_id="] {
        let path = format!("/dispatch/history?{query}");
        get(&headend, &path).await.problem(Code::InvalidParameter);
    }
    for query in ["all=1", "all", "all=yes"] {
        get(&headend, &format!("/agents?{query}"))
            .await
            .problem(Code::InvalidParameter);
    }
}
