//! The OWASP API Security Top 10 of 2023, by name: what each would look like here, and that it does
//! not work.

use std::net::SocketAddr;

use bytes::Bytes;
use derms_headend_sdk::auth::{Role, TokenFile};
use derms_headend_sdk::proto::{NewDispatch, Power, ProblemCode as Code};
use derms_headend_sdk::{Headend, PeerAddr, Principal};
use http::{Request, StatusCode, header};
use http_body_util::Full;
use serde_json::Value;

use crate::agent::Agent;
use crate::live::Stream;
use crate::sick_store::{SECRET, SickStore, Sickness};
use crate::support::{
    Answer, BESS_1, JERSEY, NEWARK, NOBODY, PV_1, TokenFolder, WallClock, fleet, get, headend_with,
    json_post, request, send, standing_clock,
};

/// A headend with tokens of its callers.
struct Rig {
    headend: Headend,
    clock: WallClock,
    viewer: String,
    operator: String,
    newark: String,
    admin: String,
    _folder: TokenFolder,
}

impl Rig {
    async fn new() -> Self {
        let folder = TokenFolder::new();
        let token = |name: &str, role| folder.add(&Principal::new(name).with_role(role));
        let viewer = token("vic", Role::Viewer);
        let operator = token("oda", Role::Operator);
        let admin = token("ada", Role::Admin);
        let site = NEWARK.parse().unwrap();
        let newark = Principal::new("newt")
            .with_role(Role::Operator)
            .limited_to([site]);
        let newark = folder.add(&newark);
        let (builder, clock) = standing_clock(Headend::builder(fleet()));
        let tokens = TokenFile::open(folder.file()).unwrap();
        let builder = builder
            .authentication(tokens)
            .max_mw_per_minute(Power::from_mw(50.0))
            .rate_limit(1, 100);
        Self {
            headend: builder.build().await.unwrap(),
            clock,
            viewer,
            operator,
            newark,
            admin,
            _folder: folder,
        }
    }

    async fn call(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let request = request(method, path)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json");
        let body = Full::new(Bytes::from(body.to_owned()));
        send(self.headend.service(), request.body(body).unwrap()).await
    }

    /// What happens from now on, behind its first word.
    async fn watch(&self, token: &str, path: &str) -> Stream {
        let request = request("GET", path).header(header::AUTHORIZATION, format!("Bearer {token}"));
        let request = request.body(Full::default()).unwrap();
        let opened = Stream::sent(&self.headend, request).await;
        let mut stream = opened.unwrap_or_else(|answer| panic!("{}", answer.text()));
        assert_eq!(stream.item().await["kind"], "reset");
        stream
    }
}

fn order(asset: &str, mw: f64) -> String {
    format!(r#"{{"asset_id":"{asset}","mw":{mw}}}"#)
}

/// To reach an object of others by its id.
#[tokio::test]
async fn api1_broken_object_level_authorization() {
    let rig = Rig::new().await;
    let theirs = rig
        .call(&rig.operator, "POST", "/dispatch", &order(BESS_1, 1.0))
        .await;
    let id = theirs.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/dispatch/{id}");
    for method in ["GET", "DELETE"] {
        let answer = rig.call(&rig.newark, method, &path, "").await;
        answer.problem(Code::UnknownDispatch);
    }
    let still = rig.call(&rig.operator, "GET", &path, "").await.ok();
    assert_eq!(
        still["cancel_requested_at"],
        Value::Null,
        "it was not cancelled"
    );
    for query in [format!("asset_id={BESS_1}"), String::new()] {
        let path = format!("/dispatch/history?{query}");
        let list = rig.call(&rig.newark, "GET", &path, "").await.ok();
        assert_eq!(list["items"], serde_json::json!([]));
    }
}

/// The same for what devices raise, and for what is told as it happens.
#[tokio::test]
async fn api1_events_and_live_items_of_others_are_not_there() {
    let rig = Rig::new().await;
    let now = rig.clock.now();
    let mut all = rig.watch(&rig.viewer, "/stream").await;
    let mut theirs = rig.watch(&rig.newark, "/stream").await;
    let asked = format!("/stream?kind=event&asset_id={BESS_1}");
    let mut asked_for = rig.watch(&rig.newark, &asked).await;
    let mut bess = Agent::connect(&rig.headend, BESS_1, &[BESS_1]).await;
    bess.raises(BESS_1, now, "alarm", "too_hot").await;
    let mut pv = Agent::connect(&rig.headend, PV_1, &[PV_1]).await;
    pv.raises(PV_1, now, "alarm", "string_open").await;

    let list = rig.call(&rig.viewer, "GET", "/events", "").await.ok();
    let hot = &list["items"][1];
    assert_eq!(hot["code"], "too_hot", "{list}");
    let path = format!("/events/{}", hot["id"].as_str().unwrap());
    let read = rig.call(&rig.newark, "GET", &path, "").await;
    read.problem(Code::UnknownEvent);
    let ack = format!("{path}/ack");
    for body in ["{}", r#"{"note":"mine"}"#] {
        let answer = rig.call(&rig.newark, "POST", &ack, body).await;
        answer.problem(Code::UnknownEvent);
    }
    let still = rig.call(&rig.operator, "GET", &path, "").await.ok();
    assert_eq!(still["acknowledged"], Value::Null);
    for query in [
        String::new(),
        format!("?asset_id={BESS_1}"),
        format!("?site_id={JERSEY}"),
    ] {
        let path = format!("/events{query}");
        let list = rig.call(&rig.newark, "GET", &path, "").await.ok();
        for item in list["items"].as_array().unwrap() {
            assert_eq!(item["code"], "string_open", "{query}");
        }
    }

    let mut seen = Vec::new();
    for _ in 0..2 {
        let item = theirs.item().await;
        assert!(!item.to_string().contains(BESS_1), "{item}");
        seen.push(item["kind"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, ["session", "event"]);
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(all.item().await["kind"].as_str().unwrap().to_owned());
    }
    assert_eq!(told, ["session", "event", "session", "event"]);
    rig.headend.shutdown().await;
    for stream in [&mut theirs, &mut asked_for] {
        let last = stream.item().await;
        assert_eq!(last["kind"], "end", "what it may not see was told: {last}");
    }
}

/// To come in with a token that is made up, cut, of another scheme, or in another place.
#[tokio::test]
async fn api2_broken_authentication() {
    let rig = Rig::new().await;
    let cut = &rig.admin[..rig.admin.len() - 1];
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEiLCJkZXJtc19yb2xlIjoiYWRtaW4ifQ.";
    for token in ["", "null", "admin", cut, none] {
        let answer = rig.call(token, "GET", "/assets", "").await;
        answer.problem(Code::Unauthenticated);
    }
    let query = format!("/assets?access_token={}", rig.admin);
    get(&rig.headend, &query)
        .await
        .problem(Code::Unauthenticated);
    for (name, value) in [
        ("authorization", format!("Basic {}", rig.admin)),
        ("authorization", rig.admin.clone()),
        ("cookie", format!("token={}", rig.admin)),
        ("x-api-key", rig.admin.clone()),
        ("x-forwarded-user", "ada".to_owned()),
    ] {
        let request = request("GET", "/assets").header(name, value);
        let answer = send(
            rig.headend.service(),
            request.body(Full::<Bytes>::default()).unwrap(),
        );
        answer.await.problem(Code::Unauthenticated);
    }
    rig.call(&rig.admin, "GET", "/assets", "").await.ok();
}

/// To set a field that is not the caller's to set.
#[tokio::test]
async fn api3_broken_object_property_level_authorization() {
    let rig = Rig::new().await;
    for field in [
        r#""principal":"ada""#,
        r#""status":"active""#,
        r#""id":"00000000-0000-4000-8000-000000000000""#,
        r#""revision":99"#,
        r#""created_at":"2020-01-01T00:00:00Z""#,
    ] {
        let body = format!(r#"{{"asset_id":"{BESS_1}","mw":1,{field}}}"#);
        let answer = rig.call(&rig.operator, "POST", "/dispatch", &body).await;
        answer.problem(Code::InvalidBody);
    }
    let made = rig
        .call(&rig.operator, "POST", "/dispatch", &order(BESS_1, 1.0))
        .await;
    assert_eq!(made.json()["principal"], "oda", "who the token says");
}

/// To ask for so much that others get nothing.
#[tokio::test]
async fn api4_unrestricted_resource_consumption() {
    let rig = Rig::new().await;
    for query in ["limit=1001", "limit=0", "limit=-1"] {
        let path = format!("/dispatch/history?{query}");
        let answer = rig.call(&rig.viewer, "GET", &path, "").await;
        answer.problem(Code::InvalidParameter);
    }
    let large = format!(r#"{{"asset_id":"{}"}}"#, "x".repeat(70_000));
    let answer = rig.call(&rig.operator, "POST", "/dispatch", &large).await;
    answer.problem(Code::BodyTooLarge);
    let answer = rig
        .call(
            &rig.operator,
            "POST",
            "/dispatch?wait_s=61",
            &order(BESS_1, 1.0),
        )
        .await;
    answer.problem(Code::InvalidParameter);
    let mut refused = 0;
    for _ in 0..200 {
        let answer = rig.call(&rig.viewer, "GET", "/healthz", "").await;
        assert_eq!(answer.status, StatusCode::OK);
        let answer = rig.call(&rig.viewer, "GET", "/assets", "").await;
        refused += usize::from(answer.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(refused > 0, "100 at once, and one in a second");
}

/// To call what is for a higher role, by any method that a proxy might let through.
#[tokio::test]
async fn api5_broken_function_level_authorization() {
    let rig = Rig::new().await;
    let stop = r#"{"all":true,"confirm":"stop"}"#;
    for path in ["/dispatch", "/limits", "/stop"] {
        let answer = rig.call(&rig.viewer, "POST", path, stop).await;
        answer.problem(Code::Forbidden);
    }
    let ack = format!("/events/{NOBODY}/ack");
    rig.call(&rig.viewer, "POST", &ack, "")
        .await
        .problem(Code::Forbidden);
    // It counts all sites.
    rig.call(&rig.newark, "GET", "/metrics", "")
        .await
        .problem(Code::Forbidden);
    for token in [&rig.viewer, &rig.operator] {
        rig.call(token, "GET", "/audit", "")
            .await
            .problem(Code::Forbidden);
    }
    for header in ["x-http-method-override", "x-original-url", "x-rewrite-url"] {
        let request = request("GET", "/assets")
            .header(header::AUTHORIZATION, format!("Bearer {}", rig.viewer))
            .header(
                header,
                if header.contains("method") {
                    "DELETE"
                } else {
                    "/audit"
                },
            );
        let answer = send(
            rig.headend.service(),
            request.body(Full::<Bytes>::default()).unwrap(),
        );
        let listed = answer.await.ok();
        assert_eq!(
            listed.as_array().unwrap().len(),
            3,
            "{header} means nothing"
        );
    }
    for path in ["/AUDIT", "//audit", "/audit/", "/./audit", "/%61udit"] {
        let answer = rig.call(&rig.viewer, "GET", path, "").await;
        assert!(
            [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN].contains(&answer.status),
            "{path}: {}",
            answer.status
        );
    }
}

/// To do what is allowed once so often that it does harm: to swing a fleet.
#[tokio::test]
async fn api6_unrestricted_access_to_sensitive_business_flows() {
    let rig = Rig::new().await;
    let swing = [20.0, -20.0, 20.0, -20.0];
    let mut taken = 0;
    for mw in swing {
        let answer = rig
            .call(&rig.operator, "POST", "/dispatch", &order(BESS_1, mw))
            .await;
        taken += usize::from(answer.status == StatusCode::ACCEPTED);
    }
    assert_eq!(taken, 2, "50 MW in a minute");
    // A fleet is not stopped by a slip.
    let slip = rig
        .call(&rig.operator, "POST", "/stop", r#"{"all":true}"#)
        .await;
    slip.problem(Code::ConfirmationRequired);
}

/// To have the headend fetch something: nothing in a request is an address that it would call.
#[tokio::test]
async fn api7_server_side_request_forgery() {
    let document: Value = serde_json::from_str(&derms_headend_sdk::openapi_json()).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in ["NewDispatch", "NewLimit", "NewStop"] {
        let fields = schemas[name]["properties"].as_object().unwrap();
        for field in fields.keys() {
            for word in ["url", "uri", "host", "callback", "webhook", "address"] {
                assert!(
                    !field.contains(word),
                    "{name}.{field} looks like an address to call"
                );
            }
        }
        assert_eq!(schemas[name]["additionalProperties"], false, "{name}");
    }
    // A token is not asked where its keys are.
    let rig = Rig::new().await;
    let jku = "eyJhbGciOiJSUzI1NiIsImprdSI6Imh0dHA6Ly8xMjcuMC4wLjE6MS9rIn0.e30.e30";
    rig.call(jku, "GET", "/assets", "")
        .await
        .problem(Code::Unauthenticated);
}

/// To learn or reach something by what was left open: traces, headers, methods, framing.
#[tokio::test]
async fn api8_security_misconfiguration() {
    let store = SickStore::default();
    let (headend, _) = headend_with(store.clone()).await;
    for sickness in [Sickness::Unavailable, Sickness::Corrupt, Sickness::Panic] {
        store.set(sickness);
        let answer = get(&headend, "/dispatch/history").await;
        assert!(answer.status.is_server_error());
        assert!(!answer.text().contains(SECRET) && !answer.text().contains("hunter2"));
    }
    let rig = Rig::new().await;
    for method in ["TRACE", "CONNECT", "PUT", "PATCH", "PROPFIND"] {
        let answer = rig.call(&rig.admin, method, "/dispatch", "").await;
        answer.problem(Code::MethodNotAllowed);
    }
    let answer = rig.call(&rig.admin, "GET", "/assets", "").await;
    assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
    assert_eq!(answer.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
    assert_eq!(answer.header(header::SERVER), "");
}

/// To call a path that nobody looks after: what is there is documented, and what is documented asks
/// who calls.
#[tokio::test]
async fn api9_improper_inventory_management() {
    let rig = Rig::new().await;
    for path in [
        "/v1/assets",
        "/api/assets",
        "/admin",
        "/debug",
        "/metrics/",
        "/.env",
        "/swagger.json",
        "/actuator/health",
    ] {
        get(&rig.headend, path).await.problem(Code::Unauthenticated);
        rig.call(&rig.admin, "GET", path, "")
            .await
            .problem(Code::NotFound);
    }
    let document: Value = serde_json::from_str(&derms_headend_sdk::openapi_json()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["x-role"].is_string(), "{method} {path}");
            assert_ne!(operation["deprecated"], true, "{method} {path}");
        }
    }
}

/// To put something into the headend by way of what others trust: the records of other systems, and
/// spreadsheets that open an export.
#[tokio::test]
async fn api10_unsafe_consumption_of_apis() {
    let rig = Rig::new().await;
    let stop = format!(
        r#"{{"asset_id":"{PV_1}","confirm":"stop","reason":"=HYPERLINK(\"http://x\")\r\nforged: line"}}"#
    );
    let stopped = rig.call(&rig.operator, "POST", "/stop", &stop).await;
    assert_eq!(stopped.status, StatusCode::ACCEPTED);
    let csv = request("GET", "/stop/history")
        .header(header::AUTHORIZATION, format!("Bearer {}", rig.admin))
        .header(header::ACCEPT, "text/csv")
        .body(Full::<Bytes>::default())
        .unwrap();
    let answer = send(rig.headend.service(), csv).await;
    assert!(answer.text().contains("'=HYPERLINK"), "{}", answer.text());
    // An agent is another system, too.
    let mut agent = Agent::connect(&rig.headend, PV_1, &[PV_1]).await;
    let code = "=1+1\r\nforged,line";
    agent.raises(PV_1, rig.clock.now(), "info", code).await;
    let csv = request("GET", "/events?source=agent")
        .header(header::AUTHORIZATION, format!("Bearer {}", rig.admin))
        .header(header::ACCEPT, "text/csv")
        .body(Full::<Bytes>::default())
        .unwrap();
    let listed = send(rig.headend.service(), csv).await;
    assert!(listed.text().contains("\"'=1+1"), "{}", listed.text());
    assert!(answer.header(header::CONTENT_TYPE).starts_with("text/csv"));
}

/// Whoever fails to log in can't fill the audit trail, and keeps out nobody else.
#[tokio::test]
async fn a_flood_of_wrong_tokens_is_cut_and_lets_good_ones_through() {
    let rig = Rig::new().await;
    let peer: SocketAddr = "192.0.2.7:9".parse().unwrap();
    let call = |token: &str| -> Request<Full<Bytes>> {
        let request =
            json_post("/dispatch").header(header::AUTHORIZATION, format!("Bearer {token}"));
        let mut request = request
            .body(Full::new(Bytes::from(order(BESS_1, 1.0))))
            .unwrap();
        request.extensions_mut().insert(PeerAddr(peer));
        request
    };
    let mut statuses = [0, 0];
    for _ in 0..100 {
        let answer = send(rig.headend.service(), call("wrong")).await;
        let cut = answer.status == StatusCode::TOO_MANY_REQUESTS;
        assert!(cut || answer.status == StatusCode::UNAUTHORIZED);
        statuses[usize::from(cut)] += 1;
    }
    assert!(statuses[0] >= 20 && statuses[1] > 0, "{statuses:?}");
    let good = send(rig.headend.service(), call(&rig.operator)).await;
    assert_eq!(good.status, StatusCode::ACCEPTED);
    let trail = rig
        .call(&rig.admin, "GET", "/audit?limit=1000", "")
        .await
        .ok();
    // Those that were answered 401, and the order.
    let records = trail["items"].as_array().unwrap().len();
    assert!(records <= statuses[0] + 1, "{records} of {statuses:?}");
    let made = NewDispatch::asset(NOBODY.parse().unwrap(), Power::ZERO);
    rig.headend.dispatch(&made, None).await.unwrap_err();
}
