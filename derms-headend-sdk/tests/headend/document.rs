//! `/openapi.json`, `/docs`.

use std::collections::BTreeSet;

use bytes::Bytes;
use derms_headend_sdk::openapi_json;
use derms_headend_sdk::proto::ProblemCode as Code;
use http::header;
use http_body_util::Full;
use serde_json::Value;

use crate::support::{BESS_1, JERSEY, get, headend, post, request, send};

const CHECKED_IN: &str = include_str!("../../openapi.json");

fn document() -> Value {
    serde_json::from_str(&openapi_json()).unwrap()
}

/// Every value in the document, with where it stands.
fn walk(value: &Value, place: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(place, value);
    match value {
        Value::Object(map) => {
            map.iter()
                .for_each(|(key, value)| walk(value, &format!("{place}/{key}"), visit));
        }
        Value::Array(items) => items.iter().for_each(|value| walk(value, place, visit)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_that_is_served_is_the_one_that_is_checked_in() {
    let answer = get(&headend().await, "/openapi.json").await;
    answer.ok();
    assert_eq!(answer.text(), openapi_json());
    assert!(
        answer.text() == CHECKED_IN,
        "openapi.json is not what the code gives; run `cargo xtask openapi` and read the change"
    );
}

#[test]
fn the_document_has_every_path_of_the_contract() {
    let document = document();
    assert_eq!(
        document["openapi"].as_str().unwrap().split('.').next(),
        Some("3")
    );
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let calls: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object()
                .unwrap()
                .keys()
                .map(move |m| format!("{m} {path}"))
        })
        .collect();
    let contract = [
        "delete /dispatch/{id}",
        "delete /limits/{id}",
        "delete /stop/{id}",
        "get /agents",
        "get /agents/history",
        "get /assets",
        "get /assets/{id}",
        "get /audit",
        "get /dispatch/history",
        "get /dispatch/{id}",
        "get /docs",
        "get /events",
        "get /events/{id}",
        "get /healthz",
        "get /heartbeat/{id}",
        "get /heartbeat/{id}/history",
        "get /limits",
        "get /limits/history",
        "get /limits/{id}",
        "get /metrics",
        "get /openapi.json",
        "get /readyz",
        "get /sites",
        "get /stop",
        "get /stop/history",
        "get /stop/{id}",
        "get /stream",
        "get /telemetry",
        "get /telemetry/{id}",
        "get /telemetry/{id}/history",
        "post /dispatch",
        "post /dispatch/preview",
        "post /events/{id}/ack",
        "post /limits",
        "post /stop",
    ];
    assert_eq!(calls, contract.map(str::to_owned).into());
}

#[test]
fn the_document_is_sound() {
    let document = document();
    let mut ids = BTreeSet::new();
    walk(&document, "", &mut |place, value| {
        if let Some(id) = value.get("operationId") {
            assert!(
                ids.insert(id.as_str().unwrap().to_owned()),
                "{id} twice: generators name methods so"
            );
            assert!(
                value["summary"].is_string() && value["tags"].is_array(),
                "{place}"
            );
        }
        if let Some(Value::String(target)) = value.get("$ref") {
            let pointer = target
                .strip_prefix('#')
                .expect("a reference inside the document");
            assert!(
                document.pointer(pointer).is_some(),
                "{place}: {target} is nowhere"
            );
        }
        if let (true, Some(text)) = (place.ends_with("/description"), value.as_str()) {
            assert!(!text.contains("[`"), "{place}: a link of rustdoc: {text}");
        }
        // A field whose meaning only its name tells.
        if place.contains("/properties/") && value.get("type").is_some() {
            let named = place.rsplit("/properties/").next().unwrap().contains('/');
            assert!(named || value["description"].is_string(), "{place}");
        }
    });
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(schema["description"].is_string(), "{name}");
        if let Some(item) = name.strip_prefix("Page_") {
            let target = &schema["properties"]["items"]["items"]["$ref"];
            assert_eq!(*target, format!("#/components/schemas/{item}"));
        }
    }
    let at = |pointer: &str| {
        document
            .pointer(pointer)
            .unwrap_or_else(|| panic!("{pointer}"))
            .clone()
    };
    assert_eq!(
        at("/paths/~1assets~1{id}/get/parameters/0/schema/format"),
        "uuid"
    );
    assert_eq!(at("/components/schemas/Timestamp/format"), "date-time");
    assert_eq!(at("/components/schemas/AssetId/format"), "uuid");
    let power = at("/components/schemas/Power/description");
    assert!(
        power
            .as_str()
            .unwrap()
            .contains("MW; positive = discharge, generation, export")
    );
}

/// Fields of power say unit and sign where they stand, for generators drop what a reference says.
#[test]
fn a_power_says_its_unit_and_its_sign() {
    walk(&document(), "", &mut |place, value| {
        if value["$ref"] == "#/components/schemas/Power" {
            let text = value["description"].as_str().unwrap_or_default();
            let signed = text.contains("+ = export") || text.contains("magnitude");
            assert!(text.contains("MW") && signed, "{place}: {text}");
        }
    });
}

#[tokio::test]
async fn what_is_documented_can_be_called_and_nothing_else_can() {
    let headend = headend().await;
    let document = document();
    for (path, item) in document["paths"].as_object().unwrap() {
        let target = path.replace("{id}", BESS_1);
        for method in ["get", "post", "put", "patch", "delete"] {
            let request = request(&method.to_uppercase(), &target);
            let answer = send(
                headend.service(),
                request.body(Full::<Bytes>::default()).unwrap(),
            )
            .await;
            let Some(operation) = item.get(method) else {
                answer.problem(Code::MethodNotAllowed);
                continue;
            };
            let status = answer.status.as_str();
            let Some(documented) = operation["responses"].get(status) else {
                panic!("{method} {path} answers {status}, which is not documented");
            };
            if let Some(content) = documented["content"].as_object() {
                let kind = answer.header(header::CONTENT_TYPE);
                // What follows tells the version and the letters of a text.
                let kind = kind.split(';').next().unwrap();
                assert!(content.contains_key(kind), "{method} {path}");
            }
            let missing = answer.text().contains(r#""code":"not_found""#);
            assert!(!missing, "{method} {path} is documented and not there");
        }
    }
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let headend = headend().await;
    assert_eq!(
        get(&headend, "/docs").await.header(header::LOCATION),
        "docs/"
    );
    let page = get(&headend, "/docs/").await;
    assert!(page.header(header::CONTENT_TYPE).starts_with("text/html"));
    assert!(
        page.header(header::CONTENT_SECURITY_POLICY)
            .starts_with("default-src 'self'")
    );
    let mut parts = 0;
    for attribute in ["src=\"", "href=\""] {
        for link in page.text().split(attribute).skip(1) {
            let link = link.split('"').next().unwrap();
            assert!(
                !link.contains("//") && !link.starts_with('/'),
                "{link} is not relative"
            );
            let part = get(
                &headend,
                &format!("/docs/{}", link.trim_start_matches("./")),
            )
            .await;
            assert_eq!(part.status.as_u16(), 200, "{link}");
            assert!(!part.body.is_empty() && !part.header(header::CONTENT_TYPE).is_empty());
            parts += 1;
        }
    }
    assert!(parts >= 5, "the page has scripts and styles");
    let config = get(&headend, "/docs/swagger-initializer.js").await;
    assert!(config.text().contains("\"../openapi.json\"") && !config.text().contains("http"));
    // Else the page would show the document to a validator in the internet.
    assert!(
        config.text().contains(r#""validatorUrl": "none""#),
        "{}",
        config.text()
    );
}

/// What a request may say, each with a word of the service on both sides of the line.
#[tokio::test]
async fn what_the_document_lets_be_sent_is_what_is_taken() {
    let headend = headend().await;
    let document = document();
    let parameter = |path: &str, method: &str, name: &str| {
        let parameters = document["paths"][path][method]["parameters"].as_array();
        let mut parameters = parameters.unwrap().iter();
        parameters.find(|it| it["name"] == name).unwrap()["schema"].clone()
    };
    let words = |schema: &Value| -> Vec<String> {
        let words = schema["enum"].as_array().unwrap().iter();
        words
            .map(|word| word.as_str().unwrap().to_owned())
            .collect()
    };
    let order = &document["components"]["schemas"]["NewDispatch"]["properties"];

    for status in words(&parameter("/dispatch/history", "get", "status")) {
        let path = format!("/dispatch/history?status={status}");
        get(&headend, &path).await.ok();
    }
    get(&headend, "/dispatch/history?status=unknown")
        .await
        .problem(Code::InvalidParameter);

    assert_eq!(parameter("/stream", "get", "kind")["minItems"], 1);
    get(&headend, "/stream?kind=")
        .await
        .problem(Code::InvalidParameter);

    let key = parameter("/dispatch", "post", "Idempotency-Key");
    assert_eq!(key["pattern"], "^[!-~]+$");

    // Nobody is online: what is not understood is refused before that.
    let split =
        |policy: &str| format!(r#"{{"site_id":"{JERSEY}","mw":1,"split_policy":"{policy}"}}"#);
    for policy in words(&order["split_policy"]["oneOf"][0]) {
        let answer = post(&headend, "/dispatch/preview", split(&policy)).await;
        answer.problem(Code::SiteOffline);
    }
    post(&headend, "/dispatch/preview", split("unknown"))
        .await
        .problem(Code::InvalidRequest);

    let asset = |rest: &str| format!(r#"{{"asset_id":"{BESS_1}","mw":1,{rest}}}"#);
    for field in ["duration_s", "ttl_s"] {
        assert_eq!(order[field]["minimum"], 1e-6, "{field}");
        let least = asset(&format!(r#""{field}":0.000001"#));
        post(&headend, "/dispatch/preview", least).await.ok();
        let less = asset(&format!(r#""{field}":0.0000009"#));
        post(&headend, "/dispatch/preview", less)
            .await
            .problem(Code::InvalidRequest);
    }

    let follow_up = &document["components"]["schemas"]["FollowUp"]["oneOf"];
    assert_eq!(follow_up[1]["maxProperties"], 1);
    let two = asset(r#""duration_s":9,"follow_up":{"value":1,"hold":null}"#);
    post(&headend, "/dispatch/preview", two)
        .await
        .problem(Code::InvalidBody);

    let stop = &document["components"]["schemas"]["NewStop"]["properties"];
    assert_eq!(stop["confirm"]["pattern"], "^stop$");
    assert_eq!(stop["reason"]["maxLength"], 1_000);
}

#[tokio::test]
async fn a_preview_for_a_stopped_asset_is_refused_as_documented() {
    let headend = headend().await;
    let stop = format!(r#"{{"asset_id":"{BESS_1}","confirm":"stop"}}"#);
    post(&headend, "/stop", stop).await;
    let order = format!(r#"{{"asset_id":"{BESS_1}","mw":1}}"#);
    for path in ["/dispatch", "/dispatch/preview"] {
        let problem = post(&headend, path, order.clone())
            .await
            .problem(Code::Stopped);
        let documented = &document()["paths"][path]["post"]["responses"];
        let text = documented[problem.status.to_string()]["description"].as_str();
        assert!(text.unwrap().contains("`stopped`"), "{path}");
    }
}
