//! One trace from REST to the adapter and back.

use derms_client::DispatchOptions;
use derms_proto::{DispatchStatus, NewDispatch, Power, Traceparent};
use derms_tests::{call, until};
use serde_json::{Value, json};

use crate::rig::{ASSET, Log, Rig, SOON};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn traceresponse(head: &str) -> Traceparent {
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("traceresponse: "));
    Traceparent::parse(line.unwrap_or_else(|| panic!("{head}"))).unwrap()
}

/// The only field of this name in the lines of this order with this message.
fn traces(log: &Log, message: &str, dispatch: &Value) -> Vec<Value> {
    let lines = log.said(message).into_iter();
    lines
        .filter(|line| line["dispatch_id"] == *dispatch)
        .map(|line| line["trace_id"].clone())
        .collect()
}

#[tokio::test]
async fn a_callers_trace_goes_to_the_adapter_and_comes_back_with_the_reports() {
    let log = Log::start();
    let rig = Rig::start().await;
    let body = json!({ "asset_id": ASSET, "mw": 5.0, "duration_s": 60.0 }).to_string();
    let header = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01");
    let (head, body) = call(&rig.http, "POST", "/dispatch?wait_s=20", &header, &body).await;
    assert!(head.starts_with("HTTP/1.1 202"), "{head} {body}");
    let told = traceresponse(&head);
    assert_eq!(told.trace_id().to_string(), TRACE);
    assert_ne!(
        told.span_id().to_string(),
        "00f067aa0ba902b7",
        "work of its own"
    );
    let order: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(order["status"], "active", "{order}");
    let id = &order["id"];
    for message in [
        "dispatch committed",
        "dispatch sent",
        "dispatch moved on",
        "order",
    ] {
        let said = traces(&log, message, id);
        assert!(!said.is_empty(), "{message}");
        assert!(
            said.iter().all(|trace| trace == TRACE),
            "{message}: {said:?}"
        );
    }
    // What the vendor logs is found by the same id.
    let span = log.said("the device is told").remove(0)["span"].clone();
    assert_eq!(span["trace_id"], TRACE);
    assert_eq!(span["dispatch_id"], *id);
    assert_eq!(span["asset_id"], ASSET.to_string());
    assert_eq!(span["call"], "apply");
    assert_eq!(span["parent_id"], told.span_id().to_string());
    assert_ne!(span["span_id"], span["parent_id"]);

    // Its end is a part of it, whoever asks for it.
    let path = format!("/dispatch/{}?wait_s=20", id.as_str().unwrap());
    let (head, _) = call(&rig.http, "DELETE", &path, "", "").await;
    assert_eq!(traceresponse(&head), told);
    for message in ["cancel taken", "release sent"] {
        assert_eq!(traces(&log, message, id), [TRACE], "{message}");
    }
    let span = log.said("the device is let go").pop().unwrap()["span"].clone();
    assert_eq!(
        (&span["trace_id"], &span["call"]),
        (&json!(TRACE), &json!("go_to_default"))
    );
    rig.stop().await;
}

#[tokio::test]
async fn an_order_without_a_caller_s_trace_is_one_of_its_own_with_the_id_of_the_order() {
    let log = Log::start();
    let rig = Rig::start().await;
    let order = NewDispatch::asset(ASSET, Power::from_mw(5.0));
    let wait = DispatchOptions::new().wait(SOON);
    let order = rig.client.dispatch_with(&order, wait).await.unwrap();
    assert_eq!(order.status, DispatchStatus::Active);
    let own = order.id.uuid().simple().to_string();
    until("the agent's line", SOON, async || {
        (traces(&log, "order", &json!(order.id)).len() >= 2).then_some(())
    })
    .await;
    for message in [
        "dispatch committed",
        "dispatch sent",
        "dispatch moved on",
        "order",
    ] {
        let said = traces(&log, message, &json!(order.id));
        assert!(
            !said.is_empty() && said.iter().all(|trace| *trace == own),
            "{message}: {said:?}"
        );
    }
    // What is no context counts as none.
    let body = json!({ "asset_id": ASSET, "mw": 5.0 }).to_string();
    let (head, body) = call(&rig.http, "POST", "/dispatch", "traceparent: 00-x", &body).await;
    let order: Value = serde_json::from_str(&body).unwrap();
    let own = order["id"].as_str().unwrap().replace('-', "");
    assert_eq!(traceresponse(&head).trace_id().to_string(), own);
    rig.stop().await;
}
