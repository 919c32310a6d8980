//! Who may call what: every path and method of the document, with every kind of caller.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use derms_headend_sdk::auth::{AuthLayer, NewToken, Role, TokenFile};
use derms_headend_sdk::proto::{Fleet, NewDispatch, NewLimit, NewStop, Power, ProblemCode as Code};
use derms_headend_sdk::{Headend, PeerAddr, Principal};
use http::{Request, header};
use http_body_util::Full;
use serde_json::Value;
use tower::Layer as _;

use crate::agent::Agent;
use crate::sick_store::SickStore;
use crate::support::{
    Answer, BESS_1, BESS_2, JERSEY, NEWARK, NOBODY, PV_1, TokenFolder, WallClock, fleet, get,
    json_post, request, send, standing_clock,
};

/// What is called, and what is answered to: nobody, a viewer, an operator, an admin, and an operator
/// of another site. What is asked for is of Jersey.
const CALLS: [(&str, &str, [u16; 5]); 35] = [
    ("get", "/agents", [401, 200, 200, 200, 200]),
    ("get", "/agents/history", [401, 200, 200, 200, 200]),
    ("get", "/assets", [401, 200, 200, 200, 200]),
    ("get", "/assets/{id}", [401, 200, 200, 200, 404]),
    ("get", "/audit", [401, 403, 403, 200, 403]),
    ("get", "/dispatch/history", [401, 200, 200, 200, 200]),
    ("get", "/dispatch/{id}", [401, 200, 200, 200, 404]),
    ("delete", "/dispatch/{id}", [401, 403, 200, 200, 404]),
    ("post", "/dispatch", [401, 403, 202, 202, 404]),
    ("post", "/dispatch/preview", [401, 200, 200, 200, 404]),
    ("get", "/docs", [401, 308, 308, 308, 308]),
    ("get", "/events", [401, 200, 200, 200, 200]),
    ("get", "/events/{id}", [401, 200, 200, 200, 404]),
    ("post", "/events/{id}/ack", [401, 403, 200, 200, 404]),
    ("get", "/healthz", [200, 200, 200, 200, 200]),
    ("get", "/heartbeat/{id}", [401, 200, 200, 200, 404]),
    ("get", "/heartbeat/{id}/history", [401, 200, 200, 200, 404]),
    ("get", "/limits", [401, 200, 200, 200, 200]),
    ("post", "/limits", [401, 403, 201, 201, 404]),
    ("get", "/limits/history", [401, 200, 200, 200, 200]),
    ("get", "/limits/{id}", [401, 200, 200, 200, 404]),
    ("delete", "/limits/{id}", [401, 403, 202, 202, 404]),
    ("get", "/metrics", [401, 200, 200, 200, 403]),
    ("get", "/openapi.json", [401, 200, 200, 200, 200]),
    ("get", "/readyz", [200, 200, 200, 200, 200]),
    ("get", "/sites", [401, 200, 200, 200, 200]),
    ("get", "/stop", [401, 200, 200, 200, 200]),
    ("post", "/stop", [401, 403, 202, 202, 404]),
    ("get", "/stop/history", [401, 200, 200, 200, 200]),
    ("get", "/stop/{id}", [401, 200, 200, 200, 404]),
    ("delete", "/stop/{id}", [401, 403, 202, 202, 404]),
    ("get", "/stream", [401, 200, 200, 200, 200]),
    ("get", "/telemetry", [401, 200, 200, 200, 200]),
    ("get", "/telemetry/{id}", [401, 200, 200, 200, 404]),
    ("get", "/telemetry/{id}/history", [401, 200, 200, 200, 404]),
];

fn callers() -> [Option<Principal>; 5] {
    let who = |name: &str, role| Some(Principal::new(name).with_role(role));
    [
        None,
        who("vic", Role::Viewer),
        who("oda", Role::Operator),
        who("ada", Role::Admin),
        Some(of_newark(Role::Operator)),
    ]
}

fn of_newark(role: Role) -> Principal {
    let site = NEWARK.parse().unwrap();
    Principal::new("newt").with_role(role).limited_to([site])
}

/// A headend that asks who calls, with an agent of BESS-1 that has reported.
async fn asking() -> (Headend, Agent, WallClock) {
    let (builder, clock) = standing_clock(Headend::builder(fleet()));
    let headend = builder.require_principal().build().await.unwrap();
    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    agent.measured_mw(BESS_1, clock.now(), 1.0).await;
    agent.raises(BESS_1, clock.now(), "alarm", "too_hot").await;
    agent.heartbeat().await;
    (headend, agent, clock)
}

async fn call(
    headend: &Headend,
    who: Option<&Principal>,
    method: &str,
    path: &str,
    body: &str,
) -> Answer {
    let mut request = Request::builder().method(&*method.to_uppercase()).uri(path);
    if !body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let mut request = request
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    match who {
        Some(who) => drop(request.extensions_mut().insert(who.clone())),
        // Each from somewhere else: many failures from one place are answered otherwise.
        None => {
            static CALLS_SO_FAR: AtomicU32 = AtomicU32::new(1);
            let address = Ipv4Addr::from(CALLS_SO_FAR.fetch_add(1, Ordering::Relaxed));
            let peer = PeerAddr(SocketAddr::from((address, 1)));
            request.extensions_mut().insert(peer);
        }
    }
    send(headend.service(), request).await
}

/// The path with the id of something of Jersey, newly made.
async fn target(headend: &Headend, path: &str) -> String {
    let site = JERSEY.parse().unwrap();
    let id = match path.split('/').nth(1).unwrap() {
        "dispatch" => {
            let order = NewDispatch::asset(
                "7ba7b811-9dad-11d1-80b4-00c04fd430c8".parse().unwrap(),
                Power::from_mw(1.0),
            );
            headend.dispatch(&order, None).await.unwrap().id.to_string()
        }
        "limits" => {
            let limit = NewLimit::at_most(BESS_1.parse().unwrap(), Power::from_mw(5.0));
            headend
                .set_limit(&limit, None)
                .await
                .unwrap()
                .id
                .to_string()
        }
        "events" => {
            let ada = Principal::new("ada");
            let events = call(headend, Some(&ada), "get", "/events", "").await.ok();
            events["items"][0]["id"].as_str().unwrap().to_owned()
        }
        "stop" => headend
            .stop(&NewStop::site(site), None)
            .await
            .unwrap()
            .id
            .to_string(),
        _ => BESS_1.to_owned(),
    };
    path.replace("{id}", &id)
}

fn body(method: &str, path: &str) -> String {
    match (method, path) {
        ("post", "/limits") => format!(r#"{{"asset_id":"{BESS_1}","max_mw":5}}"#),
        ("post", "/stop") => format!(r#"{{"asset_id":"{BESS_1}","confirm":"stop"}}"#),
        ("post", "/events/{id}/ack") => "{}".to_owned(),
        ("post", _) => format!(r#"{{"asset_id":"{BESS_1}","mw":1}}"#),
        _ => String::new(),
    }
}

/// Stops of earlier calls would have later ones refused.
async fn resume_all(headend: &Headend) {
    let stops = call(headend, Some(&Principal::new("ada")), "get", "/stop", "").await;
    for stop in stops.json().as_array().unwrap() {
        let id = stop["id"].as_str().unwrap().parse().unwrap();
        headend
            .resume(id, std::time::Duration::ZERO, None)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn every_call_is_answered_by_the_role_and_the_sites_of_its_caller() {
    let document: Value = serde_json::from_str(&derms_headend_sdk::openapi_json()).unwrap();
    let documented = document["paths"].as_object().unwrap().iter();
    let documented = documented.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys();
        methods.map(move |method| format!("{method} {path}"))
    });
    let mut documented: Vec<String> = documented.collect();
    documented.sort();
    let mut told: Vec<String> = CALLS
        .iter()
        .map(|(m, path, _)| format!("{m} {path}"))
        .collect();
    told.sort();
    assert_eq!(
        told, documented,
        "a route without a row, or a row without a route"
    );

    let (headend, _agent, _) = asking().await;
    for (method, path, expected) in CALLS {
        for (who, expected) in callers().iter().zip(expected) {
            let target = target(&headend, path).await;
            let limits = call(&headend, Some(&Principal::new("ada")), "get", "/limits", "").await;
            if !path.starts_with("/stop") {
                resume_all(&headend).await;
            }
            let answer = call(&headend, who.as_ref(), method, &target, &body(method, path)).await;
            let name = who.as_ref().map_or("nobody", Principal::name);
            assert_eq!(
                answer.status.as_u16(),
                expected,
                "{name}: {method} {path}: {}",
                String::from_utf8_lossy(&answer.body)
            );
            match expected {
                401 => {
                    answer.problem(Code::Unauthenticated);
                    assert!(
                        answer
                            .header(header::WWW_AUTHENTICATE)
                            .starts_with("Bearer")
                    );
                }
                403 => drop(answer.problem(Code::Forbidden)),
                404 => {
                    let problem: Value = answer.json();
                    assert!(problem["code"].as_str().unwrap().starts_with("unknown_"));
                }
                _ => {}
            }
            for limit in limits.json().as_array().unwrap() {
                let id = limit["id"].as_str().unwrap().parse().unwrap();
                headend.remove_limit(id, None).await.unwrap();
            }
        }
    }
}

/// The document tells the least role, from the same table that decides.
#[test]
fn the_document_tells_the_role_that_the_rows_say() {
    let document: Value = serde_json::from_str(&derms_headend_sdk::openapi_json()).unwrap();
    for (method, path, [nobody, viewer, operator, ..]) in CALLS {
        let role = match (nobody, viewer, operator) {
            (401, 403, 403) => "admin",
            (401, 403, _) => "operator",
            (401, ..) => "viewer",
            _ => "none",
        };
        let operation = &document["paths"][path][method];
        assert_eq!(operation["x-role"], role, "{method} {path}");
    }
}

/// What `default` would let pass: a status that a program has to tell from others stands by itself.
#[test]
fn the_document_has_every_status_that_the_rows_say() {
    let document: Value = serde_json::from_str(&derms_headend_sdk::openapi_json()).unwrap();
    for (method, path, answers) in CALLS {
        let responses = &document["paths"][path][method]["responses"];
        // Who is asked who they are may be told that they ask too often, too.
        let of_rate = (answers[0] == 401).then_some(429);
        for status in answers.into_iter().chain(of_rate) {
            let response = &responses[status.to_string()];
            assert!(response.is_object(), "{method} {path}: {status}");
        }
    }
}

#[test]
fn the_guide_tells_the_role_of_every_call() {
    const GUIDE: &str = include_str!("../../docs/auth.md");
    let told: Vec<(&str, &str)> = GUIDE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(call, _)| call.contains(" /"))
        .map(|(call, role)| (call, role.trim_end_matches(" |")))
        .collect();
    let document: Value = serde_json::from_str(&derms_headend_sdk::openapi_json()).unwrap();
    let role = |(method, path, _): &(&'static str, &'static str, _)| {
        let role = document["paths"][path][method]["x-role"].as_str();
        (
            format!("{} {path}", method.to_uppercase()),
            role.unwrap().to_owned(),
        )
    };
    let decided: Vec<(String, String)> = CALLS.iter().map(role).collect();
    let mut told: Vec<_> = told
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect();
    told.sort();
    let mut sorted = decided;
    sorted.sort();
    assert_eq!(told, sorted);
}

#[tokio::test]
async fn what_is_not_there_is_not_told_to_nobody() {
    let (headend, _agent, _) = asking().await;
    for (method, path) in [
        ("get", "/nowhere"),
        ("put", "/assets"),
        ("get", "/docs/"),
        ("get", "/docs/swagger-ui.css"),
        ("options", "/dispatch"),
    ] {
        let answer = call(&headend, None, method, path, "").await;
        answer.problem(Code::Unauthenticated);
    }
    let viewer = callers()[1].clone();
    let answer = call(&headend, viewer.as_ref(), "get", "/nowhere", "").await;
    answer.problem(Code::NotFound);
    let answer = call(&headend, viewer.as_ref(), "put", "/assets", "").await;
    answer.problem(Code::MethodNotAllowed);
}

#[tokio::test]
async fn lists_leave_out_what_belongs_to_other_sites() {
    let (headend, _agent, clock) = asking().await;
    let mut newark = Agent::connect(&headend, PV_1, &[PV_1]).await;
    newark.measured_mw(PV_1, clock.now(), 2.0).await;
    for asset in [BESS_1, PV_1] {
        let asset = asset.parse().unwrap();
        let order = NewDispatch::asset(asset, Power::from_mw(1.0));
        headend.dispatch(&order, None).await.unwrap();
        let limit = NewLimit::at_most(asset, Power::from_mw(5.0));
        headend.set_limit(&limit, None).await.unwrap();
        headend.stop(&NewStop::asset(asset), None).await.unwrap();
    }
    let (all, some) = (Principal::new("ada"), of_newark(Role::Viewer));
    for path in [
        "/agents",
        "/agents?all=true",
        "/agents/history",
        "/assets",
        "/dispatch/history",
        "/limits",
        "/limits/history",
        "/sites",
        "/stop",
        "/stop/history",
        "/telemetry",
    ] {
        let whole = call(&headend, Some(&all), "get", path, "").await;
        assert!(whole.text().contains(BESS_1), "{path}");
        let part = call(&headend, Some(&some), "get", path, "").await;
        assert!(part.text().contains(PV_1), "{path}");
        assert!(
            !part.text().contains(BESS_1) && !part.text().contains(JERSEY),
            "{path}: {}",
            part.text()
        );
    }
}

/// The fleet with BESS-2 in Newark.
fn moved() -> Fleet {
    let fleet = fleet();
    let mut assets = fleet.assets().to_vec();
    let asset = assets.iter_mut().find(|it| it.id.to_string() == BESS_2);
    asset.unwrap().site_id = NEWARK.parse().unwrap();
    Fleet::new(fleet.sites().to_vec(), assets).unwrap()
}

#[tokio::test]
async fn what_holds_for_an_asset_that_has_moved_is_in_the_hands_of_its_new_site() {
    let store = SickStore::default();
    let (builder, _) = standing_clock(Headend::builder(fleet()).store(store.clone()));
    let headend = builder.build().await.unwrap();
    let asset = BESS_2.parse().unwrap();
    let order = NewDispatch::asset(asset, Power::from_mw(1.0));
    let order = headend.dispatch(&order, None).await.unwrap().id;
    let limit = NewLimit::at_most(asset, Power::from_mw(5.0));
    let limit = headend.set_limit(&limit, None).await.unwrap().id;
    drop(headend);

    let (builder, _) = standing_clock(Headend::builder(moved()).store(store));
    let headend = builder.build().await.unwrap();
    let jersey = Principal::new("jon")
        .with_role(Role::Operator)
        .limited_to([JERSEY.parse().unwrap()]);
    let newark = of_newark(Role::Operator);
    for path in [format!("/dispatch/{order}"), format!("/limits/{limit}")] {
        for method in ["get", "delete"] {
            let answer = call(&headend, Some(&jersey), method, &path, "").await;
            assert_eq!(answer.status.as_u16(), 404, "{method} {path}");
        }
        let seen = call(&headend, Some(&newark), "get", &path, "").await;
        assert_eq!(seen.ok()["site_id"], JERSEY, "where it was then");
        let ended = call(&headend, Some(&newark), "delete", &path, "").await;
        assert!(ended.status.is_success(), "{path}: {}", ended.text());
    }
}

/// The cursor of a page tells time and id of what it left out.
#[tokio::test]
async fn a_list_of_what_others_have_is_that_of_what_is_not_there_to_its_cursor() {
    let (headend, _agent, _) = asking().await;
    for _ in 0..2 {
        let asset = BESS_1.parse().unwrap();
        let order = NewDispatch::asset(asset, Power::from_mw(1.0));
        headend.dispatch(&order, None).await.unwrap();
        let limit = NewLimit::at_most(asset, Power::from_mw(5.0));
        headend.set_limit(&limit, None).await.unwrap();
    }
    let some = of_newark(Role::Viewer);
    for path in ["/dispatch/history", "/limits/history", "/events"] {
        for (theirs, nowhere) in [
            (format!("site_id={JERSEY}"), format!("site_id={NOBODY}")),
            (format!("asset_id={BESS_1}"), format!("asset_id={NOBODY}")),
        ] {
            let list = async |query: &str| {
                let path = format!("{path}?limit=1&{query}");
                call(&headend, Some(&some), "get", &path, "").await.ok()
            };
            let empty = serde_json::json!({"items": [], "next_cursor": null});
            assert_eq!(list(&theirs).await, empty, "{path} {theirs}");
            assert_eq!(list(&nowhere).await, empty, "{path} {nowhere}");
        }
    }
}

#[tokio::test]
async fn a_stop_of_all_is_seen_by_everyone_whom_it_holds_and_ended_by_those_who_may_all() {
    let (headend, _agent, _) = asking().await;
    let some = of_newark(Role::Operator);
    let all = r#"{"all":true,"confirm":"stop"}"#;
    let refused = call(&headend, Some(&some), "post", "/stop", all).await;
    refused.problem(Code::Forbidden);
    let stop = headend.stop(&NewStop::all(), None).await.unwrap();
    let path = format!("/stop/{}", stop.id);
    call(&headend, Some(&some), "get", &path, "").await.ok();
    let refused = call(&headend, Some(&some), "delete", &path, "").await;
    refused.problem(Code::Forbidden);
    assert_eq!(get_stop(&headend, &path).await["ended_at"], Value::Null);
    let operator = callers()[2].clone();
    let ended = call(&headend, operator.as_ref(), "delete", &path, "").await;
    assert_eq!(ended.status.as_u16(), 202);
}

async fn get_stop(headend: &Headend, path: &str) -> Value {
    call(headend, Some(&Principal::new("ada")), "get", path, "")
        .await
        .ok()
}

/// What another site has is answered word for word as what nobody has.
#[tokio::test]
async fn what_others_have_can_not_be_told_from_what_is_not_there() {
    let (headend, _agent, _) = asking().await;
    let some = of_newark(Role::Operator);
    for path in [
        "/assets/",
        "/telemetry/",
        "/dispatch/",
        "/limits/",
        "/stop/",
        "/heartbeat/",
    ] {
        let theirs = target(&headend, &format!("{path}{{id}}")).await;
        let id = theirs.rsplit('/').next().unwrap().to_owned();
        let there = call(&headend, Some(&some), "get", &theirs, "").await;
        let nowhere = call(&headend, Some(&some), "get", &format!("{path}{NOBODY}"), "").await;
        assert_eq!(there.text().replace(&id, NOBODY), nowhere.text(), "{path}");
    }
    for (path, theirs) in [
        ("/dispatch", BESS_1),
        ("/limits", BESS_1),
        ("/stop", BESS_1),
    ] {
        let body = body("post", path);
        let there = call(&headend, Some(&some), "post", path, &body).await;
        let nowhere = body.replace(theirs, NOBODY);
        let nowhere = call(&headend, Some(&some), "post", path, &nowhere).await;
        assert_eq!(
            there.text().replace(theirs, NOBODY),
            nowhere.text(),
            "{path}"
        );
    }
}

fn with_token(path: &str, token: &str) -> Request<Full<Bytes>> {
    let request = request("GET", path).header(header::AUTHORIZATION, format!("Bearer {token}"));
    request.body(Full::default()).unwrap()
}

#[tokio::test]
async fn a_token_of_the_file_lets_in_by_its_role_and_any_other_does_not() {
    let folder = TokenFolder::new();
    let token = folder.add(&Principal::new("vic").with_role(Role::Viewer));
    let (builder, _) = standing_clock(Headend::builder(fleet()));
    let file = TokenFile::open(folder.file()).unwrap();
    let headend = builder.authentication(file).build().await.unwrap();

    get(&headend, "/assets")
        .await
        .problem(Code::Unauthenticated);
    send(headend.service(), with_token("/assets", &token))
        .await
        .ok();
    let order = json_post("/dispatch")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Full::new(Bytes::from(body("post", "/dispatch"))))
        .unwrap();
    send(headend.service(), order)
        .await
        .problem(Code::Forbidden);

    let unknown = NewToken::generate().unwrap();
    for token in [
        unknown.reveal(),
        &token.to_uppercase(),
        "x",
        &token[..token.len() - 1],
    ] {
        let answer = send(headend.service(), with_token("/assets", token)).await;
        answer.problem(Code::Unauthenticated);
        assert!(
            answer
                .header(header::WWW_AUTHENTICATE)
                .contains("invalid_token")
        );
        assert!(!answer.text().contains(token) || token == "x");
    }
    for path in ["/healthz", "/readyz"] {
        get(&headend, path).await.ok();
    }
}

#[tokio::test]
async fn the_description_is_open_if_the_host_says_so() {
    let (builder, _) = standing_clock(Headend::builder(fleet()));
    let builder = builder.require_principal().public_docs(true);
    let headend = builder.build().await.unwrap();
    for path in ["/openapi.json", "/docs/", "/docs/swagger-ui.css"] {
        assert_eq!(get(&headend, path).await.status.as_u16(), 200, "{path}");
    }
    get(&headend, "/assets")
        .await
        .problem(Code::Unauthenticated);
}

#[tokio::test]
async fn the_layer_lets_through_whom_it_knows_and_says_who_that_is() {
    let folder = TokenFolder::new();
    let token = folder.add(&Principal::new("oda").with_role(Role::Operator));
    let (builder, _) = standing_clock(Headend::builder(fleet()));
    let headend = builder.require_principal().build().await.unwrap();
    let layer = AuthLayer::new(TokenFile::open(folder.file()).unwrap());
    let service = layer.layer(headend.service());
    let order = |token: &str| {
        let request = json_post("/dispatch");
        let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        request
            .body(Full::new(Bytes::from(body("post", "/dispatch"))))
            .unwrap()
    };
    let taken = send(service.clone(), order(&token)).await;
    assert_eq!(taken.json()["principal"], "oda");
    let refused = send(service, order("wrong")).await;
    refused.problem(Code::Unauthenticated);
    assert!(
        refused
            .header(header::WWW_AUTHENTICATE)
            .starts_with("Bearer")
    );
}

/// Where nobody is asked, nothing has changed for hosts that only say who calls.
#[tokio::test]
async fn without_authentication_everyone_may_everything() {
    let (builder, _) = standing_clock(Headend::builder(fleet()));
    let headend = builder.build().await.unwrap();
    let mut seen = BTreeMap::new();
    for who in [None, Some(Principal::new("host"))] {
        let body = body("post", "/dispatch");
        let answer = call(&headend, who.as_ref(), "post", "/dispatch", &body).await;
        assert_eq!(answer.status.as_u16(), 202);
        *seen
            .entry(answer.json()["principal"].to_string())
            .or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 2);
}
